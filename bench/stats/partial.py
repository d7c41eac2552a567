"""The partial sums of successive blocks of gradients."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.stats.series import Array, Moments


@dataclass(frozen=True, eq=False)
class Partial:
    """The partial sums of successive blocks of gradients, as float64 numpy data that are cheap to pickle.

    A block is a set of gradients that are summed together. Let g be a gradient, ḡ the mean of its block, g* the exact
    gradient, and h the part of g that is perpendicular to g*. In a block of n gradients, w is n/(n − 1) ‖g − ḡ‖², so
    that its mean estimates the total variance without bias. The centre is a fixed vector near the mean of all
    gradients. Moments are a count, a mean, and the sums M2, M3 and M4 of the second, third and fourth powers of
    distances from the mean.

    Args:
        index: number of the first block.
        rows: number of gradients in each block.
        means: mean gradients of the blocks minus the centre, `[blocks, size]`.
        coordinate: moments of all gradients minus the centre; M3 and M4 only if ``index`` < 32.
        w: moments of w.
        w_top: the largest w, in descending order.
        block_w: sum of w over each block, `[blocks]`.
        traces: estimates of tr Σ², with Σ the covariance of g, each from a few gradients.
        tracked: whether all statistics are computed, as at the start of a run. If False, ``group_w``, ``error``,
            ``projection``, ``across`` and ``cosine`` are missing, and ``w`` and ``truncated`` lack M3 and M4.
        nonfinite: number of gradients that are not finite.
        block_group_w: sum over each block of the w of each parameter tensor; empty if there is only one tensor.
        group_w: moments of the w of each parameter tensor; empty if there is only one.
        group_top: largest w of each parameter tensor; empty if there is only one.
        error: moments of ‖g − g*‖²; None if there is no exact gradient.
        error_top: the largest ‖g − g*‖², in descending order.
        projection: moments of g*·(g − g*)/‖g*‖².
        across: mean and M2 of h minus the centre's perpendicular part, per coordinate.
        across_traces: estimates of tr Σ_h², with Σ_h the covariance of h, each from a few gradients.
        cosine: moments of cos(g, g*).
        zero_rows: number of gradients of norm 0, whose cosine is taken as 0.
        truncated: moments of min(w, ``truncate_at``).
        truncate_at: a limit of w, see ``truncated``; None if w is not truncated.
        sample: some w, if ``w_top`` does not reach down to the 99 % quantile; else None.
    """

    index: int
    rows: int
    means: Array
    coordinate: Moments
    w: Moments
    w_top: Array
    block_w: Array
    traces: Array
    tracked: bool = True
    nonfinite: int = 0
    block_group_w: Mapping[str, Array] = field(default_factory=dict)
    group_w: Mapping[str, Moments] = field(default_factory=dict)
    group_top: Mapping[str, Array] = field(default_factory=dict)
    error: Moments | None = None
    error_top: Array | None = None
    projection: Moments | None = None
    across: Moments | None = None
    across_traces: Array | None = None
    cosine: Moments | None = None
    zero_rows: int = 0
    truncated: Moments | None = None
    truncate_at: float | None = None
    sample: Array | None = None

    @property
    def blocks(self) -> int:
        """The number of blocks of gradients in these partial sums."""
        return len(self.means)

    @property
    def replicates(self) -> int:
        """The number of gradients in all blocks of these partial sums."""
        return self.blocks * self.rows
