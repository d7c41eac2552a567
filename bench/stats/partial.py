"""The partial sums of successive blocks of gradients."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.stats.series import Array, Moments


@dataclass(frozen=True, eq=False)
class Partial:
    """The partial sums of successive blocks of `rows` gradients each. Plain float64 numpy data, cheap to pickle.

    A block is a group of gradients that are summed together. `index` is the number of the first block. `means`
    `[blocks, size]` are the mean gradients of the blocks minus the centre. `coordinate` has the moments of all
    gradients minus the centre, with M3 and M4 only if index < 32. `w` is the series `rows/(rows−1) ‖g_r − ḡ‖²`, with
    g_r a gradient and ḡ the mean of its block; its mean estimates the total variance without bias. `w_top` has the
    largest w, and `block_w` `[blocks]` the sum of w in each block. `group_w`, `group_top` and `block_group_w` hold the
    moments, largest values and sums for the w of each parameter tensor; all three are empty if there is only one
    tensor. `truncated` is the series min(w, `truncate_at`). `traces` are estimates of tr Σ², with Σ the covariance of
    one gradient. `sample` holds some w if `w_top` does not reach down to the 99 % quantile.

    If there is an exact gradient g*, `error` is the series `‖g_r − g*‖²`, `projection` is `g*·(g_r − g*)/‖g*‖²`, and
    `cosine` is `cos(g_r, g*)`. `zero_rows` counts the gradients of norm 0, whose cosine is taken as 0. `nonfinite`
    counts the gradients that are not finite. If the blocks are not `tracked`, `group_w`, `error`, `projection` and
    `cosine` are missing, and `w` and `truncated` lack M3 and M4.
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
    cosine: Moments | None = None
    zero_rows: int = 0
    truncated: Moments | None = None
    truncate_at: float | None = None
    sample: Array | None = None

    @property
    def blocks(self) -> int:
        """The number of blocks of gradients in this part."""
        return len(self.means)

    @property
    def replicates(self) -> int:
        """The number of gradients in all blocks."""
        return self.blocks * self.rows
