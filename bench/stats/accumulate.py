"""The accumulator: it adds up the partial sums of blocks of gradients, in block order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.stats import series
from bench.stats.layout import SHAPE_BLOCKS, SUB_BLOCKS, ZERO_NORM, above_quantile, kept_values, tail_length
from bench.stats.partial import Partial
from bench.stats.series import Array, Moments, merge
from bench.stats.sums import Sums


class Accumulator:
    """The statistics of a run so far; the partial sums of its blocks of gradients are added in order.

    A block is a set of gradients that are summed together. The accumulator keeps moments over all gradients, a few
    numbers of each block, and the largest values. If there is an exact gradient, `sum_test` tests twice for a bias, and
    the accumulator keeps the sums that these tests need. One test is of the gradients, the other of their part
    perpendicular to the exact gradient. `nonfinite` is the number of gradients so far that were NaN, infinite or too
    large to square.

    Args:
        groups: number of coordinates of each parameter tensor, by name. A gradient is the flattened tensors in this
            order.
        replicates: number of gradients in the run, rounded up to whole draws (batches).
        centre: the vector `[size]` that was subtracted from all gradients; `size` is the number of all coordinates.
        exact: the exact gradient `[size]`; None if it is unknown.
    """

    def __init__(
        self, groups: Mapping[str, int], *, replicates: int, centre: ArrayLike, exact: ArrayLike | None
    ) -> None:
        self.groups = dict(groups)
        self.replicates = replicates
        self.centre = _vector("centre", centre, sum(self.groups.values()))
        self.exact = None if exact is None else _vector("exact", exact, self.centre.size)
        self.nonfinite = self._next = self._rows = self._zero_rows = self._tracked = 0
        self._blocks: dict[str, list[float]] = {}
        self._series: dict[str, Moments] = {}
        self._part: dict[str, Moments] = {}
        self._top: dict[str, Largest] = {}
        self._traces = self._sample = np.zeros(0)
        self._truncate_at: float | None = None
        self._S = np.zeros_like(self.centre)
        self._T = self._Q = self._across_T = self._across_Q = 0.0
        norm = 0.0 if self.exact is None else float(np.linalg.norm(self.exact))
        self._along = None if self.exact is None or norm <= ZERO_NORM else self.exact / norm
        self._across_traces = np.zeros(0)

    def add(self, partial: Partial) -> None:
        """Add the partial sums of the next blocks of the run. A block is a group of gradients that are summed together.

        Raises:
            ValueError: the blocks are out of order, do not have the run's number of coordinates, or bring more
                gradients than the run should have; or the run has an exact gradient and the blocks do not, or the
                reverse.
        """
        if partial.index != self._next:
            raise ValueError(f"expected block {self._next}, got block {partial.index}: add the blocks in order.")
        if partial.coordinate.mean.shape != self.centre.shape:
            raise ValueError(
                f"block {partial.index} has gradients of shape {partial.coordinate.mean.shape}, "
                f"the groups {self.groups} need {self.centre.shape}."
            )
        if partial.tracked and (partial.error is None) != (self.exact is None):
            raise ValueError(
                f"block {partial.index} was reduced {'without' if partial.error is None else 'with'} an exact "
                "gradient, but the accumulator was not: give both the same `exact`."
            )
        rows = self._rows + partial.replicates
        if rows > self.replicates:
            raise ValueError(
                f"block {partial.index} brings {rows} rows to a run of {self.replicates}: too few largest values "
                "were kept. Give R rounded up to whole draws to the blocks and to the accumulator."
            )
        self._next, self._rows = self._next + partial.blocks, rows
        self.nonfinite += partial.nonfinite
        if partial.nonfinite:  # its sums are not numbers, and the run is an error
            return
        if partial.tracked:
            self._tracked += partial.replicates
        self._add_blocks(partial)
        for name, values in _series_of(partial).items():
            self._series[name] = merge(self._series[name], values) if name in self._series else values
            if partial.tracked:
                self._part[name] = self._series[name]
        for name, top in _tops(partial).items():
            if name not in self._top:
                kept = kept_values(self.replicates) if name == "w" else tail_length(self.replicates) + 1
                self._top[name] = Largest(kept)
            self._top[name].add(top)
        if self._traces.size < SUB_BLOCKS:
            self._traces = np.concatenate([self._traces, partial.traces])[:SUB_BLOCKS]
        if partial.across_traces is not None and self._across_traces.size < SUB_BLOCKS:
            self._across_traces = np.concatenate([self._across_traces, partial.across_traces])[:SUB_BLOCKS]
        if partial.sample is not None:
            self._sample = np.concatenate([self._sample, partial.sample])
        self._zero_rows += partial.zero_rows
        self._truncate_at = partial.truncate_at

    @property
    def rows(self) -> int:
        """The number of gradients that were added so far."""
        return self._rows

    def state(self) -> dict[str, Any]:
        """Return all that was added so far, as nested dictionaries of numbers, None and float64 arrays."""
        return {
            "numbers": {name: getattr(self, name) for name in NUMBERS},
            "arrays": {name: getattr(self, name) for name in ARRAYS},
            "blocks": {name: np.array(values, dtype=np.float64) for name, values in self._blocks.items()},
            "series": {name: vars(values) for name, values in self._series.items()},
            "part": {name: vars(values) for name, values in self._part.items()},
            "top": {name: {"count": top.count, "values": top.values()} for name, top in self._top.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fill this new accumulator with the ``state`` of another one, which must have been made with equal arguments.

        Blocks that are added afterwards lead to the same sums in both accumulators, bit for bit.
        """
        for name in NUMBERS:
            setattr(self, name, state["numbers"][name])
        for name in ARRAYS:
            setattr(self, name, state["arrays"][name])
        self._blocks = {name: values.tolist() for name, values in state["blocks"].items()}
        self._series = {name: Moments(**values) for name, values in state["series"].items()}
        self._part = {name: Moments(**values) for name, values in state["part"].items()}
        for name, top in state["top"].items():
            self._top[name] = Largest(top["count"])
            self._top[name].add(top["values"])

    def sums(self) -> Sums:
        """Return the statistics of all blocks of gradients that were added so far.

        Raises:
            ValueError: no block was added, or a gradient is not finite.
        """
        if self.nonfinite:
            raise ValueError(
                f"{self.nonfinite} gradients are not finite (NaN, infinite, or too large to square): "
                "this run has no moments, because no row is dropped. Report the cell as an error."
            )
        coordinate, shape = (self._series.get(name) for name in ("coordinate", "shape"))
        if coordinate is None or shape is None:
            raise ValueError("no block has been added: there is nothing to sum up.")
        projects, across = self._along is not None, self._across_M2(coordinate)
        blocks = {name: np.array(values, dtype=np.float64) for name, values in self._blocks.items()}
        longer = {} if self._tracked == self._rows else blocks
        top = {name: largest.values() for name, largest in self._top.items()}
        groups = [name.removeprefix(GROUP) for name in self._series if name.startswith(GROUP)]
        shaped = {k: series.shaped(self._series[k], part) for k, part in self._part.items() if k in ("w", "truncated")}
        return Sums(
            groups=self.groups,
            replicates=coordinate.n,
            centre=self.centre,
            coordinate=coordinate,
            shape=shape,
            w=shaped["w"],
            w_top=top["w"],
            group_w={name: self._series[GROUP + name] for name in groups},
            group_top={name: top[GROUP + name] for name in groups},
            block_rows=blocks["rows"],
            block_w=blocks["w"],
            traces=self._traces,
            error=self._series.get("error"),
            error_top=top.get("error"),
            projection=self._series.get("projection") if projects else None,
            across_M2=across,
            across_traces=None if across is None else self._across_traces,
            cosine=self._series.get("cosine") if projects else None,
            zero_rows=self._zero_rows,
            truncated=shaped.get("truncated"),
            truncate_at=self._truncate_at,
            martingale_T=self._T,
            martingale_Q=self._Q,
            martingale_terms=0 if self.exact is None else blocks["w"].size - 1,
            across_T=self._across_T,
            across_Q=self._across_Q,
            cut=_cut(coordinate.n, top["w"], self._sample),
            followed=self._tracked,
            block_error=longer.get("error"),
            block_projection=longer.get("projection") if projects else None,
            block_group_w={name: longer[GROUP + name] for name in groups if longer},
        )

    def _across_M2(self, coordinate: Moments) -> Array | None:  # noqa: N802
        """Return the sum of squared deviations of each coordinate of the part perpendicular to the exact gradient.

        A long run has that part of its first rows only: their fraction of the coordinate's own sum stands for all rows.
        """
        part = self._series.get("across") if self._along is not None else None
        if part is None or part.n == coordinate.n:
            return None if part is None else part.M2
        own = self._part["coordinate"].M2
        return part.M2 * (coordinate.M2 / np.where(own > 0, own, np.inf))

    def _add_blocks(self, partial: Partial) -> None:
        """Keep the numbers of each block, and continue the martingale."""
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
        q = np.einsum("bj,bj->b", S[:-1], y)  # 0 for the first block of the run, which has no term
        self._T += float(q.sum())
        self._Q += float(q @ q)
        if self._along is not None and self._along.size > 1:
            q = q - (S[:-1] @ self._along) * (y @ self._along)
            self._across_T += float(q.sum())
            self._across_Q += float(q @ q)
        self._S = S[-1]


NUMBERS = (
    "nonfinite", "_next", "_rows", "_zero_rows", "_tracked", "_truncate_at", "_T", "_Q", "_across_T", "_across_Q",
)  # fmt: skip
ARRAYS = ("_traces", "_across_traces", "_sample", "_S")
"""The attributes of an ``Accumulator`` that are numbers or None, and those that are single arrays."""
GROUP = "w:"
"""Prefix in the name of a series: "w:NAME" holds the squared norms of the group NAME."""


def _series_of(partial: Partial) -> dict[str, Moments]:
    """Return the series by name: "coordinate" has mean and M2 of all blocks, "shape" all moments of the first 32."""
    c = partial.coordinate
    found = {name: getattr(partial, name) for name in ("w", "error", "projection", "across", "cosine", "truncated")}
    found |= {"coordinate": Moments(c.n, c.mean, c.M2), "shape": c if partial.index < SHAPE_BLOCKS else None}
    found |= {GROUP + group: values for group, values in partial.group_w.items()}
    return {name: values for name, values in found.items() if values is not None}


def _tops(partial: Partial) -> dict[str, Array]:
    """Return the largest values of each series that keeps them."""
    found = {"w": partial.w_top} | {GROUP + group: top for group, top in partial.group_top.items()}
    return found if partial.error_top is None else found | {"error": partial.error_top}


class Largest:
    """The `count` largest of all values added so far.

    The stored values are sorted and cut to `count` only now and then, so adding is cheap.
    """

    def __init__(self, count: int) -> None:
        self.count, self.held, self.least = count, 0, -np.inf
        self.parts: list[Array] = []

    def add(self, values: Array) -> None:
        """Add `values` `[n]`, which the caller must have sorted in descending order; the largest of all are kept."""
        fresh = values[: int(np.searchsorted(-values, -self.least))]
        self.parts.append(fresh)
        self.held += fresh.size
        if self.held > 2 * self.count + 1000:
            self._sort()

    def values(self) -> Array:
        """Return the largest of all values added so far, at most `count` of them, in descending order."""
        self._sort()
        return self.parts[0]

    def _sort(self) -> None:
        largest = -np.sort(-np.concatenate(self.parts), kind="stable")[: self.count]
        self.parts, self.held = [largest], largest.size
        if largest.size == self.count:
            self.least = float(largest[-1])


def _cut(n: int, top: Array, sample: Array) -> float | None:
    """Return the ⌈0.99 n⌉-th smallest w: from the largest values if they reach down to it, else from the sample."""
    above = above_quantile(n)
    if above < top.size:
        return float(top[above])
    return float(np.sort(sample)[::-1][above_quantile(sample.size)]) if sample.size else None


def _vector(name: str, values: ArrayLike, size: int) -> Array:
    vector = np.array(values, dtype=np.float64)
    if vector.shape != (size,):
        raise ValueError(f"{name} has shape {vector.shape}, the groups have {size} coordinates: expected ({size},).")
    return vector
