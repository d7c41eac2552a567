"""What a run keeps of its blocks of gradients: which moments, and how many of the largest values."""

from math import ceil, sqrt

SHAPE_BLOCKS = 32  # the blocks below this index give the third and fourth moments per coordinate
SUB_BLOCK = 32  # rows of a sub-block of the trace estimator
SUB_BLOCKS = 64  # sub-blocks of a run
MIN_REMAINDER = 16  # rows; a shorter remainder of a block is no sub-block
ZERO_NORM = 1e-30  # a shorter exact gradient counts as 0: nothing is measured relative to it
TRACKED = 2**17  # rows; spans that start later track w alone row by row, and other series block by block
COVERED_REPLICATES = 400_000  # up to here a run also keeps the largest 1 % of w


def tail_length(replicates: int) -> int:
    """Return how many of R = `replicates` values a tail fit uses: `⌈min(0.2 R, 3 √R)⌉`.

    Source: Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:72.
    """
    return ceil(min(0.2 * replicates, 3 * sqrt(replicates)))


def above_quantile(n: int) -> int:
    """Return how many of `n` values lie above their 99 % quantile, the ⌈0.99 n⌉-th smallest."""
    return n - ceil(0.99 * n)


def kept_values(replicates: int) -> int:
    """Return how many of the largest w a run keeps; w is the squared distance of a gradient from the mean gradient.

    The tail fit uses the largest values, and the next largest as its threshold. A run of at most 4e5 replicates keeps
    at least the largest 1 %. From these follow the 99 % quantile of w, and the mean of w with larger values replaced by
    this quantile.
    """
    covered = above_quantile(replicates) if replicates <= COVERED_REPLICATES else 0
    return max(tail_length(replicates), covered) + 1


def kept_in_block(kept: int, rows: int, replicates: int) -> int:
    """Return how many of a block's largest values to keep, so that the `kept` largest of the whole run are among them.

    A block is a group of `rows` gradients; the run has `replicates` gradients. The number of the run's `kept` largest
    values in one block is binomial, with the mean s = kept·rows/replicates. The result is s + 12 √s + 64, rounded up,
    but at most `rows` and at most `kept`. The binomial number is larger than s + 12 √s + 64 with a probability below
    1e-20.
    """
    share = kept * rows / replicates
    return min(rows, kept, ceil(share + 12 * sqrt(share) + 64))
