"""What a worker costs per cell: ``python -m tests.benchmarks.overhead [--cells N] [--laps N] [--out FILE]``.

The same small cells are measured in this process, in one worker process, and on a local Dask cluster of one worker, in
turn. The difference to this process, per cell, is the cost of sending a cell and its record, and of what a worker does
besides measuring. *start* is the time until the first record, when this process has imported everything already.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.execution.pool import Pool
from bench.execution.tasks import MomentsTask
from bench.objectives import GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.planning.spec import Spec
from bench.records.environment import environment
from bench.records.lines import Outcome, Record
from estimators import RLOO

Measure = Callable[[Sequence[MomentsTask]], Iterator[Record]]
"""Yields the record of every task."""


def cells(count: int) -> list[MomentsTask]:
    """Return tasks that take a few milliseconds each."""
    settings = Settings(replicates=2_048)
    return [MomentsTask(Cell(RLOO(n=2 + number % 31), GaussianQuadratic()), settings) for number in range(count)]


def here(tasks: Sequence[MomentsTask]) -> Iterator[Record]:
    """Measure the tasks in this process."""
    yield from (task.record() for task in tasks)


@contextlib.contextmanager
def one_worker() -> Iterator[Measure]:
    """Start one worker process."""
    with Pool(1) as pool:
        yield pool.records


@contextlib.contextmanager
def one_dask_worker() -> Iterator[Measure]:
    """Start a local Dask cluster of one worker."""
    from bench.execution.cluster.address import Dask
    from bench.execution.cluster.coordinator import connect

    spec = Spec.of({"estimators": ["rloo"], "objectives": ["gaussian-quadratic"]})
    cluster = connect(Dask(workers=1), spec)
    try:
        yield cluster.records
    finally:
        cluster.stop()


PLACES: dict[str, Callable[[], contextlib.AbstractContextManager[Measure]]] = {
    "this process": lambda: contextlib.nullcontext(here),
    "worker process": one_worker,
    "Dask worker": one_dask_worker,
}


def seconds_of(measure: Measure, tasks: Sequence[MomentsTask]) -> float:
    """Return the seconds that the tasks take; every task must be measured."""
    begin = time.perf_counter()
    outcomes = [record["outcome"] for record in measure(tasks)]
    assert outcomes == [Outcome.MEASURED] * len(tasks)
    return time.perf_counter() - begin


def measured(places: Sequence[str], count: int, laps: int) -> dict[str, tuple[float, list[float]]]:
    """Return, for each place, the seconds of its start, and the seconds per cell in each lap."""
    tasks = cells(count)
    seconds_of(here, tasks)  # warm
    with contextlib.ExitStack() as stack:
        found, running = dict[str, tuple[float, list[float]]](), dict[str, Measure]()
        for place in places:
            begin = time.perf_counter()
            running[place] = stack.enter_context(PLACES[place]())
            seconds_of(running[place], tasks[:1])
            found[place] = time.perf_counter() - begin, []
            seconds_of(running[place], tasks)
        for _ in range(laps):
            for place, measure in running.items():
                found[place][1].append(seconds_of(measure, tasks) / count)
    return found


def page(found: dict[str, tuple[float, list[float]]], count: int) -> str:
    """Return the times as a Markdown table. The first place is the one that others are compared with."""
    facts = environment()
    _, base = next(iter(found.values()))
    lines = [
        f"{facts['cpu']}, {os.cpu_count()} cores, Python {facts['python']}, torch {facts['torch']}.",
        f"{count} cells, medians of {len(base)} laps.",
        "",
        "| place | start, s | per cell, ms | more than in this process, ms |",
        "| --- | --- | --- | --- |",
    ]
    for place, (start, laps) in found.items():
        more = median(lap - other for lap, other in zip(laps, base, strict=True))
        lines.append(f"| {place} | {start:.2f} | {1e3 * median(laps):.2f} | {1e3 * more:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all places and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead", description=__doc__)
    parser.add_argument("--cells", type=int, default=200, help="number of cells in a lap [200]")
    parser.add_argument("--laps", type=int, default=9, help="number of laps [9]")
    parser.add_argument("--only", action="append", choices=[*PLACES], help="compare this place; repeatable [all]")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    places = [place for place in PLACES if place == "this process" or place in (options.only or PLACES)]
    text = page(measured(places, options.cells, options.laps), options.cells)
    print(text)
    if options.out:
        options.out.write_text(f"# What a worker costs per cell\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
