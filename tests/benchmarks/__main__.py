"""Make ``results/performance``, every ratio of one table from one run: ``python -m tests.benchmarks``.

Writes ``ratios.csv``, ``ratios.jsonl`` (every lap), ``README.md`` (tables), ``profile.md`` and two figures, and the
table of effects into ``docs/performance.md``. ``--quick`` only checks that everything runs.
Peers are timed if they are installed: ``pip install -e '.[peers]' jax``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from bench.records.environment import environment
from tests.benchmarks import effects, figures, growth, profile, tiny
from tests.benchmarks.interleaved import Job, Laps, interleave
from tests.benchmarks.peers import peers
from tests.benchmarks.product import Product
from tests.benchmarks.workloads import ROWS, WORKLOADS, Row

ROOT = Path(__file__).parents[2]
LEAN, WHOLE = "product, mean and variance", "product, every statistic"
PEERS = ("Pyro", "reinmax", "JAX")
LEAN_TARGET, WHOLE_TARGET = 1.5, 2.0
BEGIN, END = "<!-- effects: begin -->", "<!-- effects: end -->"


def jobs(row: Row, scale: float) -> dict[str, Job]:
    """Return everything that is timed on a row: the yardstick, the floor, the product and its peers."""
    replicates = max(256, int(row.replicates * scale))
    closed, product = row.closed(), Product(row, replicates)
    made = closed.replicates(replicates)
    return {
        "closed": Job(lambda: closed.measure(replicates), made),
        "floor": Job(lambda: closed.floor(replicates), made),
        LEAN: Job(product.lean, product.replicates),
        WHOLE: Job(product.whole, product.replicates),
        **peers(row, 0.25 * scale),
    }


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *([str(cell) for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def rate(seconds: float) -> str:
    """Return estimates per second: ``1.3 M``, ``54 k``."""
    per_second = 1 / seconds
    return f"{per_second / 1e6:.3g} M" if per_second >= 1e6 else f"{per_second / 1e3:.3g} k"


def ratio_table(measured: dict[Row, Laps]) -> str:
    """Return the main table: times relative to ``closed`` and to the floor."""
    present = [peer for peer in PEERS if any(peer in laps.seconds for laps in measured.values())]
    lines = []
    for row, laps in measured.items():
        beside = [str(laps.ratio(peer, "closed")) if peer in laps.seconds else "" for peer in present]
        ratios = [
            laps.ratio(a, b) for a, b in ((LEAN, "closed"), (WHOLE, "closed"), ("closed", "floor"), (WHOLE, "floor"))
        ]
        lines.append([row.workload, row.name, f"{row.replicates:,}", rate(laps.median("closed")), *ratios, *beside])
    header = [
        "",
        "estimator",
        "replicates",
        "closed, estimates/s",
        f"{LEAN} / closed",
        f"{WHOLE} / closed",
        "closed / floor",
    ]
    return table([*header, f"{WHOLE} / floor", *(f"{peer} / closed" for peer in present)], lines)


def targets(measured: dict[Row, Laps]) -> str:
    """Return the sentences that name the rows that meet the targets, and the rows on which a peer is faster."""
    lean = [row.id for row, laps in measured.items() if laps.ratio(LEAN, "closed").median <= LEAN_TARGET]
    whole = [row.id for row, laps in measured.items() if laps.ratio(WHOLE, "closed").median <= WHOLE_TARGET]

    def ahead(product: str, *names: str) -> str:
        faster = [
            f"{name} on {row.id}"
            for row, laps in measured.items()
            for name in names
            if name in laps.seconds and laps.ratio(product, name).median > 1
        ]
        return ", ".join(faster) or "none"

    of = f"{len(measured)} rows"
    return (
        f"Within {LEAN_TARGET} of closed with mean and variance: {len(lean)} of {of}"
        f"{' (' + ', '.join(lean) + ')' if lean else ''}. Within {WHOLE_TARGET} with every statistic: {len(whole)} of "
        f"{of}{' (' + ', '.join(whole) + ')' if whole else ''}. Libraries ahead of the product with mean and variance: "
        f"{ahead(LEAN, 'Pyro', 'reinmax')}; with every statistic: {ahead(WHOLE, 'Pyro', 'reinmax')}. JAX, jitted by "
        f"hand, ahead of the product with mean and variance: {ahead(LEAN, 'JAX')}.\n"
    )


def write_laps(out: Path, measured: dict[Row, Laps]) -> None:
    """Write every lap, and every ratio."""
    with (out / "ratios.jsonl").open("w", encoding="utf-8") as file:
        for row, laps in measured.items():
            for job, seconds in laps.seconds.items():
                line = {
                    "workload": row.workload,
                    "estimator": row.name,
                    "job": job,
                    "seconds_per_estimate": list(seconds),
                }
                file.write(json.dumps(line) + "\n")
    with (out / "ratios.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["workload", "estimator", "job", "base", "ratio", "ratio_low", "ratio_high", "seconds_per_estimate"]
        )
        for row, laps in measured.items():
            for job in laps.seconds:
                for base in ("closed", "floor"):
                    r, took = laps.ratio(job, base), laps.median(job)
                    writer.writerow(
                        [
                            row.workload,
                            row.name,
                            job,
                            base,
                            f"{r.median:.4g}",
                            f"{r.low:.4g}",
                            f"{r.high:.4g}",
                            f"{took:.4g}",
                        ]
                    )


def tiny_table(seconds: float) -> str:
    """Measure the tiny calls and return their table."""
    lines = [
        [
            name,
            *(f"{1e6 * laps.median(job):.0f}" for job in ("estimator", "by hand")),
            laps.ratio("estimator", "by hand"),
        ]
        for name, laps in tiny.measured(seconds)
    ]
    return table(["", "estimator, microseconds", "by hand, microseconds", "estimator / by hand"], lines)


def effect_table(seconds: float, *, small: bool) -> str:
    """Measure the effect of every choice and return the table."""
    lines = [[e.choice, e.instead, e.row, e.ratio] for e in effects.effects(seconds, small=small)]
    return table(["choice", "instead", "on", "time without it / with it"], lines)


def put_into_docs(effect_lines: str) -> None:
    """Write the table of effects between its two marks in the documentation."""
    path = ROOT / "docs" / "performance.md"
    head, rest = path.read_text(encoding="utf-8").split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{effect_lines}{END}{rest.split(END)[1]}", encoding="utf-8")


def draw(out: Path, seconds: float, *, small: bool) -> None:
    """Measure and draw time against R, and time against D."""
    by_row: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, job, replicates, took in growth.against_replicates(seconds, small=small):
        by_row.setdefault(name, {}).setdefault(job, []).append((replicates, took))
    figures.time_against(out / "time-against-R", by_row, "replicates R", "seconds")
    by_job: dict[str, list[tuple[float, float]]] = {}
    for dim, _, laps in growth.against_dimension(seconds, small=small):
        for job in laps.seconds:
            by_job.setdefault(job, []).append((dim, laps.median(job)))
    title = {"leave-one-out with n = 4, Gaussian quadratic": by_job}
    figures.time_against(out / "time-against-D", title, "dimension D", "seconds per estimate")


def growth_tables(*, small: bool) -> str:
    """Return the tables of memory against R, two processes against one, and float64 against float32."""
    mb = [[m["row"], f"{m['few']:,}", f"{m['many']:,}", f"{m['grown'] / 1e6:.1f}"] for m in growth.memory(small)]
    scaling = growth.processes(5 if not small else 2, small=small)
    double = effects.precision(0.1 if small else 2, small=small)
    return "\n".join(
        [
            "## Memory\n",
            "The highest resident memory of a fresh process for each R, and how much more the larger R needs.\n",
            table(["row", "R", "R", "grown, MB"], mb),
            "## Two processes\n",
            "The draws of one large cell are spread over worker processes of one thread each. The last column is the\n"
            "limit of the machine: as much work in separate processes. Three sets of processes, five rounds each.\n",
            table(
                ["row", "one process / two processes", "limit: separate processes"],
                [[name, *ratios] for name, ratios in scaling.items()],
            ),
            "## float64\n",
            table(["row", "float64 / float32, every statistic"], [[name, r] for name, r in double]),
        ]
    )


def readme(measured: dict[Row, Laps], tiny_lines: str, effect_lines: str, growth_lines: str, command: str) -> str:
    """Return the page with all results."""
    words = [f"{key}: {value}." for key, value in WORKLOADS.items()]
    facts = environment()
    return f"""# Performance

This page is made by one command, which takes less than ten minutes on two quiet cores:

```bash
{command}
```

{facts["cpu"]} ({facts["cpu_capability"]}), Python {facts["python"]}, torch {facts["torch"]}, float32, one thread.

Every figure is a ratio of two times per gradient estimate. It is the median over rounds in which all jobs of a row take
turns, with the 95 % interval of the median in brackets.

- *closed* is the best eager torch that we could write by hand for the row (`tests/benchmarks/closed.py`), with mean and
  variance of every coordinate.
- *floor* draws the same random numbers, evaluates f at the same points, and does nothing else.
- *{WHOLE}* is the work of `bench run` for a cell: blocks, partial sums, merging, intervals, tests, verdicts.
- *{LEAN}* is the engine of the product with the sums of *closed*; the product itself has no such mode.
- The peers compute mean and variance too.

Beyond 131,072 replicates the product tracks fewer series row by row
([what that means](../../docs/reading.md#what-makes-two-numbers-comparable)). Rows with fewer replicates show the full
cost.

{" ".join(words)}

{ratio_table(measured)}
{targets(measured)}
`ratios.jsonl` has every lap, `ratios.csv` every ratio, and [profile.md](profile.md) shows where the time goes on W3 and
W6. [policies.md](policies.md) compares policy gradients of token sequences with loops in plain torch.

![Time against R](time-against-R.svg)

![Time against D](time-against-D.svg)

## One tiny call

One gradient at a q of three numbers: making q, the call and its backward pass. By hand it is a step of training in
torch alone. The arithmetic takes no time here: the difference is what the estimator does besides, such as the checks
of q, f, the samples and the values of f.

{tiny_lines}
{growth_lines}
## What each choice is worth

The time of the engine with one choice undone, divided by the time of the engine as it is; mean and variance only.

{effect_lines}
No GPU was available: every figure was measured on a CPU.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and write the folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "performance", help="folder to write")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs, measures nothing")
    parser.add_argument("--only", default="", help="rows whose name contains this, or tiny: one table alone")
    options = parser.parse_args(arguments)
    begin, quick, out = time.perf_counter(), options.quick, options.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    def say(what: str) -> None:
        print(f"{time.perf_counter() - begin:5.0f} s  {what}", file=sys.stderr, flush=True)

    if options.only == "tiny":
        print(tiny_table(0.0 if quick else 3))
        return
    measured = {}
    for row in (row for row in ROWS if options.only in row.id):
        laps = interleave(jobs(row, 0.01 if quick else 1.0), seconds=0.1 if quick else 11)
        measured[row] = laps
        product = f"{laps.ratio(LEAN, 'closed')} mean and variance, {laps.ratio(WHOLE, 'closed')} every statistic"
        say(f"{row.id}: {product}")
    write_laps(out, measured)
    if options.only:
        print(ratio_table(measured))
        return
    say("tiny calls")
    tiny_lines = tiny_table(0.0 if quick else 3)
    say("effects")
    effect_lines = effect_table(0.1 if quick else 1.5, small=quick)
    say("growth")
    growth_lines = growth_tables(small=quick)
    say("figures")
    draw(out, 0.1 if quick else 2, small=quick)
    say("profile")
    shown = [row for row in ROWS if row.id in ("W3 RLOO(2)", "W6 RLOO(2)")]
    pages = "\n".join(profile.text(row, 2_000 if quick else None) for row in shown)
    (out / "profile.md").write_text(f"# Where the time goes\n\n{pages}", encoding="utf-8")
    command = "python -m tests.benchmarks" + (" --quick" if quick else "")
    (out / "README.md").write_text(readme(measured, tiny_lines, effect_lines, growth_lines, command), encoding="utf-8")
    if not quick:
        put_into_docs(effect_lines)
    say(f"wrote {out}")


if __name__ == "__main__":
    main()
