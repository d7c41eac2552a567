"""The whole study: its pieces are spread over processes and joined.

Every random number depends on the law, the size and the number of the run alone, so that the figures do not depend on
the number of processes.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tests.calibration import accusations, adaptive, coverage, direction, gate, levels, long
from tests.calibration.laws import LAWS


@dataclass(frozen=True)
class Plan:
    """The number of runs of every part."""

    coverage: dict[int, int]
    accusations: int
    scalar: int
    vector: int
    large: int
    sums: int
    adaptive: int
    long: int
    direction: int
    suites: int
    trials: int
    blocks: int

    def scaled(self, factor: float) -> Plan:
        """Return a plan with a fraction of the runs, but at least a few of each part."""

        def part(n: int, least: int) -> int:
            return max(least, round(n * factor))

        return Plan(
            {R: part(n, 8) for R, n in self.coverage.items()},
            part(self.accusations, 4),
            part(self.scalar, 100),
            part(self.vector, 20),
            part(self.large, 5),
            part(self.sums, 100),
            part(self.adaptive, 3),
            part(self.long, 3),
            part(self.direction, 3),
            part(self.suites, 2),
            part(self.trials, 2),
            part(self.blocks, 64),
        )


WHOLE = Plan({1_000: 2_000, 10_000: 1_000}, 200, 200_000, 50_000, 2_000, 100_000, 200, 1_000, 400, 200, 60, 1_024)

Task = tuple[tuple[Any, ...], Callable[[], Any]]


def pieces(total: int, length: int) -> Iterator[range]:
    return (range(start, min(start + length, total)) for start in range(0, total, length))


def tasks(plan: Plan) -> Iterator[Task]:
    """Yield the pieces of the study by key, the longest kinds first; pieces with the same key are joined."""
    for number, cell in enumerate(gate.CELLS):
        yield ("null", number), partial(gate.null_cases, cell, plan.suites, plan.blocks)
    for number, cell in enumerate(gate.CELLS):
        yield ("power", number), partial(gate.power, cell, None, plan.trials, plan.blocks)
    for number, (name, sound, faulty) in enumerate(gate.PLANTED, len(gate.CELLS)):
        yield ("power", number), partial(gate.power, sound, (name, faulty), plan.trials, plan.blocks)
    for law in LAWS:
        for R, count in plan.coverage.items():
            for numbers in pieces(count, 250):
                yield ("coverage", law.name, R), partial(_coverage, law.name, R, numbers)
    for law in (*accusations.FINITE, *accusations.INFINITE):
        for R in accusations.SIZES:
            for numbers in pieces(plan.accusations, 50):
                yield ("accusations", law.name, R), partial(_accusations, law.name, R, numbers)
    for group, count in ((levels.SCALAR, plan.scalar), (levels.VECTOR, plan.vector), (levels.LARGE, plan.large)):
        for law in group:
            for numbers in pieces(count, 20_480 // law.size * 4):
                yield ("levels", law.name, law.size), partial(_levels, law.name, numbers)
    for name in levels.SUMS:
        for size in (1, 20, 200):
            for numbers in pieces(plan.sums, 40_960):
                yield ("sums", name, size), partial(levels.sum_rejections, name, size, numbers)
    for law in adaptive.LAWS:
        for numbers in pieces(plan.adaptive, 50):
            yield ("adaptive", law.name), partial(_adaptive, law.name, numbers)
    for law in long.LAWS:
        for numbers in pieces(plan.long, 250):
            yield ("long", law.name), partial(_long, law.name, numbers)
    for law in direction.LAWS:
        for numbers in pieces(plan.direction, 50):
            yield ("direction", law.name), partial(_direction, law.name, numbers)


def _named(name: str, laws: tuple[Any, ...]) -> Any:
    return next(law for law in laws if law.name == name)


def _coverage(name: str, R: int, numbers: range) -> dict[str, list[float]]:
    return coverage.runs(_named(name, LAWS), R, numbers)


def _accusations(name: str, R: int, numbers: range) -> dict[str, list[float]]:
    return accusations.runs(_named(name, accusations.FINITE + accusations.INFINITE), R, numbers)


def _levels(name: str, numbers: range) -> dict[str, list[float]]:
    return levels.rejections(_named(name, levels.SCALAR + levels.VECTOR + levels.LARGE), numbers)


def _adaptive(name: str, numbers: range) -> dict[str, list[float]]:
    return adaptive.runs(_named(name, adaptive.LAWS), numbers)


def _long(name: str, numbers: range) -> dict[str, list[float]]:
    return long.runs(_named(name, long.LAWS), numbers)


def _direction(name: str, numbers: range) -> dict[str, list[float]]:
    return direction.runs(_named(name, direction.LAWS), numbers)


def _work(numbered: tuple[int, Task]) -> tuple[int, tuple[Any, ...], Any]:
    number, (key, work) = numbered
    return number, key, work()


def _alone() -> None:
    torch.set_num_threads(1)


def study(
    plan: Plan, processes: int, say: Callable[[str], None] = lambda _text: None, parts: Collection[str] = ()
) -> dict[tuple[Any, ...], Any]:
    """Return the joined results of every key: a list of cases or rows, or columns.

    ``parts`` are the parts of the study to make, the first words of the keys; without any, all are made.
    """
    pending = [task for task in tasks(plan) if not parts or task[0][0] in parts]
    found: dict[int, tuple[tuple[Any, ...], Any]] = {}
    begin = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _alone) as pool:
        for done, (number, key, result) in enumerate(pool.imap_unordered(_work, enumerate(pending)), 1):
            found[number] = key, result
            say(f"[{done}/{len(pending)}] {' '.join(map(str, key))}, {time.perf_counter() - begin:.0f} s")
    out: dict[tuple[Any, ...], Any] = {}
    for number in sorted(found):
        key, result = found[number]
        if isinstance(result, list):
            out[key] = result
        else:
            columns = out.setdefault(key, {name: [] for name in result})
            for name, values in result.items():
                columns[name] += values
    return out
