"""The cost of a cell besides its measurement, by executor: ``python -m tests.benchmarks.cluster``.

A study of many tiny cells is measured in one process, with two workers and with Dask, on a machine that does nothing
else. The result goes to ``results/performance/cluster.csv``; the table and a model of a large sweep to
``docs/cluster.md``.
"""

import argparse
import csv
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from bench.execution.cluster.address import Dask
from bench.execution.progress import Progress
from bench.planning.spec import Spec
from bench.records import store
from bench.records.lines import Record
from tests.running import run

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "performance" / "cluster.csv"
PAGE = ROOT / "docs" / "cluster.md"
BEGIN, END = "<!-- begin of the measured table -->\n", "<!-- end of the measured table -->"
EXECUTORS: dict[str, int | Dask] = {"one process": 1, "--workers 2": 2, "--executor dask --workers 2": Dask(workers=2)}
SWEEP = 10**6
"""Number of cells of the modelled sweep."""


class Watch(Progress):
    """Knows when the first and the last record came, and the CPU time of this process in between."""

    def __init__(self) -> None:
        self.begin, self.seen = time.perf_counter(), list[tuple[float, float]]()

    def finish(self, record: Record) -> None:
        """Take in a record."""
        used = psutil.Process().cpu_times()
        self.seen.append((time.perf_counter(), used.user + used.system))

    def row(self, executor: str) -> dict[str, str | float]:
        """Return the row of the table: seconds until the first record, and per record after it."""
        (first, used), (last, whole) = self.seen[0], self.seen[-1]
        count = len(self.seen) - 1
        return {
            "executor": executor,
            "start_seconds": first - self.begin,
            "seconds_per_cell": (last - first) / count,
            "coordinator_cpu_seconds_per_cell": (whole - used) / count,
        }


def rows(cells: int, rounds: int) -> Iterator[dict[str, str | float]]:
    """Measure ``cells`` tiny cells with every executor ``rounds`` times, and yield the median row of each."""
    spec = Spec.of(
        {
            "timing": False,
            "replicates": 64,
            "estimators": ["rloo:n=2", "score-function"],
            "objectives": [f"gaussian-quadratic:dim={dim + 1}" for dim in range(cells // 2)],
        }
    )
    found: dict[str, list[dict[str, str | float]]] = {name: [] for name in EXECUTORS}
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            for executor, workers in EXECUTORS.items():
                folder, watch = Path(name) / f"{executor} {number}", Watch()
                run(spec, folder, watch, workers)
                found[executor].append(watch.row(executor))
        size = (folder / store.LINES).stat().st_size
        tracemalloc.start()
        lines = store.read(folder, lean=True)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    shared = {"cells": cells, "bytes_per_record": size / len(lines), "memory_per_record": held / len(lines)}
    for each in found.values():
        middle = {key: statistics.median(row[key] for row in each) for key in each[0] if key != "executor"}  # type: ignore[type-var]
        yield {"executor": each[0]["executor"], **middle, **shared}


def text(measured: Sequence[dict[str, str]]) -> str:
    """Return the table and the model for the page, made from the rows of the file."""
    lines = ["| executor | first record after | per cell | records per second |", "| --- | --- | --- | --- |"]
    for row in measured:
        each = float(row["seconds_per_cell"])
        start = float(row["start_seconds"])
        lines.append(f"| {row['executor']} | {start:.1f} s | {1000 * each:.1f} ms | {1 / each:.0f} |")
    last = {key: float(value) for key, value in measured[-1].items() if key != "executor"}
    busy = last["coordinator_cpu_seconds_per_cell"]
    lines += [
        "",
        f"The coordinator of the Dask run, with its scheduler, was busy for {1000 * busy:.1f} ms per cell: however",
        f"many workers there are, it takes at most {1 / busy:.0f} records per second. A record has",
        f"{last['bytes_per_record'] / 1000:.1f} kB on disk and {last['memory_per_record'] / 1000:.1f} kB in memory.",
        "",
        f"A sweep of {SWEEP:,} cells, of t seconds each on one core, with W workers:",
        "",
        f"- time: the larger of {SWEEP:,} · t / W and {SWEEP * busy / 3600:.1f} hours, the work of the coordinator;",
        f"- `records.jsonl`: {SWEEP * last['bytes_per_record'] / 1e9:.1f} GB;",
        f"- memory of the coordinator: {SWEEP * last['memory_per_record'] / 1e9:.1f} GB.",
    ]
    return "\n".join(lines) + "\n"


def put_into_docs(words: str) -> None:
    """Write the table and the model between their marks on the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + words + END + rest.partition(END)[2], encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file and put the table into the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cluster", description=__doc__)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    found = [*rows(given.cells, given.rounds)]
    with given.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, found[0], lineterminator="\n")
        table.writeheader()
        table.writerows({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in row.items()} for row in found)
    words = text(read(given.out))
    if given.out == OUT:
        put_into_docs(words)
    print(words, end="")


def read(path: Path = OUT) -> list[dict[str, str]]:
    """Return the rows of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


if __name__ == "__main__":
    main()
