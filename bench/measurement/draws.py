"""The layout of a run: the rows of every draw, and how draws are cut into blocks, spans and slices."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench.objectives import Objective
from bench.planning.cells import Cell
from bench.records.identity import identity
from bench.stats.layout import TRACKED

CAP = {"cpu": 2**19, "cuda": 2**22}
"""Elements of the largest tensor of a draw, for one sample of every row, by device kind."""
CALL = {"cpu": 2**21, "cuda": 2**22}
"""Elements of the largest tensor of one call, for all samples. More leave the cache; fewer pay for more calls."""
FIRST, LEAST = 256, 64
"""Fewest rows of the first draws; fewest rows of any draw, where the cap is small."""
LONG, PARTS, GROWTH = 2**16, 512, 64
"""Replicates of a long run; the parts of it that its draws are sized by: the first are one, others so many of them."""
FLAT, STEP = 8, 4
"""Draws of the first size; draws of every other size before the next. They bound by how much R is rounded up."""
CUT = 4
"""Blocks of a draw, at most: the tests over blocks need 32 of them soon."""
MOST, MOST_NUMBERS = 32, 2**17
"""Blocks that are reduced together, at most, and coordinates of their means."""


def cap(objective: Objective, device: str) -> int:
    """Return the most rows of a draw: a power of two, from the objective and the device kind alone."""
    most = CAP[device] // max(1, objective.row_elements)
    return max(LEAST, 1 << (max(1, most).bit_length() - 1))


def ladder(objective: Objective, device: str) -> Iterator[int]:
    """Yield the rows of draw 0, 1, 2 ... of a short run: 8 of 256, 4 of 512, 4 of 1024 and so on up to the cap.

    R is rounded up to whole draws, by less than a quarter from 2048 on, and a longer run begins with the shorter one.
    """
    most = cap(objective, device)
    size, count = min(FIRST, most), FLAT
    while True:
        yield from itertools.repeat(size, count)
        size, count = min(2 * size, most), STEP


def long_ladder(objective: Objective, device: str, replicates: int) -> Iterator[int]:
    """Yield the same of a long run: 8 draws of R/512, at least 1024, and then of R/8, or the cap; in powers of two.

    A draw costs what its calls cost, whatever its rows: here they are few. R is rounded up by at most an eighth.
    """
    most, part = cap(objective, device), 1 << ((replicates // PARTS).bit_length() - 1)
    yield from itertools.repeat(min(max(CUT * FIRST, part), most), FLAT)
    yield from itertools.repeat(min(GROWTH * part, most))


def blocks_in(rows: int) -> int:
    """Return into how many blocks of equal rows a draw is cut: 1, 2 or 4, none of under 256 rows if the draw is not."""
    return max(1, min(CUT, rows // FIRST))


def draws(cell: Cell, replicates: int, device: str) -> list[int]:
    """Return the rows of every draw: ``replicates`` rounded up to whole draws.

    A deterministic estimator has one gradient, whatever the noise: one smallest draw shows it.
    """
    if cell.estimator.deterministic:
        return [LEAST]
    return sizes_of(cell.objective, replicates, device)


def sizes_of(objective: Objective, replicates: int, device: str) -> list[int]:
    """Return the same of any other estimator."""
    long = replicates >= LONG
    return take_until(replicates, long_ladder(objective, device, replicates) if long else ladder(objective, device))


def take_until(replicates: int, sizes: Iterable[int]) -> list[int]:
    """Return the shortest prefix of ``sizes`` that sums to at least ``replicates``; all sizes if none does."""
    taken: list[int] = []
    total = 0
    for size in sizes:
        if total >= replicates:
            break
        taken.append(size)
        total += size
    return taken


def spans(sizes: Sequence[int], size: int) -> list[range]:
    """Return successive draws, of blocks of equal rows, that are reduced together.

    Args:
        sizes: the rows of every draw.
        size: the coordinates of theta.
    """
    out: list[range] = []
    before, blocks, rows = starts(sizes), 0, 0
    for draw, n in enumerate(sizes):
        cut = blocks_in(n)
        more = n // cut == rows and blocks + cut <= MOST and (blocks + cut) * size <= MOST_NUMBERS
        if more and not before[out[-1].start] < TRACKED <= before[draw]:
            out[-1], blocks = range(out[-1].start, draw + 1), blocks + cut
        else:
            out.append(range(draw, draw + 1))
            blocks, rows = cut, n // cut
    return out


def starts(sizes: Sequence[int]) -> list[int]:
    """Return the rows before every draw, and their total."""
    return [0, *itertools.accumulate(sizes)]


def tracked_rows(sizes: Sequence[int], size: int) -> int:
    """Return the number of leading rows for which every series is tracked: all spans that start before ``TRACKED``."""
    before = starts(sizes)
    return max(before[span.stop] for span in spans(sizes, size) if before[span.start] < TRACKED)


def slices(rows: int, points: int, objective: Objective, device: str) -> int:
    """Return into how many calls of equal rows a draw is cut to keep their largest tensor small: a power of two."""
    count = 1
    while count < rows and rows * points * objective.row_elements > count * CALL[device]:
        count *= 2
    return count


def noise_subject(cell: Cell, *, common: bool) -> dict[str, Any] | list[dict[str, Any]]:
    """Return whose noise a cell uses: its objective's, so that estimators compare pairwise, or its own."""
    objective = identity(cell.objective)
    return objective if common else [identity(cell.estimator), objective]
