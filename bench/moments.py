"""One block of gradients to its partial sums, on the device where the gradients are."""

from __future__ import annotations

from collections.abc import Mapping
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


@torch.no_grad()
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
    _check(gradients, groups, centre, exact)
    space = Workspace() if workspace is None else workspace
    block = _Block(index, groups, centre, exact, replicates, truncate_at)
    partial, finite = block.reduce(gradients, space)
    if gradients.dtype == torch.float32 and not (finite and _in_range(partial)):
        partial, finite = block.reduce(gradients.double(), Workspace())
    return partial if finite else replace(partial, nonfinite=_nonfinite_rows(gradients))


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
class _Block:
    """The arguments of one reduction; the letters are those of `Partial`."""

    index: int
    groups: Mapping[str, int]
    centre: torch.Tensor
    exact: torch.Tensor | None
    replicates: int
    truncate_at: float | None

    def reduce(self, g: torch.Tensor, space: Workspace) -> tuple[Partial, bool]:
        """Reduce `g` `[rows, size]`; also say whether all of the result is finite."""
        pivot, X = _centred(g, space)
        squares = torch.mul(X, X, out=space.take("squares", tuple(g.shape), g))
        M2 = _column_sums(squares)
        names, table, zero_rows = self._series(g, X, squares, pivot, space)
        columns = [pivot - self.centre, M2]
        if self.index < SHAPE_BLOCKS:
            columns += _third_and_fourth(X, squares, M2, space)
        w = table[0]
        tensors = {
            "columns": torch.stack(columns),
            "series": _series_moments(table, space),
            "traces": _square_traces(X, self.index, space),
            "zero_rows": zero_rows,
            "sample": w[: LADDER_START if self._samples() else 0],
        }
        tensors |= {
            f"top {name}": _top(table[i], self._kept(name, w.numel()))
            for i, name in enumerate(names)
            if name[0] in "we"
        }
        out, finite = _to_host(tensors)
        return self._partial(g.shape[0], names, out), finite

    def _series(
        self, g: torch.Tensor, X: torch.Tensor, squares: torch.Tensor, pivot: torch.Tensor, space: Workspace
    ) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        """Names and values `[k, rows]` of the series with one number per row, and the number of rows that are 0."""
        parts = list(self.groups) if len(self.groups) > 1 else []
        names = ["w", *(f"w:{name}" for name in parts)]
        names += ["truncated"] if self.truncate_at is not None else []
        names += ["error", "projection", "cosine"] if self.exact is not None else []
        rows = g.shape[0]
        table = space.take("table", (len(names), rows), g)
        square_norms = _row_sums(squares)
        unbias = rows / (rows - 1)
        torch.mul(square_norms, unbias, out=table[0])
        ends = np.cumsum([self.groups[name] for name in parts])
        for i, (name, end) in enumerate(zip(parts, ends, strict=True), 1):
            torch.mul(_row_sums(squares[:, end - self.groups[name] : end]), unbias, out=table[i])
        if self.truncate_at is not None:
            torch.clamp(table[0], max=self.truncate_at, out=table[len(parts) + 1])
        zero_rows = torch.zeros((), dtype=torch.float64, device=g.device)
        if self.exact is not None:
            _against_exact(X, square_norms, pivot - self.exact, self.exact, error=table[-3], projection=table[-2])
            zero_rows = _cosine(g, self.exact, space, cosine=table[-1])
        return names, table, zero_rows

    def _kept(self, name: str, rows: int) -> int:
        kept = kept_values(self.replicates) if name == "w" else tail_length(self.replicates) + 1
        return kept_in_block(kept, rows, self.replicates)

    def _samples(self) -> bool:
        """Whether some of w itself is handed over, for its 99 % quantile, which its largest values will not reach."""
        return self.index < SHAPE_BLOCKS and kept_values(self.replicates) <= above_quantile(self.replicates)

    def _partial(self, rows: int, names: list[str], out: Mapping[str, Array]) -> Partial:
        series = {name: _scalar(rows, out["series"][i]) for i, name in enumerate(names)}
        parts = [name for name in self.groups if f"w:{name}" in series]
        return Partial(
            index=self.index,
            rows=rows,
            coordinate=Moments(rows, *out["columns"]),
            w=series["w"],
            w_top=out["top w"],
            traces=out["traces"],
            group_w={name: series[f"w:{name}"] for name in parts},
            group_top={name: out[f"top w:{name}"] for name in parts},
            error=series.get("error"),
            error_top=out.get("top error"),
            projection=series.get("projection"),
            cosine=series.get("cosine"),
            zero_rows=int(out["zero_rows"]),
            truncated=series.get("truncated"),
            truncate_at=self.truncate_at,
            sample=out["sample"] if self._samples() else None,
        )


def _centred(g: torch.Tensor, space: Workspace) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `[size]` in float64, and `g − mean` `[rows, size]`.

    The first subtraction is of a value of the column itself (the median of its first three), so that a constant column
    gives zeros and its mean exactly; the second one removes what is left of the mean.
    """
    a, b, c = g[0], g[1], g[2]
    first = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    X = torch.sub(g, first, out=space.take("centred", tuple(g.shape), g))
    rest = _column_sums(X) / g.shape[0]
    X -= rest.to(g.dtype)
    return first.double() + rest, X


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
    exact: torch.Tensor,
    *,
    error: torch.Tensor,
    projection: torch.Tensor,
) -> None:
    """Fill in `‖g_r − g*‖²` and `g*·(g_r − g*)/‖g*‖²` from g_r − g* = X_r + δ; the latter is 0 where g* is 0."""
    norm2 = exact @ exact
    unit = torch.where(norm2 > ZERO_NORM**2, exact / norm2, 0.0)
    _times(X, delta, out=error)
    error.mul_(2).add_(square_norms).add_((delta @ delta).to(X.dtype)).clamp_(min=0)
    _times(X, unit, out=projection)
    projection.add_((delta @ unit).to(X.dtype))


def _times(X: torch.Tensor, vector: torch.Tensor, *, out: torch.Tensor) -> None:
    """`out[:] = X @ vector` in the dtype of X; a matrix of one column is not worth the matrix product."""
    vector = vector.to(X.dtype)
    if X.shape[1] == 1:
        torch.mul(X[:, 0], vector, out=out)
    else:
        torch.mv(X, vector, out=out)


def _cosine(g: torch.Tensor, exact: torch.Tensor, space: Workspace, *, cosine: torch.Tensor) -> torch.Tensor:
    """Fill in `cos(g_r, g*)`, 0 where g_r or g* is 0; return how many g_r are 0."""
    if g.shape[1] == 1:
        torch.sign(g[:, 0], out=cosine)
        count: torch.Tensor = g.shape[0] - torch.count_nonzero(cosine)
        cosine.mul_(exact.sign().to(g.dtype))
        return count
    norm = exact.norm()
    norms = _row_sums(torch.mul(g, g, out=space.take("scratch", tuple(g.shape), g))).sqrt_()
    zero = norms == 0
    _times(g, torch.where(norm > ZERO_NORM, exact / norm, 0.0), out=cosine)
    cosine.div_(norms.masked_fill_(zero, 1.0)).clamp_(-1, 1)
    zeros: torch.Tensor = zero.sum(dtype=torch.float64)
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
    """Return the `count` largest values, largest first.

    In a long series only those columns of `[32, rows/32]` are searched whose maximum is among the `count` largest
    maxima.
    """
    if v.shape[0] % 32 == 0 and v.shape[0] >= 32 * 8 * count:
        table = v.view(32, -1)
        v = table.index_select(1, torch.topk(table.amax(0), count, sorted=False).indices).reshape(-1)
    return torch.topk(v, count).values


def _square_traces(X: torch.Tensor, index: int, space: Workspace) -> torch.Tensor:
    """Unbiased estimates of tr Σ², one per sub-block of 32 consecutive rows; a rest of 16 or more rows is one too.

    Only as many as the first 64 sub-blocks of the run can need, which follows from the index and the rows of the block
    alone: earlier blocks had as many rows, or 256. None for D = 1, where tr Σ² = V² needs no estimate.
    """
    rows, size = X.shape
    wanted = max(0, SUB_BLOCKS - index * (min(rows, LADDER_START) // SUB_BLOCK))
    if size == 1 or wanted == 0:
        return torch.zeros(0, dtype=torch.float64, device=X.device)
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
