"""Times the rows of the benchmark with two versions of the code: ``python -m tests.benchmarks.paired FOLDER``.

FOLDER is a checkout of the other version. Each version runs in a process of its own, and the two take turns, lap by
lap, so that a busy or a slow machine hits both alike. The ratio is the time of this version over that of the other one.
A process is faster or slower than another one of the same code, by some per cent, because its memory lies elsewhere. So
several pairs of processes are started, one after the other, and the interval is over the pairs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Self

import torch

from tests.benchmarks.product import Product
from tests.benchmarks.workloads import ROWS, Row

ROOT = Path(__file__).parents[2]
SHARE = 0.15
"""Part of each row's replicates in a lap."""
KINDS = {"lean": "mean and variance", "whole": "every statistic"}
"""What a lap measures: the method of ``Product``, and its name for people."""


def name_of(row: Row) -> str:
    """Return the name of a row, such as ``W1 score``."""
    return f"{row.workload} {row.name}"


class Version:
    """A version of the code, in a process that times one lap of a row whenever it is asked to.

    Args:
        folder: the checkout.
    """

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", str(Path(__file__)), "--worker"]  # -P: this folder has a module `profile`
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, kind: str, row: str) -> float:
        """Return the seconds of one lap of a row; the first lap of a row also makes it ready."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{kind}|{row}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()


def work() -> None:
    """Time laps as the standard input asks for them, and print their seconds."""
    torch.set_num_threads(1)
    ready: dict[str, Product] = {}
    for line in sys.stdin:
        kind, name = line.strip().split("|")
        if name not in ready:
            row = next(row for row in ROWS if name_of(row) == name)
            ready = {name: Product(row, max(2048, int(SHARE * row.replicates)))}
            ready[name].lean()
            ready[name].whole()
        begin = time.perf_counter()
        getattr(ready[name], kind)()
        print(time.perf_counter() - begin, flush=True)


def compared(this: Version, other: Version, rows: Sequence[str], laps: int) -> Iterator[tuple[str, str, list[float]]]:
    """Yield the name of a row, the kind of lap, and the ratios of both versions' seconds, one for each pair of laps."""
    for row in rows:
        for version in (this, other):
            version.seconds("lean", row)
        for kind in KINDS:
            ratios = []
            for lap in range(laps):
                first, second = (this, other) if lap % 2 else (other, this)
                seconds = {id(version): version.seconds(kind, row) for version in (first, second)}
                ratios.append(seconds[id(this)] / seconds[id(other)])
            yield row, kind, ratios


def verdict(ratios: Sequence[float]) -> tuple[float, float, float, str]:
    """Return the median ratio with its 95 % limits (sign test), and "slower" or "faster" if they exclude 1.

    ``ratios`` has a ratio for each pair of processes.
    """
    from bench.stats.median import order_statistic_interval  # not above: an older version has it elsewhere

    _, low, high = order_statistic_interval(ratios)
    word = "slower" if low > 1 else "faster" if high < 1 else ""
    return median(ratios), low, high, word


def main() -> None:
    """Compare all rows, and print a line for each."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.paired", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="a checkout of the other version")
    parser.add_argument("--processes", type=int, default=9, help="pairs of processes")
    parser.add_argument(
        "--laps", type=int, default=15, help="pairs of laps of each row and kind in a pair of processes"
    )
    parser.add_argument("--only", default="", help="the rows whose name begins so, such as W3 or 'W1 score'")
    given = parser.parse_args()
    rows = [name_of(row) for row in ROWS if name_of(row).startswith(given.only)]
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(given.processes):
        with Version(ROOT) as this, Version(given.folder.resolve()) as other:
            for row, kind, ratios in compared(this, other, rows, given.laps):
                found.setdefault((row, kind), []).append(median(ratios))
        print(f"{number + 1} of {given.processes} pairs of processes", file=sys.stderr, flush=True)
    for (row, kind), ratios in found.items():
        middle, low, high, word = verdict(ratios)
        print(f"{row:20} {KINDS[kind]:18} {middle:.3f} [{low:.3f}, {high:.3f}] {word}")


if __name__ == "__main__":
    work() if "--worker" in sys.argv else main()
