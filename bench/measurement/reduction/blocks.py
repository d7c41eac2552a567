"""Blocks of gradients to partial sums."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch

from bench.measurement.draws import FIRST_DRAW
from bench.measurement.reduction.kernels import (
    Workspace,
    add_products,
    centred,
    column_sums,
    row_products,
    row_sums,
    series_powers,
    square_trace_of,
    third_and_fourth,
    top,
)
from bench.measurement.reduction.origin import Origin
from bench.planning.settings import SMALLEST_DRAW
from bench.stats.layout import (
    SHAPE_BLOCKS,
    SUB_BLOCK,
    SUB_BLOCKS,
    ZERO_NORM,
    above_quantile,
    kept_in_block,
    kept_values,
    tail_length,
)
from bench.stats.partial import Partial
from bench.stats.series import Array, each, from_powers, pooled

NARROW = 32  # below so many columns a column is kept in one piece: inner loops over the columns would be too short
PORTION = 2**19  # numbers of series that are summed up together, while they are in the cache
SLAB = 2**19  # numbers that are passed over together: draws are put together or cut between blocks to be about as large
TINY, HUGE = 1e-14, 1e14  # squared norms outside are too near to what float32 can square
FAR = 1e6  # so many times the unit of its series, or one of so many parts of it, a mean is too far from it


def block_partial(
    gradients: torch.Tensor,
    *,
    index: int,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> Partial:
    """Reduce the block `index` to its partial sums.

    Arguments: `gradients` `[rows, size]`, one replicate per row, float32 or float64; the others as for
    `draws_partial`.

    Raises ValueError for shapes that do not fit and for blocks under 64 rows.
    """
    if gradients.ndim != 2 or gradients.shape[1] != sum(groups.values()):
        raise ValueError(
            f"gradients have shape {tuple(gradients.shape)}, the groups {dict(groups)} need "
            f"[rows, {sum(groups.values())}]."
        )
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
    gradients: Callable[[int], Sequence[torch.Tensor]],
    draws: range,
    *,
    index: int,
    blocks: Sequence[int],
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    origin: Origin | None = None,
    tracked: int | None = None,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> Partial:
    """Reduce successive draws to the partial sums of their blocks, which have as many rows each.

    Arguments: `gradients`, what gives the gradients of a draw, `[rows, size of the group]` for every group, one
    replicate per row, float32 or float64; `index`, the number of the first of their blocks; `blocks`, how many there
    are in each draw; `groups`, the tensors of theta by name with their number of coordinates; `centre` and `exact`
    `[size]` float64 on the same device; `replicates`, the R of the whole run, which sets how many of the largest values
    are kept; `origin`, where the gradients lie (as the first of the draws says when None); `tracked`, the rows of the
    whole run of which all series are tracked (all when None), 0 for draws of which only w is; `truncate_at`, the c0 of
    a truncated series `min(w, c0)`; `workspace`, memory to use again.

    Draws are asked for one after the other and reduced while they are in the cache: centred on the mean of their block,
    in the dtype of the gradients inside a block, in float64 across blocks (Chan, Golub & LeVeque 1983). A coordinate
    that stays at the pivot has M2 = 0 exactly. What has one number per row is reduced for many draws together, since it
    is so short that what it costs is the number of operations. float32 gradients whose squares leave the range of
    float32 are asked for again and reduced in float64.

    Raises ValueError for shapes that do not fit and for blocks under 64 rows.
    """
    space = Workspace() if workspace is None else workspace

    def asked(draw: int) -> list[torch.Tensor]:
        with torch.enable_grad():
            parts = gradients(draw)
        _check(parts, blocks[draw - draws.start], groups, centre, exact)
        return [g.detach() for g in parts]

    def sharp(draw: int) -> list[torch.Tensor]:
        return [g.double() for g in asked(draw)]

    reduction = _Reduction(
        draws,
        index,
        blocks,
        groups,
        centre,
        exact,
        replicates,
        truncate_at,
        origin,
        replicates if tracked is None else tracked,
        space,
    )
    partial, finite = reduction.reduce(asked)
    if not finite:
        partial, finite = reduction.reduce(sharp)
        if not finite:  # at least one: perhaps only fourth powers overflow
            partial = replace(partial, nonfinite=max(1, sum(_nonfinite_rows(asked(draw)) for draw in draws)))
    return partial


def _check(
    parts: Sequence[torch.Tensor],
    cut: int,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
) -> None:
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
    """What every row is held against: the pivot off the exact gradient g*, `p − g*`, `g*/‖g*‖` and `‖g*‖`.

    The first two are `[size]`, all float64; the second, 0 where g* is, also in the dtype of the gradients.
    """

    offset: torch.Tensor
    direction: torch.Tensor
    rounded: torch.Tensor
    norm: torch.Tensor

    @classmethod
    def of(cls, exact: torch.Tensor, pivot: torch.Tensor, dtype: torch.dtype) -> _Target:
        """Hold the exact gradient."""
        norm = exact.norm()
        direction = torch.where(norm > ZERO_NORM, exact / norm, 0.0)
        return cls(pivot - exact, direction, direction.to(dtype), norm)


@dataclass(frozen=True, eq=False)
class _Reduction:
    """The arguments of one reduction of successive draws.

    Y is a gradient off the mean of its block, and d that mean off the pivot, `mean(g) − p`; the other letters are those
    of `Partial`.
    """

    draws: range
    index: int
    blocks: Sequence[int]
    groups: Mapping[str, int]
    centre: torch.Tensor
    exact: torch.Tensor | None
    replicates: int
    truncate_at: float | None
    origin: Origin | None
    tracked: int
    space: Workspace

    def reduce(self, gradients: Callable[[int], Sequence[torch.Tensor]]) -> tuple[Partial, bool]:
        """Reduce the draws; also say whether all of the result is finite and in the range of the dtype."""
        first = gradients(self.draws[0])
        rows, dtype, names = first[0].shape[0] // self.blocks[0], first[0].dtype, self._names()
        origin = self.origin or Origin.of(first)
        pivot = torch.cat(
            [g.new_zeros(g.shape[1]) if p is None else p for g, p in zip(first, origin.pivots, strict=True)]
        )
        units = [origin.spread, *origin.spreads] if self._own_series() else [origin.spread]
        target = _Target.of(self.exact, pivot.double(), dtype) if self.exact is not None and self.tracked else None
        made = itertools.chain([first], map(gradients, self.draws[1:]))
        tensors: dict[str, torch.Tensor] = {"off centre": pivot.double() - self.centre}
        if target is not None:
            tensors["norm"] = target.norm
        found, begin = list[dict[str, torch.Tensor]](), 0
        for portion in self._portions(rows * (len(names) + (target is not None))):
            draws = itertools.islice(made, len(portion))
            found.append(self._portion(draws, sum(portion), begin, rows, origin.pivots, units, target))
            begin += sum(portion)
        tensors |= {name: torch.cat([each[name] for each in found], -1) for name in found[0]}
        out, finite = _to_host(tensors)
        with np.errstate(invalid="ignore", over="ignore"):
            partial = self._partial(rows, names, units, out)
        return partial, finite and (dtype == torch.float64 or _in_range(partial, units))

    def _portions(self, numbers: int) -> Iterator[list[int]]:
        """Yield the blocks of draws whose series are summed up together, `numbers` of them a block."""
        portion = list[int]()
        for cut in self.blocks:
            if portion and (sum(portion) + cut) * numbers > PORTION:
                yield portion
                portion = []
            portion.append(cut)
        yield portion

    def _portion(
        self,
        draws: Iterable[Sequence[torch.Tensor]],
        blocks: int,
        begin: int,
        rows: int,
        pivots: Sequence[torch.Tensor | None],
        units: Sequence[float],
        target: _Target | None,
    ) -> dict[str, torch.Tensor]:
        """Return the sums of draws with so many blocks, the first of which is block `begin` of the run."""
        names, made = self._names(), iter(draws)
        first = next(made)
        table = self.space.take("table", (len(names) + (target is not None), blocks, rows), first[0])
        if target is not None:
            table[-4:].zero_()
        found, traces, end = list[torch.Tensor](), list[torch.Tensor](), 0
        for slab in self._slabs(itertools.chain([first], made), rows):
            start, end = end, end + len(slab[0]) // rows
            moments, grams = self._slab(
                slab, pivots, units, target, table[:, start:end], self._sub_blocks(begin + start, rows)
            )
            found.append(moments)
            traces += [square_trace_of(G) for G in grams]
        by_block = torch.cat(found, 1) if len(found) > 1 else found[0]
        tensors = self._finish(table, by_block[0], units, target)
        return tensors | {"blocks": by_block.transpose(1, 2), "traces": torch.cat([*traces, by_block.new_zeros(0)])}

    def _slabs(self, draws: Iterable[Sequence[torch.Tensor]], rows: int) -> Iterator[Sequence[torch.Tensor]]:
        """Yield the gradients of draws, by group, of so many blocks of `rows` at once as are worth it."""
        most = max(1, SLAB // (rows * self.centre.numel())) * rows
        waiting, held = list[Sequence[torch.Tensor]](), 0
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

    def _slab(
        self,
        parts: Sequence[torch.Tensor],
        pivots: Sequence[torch.Tensor | None],
        units: Sequence[float],
        target: _Target | None,
        table: torch.Tensor,
        sub_blocks: int,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return d, M2 and, of early blocks, M3, M4, `[2 or 4, blocks, size]`, and the Gram matrices of sub-blocks.

        To the table `[series + 1, blocks, rows]`, of the slab, are written: to w, by group, `‖Y_r‖²` in its unit u; to
        the last four, which are 0 before, `2 Y_r·(d + p − g*)/u`, `Y_r·g*/‖g*‖/√u`, `g_r·g*/‖g*‖` and `‖g_r‖²`.
        """
        shape = (*table.shape[1:], -1)
        if target is not None:
            for g, own in zip(parts, self._columns(), strict=True):
                add_products(g, target.rounded[own], table[-2].view(-1))
                self._add_squared_norms(g, table[-1].view(-1))
        found, grams, begun = [], list[torch.Tensor](), set[int]()
        at_once = not (target is not None or sub_blocks or self._shapes())  # nothing but squares is made of Y
        for flat, d, columns, shares in self._panels(parts, pivots, shape[0], squared=at_once):
            Y = squares = flat.view(shape)
            if target is not None:
                away, along = d + target.offset[columns], target.direction[columns].expand_as(d)
                vectors = torch.stack([away * (2 / units[0]), along / sqrt(units[0])], 1)
                table[-4:-2] += torch.bmm(vectors.to(Y.dtype), Y.transpose(1, 2)).transpose(0, 1)
            if sub_blocks:
                mine = row_products(flat, sub_blocks)
                grams = [a.add_(b) for a, b in zip(grams, mine, strict=True)] if grams else mine
            if not at_once:
                squares = torch.mul(Y, Y, out=self._room("squares", flat).view(shape) if self._shapes() else Y)
            M = [column_sums(squares)]
            for w, own in shares:
                row_sums(squares.flatten(0, 1)[:, own], 1 / units[w], table[w].view(-1), add=w in begun)
                begun.add(w)
            if self._shapes():
                typical = sum(units[w] for w, _ in shares) / Y.shape[2]
                M += third_and_fourth(Y, squares, typical, self._room("cubes", flat).view(shape))
            found.append(torch.stack([d, *M]))
        return torch.cat(found, 2) if len(found) > 1 else found[0], grams

    def _panels(
        self, parts: Sequence[torch.Tensor], pivots: Sequence[torch.Tensor | None], blocks: int, *, squared: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, slice, list[tuple[int, slice]]]]:
        """Yield what is worked on as one matrix, Y or its squares, and d: of a group or, if they are narrow, of all.

        Beside them stand their columns, and which of them have their squares in which row of the table.
        """
        columns, own = self._columns(), bool(self._own_series())
        if self.centre.numel() < NARROW:
            panel = self._room("off the mean", parts[0], self.centre.numel())
            d = [
                centred(g, p, blocks, panel[:, own], squared=squared)
                for g, p, own in zip(parts, pivots, columns, strict=True)
            ]
            yield panel, torch.cat(d, 1), slice(None), list(enumerate(columns, 1)) if own else [(0, slice(None))]
        else:
            for k, (g, p, here) in enumerate(zip(parts, pivots, columns, strict=True), 1):
                off = self._room("off the mean", g)
                yield off, centred(g, p, blocks, off, squared=squared), here, [(k if own else 0, slice(None))]

    def _columns(self) -> list[slice]:
        """Return which columns of the gradient belong to which group."""
        ends = [0, *itertools.accumulate(self.groups.values())]
        return [slice(*pair) for pair in itertools.pairwise(ends)]

    def _room(self, name: str, like: torch.Tensor, size: int | None = None) -> torch.Tensor:
        """Return memory for a matrix like `[rows, size]`; of a narrow one every column is in one piece."""
        rows, size = len(like), size or like.shape[1]
        narrow = size < NARROW
        return self.space.take(name, (size, rows), like).T if narrow else self.space.take(name, (rows, size), like)

    def _add_squared_norms(self, g: torch.Tensor, out: torch.Tensor) -> None:
        """`out += ‖g_r‖²`."""
        if g.shape[1] == 1:
            out.addcmul_(g[:, 0], g[:, 0])
            return
        if g.shape[1] < NARROW:  # torch's norm over columns in one piece is a hundred times slower
            row_sums(torch.mul(g, g, out=self._room("cubes", g)), 1.0, out, add=True)
        else:
            norms = torch.linalg.vector_norm(g, dim=1, out=self.space.take("norms", (len(g),), g))
            out.addcmul_(norms, norms)

    def _shapes(self) -> bool:
        """Whether third and fourth moments per coordinate are asked for."""
        return self.index < SHAPE_BLOCKS

    def _sub_blocks(self, begin: int, rows: int) -> int:
        """Return how many of the first 64 sub-blocks may be still missing when block `begin` of the run begins.

        It follows from the index and the rows of the block alone: earlier blocks had as many rows, or 256. None are
        needed where D = 1 and tr Σ² = V².
        """
        if self.centre.numel() == 1:
            return 0
        return max(0, SUB_BLOCKS - (self.index + begin) * (min(rows, FIRST_DRAW) // SUB_BLOCK))

    def _names(self) -> list[str]:
        names = ["w", *(f"w:{name}" for name in self._own_series())]
        names += ["truncated"] if self.truncate_at is not None else []
        return names + (["error", "projection", "cosine"] if self.exact is not None and self.tracked else [])

    def _own_series(self) -> list[str]:
        """Return the groups that have a series of their own."""
        return list(self.groups) if len(self.groups) > 1 and self.tracked else []

    def _finish(
        self, table: torch.Tensor, d: torch.Tensor, units: Sequence[float], target: _Target | None
    ) -> dict[str, torch.Tensor]:
        """Make the series in place out of what `_slab` left in the table `[series, blocks, rows]`; sum them up."""
        parts, rows, names = self._own_series(), table.shape[2], self._names()
        w = table[: 1 + len(parts)]
        if parts:
            shares = w.new_tensor(units[1:]) / units[0]
            torch.mv(w[1:].view(len(parts), -1).T, shares, out=w[0].view(-1))
        tensors: dict[str, torch.Tensor] = {}
        if target is not None:
            error, projection, cosine, squared_norm = table[-4:]
            delta = d + target.offset
            error.add_(w[0]).add_((delta.square().sum(1, keepdim=True) / units[0]).to(w.dtype))
            projection.add_((delta @ target.direction / sqrt(units[0])).unsqueeze(1).to(w.dtype))
            tensors["zero rows"] = (squared_norm.numel() - torch.count_nonzero(squared_norm)).view(1)
            if delta.shape[1] == 1:
                cosine.sign_()
            else:  # of a row that is 0 this is 0 already
                cosine.mul_(squared_norm.clamp_(min=torch.finfo(w.dtype).tiny).rsqrt_()).clamp_(-1, 1)
        if self.truncate_at is not None:
            torch.clamp(w[0], max=self.truncate_at / (units[0] * _unbiased(rows)), out=table[1 + len(parts)])
        for k, name in enumerate(names):
            if name[0] in "we":
                tensors[f"top {name}"] = top(table[k], self._kept(name, rows))
        if self._samples():
            tensors["sample"] = w[0, :, :FIRST_DRAW].flatten().clone()  # the sums overwrite it
        orders = 4 if self.tracked else 2
        tensors["series"] = series_powers(table[: len(names)], orders, self.space)
        return tensors

    def _kept(self, name: str, rows: int) -> int:
        if name == "w":
            return kept_in_block(kept_values(self.replicates), rows, self.replicates)
        return kept_in_block(tail_length(self.tracked) + 1, rows, self.tracked)

    def _samples(self) -> bool:
        """Whether some of w itself is handed over, for its 99 % quantile, which its largest values will not reach."""
        return self._shapes() and kept_values(self.replicates) <= above_quantile(self.replicates)

    def _partial(self, rows: int, names: list[str], units: Sequence[float], out: Mapping[str, Array]) -> Partial:
        parts, (d, *powers) = self._own_series(), out["blocks"].swapaxes(1, 2)
        means = d + out["off centre"]
        unit = dict(zip(["w", *(f"w:{name}" for name in parts)], np.multiply(units, _unbiased(rows)), strict=True))
        unit |= {"truncated": unit["w"], "error": units[0], "cosine": 1.0}
        unit["projection"] = sqrt(units[0]) / max(float(out.get("norm", 1.0)), ZERO_NORM)
        factors = np.array([unit[name] for name in names])
        by_block = from_powers(rows, out["series"].swapaxes(1, 2), factors)
        series = dict(zip(names, each(pooled(rows, by_block[0], by_block[1:])), strict=True))
        largest = {name: -np.sort(-out[f"top {name}"]) * unit[name] for name in names if f"top {name}" in out}
        starts = np.cumsum([0, *self.groups.values()])[:-1]
        group_w = np.add.reduceat(powers[0], starts, axis=1) * _unbiased(rows)
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
            group_w={name: series[f"w:{name}"] for name in parts},
            group_top={name: largest[f"w:{name}"] for name in parts},
            error=series.get("error"),
            error_top=largest.get("error"),
            projection=series.get("projection"),
            cosine=series.get("cosine"),
            zero_rows=int(out["zero rows"].sum()) if "zero rows" in out else 0,
            truncated=series.get("truncated"),
            truncate_at=self.truncate_at,
            sample=None if sample is None else sample * unit["w"],
        )


def _joined(draws: Sequence[Sequence[torch.Tensor]]) -> Sequence[torch.Tensor]:
    """Put draws together, group by group."""
    return [torch.cat(each) for each in zip(*draws, strict=True)] if len(draws) > 1 else draws[0]


def _to_host(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Array], bool]:
    """All tensors as float64 numpy arrays, in one transfer, and whether all their values are finite."""
    flat = torch.cat([t.double().reshape(-1) for t in tensors.values()]).cpu().numpy()
    ends = np.cumsum([t.numel() for t in tensors.values()])
    parts = zip(tensors.items(), np.split(flat, ends[:-1]), strict=True)
    return {name: part.reshape(tuple(t.shape)) for (name, t), part in parts}, bool(np.isfinite(flat).all())


def _unbiased(rows: int) -> float:
    """Return what makes the mean squared distance from the mean of `rows` an unbiased variance."""
    return rows / (rows - 1)


def _in_range(partial: Partial, units: Sequence[float]) -> bool:
    """Whether squares of the squared norms, and fourth powers in their unit, are far from the limits of float32."""
    means = [float(m.mean) for m in (partial.w, *partial.group_w.values())]
    return all(
        TINY < mean < HUGE and 1 / FAR < mean / unit < FAR
        for mean, unit in zip(means, units, strict=True)
        if mean != 0 or mean is means[0]
    )


def _nonfinite_rows(parts: Sequence[torch.Tensor]) -> int:
    """Rows that are not finite or whose square is not."""
    norms = torch.stack([g.double().square().sum(1) for g in parts]).sum(0)
    return int((~torch.isfinite(norms)).sum())
