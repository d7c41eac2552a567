"""Spec to cells and skips, and the shape of the work: draws, blocks, slices, seeds. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench import record
from bench.objectives import Objective
from bench.selectors import label
from estimators import Estimator

CAP = {"cpu": 2**19, "cuda": 2**22}
"""Elements of the largest tensor of a draw, for one sample of every row, by device kind."""
CALL = {"cpu": 2**21, "cuda": 2**22}
"""Elements of the largest tensor of one call, for all samples. More leave the cache; fewer pay for more calls."""
FIRST, LEAST = 256, 64
"""Fewest rows of the first draws; fewest rows of any draw, where the cap is small."""
PARTS = 512
"""A long run begins with draws of one of so many parts of it, or up to twice as many."""
FLAT, STEP = 8, 4
"""Draws of the first size; draws of every other size before the next. They bound by how much R is rounded up."""
CUT = 4
"""Blocks of a draw, at most: the tests over blocks need 32 of them soon."""


@dataclass(frozen=True)
class Cell:
    """One estimator on one objective: what a measurement is of."""

    estimator: Estimator
    objective: Objective

    @property
    def id(self) -> str:
        """Identity, 16 hexadecimal digits."""
        return record.cell_id(self.estimator, self.objective)

    @property
    def label(self) -> str:
        """Selectors of both, for people."""
        return f"{label(self.estimator)} on {label(self.objective)}"


@dataclass(frozen=True)
class Skip:
    """A pair that does not fit together, and why."""

    cell: Cell
    reason: str


def plan(estimators: Sequence[Estimator], objectives: Sequence[Objective]) -> tuple[list[Cell], list[Skip]]:
    """Return the cells to measure and the pairs that do not fit, objective by objective. Nothing is computed."""
    cells, skips = [], []
    for objective in objectives:
        for estimator in estimators:
            cell = Cell(estimator, objective)
            reason = mismatch(estimator, objective)
            if reason is None:
                cells.append(cell)
            else:
                skips.append(Skip(cell, reason))
    return cells, skips


def mismatch(estimator: Estimator, objective: Objective) -> str | None:
    """Return why an estimator cannot be used on an objective, from declared facts alone; None if it can."""
    if reason := estimator.refuses(objective.family):
        return reason
    name = label(objective)
    if estimator.needs_df and not objective.differentiable:
        return f"{estimator!r} needs df/dx, and {name} has none. Use ScoreFunction or RLOO."
    if estimator.needs_relaxed_f and not objective.relaxable:
        return f"{estimator!r} evaluates f off the support of q, and {name} is not defined there. Use StraightThrough."
    if estimator.needs_bound and not objective.bound:
        use = "Reparameterization" if estimator.needs_df else "RLOO"
        return f"{estimator!r} needs the log-weights of a bound, and {name} is not one. Use {use}."
    return estimator.refuses_particles(objective.particles) if objective.bound else None


def cap(objective: Objective, device: str) -> int:
    """Return the most rows of a draw: a power of two, from the objective and the device kind alone."""
    most = CAP[device] // max(1, objective.row_elements)
    return max(LEAST, 1 << (max(1, most).bit_length() - 1))


def first_rows(replicates: int) -> int:
    """Return the rows of the first draws of a run: a power of two, 256 for runs of up to 262,143 replicates."""
    return max(FIRST, 1 << (max(1, replicates // PARTS).bit_length() - 1))


def ladder(objective: Objective, device: str, first: int = FIRST) -> Iterator[int]:
    """Yield the rows of draw 0, 1, 2 ...: 8 of the first size, 4 of twice that and so on up to the cap.

    R is rounded up to whole draws, by less than a quarter from 2048 on. A draw costs what its calls cost, whatever its
    rows: a long run begins with larger ones, so that they are few.
    """
    most = cap(objective, device)
    size, count = min(first, most), FLAT
    while True:
        yield from itertools.repeat(size, count)
        size, count = min(2 * size, most), STEP


def blocks_in(rows: int) -> int:
    """Return into how many blocks of equal rows a draw is cut: 1, 2 or 4, none of under 256 rows if the draw is not."""
    return max(1, min(CUT, rows // FIRST))


def draws(cell: Cell, replicates: int, device: str) -> list[int]:
    """Return the rows of every draw: ``replicates`` rounded up to whole draws.

    A deterministic estimator has one gradient, whatever the noise: one smallest draw shows it.
    """
    if cell.estimator.deterministic:
        return [LEAST]
    return up_to(replicates, ladder(cell.objective, device, first_rows(replicates)))


def up_to(replicates: int, sizes: Iterable[int]) -> list[int]:
    """Return as many of the sizes as it takes to have so many replicates."""
    taken: list[int] = []
    total = 0
    for size in sizes:
        if total >= replicates:
            break
        taken.append(size)
        total += size
    return taken


def slices(rows: int, points: int, objective: Objective, device: str) -> int:
    """Return into how many calls of equal rows a draw is cut to keep their largest tensor small: a power of two."""
    count = 1
    while count < rows and rows * points * objective.row_elements > count * CALL[device]:
        count *= 2
    return count


def noise_subject(cell: Cell, *, common: bool) -> dict[str, Any] | list[dict[str, Any]]:
    """Return whose noise a cell uses: its objective's, so that estimators compare pairwise, or its own."""
    objective = record.identity(cell.objective)
    return objective if common else [record.identity(cell.estimator), objective]
