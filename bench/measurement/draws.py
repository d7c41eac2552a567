"""The layout of a run: the size of every draw, and how draws are cut into blocks and slices or joined into spans.

All constants of the layout, by the module that defines them::

    constant            value       unit        meaning                                            read by
    bench.planning.settings
    SMALLEST_DRAW       64          rows        fewest rows of a draw and of a block               cap, blocks, gate
    bench.measurement.draws
    CAP                 2^19, 2^22  elements    CPU, CUDA: largest tensor of a draw at one sample  cap
    CALL                2^21, 2^22  elements    CPU, CUDA: largest tensor of a call                slices
    FIRST_DRAW          256         rows        a first draw; least block of a larger draw         ladder, blocks
    FIRST_DRAWS         8           draws       draws of the first size                            ladder, long_ladder
    DRAWS_PER_SIZE      4           draws       draws of each later size of a short run            ladder
    LONG_RUN            2^16        replicates  fewest replicates of a long run                    sizes_of
    FIRST_SHARE         512         draws       a first draw of a long run has R/512 rows          long_ladder
    GROWTH              64          draws       a later draw has 64 times as many: R/8             long_ladder
    BLOCKS_PER_DRAW     4           blocks      most blocks of a draw                              blocks_in
    BLOCKS_PER_SPAN     32          blocks      most blocks of a span                              spans
    NUMBERS_PER_SPAN    2^17        numbers     most numbers in the means of a span's blocks       spans
    MOST_DRAWS          2^20        draws       most draws of a run: each has sums of its own      take_until
    bench.stats.layout
    TRACKED             2^17        rows        spans that start later track only the series w     spans, tracked_rows
    SHAPE_BLOCKS        32          blocks      the first blocks keep third and fourth moments     blocks, accumulate
    SUB_BLOCK           32          rows        a sub-block of the trace estimator                 blocks, kernels
    SUB_BLOCKS          64          sub-blocks  sub-blocks of a run                                blocks, accumulate
    MIN_REMAINDER       16          rows        fewest left-over rows that make a sub-block        kernels
    COVERED_REPLICATES  400,000     replicates  longer runs don't keep the largest 1 % of w        kept_values
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench.objectives import Objective
from bench.planning.cells import Cell, declared
from bench.planning.selectors import UsageError
from bench.planning.settings import SMALLEST_DRAW
from bench.records.identity import identity
from bench.stats.layout import TRACKED

CAP = {"cpu": 2**19, "cuda": 2**22}
CALL = {"cpu": 2**21, "cuda": 2**22}  # larger calls leave the cache; smaller ones cost more calls
FIRST_DRAW = 256
FIRST_DRAWS, DRAWS_PER_SIZE = 8, 4  # they bound the rounding of R
LONG_RUN, FIRST_SHARE, GROWTH = 2**16, 512, 64
BLOCKS_PER_DRAW = 4  # 8 draws have the 32 blocks that the tests over blocks need
BLOCKS_PER_SPAN, NUMBERS_PER_SPAN = 32, 2**17
MOST_DRAWS = 2**20


def cap(objective: Objective, device: str) -> int:
    """Return the most replicates in a draw (batch): a power of two, fixed by the objective and the kind of device.

    The ``device`` is "cpu" or "cuda".
    """
    most = CAP[device] // max(1, objective.row_elements)
    return max(SMALLEST_DRAW, 1 << (max(1, most).bit_length() - 1))


def ladder(objective: Objective, device: str) -> Iterator[int]:
    """Yield the sizes of draws (batches of replicates), without end, for runs of fewer than 2^16 replicates.

    A run takes the first draws that together have enough replicates. The first 8 draws have 256 replicates each, the
    next 4 have 512, the next 4 have 1024, and so on. No draw has more than ``cap(objective, device)`` replicates;
    ``device`` is "cpu" or "cuda". Rounding 2048 or more replicates up to whole draws adds less than a quarter.
    """
    most = cap(objective, device)
    size, count = min(FIRST_DRAW, most), FIRST_DRAWS
    while True:
        yield from itertools.repeat(size, count)
        size, count = min(2 * size, most), DRAWS_PER_SIZE


def long_ladder(objective: Objective, device: str, replicates: int) -> Iterator[int]:
    """Yield the sizes of draws (batches of replicates), without end, for a long run: 8 small draws, then large ones.

    The run has R ``replicates``, at least 2^16. Let s be the largest power of two up to R/512. A small draw has
    max(1024, s) replicates and a large one 64 s, but no draw has more than ``cap(objective, device)``. The ``device``
    is "cpu" or "cuda". Few draws suffice for a long run, which saves calls to torch. Rounding R up to whole draws adds
    at most an eighth.
    """
    most, share = cap(objective, device), 1 << ((replicates // FIRST_SHARE).bit_length() - 1)
    yield from itertools.repeat(min(max(BLOCKS_PER_DRAW * FIRST_DRAW, share), most), FIRST_DRAWS)
    yield from itertools.repeat(min(GROWTH * share, most))


def blocks_in(rows: int) -> int:
    """Return the number of equal blocks in a draw (batch) of ``rows`` replicates: 1, 2 or 4.

    A block is a group of replicates that are summed together. If a draw has several, each has at least 256 replicates.
    """
    return max(1, min(BLOCKS_PER_DRAW, rows // FIRST_DRAW))


def draws(cell: Cell, replicates: int, device: str) -> list[int]:
    """Return the number of replicates in each draw (batch) of a cell's run.

    The sum is ``replicates``, rounded up to whole draws. A deterministic estimator returns the same gradient in every
    call, so its run is a single draw of the smallest size.
    """
    return (
        [SMALLEST_DRAW] if declared(cell.estimator, "deterministic") else sizes_of(cell.objective, replicates, device)
    )


def sizes_of(objective: Objective, replicates: int, device: str) -> list[int]:
    """Return the number of replicates in each draw (batch) of a run of an estimator with noise.

    The sum is ``replicates``, rounded up to whole draws. The sizes depend on the objective and on the device, because a
    draw must fit into memory.
    """
    long = replicates >= LONG_RUN
    return take_until(replicates, long_ladder(objective, device, replicates) if long else ladder(objective, device))


def take_until(replicates: int, sizes: Iterable[int]) -> list[int]:
    """Return the fewest first elements of ``sizes`` that sum to at least ``replicates``; all if their sum is less.

    Raises:
        UsageError: more than 2^20 elements would be needed.
    """
    taken, total = list[int](), 0
    for size in sizes:
        if total >= replicates:
            break
        if len(taken) == MOST_DRAWS:
            raise UsageError(
                f"{replicates:,} replicates are more than {MOST_DRAWS:,} draws (batches), which have {total:,} "
                "replicates here: ask for at most so many."
            )
        taken.append(size)
        total += size
    return taken


def spans(sizes: Sequence[int], size: int) -> list[range]:
    """Return the spans of a run. A span is a range of draws whose sums are computed in one pass.

    A draw is a batch of replicates. It consists of blocks, groups of replicates that are summed together. All blocks of
    a span have equally many replicates.

    Args:
        sizes: the number of replicates in each draw.
        size: the number of coordinates of theta.
    """
    out: list[range] = []
    before, blocks, rows = starts(sizes), 0, 0
    for draw, n in enumerate(sizes):
        cut = blocks_in(n)
        more = n // cut == rows and blocks + cut <= BLOCKS_PER_SPAN and (blocks + cut) * size <= NUMBERS_PER_SPAN
        if more and not before[out[-1].start] < TRACKED <= before[draw]:
            out[-1], blocks = range(out[-1].start, draw + 1), blocks + cut
        else:
            out.append(range(draw, draw + 1))
            blocks, rows = cut, n // cut
    return out


def starts(sizes: Sequence[int]) -> list[int]:
    """Return the number of replicates before each draw (batch), followed by the number in all draws.

    ``sizes`` are the replicates in each draw.
    """
    return [0, *itertools.accumulate(sizes)]


def tracked_rows(sizes: Sequence[int], size: int) -> int:
    """Return the number of replicates, from the start of a run, for which every series is computed row by row.

    A row is one replicate, and a series has one number for each row. At the start of a run, all series are computed row
    by row. Later, this holds for the series w alone: the squared norm of the centred gradient. Of the other series,
    only means over blocks (groups of rows) are left. The start consists of all spans that begin within the first 2^17
    replicates. A span is a range of draws (batches) whose sums are computed in one pass.

    Args:
        sizes: the number of replicates in each draw.
        size: the number of coordinates of theta.
    """
    before = starts(sizes)
    return max(before[span.stop] for span in spans(sizes, size) if before[span.start] < TRACKED)


def slices(rows: int, elements: int, device: str) -> int:
    """Return the number of equal calls that a draw is cut into, so that one call fits into the processor's cache.

    The number is a power of two.

    Args:
        rows: the number of replicates in the draw, a batch.
        elements: the size of the largest tensor of one replicate in a call.
        device: "cpu" or "cuda".
    """
    count = 1
    while count < rows and rows * elements > count * CALL[device]:
        count *= 2
    return count


def noise_subject(cell: Cell, *, common: bool) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the identity that seeds the noise of a cell (an estimator on an objective), as plain data.

    If ``common`` is True, this is the identity of the objective: all its estimators then share their noise, and any two
    can be compared replicate by replicate. If ``common`` is False, it is a list: the identity of the estimator and that
    of the objective.
    """
    objective = identity(cell.objective)
    return objective if common else [identity(cell.estimator), objective]
