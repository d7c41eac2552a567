"""Blocks of gradients to their partial sums, on the device where the gradients are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

import numpy as np
import torch

from bench.stats.accumulate import (
    MIN_REMAINDER,
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

LONG_SERIES = 2**16  # values from which a series fills the cache on its own
FEW_COLUMNS = 1000  # below this the matrix product is the faster sum of a row
NARROW = 32  # below so many columns a column is kept in one piece: inner loops over the columns would be too short
WIDE = 64  # from so many columns torch sums over rows without help
SPARSE, SAMPLED = 100, 32  # the largest values are looked for in two steps if they are one of so many; every so manieth
LADDER_START = 256  # rows of a block at the start of a run, at most
MOST, MOST_NUMBERS = 8, 2**17  # blocks that are reduced together, and their rows, or means' coordinates, at most
TINY, HUGE = 1e-14, 1e14  # squared norms outside are too near to what float32 can square


class Workspace:
    """Memory that `block_partial` writes into, kept by the caller from block to block.

    Fresh memory of the size of a block costs more, in page faults, than all the arithmetic on it. One workspace serves
    one thread; what it holds between two calls has no meaning.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Return the buffer `name`, uninitialised, with the dtype and device of `like`."""
        buffer, count = self._buffers.get(name), prod(shape)
        if buffer is None or buffer.numel() < count or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = torch.empty(count, dtype=like.dtype, device=like.device)
            self._buffers[name] = buffer
        return buffer[:count].view(shape)


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
    as `pivot_of` finds it (in the first of the blocks when None); `followed`, the rows of
    the whole run of which all series are followed (all when None), 0 of blocks of which only w is; `truncate_at`, the
    c0 of a truncated series `min(w, c0)`; `workspace`, memory to use again.

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
            traces += [_square_trace_of(G) for G in grams]
        S = torch.stack(sums)
        d = S[:, 0] / rows
        tensors = self._finish(table, d, target)
        tensors["group w"] = _by_group(S[:, 1] - rows * d**2, self.groups) * (rows / (rows - 1))
        tensors["means"] = d + (pivot - self.centre)
        tensors["columns"] = _central(S.sum(0), rows * count)
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
            S = [_column_sums(Y)]
            d = S[0] / len(g)
            if target is not None:
                vectors = torch.stack([d + target.offset[start:end], target.unit[start:end]]).to(g.dtype)
                _add_both_products(Y, vectors, table[-4:-2])
                _add_products(g, target.direction[start:end], table[-2])
                self._add_squared_norms(g, table[-1])
            if sub_blocks:
                mine = _grams(Y, sub_blocks)
                grams = [a.add_(b) for a, b in zip(grams, mine, strict=True)] if grams else mine
            mean = d.to(g.dtype)
            for w, own in shares:
                _add_products(Y[:, own], mean[own], table[w], factor=-2)
            squares = torch.mul(Y, Y, out=self._room("squares", g) if self._shapes() else Y)
            S.append(_column_sums(squares))
            for w, own in shares:
                _add_row_sums(squares[:, own], table[w])
            if self._shapes():
                S += _third_and_fourth(Y, squares, S[1], self._room("cubes", g))
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
        rows = range(1, len(ends)) if self._parts() else [0] * len(self.groups)
        if self._narrow():
            columns = [slice(*pair) for pair in itertools.pairwise(ends)]
            return [list(zip(rows, columns, strict=True)) if self._parts() else [(0, slice(None))]]
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
            _add_row_sums(torch.mul(g, g, out=self._room("cubes", g)), out)
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
        names = ["w", *(f"w:{name}" for name in self._parts())]
        names += ["truncated"] if self.truncate_at is not None else []
        return names + (["error", "projection", "cosine"] if self.exact is not None and self.followed else [])

    def _parts(self) -> list[str]:
        return list(self.groups) if len(self.groups) > 1 and self.followed else []

    def _finish(self, table: torch.Tensor, d: torch.Tensor, target: _Target | None) -> dict[str, torch.Tensor]:
        """Make the series in place out of what `_block` left in the table `[series, blocks, rows]`; sum them up."""
        parts, rows, names = self._parts(), table.shape[2], self._names()
        w = table[: 1 + len(parts)]
        squares = _by_group(d**2, self.groups) if parts else d.square().sum(1, keepdim=True)
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
                tensors[f"top {name}"] = _top(table[k], self._kept(name, rows))
        if self._samples():
            tensors["sample"] = w[0, :, :LADDER_START]
        tensors["block w"] = w[0].sum(1)
        tensors["series"] = _series_moments(table[: len(names)].view(len(names), -1), self.space)
        return tensors

    def _kept(self, name: str, rows: int) -> int:
        if name == "w":
            return kept_in_block(kept_values(self.replicates), rows, self.replicates)
        return kept_in_block(tail_length(self.followed) + 1, rows, self.followed)

    def _samples(self) -> bool:
        """Whether some of w itself is handed over, for its 99 % quantile, which its largest values will not reach."""
        return self._shapes() and kept_values(self.replicates) <= above_quantile(self.replicates)

    def _partial(self, rows: int, names: list[str], out: Mapping[str, Array]) -> Partial:
        none, parts, n = np.zeros(0), self._parts(), rows * len(self.blocks)
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


def _column_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over rows, float64 `[size]`.

    In the dtype of `x`, pairwise, and of few columns, which have no others to share the last rounding with, in 32 or
    more parts, and float64 above.
    """
    rows, size = x.shape
    step = gcd(rows, 32)
    if x.stride(0) == 1:
        return x.T.view(size, step, rows // step).sum(2).sum(1, dtype=torch.float64)
    if size >= WIDE:
        return x.sum(0).double()
    return x.view(step, rows // step * size).sum(0).view(rows // step, size).sum(0, dtype=torch.float64)


def _by_group(x: torch.Tensor, groups: Mapping[str, int]) -> torch.Tensor:
    """Sum the columns of `x` `[blocks, size]` by group, `[blocks, groups]`."""
    return torch.stack([each.sum(1) for each in torch.split(x, list(groups.values()), 1)], 1)


def _add_row_sums(x: torch.Tensor, out: torch.Tensor) -> None:
    """`out += ` sum over columns `[rows]` of `[rows, size]`."""
    if x.shape[1] == 1:
        out.add_(x[:, 0])
    elif x.shape[1] < FEW_COLUMNS:
        torch.addmv(out, x, x.new_ones(x.shape[1]), out=out)
    else:
        out.add_(x.sum(1))


def _add_products(x: torch.Tensor, vector: torch.Tensor, out: torch.Tensor, *, factor: float = 1) -> None:
    """`out += factor · x @ vector`; a matrix of one column is not worth the matrix product."""
    if x.shape[1] == 1:
        out.addcmul_(x[:, 0], vector, value=factor)
    else:
        torch.addmv(out, x, vector, alpha=factor, out=out)


def _add_both_products(Y: torch.Tensor, vectors: torch.Tensor, out: torch.Tensor) -> None:
    """`out += vectors @ Yᵀ`, `[2, rows]`."""
    if Y.shape[1] == 1:
        out.addcmul_(vectors, Y[:, 0])
    else:
        torch.addmm(out, vectors, Y.T, out=out)


def _third_and_fourth(
    Y: torch.Tensor, squares: torch.Tensor, S2: torch.Tensor, cubes: torch.Tensor
) -> list[torch.Tensor]:
    """Column sums of Y³ and Y⁴, `[size]` each. Overwrites `squares` and `cubes`.

    Powers are taken of Y over its root mean square, so that none leaves the range of the dtype.
    """
    square = S2.mean() / Y.shape[0]
    square = torch.where(square > 0, square, 1.0)
    squares *= (1 / square).to(Y.dtype)
    S3 = _column_sums(torch.mul(Y, squares, out=cubes)) * square
    return [S3, _column_sums(squares.mul_(squares)) * square**2]


def _central(S: torch.Tensor, n: int) -> torch.Tensor:
    """From S1, S2 and perhaps S3, S4 of n values, sums of powers about a point, to mean − point, M2 and M3, M4."""
    m = S[0] / n
    out = [m, (S[1] - n * m**2).clamp_(min=0)]
    if len(S) > 2:
        out += [
            S[2] - 3 * m * S[1] + 2 * n * m**3,
            (S[3] - 4 * m * S[2] + 6 * m**2 * S[1] - 3 * n * m**4).clamp_(min=0),
        ]
    return torch.stack(out)


def _series_moments(table: torch.Tensor, space: Workspace) -> torch.Tensor:
    """Mean, M2, M3, M4 of every row of `table` `[k, rows]`, as float64 `[k, 4]`."""
    long = table.shape[1] >= LONG_SERIES  # one after the other, long rows stay in the cache
    parts = [_powers(v, space) for v in (torch.split(table, 1) if long else [table])]
    pivot, rest, rms, s2, s3, s4 = torch.cat(parts, dim=1).double()
    return torch.stack([pivot + rest, s2 * rms**2, s3 * rms**3, s4 * rms**4], dim=1)


def _powers(v: torch.Tensor, space: Workspace) -> torch.Tensor:
    """Sum up centred powers of every row of `v` `[k, rows]`, as `[6, k]`: pivot, mean − pivot, rms, Σz², Σz³, Σz⁴.

    Two passes about a value of the row itself (the median of its first five), so that a constant row gives zeros. z is
    the deviation over its root mean square, so that none of its powers leaves the range of the dtype.
    """
    rows, shape = v.shape[1], tuple(v.shape)
    pivot = v[:, :5].median(dim=1, keepdim=True).values
    d = torch.sub(v, pivot, out=space.take("deviation", shape, v))
    rest = d.sum(1, keepdim=True) / rows
    d -= rest
    rms = (torch.linalg.vector_norm(d, dim=1, keepdim=True) / rows**0.5).clamp_(min=torch.finfo(v.dtype).tiny)
    d *= 1 / rms
    d2 = torch.mul(d, d, out=space.take("deviation squared", shape, v))
    if len(v) == 1:  # without a pass that writes
        sums = [d2.sum(1), torch.dot(d[0], d2[0]).view(1), torch.dot(d2[0], d2[0]).view(1)]
    else:
        sums = [d2.sum(1), d.mul_(d2).sum(1), d2.mul_(d2).sum(1)]
    return torch.stack([pivot[:, 0], rest[:, 0], rms[:, 0], *sums])


def _top(v: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` largest values of each row of `v` `[blocks, rows]`, together, largest first.

    Of each block as many, and no more: where one gradient is so large that it shifts the mean of its block, all others
    in it seem to be far off, and that block would fill the tail.
    """
    if v.is_cuda:
        return torch.topk(v, count).values.flatten().sort(descending=True).values
    values = v.numpy()
    if len(v) == 1 and SPARSE * count < v.numel():  # most are below what more than enough of a sample exceed
        sample, rank = values[0, ::SAMPLED], 2 * count // SAMPLED + 16
        above = values[0][values[0] >= np.partition(sample, -rank)[-rank]]
        values = above[None] if above.size >= count else values
    least = values.shape[1] - count
    largest = np.partition(values, least, axis=1)[:, least:]  # faster than torch's on a CPU
    return torch.from_numpy(-np.sort(-largest, axis=None))


def _grams(Y: torch.Tensor, wanted: int) -> list[torch.Tensor]:
    """Return the products of rows of sub-blocks of 32 consecutive rows; a rest of 16 or more rows is one too.

    At most `wanted` of them, as many `[b, n, n]` at once as have as many rows n.
    """
    rows, size = Y.shape
    whole, left = min(rows // SUB_BLOCK, wanted), rows % SUB_BLOCK
    x = [Y[: whole * SUB_BLOCK].reshape(whole, SUB_BLOCK, size)]
    if left >= MIN_REMAINDER and whole < wanted:
        x.append(Y[rows - left :].unsqueeze(0))
    return [torch.bmm(each, each.transpose(1, 2)).double() for each in x]


def square_trace(x: torch.Tensor) -> torch.Tensor:
    """Estimate tr Σ² without bias from each of `b` samples of n ≥ 4 rows, `x` `[b, n, size]` to float64 `[b]`.

    With the Gram matrix G of the rows about their mean::

        (n−1)/(n(n−2)(n−3)) · [(n−1)(n−2) ‖G‖²/(n−1)² + (tr G/(n−1))² − n Σ_i G_ii²/(n−1)]

    Source: Himeno & Yamada (2014), Journal of Multivariate Analysis 130:27.
    """
    x = x - x.mean(1, keepdim=True)
    return _square_trace_of(torch.bmm(x, x.transpose(1, 2)).double())


def _square_trace_of(G: torch.Tensor) -> torch.Tensor:
    """Estimate the same from the products of rows `[b, n, n]` about a point near their mean."""
    n = G.shape[1]
    G = G - G.mean(1, keepdim=True) - G.mean(2, keepdim=True) + G.mean((1, 2), keepdim=True)
    diagonal = G.diagonal(dim1=1, dim2=2)
    square = (G * G).sum((1, 2)) * ((n - 2) / (n - 1))
    bracket = square + (diagonal.sum(1) / (n - 1)) ** 2 - (diagonal**2).sum(1) * (n / (n - 1))
    return bracket * ((n - 1) / (n * (n - 2) * (n - 3)))


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
