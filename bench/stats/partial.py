"""The partial sums of successive blocks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.stats.series import Array, Moments


@dataclass(frozen=True, eq=False)
class Partial:
    """The contribution of successive blocks of `rows` gradients each. Plain float64 numpy data, cheap to pickle.

    `index` is the number of the first block. `means` `[blocks, size]` are the means of the blocks about the centre c,
    `mean(g) − c`. `coordinate` holds the moments of all rows about c, with M3 and M4 only for index < 32. `w` is the
    series `rows/(rows−1) ‖g_r − ḡ_block‖²`, whose mean estimates the total variance without bias; `w_top` are its
    largest values, `block_w` `[blocks]` its sum in each block. `group_w`, `group_top` and `block_group_w` hold them for
    each group; they are empty if there is one group.

    With an exact gradient, `error` is the series `‖g_r − g*‖²`, `projection` is `g*·(g_r − g*)/‖g*‖²`, and `cosine` is
    `cos(g_r, g*)`. `zero_rows` counts the rows with `‖g_r‖ = 0`, whose cosine is taken as 0. `nonfinite` counts the
    rows that are not finite. Blocks that are not `tracked` have only w, without M3 and M4, and the values by block.
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
        """The number of blocks."""
        return len(self.means)

    @property
    def replicates(self) -> int:
        """The number of rows of all blocks."""
        return self.blocks * self.rows
