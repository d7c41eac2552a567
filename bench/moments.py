"""Blocks of gradients to their partial sums, on the device where the gradients are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

LONG_SERIES = 8192  # rows from which a series fills the cache on its own
FEW_COLUMNS = 100  # below this the sum of a row is slow
LADDER_START = 256  # rows of a block at the start of a run, at most
TOGETHER, STEP = 2**20, 32  # elements of the blocks that are reduced together, and blocks, at most
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

    Arguments: `gradients` `[rows, size]`, one replicate per row, float32 or float64; `groups`, the tensors of theta
    by name with their number of coordinates; `centre` and `exact` `[size]` float64 on the same device;
    `replicates`, the R of the whole run, which sets how many of the largest values are kept; `truncate_at`, the c0 of a
    truncated series `min(w, c0)`; `workspace`, memory to use again.

    Inside the block, sums are in the dtype of the gradients about the mean of the block (two passes), 32 rows at a
    time, and float64 above that; across blocks everything is float64 (Chan, Golub & LeVeque 1983). A coordinate
    that is constant in the block has M2 = 0 exactly. float32 gradients whose squares leave the range of float32 are
    reduced in float64.

    Raises ValueError for shapes that do not fit and for blocks under 64 rows.
    """
    (partial,) = block_partials(
        [gradients],
        first=index,
        groups=groups,
        centre=centre,
        exact=exact,
        replicates=replicates,
        truncate_at=truncate_at,
        workspace=workspace,
    )
    return partial


@torch.no_grad()
def block_partials(
    gradients: Sequence[torch.Tensor],
    *,
    first: int,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> list[Partial]:
    """Reduce successive blocks of as many rows each, from the block `first` on: one `block_partial` for each.

    The series with one number per row are reduced for all blocks together. They are so short that what they cost is the
    number of operations, not of values.
    """
    for g in gradients:
        _check(g, groups, centre, exact)
    space = Workspace() if workspace is None else workspace
    run = _Run(first, groups, centre, exact, replicates, truncate_at)
    out = []
    for i, (g, (partial, finite)) in enumerate(zip(gradients, run.reduce(gradients, space), strict=True)):
        if g.dtype == torch.float32 and not (finite and _in_range(partial)):
            ((partial, finite),) = replace(run, first=first + i).reduce([g.double()], Workspace())
        out.append(partial if finite else replace(partial, nonfinite=_nonfinite_rows(g)))
    return out


def together(rows: int, size: int) -> int:
    """Return how many successive blocks are worth reducing together: a power of two, while they stay in the cache."""
    if rows >= LONG_SERIES:
        return 1
    return min(STEP, 1 << max(0, (TOGETHER // (rows * size)).bit_length() - 1))


def _check(
    gradients: torch.Tensor, groups: Mapping[str, int], centre: torch.Tensor, exact: torch.Tensor | None
) -> None:
    size = sum(groups.values())
    if gradients.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gradients are float32 or float64 (got {gradients.dtype}).")
    if gradients.ndim != 2 or gradients.shape[1] != size:
        raise ValueError(
            f"gradients have shape {tuple(gradients.shape)}, the groups {dict(groups)} need [rows, {size}]."
        )
    if gradients.shape[0] < 64:
        raise ValueError(
            f"a block needs at least 64 rows (got {gradients.shape[0]}): centring inside smaller blocks hides the "
            "spread of the squared norms. Append a short block to the one before it."
        )
    for name, vector in (("centre", centre), ("exact", exact)):
        if vector is not None and (vector.shape != (size,) or vector.dtype != torch.float64):
            raise ValueError(f"{name} is float64 of shape ({size},) (got {vector.dtype}, {tuple(vector.shape)}).")


@dataclass(frozen=True, eq=False)
class _Run:
    """The arguments of one reduction of successive blocks; the letters are those of `Partial`."""

    first: int
    groups: Mapping[str, int]
    centre: torch.Tensor
    exact: torch.Tensor | None
    replicates: int
    truncate_at: float | None

    def reduce(self, blocks: Sequence[torch.Tensor], space: Workspace) -> list[tuple[Partial, bool]]:
        """Reduce blocks `[rows, size]`; also say of each whether all of the result is finite."""
        rows, names = blocks[0].shape[0], self._names()
        target = None if self.exact is None else _Target.of(self.exact, blocks[0].dtype)
        tables = space.take("tables", (len(blocks), len(names), rows), blocks[0])
        tensors: dict[str, torch.Tensor] = {}
        for i, (g, table) in enumerate(zip(blocks, tables.unbind(), strict=True)):
            found = self._columns(g, self.first + i, table, target, space)
            tensors |= {f"{name} {i}": t for name, t in found.items()}
        tensors["series"] = _series_moments(tables.view(-1, rows), space)
        for k, name in enumerate(names):
            if name[0] in "we":
                tensors[f"top {name}"] = _top(tables[:, k], self._kept(name, rows))
        out, finite = _to_host(tensors)
        out["series"] = out["series"].reshape(len(blocks), len(names), 4)
        return [self._partial(i, rows, names, out, finite) for i in range(len(blocks))]

    def _names(self) -> list[str]:
        names = ["w", *(f"w:{name}" for name in self._parts())]
        names += ["truncated"] if self.truncate_at is not None else []
        return names + (["error", "projection", "cosine"] if self.exact is not None else [])

    def _parts(self) -> list[str]:
        return list(self.groups) if len(self.groups) > 1 else []

    def _columns(
        self, g: torch.Tensor, index: int, table: torch.Tensor, target: _Target | None, space: Workspace
    ) -> dict[str, torch.Tensor]:
        """Return what a block has per coordinate; fill in `table` `[k, rows]`, the series with one number per row."""
        pivot, X = _centred(g, space)
        squares = torch.mul(X, X, out=space.take("squares", tuple(g.shape), g))
        M2 = _column_sums(squares)
        zero_rows = self._series(g, X, squares, pivot, table, target, space)
        columns = [pivot - self.centre, M2]
        if index < SHAPE_BLOCKS:
            columns += _third_and_fourth(X, squares, M2, space)
        found = {"columns": torch.stack(columns)}
        if zero_rows is not None:
            found["zero_rows"] = zero_rows
        if (traces := _square_traces(X, index, space)) is not None:
            found["traces"] = traces
        if self._samples(index):
            found["sample"] = table[0, :LADDER_START]
        return found

    def _series(
        self,
        g: torch.Tensor,
        X: torch.Tensor,
        squares: torch.Tensor,
        pivot: torch.Tensor,
        table: torch.Tensor,
        target: _Target | None,
        space: Workspace,
    ) -> torch.Tensor | None:
        """Fill in the table in the order of `_names`; return the number of rows that are 0, if that is asked for."""
        parts, rows = self._parts(), g.shape[0]
        square_norms = _row_sums(squares)
        unbias = rows / (rows - 1)
        torch.mul(square_norms, unbias, out=table[0])
        ends = np.cumsum([self.groups[name] for name in parts])
        for i, (name, end) in enumerate(zip(parts, ends, strict=True), 1):
            torch.mul(_row_sums(squares[:, end - self.groups[name] : end]), unbias, out=table[i])
        if self.truncate_at is not None:
            torch.clamp(table[0], max=self.truncate_at, out=table[len(parts) + 1])
        if target is None:
            return None
        _against_exact(X, square_norms, pivot - target.exact, target, error=table[-3], projection=table[-2])
        return _cosine(g, target, space, cosine=table[-1])

    def _kept(self, name: str, rows: int) -> int:
        kept = kept_values(self.replicates) if name == "w" else tail_length(self.replicates) + 1
        return kept_in_block(kept, rows, self.replicates)

    def _samples(self, index: int) -> bool:
        """Whether some of w itself is handed over, for its 99 % quantile, which its largest values will not reach."""
        return index < SHAPE_BLOCKS and kept_values(self.replicates) <= above_quantile(self.replicates)

    def _partial(
        self, i: int, rows: int, names: list[str], out: Mapping[str, Array], finite: bool
    ) -> tuple[Partial, bool]:
        """Take the i-th block out of the results; if not all of them are finite, see whether its own are."""
        none = np.zeros(0)
        own = {name: out.get(f"{name} {i}", none) for name in ("columns", "zero_rows", "traces", "sample")}
        top = {name: out[f"top {name}"][i] for name in names if f"top {name}" in out}
        series = {name: _scalar(rows, out["series"][i, k]) for k, name in enumerate(names)}
        parts = self._parts()
        partial = Partial(
            index=self.first + i,
            rows=rows,
            coordinate=Moments(rows, *own["columns"]),
            w=series["w"],
            w_top=top["w"],
            traces=own["traces"],
            group_w={name: series[f"w:{name}"] for name in parts},
            group_top={name: top[f"w:{name}"] for name in parts},
            error=series.get("error"),
            error_top=top.get("error"),
            projection=series.get("projection"),
            cosine=series.get("cosine"),
            zero_rows=int(own["zero_rows"].sum()),
            truncated=series.get("truncated"),
            truncate_at=self.truncate_at,
            sample=own["sample"] if self._samples(self.first + i) else None,
        )
        values = () if finite else (out["series"][i], *own.values(), *top.values())
        return partial, all(bool(np.isfinite(v).all()) for v in values)


@dataclass(frozen=True, eq=False)
class _Target:
    """The exact gradient g*, and what every row is held against: `unit` = g*/‖g*‖² and `direction` = g*/‖g*‖."""

    exact: torch.Tensor
    unit: torch.Tensor
    narrow_unit: torch.Tensor
    direction: torch.Tensor

    @classmethod
    def of(cls, exact: torch.Tensor, dtype: torch.dtype) -> _Target:
        """Both vectors are 0 where g* is; the narrow ones are in the dtype of the gradients."""
        norm2, norm = exact @ exact, exact.norm()
        unit = torch.where(norm2 > ZERO_NORM**2, exact / norm2, 0.0)
        return cls(exact, unit, unit.to(dtype), torch.where(norm > ZERO_NORM, exact / norm, 0.0).to(dtype))


def _centred(g: torch.Tensor, space: Workspace) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `[size]` in float64, and `g − mean` `[rows, size]`.

    The first subtraction is of a value of the column itself (the median of its first three), so that a constant column
    gives zeros and its mean exactly; the second one removes what is left of the mean.
    """
    a, b, c = g[0], g[1], g[2]
    first = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    X = _less(g, first, out=space.take("centred", tuple(g.shape), g))
    rest = _column_sums(X) / g.shape[0]
    _less(X, rest.to(g.dtype), out=X)
    return first.double() + rest, X


def _less(x: torch.Tensor, vector: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    """`out[:] = x - vector` `[rows, size]`; of long narrow blocks 32 rows at a time: the inner loop is over those."""
    if x.shape[0] < LONG_SERIES or x.shape[1] >= FEW_COLUMNS or x.shape[0] % 32 or not x.is_contiguous():
        return torch.sub(x, vector, out=out)
    shape = (x.shape[0] // 32, 32 * x.shape[1])
    torch.sub(x.view(shape), vector.repeat(32), out=out.view(shape))
    return out


def _column_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over rows, float64 `[size]`: up to 32 rows at a time in the dtype of `x`, float64 above."""
    rows, size = x.shape
    step = gcd(rows, 32)
    return x.view(step, rows // step * size).sum(0).view(rows // step, size).sum(0, dtype=torch.float64)


def _row_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over columns `[rows]`; over a few columns the matrix product is several times faster than the sum."""
    if x.shape[1] == 1:
        return x[:, 0]
    return x.mv(x.new_ones(x.shape[1])) if x.shape[1] < FEW_COLUMNS else x.sum(1)


def _third_and_fourth(
    X: torch.Tensor, squares: torch.Tensor, M2: torch.Tensor, space: Workspace
) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums of X³ and X⁴, `[size]` each. Overwrites `squares`.

    Powers are taken of X over its root mean square, so that none leaves the range of the dtype.
    """
    square = M2.mean() / X.shape[0]
    square = torch.where(square > 0, square, 1.0)
    squares *= (1 / square).to(X.dtype)
    cubes = torch.mul(X, squares, out=space.take("scratch", tuple(X.shape), X))
    M3 = _column_sums(cubes) * square
    return M3, _column_sums(squares.mul_(squares)) * square**2


def _against_exact(
    X: torch.Tensor,
    square_norms: torch.Tensor,
    delta: torch.Tensor,
    target: _Target,
    *,
    error: torch.Tensor,
    projection: torch.Tensor,
) -> None:
    """Fill in `‖g_r − g*‖²` and `g*·(g_r − g*)/‖g*‖²` from g_r − g* = X_r + δ; the latter is 0 where g* is 0."""
    _times(X, delta.to(X.dtype), out=error)
    error.mul_(2).add_(square_norms).add_((delta @ delta).to(X.dtype)).clamp_(min=0)
    _times(X, target.narrow_unit, out=projection)
    projection.add_((delta @ target.unit).to(X.dtype))


def _times(X: torch.Tensor, vector: torch.Tensor, *, out: torch.Tensor) -> None:
    """`out[:] = X @ vector`; a matrix of one column is not worth the matrix product."""
    if X.shape[1] == 1:
        torch.mul(X[:, 0], vector, out=out)
    else:
        torch.mv(X, vector, out=out)


def _cosine(g: torch.Tensor, target: _Target, space: Workspace, *, cosine: torch.Tensor) -> torch.Tensor:
    """Fill in `cos(g_r, g*)`, 0 where g_r or g* is 0; return how many g_r are 0."""
    if g.shape[1] == 1:
        torch.sign(g[:, 0], out=cosine)
        count: torch.Tensor = g.shape[0] - torch.count_nonzero(cosine)
        cosine.mul_(target.exact.sign().to(g.dtype))
        return count
    norms = _row_sums(torch.mul(g, g, out=space.take("scratch", tuple(g.shape), g))).sqrt_()
    some = torch.gt(norms, 0, out=torch.empty_like(norms))
    _times(g, target.direction, out=cosine)
    cosine.div_(norms.clamp_(min=torch.finfo(g.dtype).tiny)).clamp_(-1, 1).mul_(some)
    zeros: torch.Tensor = g.shape[0] - some.sum(dtype=torch.float64)
    return zeros


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
    d /= rms
    d2 = torch.mul(d, d, out=space.take("deviation squared", shape, v))
    sums = [d2.sum(1), d.mul_(d2).sum(1), d2.mul_(d2).sum(1)]
    return torch.stack([pivot[:, 0], rest[:, 0], rms[:, 0], *sums])


def _top(v: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` largest values of every row of `v` `[b, rows]`, largest first.

    In a long series only those columns of `[32, rows/32]` are searched whose maximum is among the `count` largest
    maxima.
    """
    if v.shape[1] % 32 == 0 and v.shape[1] >= 32 * 8 * count:
        table = v.view(v.shape[0], 32, -1)
        columns = torch.topk(table.amax(1), count, sorted=False).indices
        v = table.gather(2, columns.unsqueeze(1).expand(-1, 32, -1)).flatten(1)
    return torch.topk(v, count).values


def _square_traces(X: torch.Tensor, index: int, space: Workspace) -> torch.Tensor | None:
    """Unbiased estimates of tr Σ², one per sub-block of 32 consecutive rows; a rest of 16 or more rows is one too.

    Only as many as the first 64 sub-blocks of the run can need, which follows from the index and the rows of the block
    alone: earlier blocks had as many rows, or 256. None for D = 1, where tr Σ² = V² needs no estimate.
    """
    rows, size = X.shape
    wanted = max(0, SUB_BLOCKS - index * (min(rows, LADDER_START) // SUB_BLOCK))
    if size == 1 or wanted == 0:
        return None
    whole, left = min(rows // SUB_BLOCK, wanted), rows % SUB_BLOCK
    head = X[: whole * SUB_BLOCK]
    values = [square_trace(head.view(whole, SUB_BLOCK, size), out=space.take("scratch", tuple(head.shape), X))]
    if left >= MIN_REMAINDER and whole < wanted:
        values.append(square_trace(X[rows - left :].unsqueeze(0)))
    return torch.cat(values)


def square_trace(x: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """Estimate tr Σ² without bias from each of `b` samples of n ≥ 4 rows, `x` `[b, n, size]` to float64 `[b]`.

    With the Gram matrix G of the rows about their mean::

        (n−1)/(n(n−2)(n−3)) · [(n−1)(n−2) ‖G‖²/(n−1)² + (tr G/(n−1))² − n Σ_i G_ii²/(n−1)]

    `out` is memory for as many values as x has. Source: Himeno & Yamada (2014), Journal of Multivariate Analysis
    130:27.
    """
    n = x.shape[1]
    x = torch.sub(x, x.mean(1, keepdim=True), out=None if out is None else out.view(x.shape))
    G = torch.bmm(x, x.transpose(1, 2)).double()
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


def _scalar(rows: int, values: Array) -> Moments:
    mean, M2, M3, M4 = (np.asarray(v) for v in values)
    return Moments(rows, mean, M2, M3, M4)


def _in_range(partial: Partial) -> bool:
    """Whether squares of the squared norms are far from the limits of float32."""
    norms = [float(m.mean) for m in (partial.w, *(m for m in partial.group_w.values() if m.mean != 0))]
    return min(norms) > TINY and max(norms) < HUGE


def _nonfinite_rows(gradients: torch.Tensor) -> int:
    """Rows that are not finite or whose square is not; 1 if only their fourth powers overflow."""
    norms = gradients.double().square().sum(1)
    return max(1, int((~torch.isfinite(norms)).sum()))
