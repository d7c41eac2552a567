"""From blocks of gradients to partial sums.

In formulas, g_r is the gradient of replicate r, a row; g* is the exact gradient and p the pivot, a point near the mean
gradient. Y_r is a gradient minus the mean of its block, and d is that mean minus the pivot, `mean(g) − p`. Squared
norms are in units of u, a power of two near their mean. `Partial` explains the other letters.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from bench.measurement.draws import FIRST_DRAW
from bench.measurement.reduction import kernels
from bench.measurement.reduction.kernels import Workspace
from bench.measurement.reduction.origin import Origin
from bench.planning.settings import SMALLEST_DRAW
from bench.stats import layout
from bench.stats.partial import Partial
from bench.stats.series import Array, Moments, each, from_powers, pooled

Parts = Sequence[Tensor]
"""The gradients of some rows: one tensor `[rows, size of the group]` per group, that is, per tensor of theta."""
NARROW = 32  # a matrix with fewer columns is stored column by column, since loops along its rows would be too short
TABLE = 2**19  # most numbers in a table of series, which is summed up while it is in the cache
PASS = 2**19  # most numbers in one pass over gradients: draws are joined, or cut between blocks, to come near it
TINY, HUGE = 1e-14, 1e14  # squared norms outside are too near to the limits of float32 to be squared
FAR = 1e6  # a mean outside [unit / FAR, unit · FAR] loses precision


def block_partial(
    gradients: Tensor,
    *,
    index: int,
    groups: Mapping[str, int],
    centre: Tensor,
    exact: Tensor | None,
    replicates: int,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> Partial:
    """Reduce one block, a group of gradients that are summed together, to its partial sums.

    Args:
        gradients: `[rows, size]`, one replicate per row, float32 or float64.
        index: the position of the block in the run, from 0.
        groups: the number of coordinates of every tensor of theta, by name.
        centre: the vector that is subtracted from all means in the result, near the mean gradient of the run, `[size]`,
            float64, on the same device.
        exact: the exact gradient, `[size]`, float64, on the same device; None if unknown.
        replicates: number of rows in the whole run; it determines how many of the largest squared distances from the
            mean are kept.
        truncate_at: the limit c0. If given, the partial sums include those of `min(w, c0)`. For a block of n rows, w is
            the squared distance of a row from the mean of its block, times n/(n − 1).
        workspace: memory to reuse; None for fresh memory.

    Raises:
        ValueError: shapes or dtypes do not match, or the block has fewer than 64 rows.
    """
    size, shape = sum(groups.values()), tuple(gradients.shape)
    if len(shape) != 2 or shape[1] != size:
        raise ValueError(f"gradients have shape {shape}, the groups {dict(groups)} need [rows, {size}].")
    parts = torch.split(gradients, list(groups.values()), 1)
    return draws_partial(
        lambda _draw: parts,
        range(1),
        index=index,
        blocks=[1],
        groups=groups,
        centre=centre,
        exact=exact,
        replicates=replicates,
        truncate_at=truncate_at,
        workspace=workspace,
    )


@torch.no_grad()
def draws_partial(
    gradients: Callable[[int], Parts],
    draws: range,
    *,
    index: int,
    blocks: Sequence[int],
    groups: Mapping[str, int],
    centre: Tensor,
    exact: Tensor | None,
    replicates: int,
    origin: Origin | None = None,
    tracked: int | None = None,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> Partial:
    """Reduce successive draws (batches) to the partial sums of their blocks.

    A block is a group of rows (replicates) that are summed together. All blocks have equally many rows. Draws are
    requested one after the other, and reduced while their gradients are in the cache. First, a pivot (a point near the
    mean gradient) is subtracted from all gradients. Then the gradients of a block are centred on their mean. Thanks to
    the pivot, a constant coordinate has a sum of squared deviations of exactly 0. Sums inside a block are in the dtype
    of the gradients, sums across blocks in float64 (Chan, Golub & LeVeque 1983). If squares of float32 gradients leave
    the range of float32, the gradients are requested again and reduced in float64.

    A series is a list with one number per row. One series is w: in a block of n rows, w is the squared norm of the
    centred gradient, times n/(n − 1).

    Args:
        gradients: function from the number of a draw to its gradients: a tensor for each tensor of theta, with one
            replicate per row, `[rows, size of the tensor]`, float32 or float64.
        draws: the numbers of the draws.
        index: the position of the first block of these draws in the run, from 0.
        blocks: the number of blocks in each draw.
        groups: the number of coordinates of every tensor of theta, by name.
        centre: the vector that is subtracted from all means in the result, near the mean gradient of the run, `[size]`,
            float64, on the same device.
        exact: the exact gradient, `[size]`, float64, on the same device; None if unknown.
        replicates: number of rows in the whole run; it determines how many of the largest w are kept.
        origin: the pivots to subtract, and the units of squared norms; computed from the first of the draws if None.
        tracked: the number of rows at the start of the run for which every series is computed. 0 if these draws come
            later: then only w and the truncated series are computed. None for all rows of the run.
        truncate_at: the limit c0 of the truncated series, `min(w, c0)`; None leaves this series out.
        workspace: memory to reuse; None for fresh memory.

    Raises:
        ValueError: shapes or dtypes do not match, or the blocks have fewer than 64 rows.
    """
    tracked, space = replicates if tracked is None else tracked, workspace or Workspace()

    def checked(draw: int) -> list[Tensor]:
        with torch.enable_grad():
            parts = gradients(draw)
        _check(parts, blocks[draw - draws.start], groups, centre, exact)
        return [g.detach() for g in parts]

    reduction = _Reduction(draws, index, blocks, groups, centre, exact, replicates, truncate_at, origin, tracked, space)
    partial, finite = reduction.reduce(checked)
    if not finite:
        partial, finite = reduction.reduce(lambda draw: [g.double() for g in checked(draw)])
        if not finite:  # at least one row is counted: perhaps only fourth powers overflow
            partial = replace(partial, nonfinite=max(1, sum(_nonfinite_rows(checked(draw)) for draw in draws)))
    return partial


def _check(parts: Parts, cut: int, groups: Mapping[str, int], centre: Tensor, exact: Tensor | None) -> None:
    """Raise ValueError if the gradients of a draw, to be cut into `cut` blocks, or the other arguments do not fit."""
    dtype, rows = parts[0].dtype, parts[0].shape[0]
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gradients are float32 or float64 (got {dtype}).")
    if [g.shape for g in parts] != [(rows, size) for size in groups.values()]:
        raise ValueError(f"gradients have shapes {[tuple(g.shape) for g in parts]}, the groups are {dict(groups)}.")
    if rows % cut:
        raise ValueError(f"a draw is cut into blocks of equal rows (got {rows} rows for {cut} blocks).")
    if rows // cut < SMALLEST_DRAW:
        raise ValueError(
            f"a block needs at least {SMALLEST_DRAW} rows (got {rows // cut}): centring inside smaller blocks hides "
            "the spread of the squared norms. Append a short block to the one before it."
        )
    size = sum(groups.values())
    for name, vector in (("centre", centre), ("exact", exact)):
        if vector is not None and (vector.shape != (size,) or vector.dtype != torch.float64):
            raise ValueError(f"{name} is float64 of shape ({size},) (got {vector.dtype}, {tuple(vector.shape)}).")


@dataclass(frozen=True, eq=False)
class _Target:
    """The exact gradient g*, prepared for a comparison with every row."""

    offset: Tensor  # p − g*, [size], float64
    direction: Tensor  # g*/‖g*‖, or 0 if g* is 0, [size], float64
    rounded: Tensor  # the direction in the dtype of the gradients
    norm: Tensor  # ‖g*‖, float64

    @classmethod
    def of(cls, exact: Tensor, pivot: Tensor, dtype: torch.dtype) -> _Target:
        """Prepare the exact gradient `[size]`, given the pivot `[size]`."""
        norm = exact.norm()
        direction = torch.where(norm > layout.ZERO_NORM, exact / norm, 0.0)
        return cls(pivot - exact, direction, direction.to(dtype), norm)


@dataclass(frozen=True, eq=False)
class _Frame:
    """The quantities that the first draw fixes for all draws."""

    rows: int  # of a block
    pivots: Sequence[Tensor | None]  # of every group, [size of the group]; None for 0
    units: Sequence[float]  # of w and, if groups have series of their own, of every group's w
    target: _Target | None  # the exact gradient, if rows are compared with it


@dataclass(frozen=True, eq=False)
class _Reduction:
    """The reduction of successive draws: the arguments of `draws_partial`, and the steps in the order of the methods.

    The series stand in a table `[series, blocks, rows]`: w, the w of every group, the truncated series, and, with an
    exact gradient, error, projection, cosine and a helper, `‖g_r‖²`.
    """

    draws: range
    index: int
    blocks: Sequence[int]
    groups: Mapping[str, int]
    centre: Tensor
    exact: Tensor | None
    replicates: int
    truncate_at: float | None
    origin: Origin | None
    tracked: int
    space: Workspace

    def reduce(self, gradients: Callable[[int], Parts]) -> tuple[Partial, bool]:
        """Reduce the draws; also return whether every sum is finite and far from the limits of the dtype."""
        first = gradients(self.draws[0])
        rows, dtype = first[0].shape[0] // self.blocks[0], first[0].dtype
        origin = self.origin or Origin.of(first)
        placed = zip(first, origin.pivots, strict=True)
        pivot = torch.cat([g.new_zeros(g.shape[1]) if p is None else p for g, p in placed])
        units = [origin.spread, *origin.spreads] if self._own_series else [origin.spread]
        target = _Target.of(self.exact, pivot.double(), dtype) if self.exact is not None and self.tracked else None
        frame = _Frame(rows, origin.pivots, units, target)
        tensors = {"off centre": pivot.double() - self.centre}
        if target is not None:
            tensors |= {"norm": target.norm, "along": target.direction}
        remaining = itertools.chain([first], map(gradients, self.draws[1:]))
        found, start = list[dict[str, Tensor]](), 0
        for cuts in self._tables(rows * (len(self._names) + (target is not None))):
            found.append(self._reduce_table(itertools.islice(remaining, len(cuts)), start, sum(cuts), frame))
            start += sum(cuts)
        tensors |= {name: torch.cat([each[name] for each in found], -1) for name in found[0]}
        out, finite = _to_host(tensors)
        with np.errstate(invalid="ignore", over="ignore"):
            partial = self._partial(frame, out)
        return partial, finite and (dtype == torch.float64 or _in_range(partial, units))

    def _tables(self, numbers: int) -> Iterator[list[int]]:
        """Yield the draws that share a table, as their numbers of blocks; a block has `numbers` values in the table."""
        cuts = list[int]()
        for cut in self.blocks:
            if cuts and (sum(cuts) + cut) * numbers > TABLE:
                yield cuts
                cuts = []
            cuts.append(cut)
        yield cuts

    def _reduce_table(self, draws: Iterator[Parts], start: int, blocks: int, frame: _Frame) -> dict[str, Tensor]:
        """Reduce the draws that share a table of series: `blocks` blocks, after `start` blocks of earlier draws.

        Returns:
            Sums by name; the last axis of every tensor counts blocks or values, so that tables can be joined along it.
        """
        first, with_target = next(draws), frame.target is not None
        table = self.space.take("table", (len(self._names) + with_target, blocks, frame.rows), first[0])
        if with_target:
            table[-4:].zero_()
        found, traces, across, end = list[Tensor](), list[Tensor](), list[Tensor](), 0
        for parts in self._passes(itertools.chain([first], draws), frame.rows):
            begin, end = end, end + len(parts[0]) // frame.rows
            wanted = self._sub_blocks(start + begin, frame.rows)
            moments, grams = self._reduce_pass(parts, table[:, begin:end], wanted, frame)
            found.append(moments)
            traces += [kernels.square_trace(G) for G in grams]
            if self._splits and wanted:
                along = table[-3, begin:end].reshape(-1, 1) * sqrt(frame.units[0])
                own_grams = zip(grams, kernels.gram_matrices(along, wanted), strict=True)
                across += [kernels.square_trace(G - own) for G, own in own_grams]
        by_block = torch.cat(found, 1) if len(found) > 1 else found[0]
        tensors = self._sum_series(table, by_block[0], frame)
        tensors |= {"blocks": by_block.transpose(1, 2), "traces": torch.cat([*traces, by_block.new_zeros(0)])}
        return tensors | {"across traces": torch.cat([*across, by_block.new_zeros(0)])}

    def _passes(self, draws: Iterable[Parts], rows: int) -> Iterator[Parts]:
        """Join small draws, and cut large ones between blocks of `rows`; yield the gradients by group."""
        most = max(1, PASS // (rows * self.centre.numel())) * rows
        waiting, held = list[Parts](), 0
        for parts in draws:
            if waiting and held + len(parts[0]) > most:
                yield _joined(waiting)
                waiting, held = [], 0
            if len(parts[0]) > most:
                yield from zip(*(torch.split(g, most) for g in parts), strict=True)
            else:
                waiting.append(parts)
                held += len(parts[0])
        if waiting:
            yield _joined(waiting)

    def _reduce_pass(self, parts: Parts, table: Tensor, sub_blocks: int, frame: _Frame) -> tuple[Tensor, list[Tensor]]:
        """Reduce the gradients of some blocks in one pass: coordinates to moments, rows to numbers in the table.

        `table` is the part for these blocks, `[series, blocks, rows]`. This writes `‖Y_r‖²/u` to w, or to the w of each
        group, and adds to the last four series:

        - error: `2 Y_r·(d + p − g*)/u`
        - projection: `Y_r·g*/‖g*‖/√u`
        - cosine: `g_r·g*/‖g*‖`
        - helper: `‖g_r‖²`

        Returns:
            d, M2, in early blocks M3 and M4 and, with an exact gradient, Σ_r Y_r (Y_r·g*/‖g*‖/√u), `[2 to 5,
            blocks, size]`; Gram matrices of the first `sub_blocks`.
        """
        shape, target, units = (*table.shape[1:], -1), frame.target, frame.units
        if target is not None:
            for g, own in zip(parts, self._columns, strict=True):
                kernels.add_products(g, target.rounded[own], table[-2].view(-1))
                self._add_squared_norms(g, table[-1].view(-1))
        found, grams, begun = [], list[Tensor](), set[int]()
        squared = not (target is not None or sub_blocks or self._shapes)  # only the squares of Y are needed
        for matrix, d, columns, sums in self._centred(parts, frame.pivots, shape[0], squared=squared):
            Y = squares = matrix.view(shape)
            if target is not None:  # the shares of these columns in error and projection
                away, along = d + target.offset[columns], target.direction[columns].expand_as(d)
                vectors = torch.stack([away * (2 / units[0]), along / sqrt(units[0])], 1)
                kernels.add_block_products(Y, vectors, table[-4:-2])
            if sub_blocks:
                own_grams = kernels.gram_matrices(matrix, sub_blocks)
                grams = [a.add_(b) for a, b in zip(grams, own_grams, strict=True)] if grams else own_grams
            if not squared:  # Y is needed again for third moments only
                squares = torch.mul(Y, Y, out=self._matrix("squares", matrix).view(shape) if self._shapes else Y)
            M = [kernels.column_sums(squares)]
            for w, own in sums:  # the squared norms; the first columns overwrite, the others add
                kernels.row_sums(squares.flatten(0, 1)[:, own], 1 / units[w], table[w].view(-1), add=w in begun)
                begun.add(w)
            if self._shapes:
                typical = sum(units[w] for w, _ in sums) / Y.shape[2]
                M += kernels.third_and_fourth(Y, squares, typical, self._matrix("cubes", matrix).view(shape))
            found.append(torch.stack([d, *M]))
        moments = torch.cat(found, 2) if len(found) > 1 else found[0]
        if self._splits:
            placed = zip(parts, frame.pivots, strict=True)
            cross = torch.cat([kernels.cross_sums(g, pivot, table[-3]) for g, pivot in placed], 1)
            moments = torch.cat([moments, cross.unsqueeze(0)])
        return moments, grams

    def _centred(
        self, parts: Parts, pivots: Sequence[Tensor | None], blocks: int, *, squared: bool
    ) -> Iterator[tuple[Tensor, Tensor, slice, list[tuple[int, slice]]]]:
        """Yield centred gradients: one matrix for every group or, if theta is narrow, a single one for all groups.

        Yields:
            Y, or its squares, `[blocks · rows, columns]`; d, `[blocks, columns]`; the columns of theta in the matrix;
            and pairs of a series in the table and the columns of the matrix whose squares are summed up there.
        """
        placed, whole, own_series = zip(parts, pivots, self._columns, strict=True), slice(None), bool(self._own_series)
        if self.centre.numel() < NARROW:
            matrix = self._matrix("off the mean", parts[0], self.centre.numel())
            d = [kernels.centre_blocks(g, p, blocks, matrix[:, own], squared=squared) for g, p, own in placed]
            yield matrix, torch.cat(d, 1), whole, list(enumerate(self._columns, 1)) if own_series else [(0, whole)]
        else:
            for k, (g, p, own) in enumerate(placed, 1):
                matrix = self._matrix("off the mean", g)
                d_own = kernels.centre_blocks(g, p, blocks, matrix, squared=squared)
                yield matrix, d_own, own, [(k if own_series else 0, whole)]

    def _sum_series(self, table: Tensor, d: Tensor, frame: _Frame) -> dict[str, Tensor]:
        """Complete the series that `_reduce_pass` has written to the table, and sum them up. The table is overwritten.

        Returns:
            Power sums "series", the largest values "top NAME", a "sample" of w and the number of "zero rows".
        """
        groups, units, target = self._own_series, frame.units, frame.target
        w = table[: 1 + len(groups)]
        if groups:
            kernels.weighted_sum(w[1:], w.new_tensor(units[1:]) / units[0], w[0])
        tensors: dict[str, Tensor] = {}
        if target is not None:
            error, projection, cosine, squared_norm = table[-4:]
            delta = d + target.offset
            # ‖g_r − g*‖² = ‖Y_r‖² + 2 Y_r·δ + ‖δ‖², in units of u
            error.add_(w[0]).add_((delta.square().sum(1, keepdim=True) / units[0]).to(w.dtype))
            # (g_r − g*)·g*/‖g*‖ = Y_r·g*/‖g*‖ + δ·g*/‖g*‖, in units of √u
            projection.add_((delta @ target.direction / sqrt(units[0])).unsqueeze(1).to(w.dtype))
            tensors["zero rows"] = (squared_norm.numel() - torch.count_nonzero(squared_norm)).view(1)
            if delta.shape[1] == 1:
                cosine.sign_()
            else:
                kernels.divide_by_norms(cosine, squared_norm)
        if self.truncate_at is not None:
            torch.clamp(w[0], max=self.truncate_at / (units[0] * _unbiased(frame.rows)), out=table[1 + len(groups)])
        for k, name in enumerate(self._names):
            if name[0] in "we":
                tensors[f"top {name}"] = kernels.top(table[k], self._kept(name, frame.rows))
        if self._samples:
            tensors["sample"] = w[0, :, :FIRST_DRAW].flatten().clone()  # the power sums overwrite the table
        tensors["series"] = kernels.series_powers(table[: len(self._names)], 4 if self.tracked else 2, self.space)
        return tensors

    def _partial(self, frame: _Frame, out: Mapping[str, Array]) -> Partial:
        """Return the partial sums in the units of the gradients, from the joined results `out` of all tables."""
        rows, units, names = frame.rows, frame.units, self._names
        d, *powers = out["blocks"].swapaxes(1, 2)
        cross = powers.pop() * sqrt(units[0]) if self._splits else None
        means = d + out["off centre"]
        w_names = ["w", *(f"w:{name}" for name in self._own_series)]
        unit = dict(zip(w_names, np.multiply(units, _unbiased(rows)), strict=True))
        unit |= {"truncated": unit["w"], "error": units[0], "cosine": 1.0}
        unit["projection"] = sqrt(units[0]) / max(float(out.get("norm", 1.0)), layout.ZERO_NORM)
        by_block = from_powers(rows, out["series"].swapaxes(1, 2), np.array([unit[name] for name in names]))
        series = dict(zip(names, each(pooled(rows, by_block[0], by_block[1:])), strict=True))
        largest = {name: -np.sort(-out[f"top {name}"]) * unit[name] for name in names if f"top {name}" in out}
        group_w = np.add.reduceat(powers[0], [own.start for own in self._columns], axis=1) * _unbiased(rows)
        sample = out.get("sample")
        return Partial(
            index=self.index,
            rows=rows,
            means=means,
            coordinate=pooled(rows, means, powers),
            w=series["w"],
            w_top=largest["w"],
            block_w=group_w.sum(1),
            traces=out.get("traces", np.zeros(0)),
            tracked=self.tracked > 0,
            block_group_w=dict(zip(self.groups, group_w.T, strict=True)) if len(self.groups) > 1 else {},
            group_w={name: series[f"w:{name}"] for name in self._own_series},
            group_top={name: largest[f"w:{name}"] for name in self._own_series},
            error=series.get("error"),
            error_top=largest.get("error"),
            projection=series.get("projection"),
            across=None if cross is None else _across(rows, means, powers[0], cross, out["along"]),
            across_traces=None if cross is None else out["across traces"],
            cosine=series.get("cosine"),
            zero_rows=int(out["zero rows"].sum()) if "zero rows" in out else 0,
            truncated=series.get("truncated"),
            truncate_at=self.truncate_at,
            sample=None if sample is None else sample * unit["w"],
        )

    @functools.cached_property
    def _names(self) -> list[str]:
        """The names of the series, in the order of the table."""
        names = ["w", *(f"w:{name}" for name in self._own_series)]
        names += ["truncated"] if self.truncate_at is not None else []
        return names + (["error", "projection", "cosine"] if self.exact is not None and self.tracked else [])

    @property
    def _splits(self) -> bool:
        """Whether the part of the gradients that is perpendicular to the exact one is summed up, too."""
        return self.exact is not None and self.tracked > 0 and self.centre.numel() > 1

    @functools.cached_property
    def _own_series(self) -> list[str]:
        """The groups that have a series w of their own."""
        return list(self.groups) if len(self.groups) > 1 and self.tracked else []

    @functools.cached_property
    def _columns(self) -> list[slice]:
        """The columns of every group in the gradient."""
        return [slice(*pair) for pair in itertools.pairwise([0, *itertools.accumulate(self.groups.values())])]

    @property
    def _shapes(self) -> bool:
        """Whether third and fourth moments of the coordinates are wanted."""
        return self.index < layout.SHAPE_BLOCKS

    @property
    def _samples(self) -> bool:
        """Whether a sample of w is kept: its largest values will not reach down to its 99 % quantile."""
        return self._shapes and layout.kept_values(self.replicates) <= layout.above_quantile(self.replicates)

    def _sub_blocks(self, start: int, rows: int) -> int:
        """Return the number of the run's 64 sub-blocks that may be missing before block `start` of this reduction.

        It depends on the index and the rows of the block alone: earlier blocks are taken to have the same rows, or 256
        if that is fewer. No sub-block is needed if D = 1, where tr Σ² = V².
        """
        if self.centre.numel() == 1:
            return 0
        return max(0, layout.SUB_BLOCKS - (self.index + start) * (min(rows, FIRST_DRAW) // layout.SUB_BLOCK))

    def _kept(self, name: str, rows: int) -> int:
        """Return the number of largest values of a series that each block of `rows` hands over."""
        if name == "w":
            return layout.kept_in_block(layout.kept_values(self.replicates), rows, self.replicates)
        return layout.kept_in_block(layout.tail_length(self.tracked) + 1, rows, self.tracked)

    def _matrix(self, name: str, like: Tensor, size: int | None = None) -> Tensor:
        """Return memory for a matrix with the rows of `like`, `[rows, size]`; column by column if it is narrow."""
        rows, size = len(like), size or like.shape[1]
        if size < NARROW:
            return self.space.take(name, (size, rows), like).T
        return self.space.take(name, (rows, size), like)

    def _add_squared_norms(self, g: Tensor, out: Tensor) -> None:
        """Add `‖g_r‖²` to `out` `[rows]`, for `g` `[rows, size]`."""
        if g.shape[1] == 1:
            out.addcmul_(g[:, 0], g[:, 0])
        elif g.shape[1] < NARROW:  # torch's norm along columns in one piece is a hundred times slower
            kernels.row_sums(torch.mul(g, g, out=self._matrix("cubes", g)), 1.0, out, add=True)
        else:
            norms = torch.linalg.vector_norm(g, dim=1, out=self.space.take("norms", (len(g),), g))
            out.addcmul_(norms, norms)


def _across(rows: int, means: Array, M2: Array, cross: Array, along: Array) -> Moments:
    """Return mean and M2 of the part of the gradients that is perpendicular to the unit vector `along` `[size]`.

    With C_j = Σ_r Y_rj (Y_r·u) in each block::

        M2_j − 2 u_j C_j + u_j² (C·u)

    `means`, `M2` and `cross`, which holds C, are `[blocks, size]`, and `rows` is the number of rows in a block.
    """
    own = M2 - 2 * along * cross + along**2 * (cross @ along)[:, None]
    return pooled(rows, means - (means @ along)[:, None] * along, [np.maximum(own, 0.0)])


def _joined(draws: Sequence[Parts]) -> Parts:
    """Return the gradients of several draws as one, group by group."""
    return [torch.cat(each) for each in zip(*draws, strict=True)] if len(draws) > 1 else draws[0]


def _to_host(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Array], bool]:
    """Return the tensors as float64 numpy arrays, by one transfer, and whether all values are finite."""
    flat = torch.cat([t.double().reshape(-1) for t in tensors.values()]).cpu().numpy()
    ends = np.cumsum([t.numel() for t in tensors.values()])
    parts = zip(tensors.items(), np.split(flat, ends[:-1]), strict=True)
    return {name: part.reshape(tuple(t.shape)) for (name, t), part in parts}, bool(np.isfinite(flat).all())


def _unbiased(rows: int) -> float:
    """Return the factor that makes the mean squared distance of `rows` from their mean an unbiased variance."""
    return rows / (rows - 1)


def _in_range(partial: Partial, units: Sequence[float]) -> bool:
    """Return whether squares of w, and its fourth powers in its unit, are far from the limits of float32."""
    means = [float(m.mean) for m in (partial.w, *partial.group_w.values())]
    wanted = [(mean, unit) for mean, unit in zip(means, units, strict=True) if mean != 0 or mean is means[0]]
    return all(TINY < mean < HUGE and 1 / FAR < mean / unit < FAR for mean, unit in wanted)


def _nonfinite_rows(parts: Parts) -> int:
    """Return the number of rows whose squared norm is not finite."""
    norms = torch.stack([g.double().square().sum(1) for g in parts]).sum(0)
    return int((~torch.isfinite(norms)).sum())
