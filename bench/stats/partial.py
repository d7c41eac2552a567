"""The partial sums of successive blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.stats.series import Array, Moments


@dataclass(frozen=True, eq=False)
class Partial:
    """What successive blocks of `rows` gradients each contribute. Plain float64 numpy data, cheap to pickle.

    `index` is that of the first block. `means` `[blocks, size]` are the means of the blocks about the centre c,
    `mean(g) − c`, and `coordinate` holds the moments of all rows about it; M3 and M4 only for index < 32. `w` is the
    series `rows/(rows−1) ‖g_r − ḡ_block‖²`, whose mean estimates the total variance without bias, `w_top` its largest
    values, `block_w` `[blocks]` its sum in every block; `group_w`, `group_top` and `block_group_w` are the same per
    group, empty where there is one group. With an exact gradient: `error` of `‖g_r − g*‖²`, `projection` of
    `g*·(g_r − g*)/‖g*‖²`, `cosine` of `cos(g_r, g*)`. `zero_rows` counts `‖g_r‖ = 0`, where the cosine is taken as 0;
    `nonfinite` the rows that are not finite. Blocks that are not `followed` have w, without M3 and M4, and what is
    known by block.
    """

    index: int
    rows: int
    means: Array
    coordinate: Moments
    w: Moments
    w_top: Array
    block_w: Array
    traces: Array
    followed: bool = True
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
        """How many blocks it is of."""
        return len(self.means)

    @property
    def replicates(self) -> int:
        """How many rows they have together."""
        return self.blocks * self.rows
