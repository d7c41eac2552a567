"""Blocks of gradients to their partial sums, on the device where the gradients are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from bench.stats.accumulate import (
    SHAPE_BLOCKS,
    SUB_BLOCK,
    SUB_BLOCKS,
    ZERO_NORM,
    Partial,
    above_quantile,
    kept_in_block,
    kept_values,
    tail_length,
)
from bench.stats.series import Array, Moments
from bench.sums import (
    Workspace,
    add_both_products,
    add_products,
    add_row_sums,
    by_group,
    central,
    column_sums,
    row_products,
    series_moments,
    square_trace_of,
    third_and_fourth,
    top,
)

NARROW = 32  # below so many columns a column is kept in one piece: inner loops over the columns would be too short
LADDER_START = 256  # rows of a block at the start of a run, at most
MOST, MOST_NUMBERS = 8, 2**17  # blocks that are reduced together, and their rows, or means' coordinates, at most
TINY, HUGE = 1e-14, 1e14  # squared norms outside are too near to what float32 can square


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
    `blocks_partial`.

    Raises ValueError for shapes that do not fit and for blocks under 64 rows.
    """
    if gradients.ndim != 2 or gradients.shape[1] != sum(groups.values()):
        raise ValueError(
            f"gradients have shape {tuple(gradients.shape)}, the groups {dict(groups)} need "
            f"[rows, {sum(groups.values())}]."
        )
    parts = torch.split(gradients, list(groups.values()), 1)
    return blocks_partial(
        lambda _index: parts,
        range(index, index + 1),
        groups=groups,
        centre=centre,
        exact=exact,
        replicates=replicates,
        truncate_at=truncate_at,
        workspace=workspace,
    )


@torch.no_grad()
def blocks_partial(
    gradients: Callable[[int], Sequence[torch.Tensor]],
    blocks: range,
    *,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    pivots: Sequence[torch.Tensor] | None = None,
    followed: int | None = None,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> Partial:
    """Reduce successive blocks of as many rows each to their partial sums.

    Arguments: `gradients`, what gives the gradients of a block, `[rows, size of the group]` for every group, one
    replicate per row, float32 or float64; `groups`, the tensors of theta by name with their number of coordinates;
    `centre` and `exact` `[size]` float64 on the same device; `replicates`, the R of the whole run, which sets how many
    of the largest values are kept; `pivots`, a point near the mean gradient, by group, in the dtype of the gradients,
    as `pivot_of` finds it (in the first of the blocks when None); `followed`, the rows of the whole run of which all
    series are followed (all when None), 0 for blocks of which only w is; `truncate_at`, the c0 of a truncated series
    `min(w, c0)`; `workspace`, memory to use again.

    Blocks are asked for one after the other and reduced while they are in the cache: sums of powers about the pivot, in
    the dtype of the gradients inside a block, in float64 across blocks (Chan, Golub & LeVeque 1983). A coordinate that
    stays at the pivot has M2 = 0 exactly. What has one number per row is reduced for all blocks together, since it is
    so short that what it costs is the number of operations. float32 gradients whose squares leave the range of float32
    are asked for again and reduced in float64.

    Raises ValueError for shapes that do not fit and for blocks under 64 rows.
    """
    space = Workspace() if workspace is None else workspace

    def asked(index: int) -> list[torch.Tensor]:
        with torch.enable_grad():
            parts = gradients(index)
        _check(parts, groups, centre, exact)
        return [g.detach() for g in parts]

    def sharp(index: int) -> list[torch.Tensor]:
        return [g.double() for g in asked(index)]

    run = _Run(
        blocks,
        groups,
        centre,
        exact,
        replicates,
        truncate_at,
        pivots,
        replicates if followed is None else followed,
        space,
    )
    partial, finite = run.reduce(asked)
    if not (finite and _in_range(partial)):
        partial, finite = run.reduce(sharp)
        if not finite:  # at least one: perhaps only fourth powers overflow
            partial = replace(partial, nonfinite=max(1, sum(_nonfinite_rows(asked(index)) for index in blocks)))
    return partial


def together(rows: int, size: int) -> int:
    """Return how many successive blocks of gradients `[rows, size]` are worth reducing together: a power of two."""
    return min(MOST, 1 << max(0, (MOST_NUMBERS // max(rows, size)).bit_length() - 1))


def pivot_of(g: torch.Tensor) -> torch.Tensor:
    """Return a point near the mean of `g` `[rows, size]`, in its dtype, exact where a column is constant.

    It is the median of the means of 16 parts, which one huge gradient does not move: far from all the others, sums of
    squares about it would have none of their digits.
    """
    off = (g - g[0]).double()
    return (g[0] + torch.stack([part.mean(0) for part in off.chunk(16)]).median(0).values).to(g.dtype)


def _check(
    parts: Sequence[torch.Tensor], groups: Mapping[str, int], centre: torch.Tensor, exact: torch.Tensor | None
) -> None:
    dtype, rows = parts[0].dtype, parts[0].shape[0]
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gradients are float32 or float64 (got {dtype}).")
    if [g.shape for g in parts] != [(rows, size) for size in groups.values()]:
        raise ValueError(f"gradients have shapes {[tuple(g.shape) for g in parts]}, the groups are {dict(groups)}.")
    if rows < 64:
        raise ValueError(
            f"a block needs at least 64 rows (got {rows}): centring inside smaller blocks hides the "
            "spread of the squared norms. Append a short block to the one before it."
        )
    size = sum(groups.values())
    for name, vector in (("centre", centre), ("exact", exact)):
        if vector is not None and (vector.shape != (size,) or vector.dtype != torch.float64):
            raise ValueError(f"{name} is float64 of shape ({size},) (got {vector.dtype}, {tuple(vector.shape)}).")


@dataclass(frozen=True, eq=False)
class _Target:
    """What every row is held against: the pivot off the exact gradient g*, `p − g*`, `g*/‖g*‖²` and `g*/‖g*‖`.

    All are `[size]`, the last in the dtype of the gradients, the others float64; the last two are 0 where g* is.
    """

    offset: torch.Tensor
    unit: torch.Tensor
    direction: torch.Tensor

    @classmethod
    def of(cls, exact: torch.Tensor, pivot: torch.Tensor, dtype: torch.dtype) -> _Target:
        """Hold the exact gradient."""
        norm = exact.norm()
        direction = torch.where(norm > ZERO_NORM, exact / norm, 0.0)
        return cls(pivot - exact, torch.where(norm > ZERO_NORM, direction / norm, 0.0), direction.to(dtype))


@dataclass(frozen=True, eq=False)
class _Run:
    """The arguments of one reduction of successive blocks.

    Y is a gradient off the pivot, `g − p`; d, of a block, the mean of its Y; S1 to S4 are column sums of powers of Y.
    The other letters are those of `Partial`.
    """

    blocks: range
    groups: Mapping[str, int]
    centre: torch.Tensor
    exact: torch.Tensor | None
    replicates: int
    truncate_at: float | None
    pivots: Sequence[torch.Tensor] | None
    followed: int
    space: Workspace

    def reduce(self, gradients: Callable[[int], Sequence[torch.Tensor]]) -> tuple[Partial, bool]:
        """Reduce the blocks; also say whether all of the result is finite."""
        first = gradients(self.blocks[0])
        (rows, _), dtype, count, names = first[0].shape, first[0].dtype, len(self.blocks), self._names()
        pivot = torch.cat([pivot_of(g) for g in first] if self.pivots is None else list(self.pivots))
        narrow, pivot = pivot.to(dtype), pivot.double()
        target = _Target.of(self.exact, pivot, dtype) if self.exact is not None and self.followed else None
        table = self.space.take("table", (len(names) + (target is not None), count, rows), first[0]).zero_()
        sums, traces = [], []
        for i, index in enumerate(self.blocks):
            parts = gradients(index) if i else first
            S, grams = self._block(parts, narrow, target, table[:, i], self._sub_blocks(index, rows))
            sums.append(S)
            traces += [square_trace_of(G) for G in grams]
        S = torch.stack(sums)
        d = S[:, 0] / rows
        tensors = self._finish(table, d, target)
        tensors["group w"] = by_group(S[:, 1] - rows * d**2, self.groups) * (rows / (rows - 1))
        tensors["means"] = d + (pivot - self.centre)
        tensors["columns"] = central(S.sum(0), rows * count)
        tensors["columns"][0] += pivot - self.centre
        if traces:
            tensors["traces"] = torch.cat(traces)
        out, finite = _to_host(tensors)
        return self._partial(rows, names, out), finite

    def _block(
        self,
        parts: Sequence[torch.Tensor],
        pivot: torch.Tensor,
        target: _Target | None,
        table: torch.Tensor,
        sub_blocks: int,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return S1, S2 and, of early blocks, S3, S4, `[2 or 4, size]`, and the Gram matrices of sub-blocks.

        To the table `[series + 1, rows]` of zeros, of the block, are added: to w, by group, `‖Y_r − d‖² − ‖d‖²`; to
        error `Y_r·(d + p − g*)`; to projection `Y_r·g*/‖g*‖²`; to cosine `g_r·g*/‖g*‖`, and to what comes after it
        `‖g_r‖²`.
        """
        sums, end = [], 0
        grams: list[torch.Tensor] = []
        for g, shares in zip(self._panels(parts), self._shares(), strict=True):
            start, end = end, end + g.shape[1]
            Y = torch.sub(g, pivot[start:end], out=self._room("off pivot", g))
            S = [column_sums(Y)]
            d = S[0] / len(g)
            if target is not None:
                vectors = torch.stack([d + target.offset[start:end], target.unit[start:end]]).to(g.dtype)
                add_both_products(Y, vectors, table[-4:-2])
                add_products(g, target.direction[start:end], table[-2])
                self._add_squared_norms(g, table[-1])
            if sub_blocks:
                mine = row_products(Y, sub_blocks)
                grams = [a.add_(b) for a, b in zip(grams, mine, strict=True)] if grams else mine
            mean = d.to(g.dtype)
            for w, own in shares:
                add_products(Y[:, own], mean[own], table[w], factor=-2)
            squares = torch.mul(Y, Y, out=self._room("squares", g) if self._shapes() else Y)
            S.append(column_sums(squares))
            for w, own in shares:
                add_row_sums(squares[:, own], table[w])
            if self._shapes():
                S += third_and_fourth(Y, squares, S[1], self._room("cubes", g))
            sums.append(torch.stack(S))
        return torch.cat(sums, 1), grams

    def _panels(self, parts: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return what is worked on as one matrix: the gradients of each group, or, if they are narrow, of all."""
        if not self._narrow():
            return parts
        size, rows = self.centre.numel(), len(parts[0])
        return [torch.cat([g.T for g in parts], out=self.space.take("panel", (size, rows), parts[0])).T]

    def _narrow(self) -> bool:
        return len(self.groups) > 1 and self.centre.numel() < NARROW

    def _shares(self) -> list[list[tuple[int, slice]]]:
        """Return, for every panel, which row of the table the squares of which of its columns go to."""
        ends = [0, *itertools.accumulate(self.groups.values())]
        rows = range(1, len(ends)) if self._own_series() else [0] * len(self.groups)
        if self._narrow():
            columns = [slice(*pair) for pair in itertools.pairwise(ends)]
            return [list(zip(rows, columns, strict=True)) if self._own_series() else [(0, slice(None))]]
        return [[(row, slice(None))] for row in rows]

    def _room(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """Return memory for a matrix `[rows, size]`; of a narrow one every column is in one piece."""
        rows, size = like.shape
        narrow = size < NARROW
        return self.space.take(name, (size, rows), like).T if narrow else self.space.take(name, (rows, size), like)

    def _add_squared_norms(self, g: torch.Tensor, out: torch.Tensor) -> None:
        """`out += ‖g_r‖²`."""
        if g.shape[1] == 1:
            out.addcmul_(g[:, 0], g[:, 0])
            return
        if g.shape[1] < NARROW:  # torch's norm over columns in one piece is a hundred times slower
            add_row_sums(torch.mul(g, g, out=self._room("cubes", g)), out)
        else:
            norms = torch.linalg.vector_norm(g, dim=1, out=self.space.take("norms", (len(g),), g))
            out.addcmul_(norms, norms)

    def _shapes(self) -> bool:
        """Whether third and fourth moments per coordinate are asked for."""
        return self.blocks[0] < SHAPE_BLOCKS

    def _sub_blocks(self, index: int, rows: int) -> int:
        """Return how many of the first 64 sub-blocks of the run may be still missing when a block begins.

        It follows from the index and the rows of the block alone: earlier blocks had as many rows, or 256. None are
        needed where D = 1 and tr Σ² = V².
        """
        return 0 if self.centre.numel() == 1 else max(0, SUB_BLOCKS - index * (min(rows, LADDER_START) // SUB_BLOCK))

    def _names(self) -> list[str]:
        names = ["w", *(f"w:{name}" for name in self._own_series())]
        names += ["truncated"] if self.truncate_at is not None else []
        return names + (["error", "projection", "cosine"] if self.exact is not None and self.followed else [])

    def _own_series(self) -> list[str]:
        """Return the groups that have a series of their own."""
        return list(self.groups) if len(self.groups) > 1 and self.followed else []

    def _finish(self, table: torch.Tensor, d: torch.Tensor, target: _Target | None) -> dict[str, torch.Tensor]:
        """Make the series in place out of what `_block` left in the table `[series, blocks, rows]`; sum them up."""
        parts, rows, names = self._own_series(), table.shape[2], self._names()
        w = table[: 1 + len(parts)]
        squares = by_group(d**2, self.groups) if parts else d.square().sum(1, keepdim=True)
        w[1 if parts else 0 :].add_(squares.T.unsqueeze(2).to(w.dtype))
        if parts:
            torch.sum(w[1:], 0, out=w[0])
        tensors: dict[str, torch.Tensor] = {}
        if target is not None:
            error, projection, cosine, squared_norm = table[-4:]
            delta = d + target.offset
            error.mul_(2).add_(w[0]).add_((delta * (delta - 2 * d)).sum(1, keepdim=True).to(w.dtype))
            projection.add_((target.offset @ target.unit).to(w.dtype))
            tensors["zero rows"] = squared_norm.numel() - torch.count_nonzero(squared_norm)
            if delta.shape[1] == 1:
                cosine.sign_()
            else:  # of a row that is 0 this is 0 already
                cosine.mul_(squared_norm.clamp_(min=torch.finfo(w.dtype).tiny).rsqrt_()).clamp_(-1, 1)
        w.mul_(rows / (rows - 1))
        if self.truncate_at is not None:
            torch.clamp(w[0], max=self.truncate_at, out=table[1 + len(parts)])
        for k, name in enumerate(names):
            if name[0] in "we":
                tensors[f"top {name}"] = top(table[k], self._kept(name, rows))
        if self._samples():
            tensors["sample"] = w[0, :, :LADDER_START]
        tensors["block w"] = w[0].sum(1)
        tensors["series"] = series_moments(table[: len(names)].view(len(names), -1), self.space)
        return tensors

    def _kept(self, name: str, rows: int) -> int:
        if name == "w":
            return kept_in_block(kept_values(self.replicates), rows, self.replicates)
        return kept_in_block(tail_length(self.followed) + 1, rows, self.followed)

    def _samples(self) -> bool:
        """Whether some of w itself is handed over, for its 99 % quantile, which its largest values will not reach."""
        return self._shapes() and kept_values(self.replicates) <= above_quantile(self.replicates)

    def _partial(self, rows: int, names: list[str], out: Mapping[str, Array]) -> Partial:
        none, parts, n = np.zeros(0), self._own_series(), rows * len(self.blocks)
        series = {name: Moments(n, *map(np.asarray, values)) for name, values in zip(names, out["series"], strict=True)}
        sample = out.get("sample")
        return Partial(
            index=self.blocks[0],
            rows=rows,
            means=out["means"],
            coordinate=Moments(n, *out["columns"]),
            w=series["w"],
            w_top=out["top w"],
            block_w=out["block w"],
            traces=out.get("traces", none),
            followed=self.followed > 0,
            block_group_w=dict(zip(self.groups, out["group w"].T, strict=True)) if len(self.groups) > 1 else {},
            group_w={name: series[f"w:{name}"] for name in parts},
            group_top={name: out[f"top w:{name}"] for name in parts},
            error=series.get("error"),
            error_top=out.get("top error"),
            projection=series.get("projection"),
            cosine=series.get("cosine"),
            zero_rows=int(out.get("zero rows", 0)),
            truncated=series.get("truncated"),
            truncate_at=self.truncate_at,
            sample=None if sample is None else sample.ravel(),
        )


def _to_host(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Array], bool]:
    """All tensors as float64 numpy arrays, in one transfer, and whether all their values are finite."""
    flat = torch.cat([t.double().reshape(-1) for t in tensors.values()]).cpu().numpy()
    ends = np.cumsum([t.numel() for t in tensors.values()])
    parts = zip(tensors.items(), np.split(flat, ends[:-1]), strict=True)
    return {name: part.reshape(tuple(t.shape)) for (name, t), part in parts}, bool(np.isfinite(flat).all())


def _in_range(partial: Partial) -> bool:
    """Whether squares of the squared norms are far from the limits of float32."""
    norms = [float(m.mean) for m in (partial.w, *(m for m in partial.group_w.values() if m.mean != 0))]
    return min(norms) > TINY and max(norms) < HUGE


def _nonfinite_rows(parts: Sequence[torch.Tensor]) -> int:
    """Rows that are not finite or whose square is not."""
    norms = torch.stack([g.double().square().sum(1) for g in parts]).sum(0)
    return int((~torch.isfinite(norms)).sum())
