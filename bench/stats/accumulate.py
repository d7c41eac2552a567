"""From the partial sums of blocks, in block order, to the sufficient statistics of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike

from bench.stats import series
from bench.stats.series import Array, Moments, merge

SHAPE_BLOCKS = 32  # third and fourth moments per coordinate come from the blocks with an index below this
SUB_BLOCK = 32  # rows of a sub-block of the trace estimator
SUB_BLOCKS = 64  # sub-blocks in all
MIN_REMAINDER = 16  # a shorter rest of a block makes no sub-block
ZERO_NORM = 1e-30  # an exact gradient shorter than this is 0: nothing is measured relative to it
FOLLOWED = 2**17  # rows from which, of a longer run, only w is followed row by row: of other series, block by block
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


@dataclass(frozen=True, eq=False)
class Sums:
    """Sufficient statistics of a run of `replicates` gradients: everything a summary, a comparison or the gate reads.

    `coordinate` is about `centre`; `shape` has the third and fourth moments per coordinate of the first 32 blocks.
    `w_top` and the like are the largest values, largest first. `block_rows` and `block_w` `[blocks]` are the rows
    and the sum of w of every block, for comparisons under common noise. `martingale_T`, `martingale_Q` and
    `martingale_terms` belong to the sum test of the bias. `cut` is the 99 % quantile of w.

    `error`, `projection`, `cosine`, `zero_rows` and the series of groups are of the first `followed` rows, and so are
    the skewness and kurtosis of `w` and `truncated`. Where there are more, `block_error`, `block_projection` and
    `block_group_w` `[blocks]` are the means of all blocks.
    """

    groups: Mapping[str, int]
    replicates: int
    centre: Array
    coordinate: Moments
    shape: Moments
    w: Moments
    w_top: Array
    group_w: Mapping[str, Moments]
    group_top: Mapping[str, Array]
    block_rows: Array
    block_w: Array
    traces: Array
    error: Moments | None = None
    error_top: Array | None = None
    projection: Moments | None = None
    cosine: Moments | None = None
    zero_rows: int = 0
    truncated: Moments | None = None
    truncate_at: float | None = None
    martingale_T: float = 0.0  # noqa: N815
    martingale_Q: float = 0.0  # noqa: N815
    martingale_terms: int = 0
    cut: float | None = None
    followed: int = 0
    block_error: Array | None = None
    block_projection: Array | None = None
    block_group_w: Mapping[str, Array] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Length of the gradient."""
        return int(self.centre.size)

    @property
    def variance(self) -> float:
        """Total variance `Σ_j M2_j/(R − 1)`, the trace of the covariance of one gradient."""
        return float(self.coordinate.M2.sum()) / (self.replicates - 1)

    @property
    def mean(self) -> Array:
        """Mean gradient `[size]`."""
        return self.centre + self.coordinate.mean

    def to_json(self) -> dict[str, object]:
        """Plain data: names to numbers, lists, dicts or float64 arrays; `from_json` gives back the same bits."""
        return {name: _encode(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Sums:
        """Read `to_json`'s data back; arrays may have become lists on the way."""
        missing = sorted(cls.__dataclass_fields__.keys() - data.keys())
        if missing:
            raise ValueError(f"the sums lack {', '.join(missing)}; they were written by another version.")
        return cls(**{name: _decode(name, data[name]) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


class Accumulator:
    """Adds the partial sums of blocks 0, 1, 2, ... in that order, whoever computed them.

    Arguments: `groups`, the tensors of theta by name with their number of coordinates, in the order in which they
    are flattened; `replicates`, R rounded up to whole draws; `centre` `[size]`, the pivot that every block used;
    `exact` `[size]` or None. `nonfinite` counts the rows that were not finite so far.

    The bias martingale is kept here: with `y_k = Σ_{r in block k} (g_r − g*)` and `S_k = Σ_{j≤k} y_j`, the terms are
    `q_k = S_{k−1}·y_k` for k ≥ 2, their sum T and the sum of their squares Q (de la Peña 1999, Ann. Prob. 27:537).
    """

    def __init__(
        self, groups: Mapping[str, int], *, replicates: int, centre: ArrayLike, exact: ArrayLike | None
    ) -> None:
        self.groups = dict(groups)
        self.replicates = replicates
        self.centre = _vector("centre", centre, sum(self.groups.values()))
        self.exact = None if exact is None else _vector("exact", exact, self.centre.size)
        self.nonfinite = 0
        self._next = 0
        self._rows = self._zero_rows = 0
        self._blocks: dict[str, list[float]] = {}
        self._followed = 0
        self._coordinate: Moments | None = None
        self._shape: Moments | None = None
        self._series: dict[str, Moments] = {}
        self._part: dict[str, Moments] = {}
        self._top: dict[str, _Largest] = {}
        self._traces = self._sample = np.zeros(0)
        self._truncate_at: float | None = None
        self._S = np.zeros_like(self.centre)
        self._T = self._Q = 0.0

    def add(self, partial: Partial) -> None:
        """Add the next blocks. Raises ValueError if they are not the next ones or have another shape."""
        if partial.index != self._next:
            raise ValueError(
                f"expected block {self._next}, got block {partial.index}: partial sums are merged in block order, "
                "so hold a block back until those before it have been added."
            )
        if partial.coordinate.mean.shape != self.centre.shape:
            raise ValueError(
                f"block {partial.index} has gradients of shape {partial.coordinate.mean.shape}, "
                f"the groups {self.groups} need {self.centre.shape}."
            )
        if partial.followed and (partial.error is None) != (self.exact is None):
            raise ValueError(
                f"block {partial.index} was reduced {'without' if partial.error is None else 'with'} an exact "
                "gradient, the accumulator the other way: give both the same `exact`."
            )
        rows = self._rows + partial.replicates
        if rows > self.replicates:
            raise ValueError(
                f"block {partial.index} brings {rows} rows to a run of {self.replicates}: the largest values were kept "
                "for fewer. Give R rounded up to whole draws to the blocks and to the accumulator."
            )
        self._next, self._rows = self._next + partial.blocks, rows
        if partial.nonfinite:  # its sums are not numbers; the run is an error whatever the other blocks hold
            self.nonfinite += partial.nonfinite
            return
        if partial.followed:
            self._followed += partial.replicates
        self._add_blocks(partial)
        c = partial.coordinate
        if partial.index < SHAPE_BLOCKS:
            self._shape = c if self._shape is None else merge(self._shape, c)
        plain = Moments(c.n, c.mean, c.M2)
        self._coordinate = plain if self._coordinate is None else merge(self._coordinate, plain)
        for name, values in _scalar_series(partial):
            self._series[name] = merge(self._series[name], values) if name in self._series else values
            if partial.followed:
                self._part[name] = self._series[name]
        for name, top in _tops(partial):
            if name not in self._top:
                kept = kept_values(self.replicates) if name == "w" else tail_length(self.replicates) + 1
                self._top[name] = _Largest(kept)
            self._top[name].add(top)
        if self._traces.size < SUB_BLOCKS:
            self._traces = np.concatenate([self._traces, partial.traces])[:SUB_BLOCKS]
        if partial.sample is not None:
            self._sample = np.concatenate([self._sample, partial.sample])
        self._zero_rows += partial.zero_rows
        self._truncate_at = partial.truncate_at

    def sums(self) -> Sums:
        """Return the sufficient statistics of the blocks so far; ValueError if there is none or a row is not finite."""
        if self.nonfinite:
            raise ValueError(
                f"{self.nonfinite} gradients are not finite (NaN, infinite, or too large to square): "
                "no moment of this run exists, and none is dropped. Report the cell as an error."
            )
        coordinate, shape = self._coordinate, self._shape
        if coordinate is None or shape is None:
            raise ValueError("no block has been added: there is nothing to sum up.")
        projects = self.exact is not None and float(np.linalg.norm(self.exact)) > ZERO_NORM
        blocks = {name: np.array(values, dtype=np.float64) for name, values in self._blocks.items()}
        longer = {} if self._followed == self._rows else blocks
        top = {name: largest.values() for name, largest in self._top.items()}
        groups = [name.removeprefix(GROUP) for name in self._series if name.startswith(GROUP)]
        w, truncated = (self._shaped(name) for name in ("w", "truncated"))
        assert w is not None
        return Sums(
            groups=self.groups,
            replicates=coordinate.n,
            centre=self.centre,
            coordinate=coordinate,
            shape=shape,
            w=w,
            w_top=top["w"],
            group_w={name: self._series[GROUP + name] for name in groups},
            group_top={name: top[GROUP + name] for name in groups},
            block_rows=blocks["rows"],
            block_w=blocks["w"],
            traces=self._traces,
            error=self._series.get("error"),
            error_top=top.get("error"),
            projection=self._series.get("projection") if projects else None,
            cosine=self._series.get("cosine") if projects else None,
            zero_rows=self._zero_rows,
            truncated=truncated,
            truncate_at=self._truncate_at,
            martingale_T=self._T,
            martingale_Q=self._Q,
            martingale_terms=0 if self.exact is None else blocks["w"].size - 1,
            cut=_cut(coordinate.n, top["w"], self._sample),
            followed=self._followed,
            block_error=longer.get("error"),
            block_projection=longer.get("projection") if projects else None,
            block_group_w={name: longer[GROUP + name] for name in groups if longer},
        )

    def _shaped(self, name: str) -> Moments | None:
        """Return a series of all rows, of which perhaps only the first were followed."""
        return series.shaped(self._series[name], self._part[name]) if name in self._series else None

    def _add_blocks(self, partial: Partial) -> None:
        """Keep what is known of every block, and go on with the martingale."""
        rows = partial.rows
        found = {"rows": np.full(partial.blocks, rows), "w": partial.block_w}
        found |= {GROUP + name: w / rows for name, w in partial.block_group_w.items()}
        if self.exact is not None:
            delta = partial.means + (self.centre - self.exact)
            found["error"] = partial.block_w * (rows - 1) / rows**2 + np.einsum("bj,bj->b", delta, delta)
            square = float(self.exact @ self.exact)
            found["projection"] = delta @ self.exact / (square if square > ZERO_NORM**2 else np.inf)
            self._step(rows * delta)
        for name, values in found.items():
            self._blocks.setdefault(name, []).extend(values.tolist())

    def _step(self, y: Array) -> None:
        """Add the sums `y` `[blocks, size]` of successive blocks to the martingale."""
        S = np.cumsum(np.vstack([self._S, y]), axis=0)
        q = np.einsum("bj,bj->b", S[:-1], y)  # of the first block of all 0, which is no term
        self._T += float(q.sum())
        self._Q += float(q @ q)
        self._S = S[-1]


GROUP = "w:"
"""Before the name of a group, the name of its series of squared norms."""


def _scalar_series(partial: Partial) -> Iterator[tuple[str, Moments]]:
    """Yield the series of a block that have one number per row, by name."""
    yield "w", partial.w
    for group, values in partial.group_w.items():
        yield GROUP + group, values
    for name in ("error", "projection", "cosine", "truncated"):
        if (values := getattr(partial, name)) is not None:
            yield name, values


def _tops(partial: Partial) -> Iterator[tuple[str, Array]]:
    """Yield the largest values of the series that have them, by name."""
    yield "w", partial.w_top
    for group, top in partial.group_top.items():
        yield GROUP + group, top
    if partial.error_top is not None:
        yield "error", partial.error_top


class _Largest:
    """The largest values of many descending series, sorted out only now and then."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.least = -np.inf
        self.parts: list[Array] = []
        self.held = 0

    def add(self, values: Array) -> None:
        fresh = values[: int(np.searchsorted(-values, -self.least))]
        self.parts.append(fresh)
        self.held += fresh.size
        if self.held > 2 * self.count + 1000:
            self._sort()

    def values(self) -> Array:
        """Return the largest values, largest first."""
        self._sort()
        return self.parts[0]

    def _sort(self) -> None:
        largest = -np.sort(-np.concatenate(self.parts), kind="stable")[: self.count]
        self.parts, self.held = [largest], largest.size
        if largest.size == self.count:
            self.least = float(largest[-1])


def _cut(n: int, top: Array, sample: Array) -> float | None:
    """Return the ⌈0.99 n⌉-th smallest w: from the largest values where they reach it, else from the sample."""
    above = above_quantile(n)
    if above < top.size:
        return float(top[above])
    return float(np.sort(sample)[::-1][above_quantile(sample.size)]) if sample.size else None


def _vector(name: str, values: ArrayLike, size: int) -> Array:
    vector = np.array(values, dtype=np.float64)
    if vector.shape != (size,):
        raise ValueError(f"{name} has shape {vector.shape}, the groups have {size} coordinates: expected ({size},).")
    return vector


def _encode(value: object) -> object:
    if isinstance(value, Moments):
        return series.to_json(value)
    if isinstance(value, Mapping):
        return {k: _encode(v) for k, v in value.items()}
    return value


def _decode(name: str, value: object) -> object:
    if value is None:
        return None
    if name in _SERIES:
        return series.from_json(_table(name, value))
    if name == "group_w":
        return {group: series.from_json(_table(group, m)) for group, m in _table(name, value).items()}
    if name in ("group_top", "block_group_w"):
        return {group: np.asarray(top, dtype=np.float64) for group, top in _table(name, value).items()}
    return np.asarray(value, dtype=np.float64) if isinstance(value, list) else value


def _table(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"the sums' field {name} is a table of names and values (got {type(value).__name__}).")
    return value


_SERIES = frozenset({"coordinate", "shape", "w", "error", "projection", "cosine", "truncated"})
