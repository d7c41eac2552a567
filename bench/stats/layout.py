"""What a run keeps of its blocks: which moments, and how many of the largest values."""

from __future__ import annotations

from math import ceil, sqrt

SHAPE_BLOCKS = 32  # third and fourth moments per coordinate come from the blocks with an index below this
SUB_BLOCK = 32  # rows of a sub-block of the trace estimator
SUB_BLOCKS = 64  # sub-blocks in all
MIN_REMAINDER = 16  # a shorter rest of a block makes no sub-block
ZERO_NORM = 1e-30  # an exact gradient shorter than this is 0: nothing is measured relative to it
TRACKED = 2**17  # rows from which, of a longer run, only w is tracked row by row: of other series, block by block
COVERED_REPLICATES = 400_000  # up to here the tail of w also holds the largest 1 %


def tail_length(replicates: int) -> int:
    """Exceedances of the tail fit, `M(R) = ⌈min(0.2 R, 3 √R)⌉` (Vehtari et al. 2024, JMLR 25:72)."""
    return ceil(min(0.2 * replicates, 3 * sqrt(replicates)))


def above_quantile(n: int) -> int:
    """How many of `n` values lie above their 99 % quantile, taken as the ⌈0.99 n⌉-th smallest."""
    return n - ceil(0.99 * n)


def kept_values(replicates: int) -> int:
    """How many of the largest w a run keeps: the tail and its threshold, and the largest 1 % where R ≤ 400 000.

    The largest 1 % give the 99 % quantile of w and the truncated variance at it without a second run.
    """
    covered = above_quantile(replicates) if replicates <= COVERED_REPLICATES else 0
    return max(tail_length(replicates), covered) + 1


def kept_in_block(kept: int, rows: int, replicates: int) -> int:
    """How many of its largest values a block hands over, so that the `kept` largest of the run are among them.

    The blocks are independent and identically distributed, so a block's part of the `kept` is binomial with a mean of
    s = kept·rows/R; that it exceeds s + 12 √s + 64 has a probability below 1e-20.
    """
    share = kept * rows / replicates
    return min(rows, kept, ceil(share + 12 * sqrt(share) + 64))
