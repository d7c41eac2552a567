"""Cost of the commands that read a large study: ``python -m tests.benchmarks.large_study [--cells 20000] [--out DIR]``.

The study has ten estimators on many objectives. Its records are those of a small study that is really measured, copied
to every objective with its own run id, labels and digests, and with numbers of its own. ``--estimators N`` makes a
study of one objective with N settings of one estimator instead.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.execution.progress import Silent
from bench.measurement.lines import head
from bench.planning.cells import Cell
from bench.planning.spec import FILE, Spec
from bench.records import store
from bench.records.lines import LineKind, Record, dumps
from bench.records.store import LINES
from bench.report.page import page
from estimators import command_line_name
from tests.running import run

ESTIMATORS = (
    "score-function", "rloo:n=2,4,8", "disarm", "rebar", "gumbel-softmax", "straight-through", "reinmax", "arm",
)  # fmt: skip
"""Ten estimators that fit Bernoulli variables."""
REPLICATES = 3_000
"""Replicates of a cell: its record then has about 12 kB."""
SQUARED = ("variance", "variance_low", "variance_high", "mse", "mse_low", "mse_high")
"""Keys of a summary in squared units of the gradient."""


def wide(cells: int) -> Spec:
    """Return the spec of a study with ten estimators and so many cells (estimators on objectives)."""
    targets, logits = (max(1, round(cells / 10 / 40)), min(40, max(1, cells // 10)))
    first, second = (",".join(f"{0.05 + 0.8 * i / most:.6g}" for i in range(most)) for most in (targets, logits))
    return _spec(ESTIMATORS, (f"bernoulli-quadratic:target={first},logit={second}",))


def tall(estimators: int) -> Spec:
    """Return the spec of a study with one objective and so many settings of one estimator."""
    values = ",".join(f"{0.1 + i / 1000:.6g}" for i in range(estimators))
    return _spec((f"gumbel-softmax:temperature={values}",), ("bernoulli-quadratic:target=0.1",))


def _spec(estimators: Sequence[str], objectives: Sequence[str]) -> Spec:
    table = {"name": "large", "replicates": REPLICATES, "timing": False}
    return Spec.of({**table, "estimators": list(estimators), "objectives": list(objectives)})


def make(spec: Spec, folder: Path, seed: int = 0) -> int:
    """Write a study folder that holds a record of each cell of a spec; return the number of records."""
    estimators, objectives = spec.instances()
    few, settings, chance = _spec(ESTIMATORS, ("bernoulli-quadratic:target=0.1",)), spec.settings(), random.Random(seed)
    with tempfile.TemporaryDirectory() as small:
        run(few, Path(small), Silent(), 1)
        models = store.read(Path(small))
    by_name: dict[str, list[Record]] = {}
    for model in models:
        by_name.setdefault(model["estimator_name"], []).append(model)
    folder.mkdir(parents=True)
    (folder / FILE).write_text(spec.to_toml(folder), encoding="utf-8")
    with (folder / LINES).open("w", encoding="utf-8") as file:
        for objective in objectives:
            for estimator in estimators:
                like = by_name[command_line_name(type(estimator))]
                model = next((m for m in like if m["n"] == getattr(estimator, "n", 1)), like[0])
                start = head(Cell(estimator, objective), settings, LineKind.MOMENTS)
                file.write(dumps(_varied({**model, **start}, chance)) + "\n")
    return len(estimators) * len(objectives)


def _varied(record: Record, chance: random.Random) -> Record:
    """Return a copy of a record with another variance, mean and fingerprint."""
    scale = 2 ** chance.uniform(-1, 1)

    def scaled(value: Any, factor: float) -> Any:
        return [factor * v for v in value] if isinstance(value, list) else factor * value if value else value

    summary, sums = dict(record["summary"]), dict(record["sums"])
    summary |= {key: scaled(summary[key], scale) for key in SQUARED}
    sums["block_w"] = [scale * w * chance.uniform(0.9, 1.1) for w in sums["block_w"]]
    sums |= {key: scaled(sums[key], scale) for key in ("w_top", "error_top", "traces")}
    mean = [m + chance.gauss(0, 0.01) for m in record["mean"]]
    print_of = f"{chance.getrandbits(256):064x}"
    return {**record, "summary": summary, "sums": sums, "mean": mean, "fingerprint": print_of}


METER = """
import json, os, sys, time
start = time.perf_counter()
silent = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_WRONLY, 0) for n in (1, 2)]
child = os.posix_spawn(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]], os.environ, file_actions=silent)
_, status, used = os.wait4(child, 0)
wall = time.perf_counter() - start
print(json.dumps([used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1e3, os.waitstatus_to_exitcode(status)]))
"""
"""Runs a command from a small process: the highest memory of a process counts that of its parent too."""


def cost(name: str, *words: str) -> None:
    """Run a command, and print its seconds and its highest memory."""
    done = subprocess.run([sys.executable, "-c", METER, *words], capture_output=True, check=True)
    seconds, wall, memory, code = json.loads(done.stdout)
    print(f"| {name} | {seconds:.1f} | {wall:.1f} | {memory:,.0f} | {code} |", flush=True)


def without_last(path: Path) -> None:
    """Remove the last line of a file."""
    with path.open("r+b") as file:
        file.seek(-(2**20), os.SEEK_END)
        tail = file.read()
        file.truncate(path.stat().st_size - len(tail) + tail[:-1].rfind(b"\n") + 1)


def main() -> None:
    """Make a large study, and print a table of what the commands cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--estimators", type=int, help="settings of one estimator, on one objective")
    parser.add_argument("--out", type=Path, help="folder in which the studies are made, and kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        study = (given.out or Path(temporary)) / f"large-{given.estimators or given.cells}"
        spec = tall(given.estimators) if given.estimators else wide(given.cells)
        if not study.exists():
            make(spec, study)
        os.environ["BENCH_CACHE_DIR"] = str(Path(temporary) / "cache")
        page(None, [], "one page, so that Vega-Lite is in the cache")
        lines = study / LINES
        shutil.rmtree(study / "figures", ignore_errors=True)
        print(f"{sum(1 for _ in lines.open('rb')):,} records, {lines.stat().st_size / 1e6:.0f} MB\n")
        print("| command | CPU seconds | wall seconds | memory, MB | exit code |\n| --- | --- | --- | --- | --- |")
        cost("report", "report", str(study))
        cost("report again, nothing has changed", "report", str(study))
        if given.estimators:
            return
        other = study.with_name(f"{study.name}-copy")
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(study, other)
        cost("run, nothing to do", "run", str(study))
        without_last(lines)
        cost("run, one cell to measure", "run", str(study))
        cost("compare", "compare", str(study), str(other))
        cost("verify", "verify", str(study))


if __name__ == "__main__":
    main()
