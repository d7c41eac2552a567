"""Blocks of gradients to their partial sums, on the device where the gradients are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
FEW_COLUMNS = 1000  # below this the matrix product is the faster sum of a row
NARROW = 32  # below so many columns a column is kept in one piece: inner loops over the columns would be too short
LADDER_START = 256  # rows of a block at the start of a run, at most
TOGETHER, MOST = 2**21, 8  # elements of the blocks that are reduced together, and blocks, at most
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

    def beside(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Return the buffer `name`, uninitialised, of the shape, layout, dtype and device of the dense tensor `x`."""
        return self.take(name, (x.numel(),), x).as_strided(x.shape, x.stride())


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
        _given(gradients),
        range(index, index + 1),
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
    gradients: Callable[[int], torch.Tensor],
    blocks: range,
    *,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    truncate_at: float | None = None,
    workspace: Workspace | None = None,
) -> list[Partial]:
    """Reduce successive blocks of as many rows each, one `block_partial` for each.

    `gradients` gives the gradients of a block. It is asked for one block after the other, so that they are reduced
    while they are in the cache; what has one number per row is reduced for all blocks together, since it is so short
    that what it costs is the number of operations. Blocks whose squares leave the range of float32 are asked for again.
    """
    space = Workspace() if workspace is None else workspace
    run = _Run(blocks, groups, centre, exact, replicates, truncate_at)
    out = []
    for index, (partial, finite) in zip(blocks, run.reduce(gradients, space), strict=True):
        if not (finite and _in_range(partial)):
            with torch.enable_grad():
                g = gradients(index)
            if g.dtype == torch.float32:
                ((partial, finite),) = replace(run, blocks=range(index, index + 1)).reduce(_given(g.double()), space)
            partial = partial if finite else replace(partial, nonfinite=_nonfinite_rows(g))
        out.append(partial)
    return out


def _given(gradients: torch.Tensor) -> Callable[[int], torch.Tensor]:
    return lambda _index: gradients


def together(rows: int, size: int) -> int:
    """Return how many successive blocks are worth reducing together: a power of two, while they stay in the cache."""
    if rows >= LONG_SERIES:
        return 1
    return min(MOST, 1 << max(0, (TOGETHER // (rows * size)).bit_length() - 1))


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

    blocks: range
    groups: Mapping[str, int]
    centre: torch.Tensor
    exact: torch.Tensor | None
    replicates: int
    truncate_at: float | None

    def reduce(self, gradients: Callable[[int], torch.Tensor], space: Workspace) -> list[tuple[Partial, bool]]:
        """Reduce the blocks; also say of each whether all of the result is finite."""
        g = self._asked(gradients, self.blocks[0])
        rows, names, count = g.shape[0], self._names(), len(self.blocks)
        target = None if self.exact is None else _Target.of(self.exact, g.dtype)
        table = space.take("table", (len(names), count, rows), g)
        pivot = _middle(g[0], g[1], g[2])
        columns: list[list[torch.Tensor]] = []
        zero_rows: list[torch.Tensor] = []
        tensors: dict[str, torch.Tensor] = {}
        for i, index in enumerate(self.blocks):
            if i:
                g = self._asked(gradients, index)
            X, rest = _centred(g, pivot, space)
            squares = torch.mul(X, X, out=space.beside("squares", g))
            M2 = _column_sums(squares)
            self._squared_norms(squares, table[:, i])
            if target is not None:
                _times(X, (rest + (pivot - target.exact)).to(g.dtype), out=table[-3, i])
                _times(X, target.narrow_unit, out=table[-2, i])
                zero_rows.append(_cosine(g, target, space, cosine=table[-1, i]))
            higher = _third_and_fourth(X, squares, M2, space) if self._shapes() else ()
            columns.append([rest, M2, *higher])
            if (traces := _square_traces(X, index, space)) is not None:
                tensors[f"traces {i}"] = traces
        means = torch.stack([rest for rest, *_ in columns]) + pivot
        tensors["columns"] = torch.stack([torch.stack(column) for column in columns], 1)
        tensors["columns"][0] = means - self.centre
        if target is not None:
            tensors["zero_rows"] = torch.stack(zero_rows)
        self._finish(table, means, target)
        for i, index in enumerate(self.blocks):
            if self._samples(index):
                tensors[f"sample {i}"] = table[0, i, :LADDER_START]
        for name, values in zip(names, table, strict=True):
            if name[0] in "we":
                tensors[f"top {name}"] = _top(values, self._kept(name, rows))
        tensors["series"] = _series_moments(table.view(-1, rows), space)
        out, finite = _to_host(tensors)
        out["series"] = out["series"].reshape(len(names), count, 4)
        return [self._partial(i, rows, names, out, finite) for i in range(count)]

    def _asked(self, gradients: Callable[[int], torch.Tensor], index: int) -> torch.Tensor:
        with torch.enable_grad():
            g = gradients(index)
        _check(g, self.groups, self.centre, self.exact)
        return _laid_out(g)

    def _shapes(self) -> bool:
        """Whether third and fourth moments per coordinate are asked for, of some block at least."""
        return self.blocks[0] < SHAPE_BLOCKS

    def _names(self) -> list[str]:
        names = ["w", *(f"w:{name}" for name in self._parts())]
        names += ["truncated"] if self.truncate_at is not None else []
        return names + (["error", "projection", "cosine"] if self.exact is not None else [])

    def _parts(self) -> list[str]:
        return list(self.groups) if len(self.groups) > 1 else []

    def _squared_norms(self, squares: torch.Tensor, table: torch.Tensor) -> None:
        """Fill in `‖X_r‖²` of one block, by group if there are several, in the table `[series, rows]`."""
        parts = self._parts()
        if not parts:
            _row_sums(squares, out=table[0])
        end = 0
        for i, name in enumerate(parts, 1):
            start, end = end, end + self.groups[name]
            _row_sums(squares[:, start:end], out=table[i])

    def _finish(self, table: torch.Tensor, means: torch.Tensor, target: _Target | None) -> None:
        """Make the series in place, in the table `[series, blocks, rows]`.

        w out of `‖X_r‖²`; and, with g_r − g* = X_r + δ, `‖g_r − g*‖²` out of `X_r·δ` and `g*·(g_r − g*)/‖g*‖²` out of
        `X_r·g*/‖g*‖²`, which is 0 where g* is 0.
        """
        parts, rows = self._parts(), table.shape[2]
        w = table[: 1 + len(parts)]
        if parts:
            torch.sum(w[1:], 0, out=w[0])
        if target is not None:
            error, projection = table[-3], table[-2]
            delta = means - target.exact
            error.mul_(2).add_(w[0]).add_(delta.square().sum(1, keepdim=True).to(w.dtype)).clamp_(min=0)
            projection.add_((delta @ target.unit).to(w.dtype).unsqueeze(1))
        w.mul_(rows / (rows - 1))
        if self.truncate_at is not None:
            torch.clamp(w[0], max=self.truncate_at, out=table[1 + len(parts)])

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
        index, none, parts = self.blocks[i], np.zeros(0), self._parts()
        columns = out["columns"][: 4 if index < SHAPE_BLOCKS else 2, i]
        zero_rows = out["zero_rows"][i] if "zero_rows" in out else none
        traces, sample = out.get(f"traces {i}", none), out.get(f"sample {i}")
        top = {name: out[f"top {name}"][i] for name in names if f"top {name}" in out}
        series = {name: _scalar(rows, out["series"][k, i]) for k, name in enumerate(names)}
        partial = Partial(
            index=index,
            rows=rows,
            coordinate=Moments(rows, *columns),
            w=series["w"],
            w_top=top["w"],
            traces=traces,
            group_w={name: series[f"w:{name}"] for name in parts},
            group_top={name: top[f"w:{name}"] for name in parts},
            error=series.get("error"),
            error_top=top.get("error"),
            projection=series.get("projection"),
            cosine=series.get("cosine"),
            zero_rows=int(zero_rows.sum()),
            truncated=series.get("truncated"),
            truncate_at=self.truncate_at,
            sample=sample,
        )
        values = () if finite else (out["series"][:, i], columns, traces, *top.values())
        return partial, all(bool(np.isfinite(v).all()) for v in values)


@dataclass(frozen=True, eq=False)
class _Target:
    """The exact gradient g*, and what every row is held against: `unit` = g*/‖g*‖² and `direction` = g*/‖g*‖."""

    exact: torch.Tensor
    unit: torch.Tensor
    narrow_unit: torch.Tensor
    direction: torch.Tensor
    sign: torch.Tensor

    @classmethod
    def of(cls, exact: torch.Tensor, dtype: torch.dtype) -> _Target:
        """Both vectors are 0 where g* is; the narrow ones are in the dtype of the gradients."""
        norm2, norm = exact @ exact, exact.norm()
        unit = torch.where(norm2 > ZERO_NORM**2, exact / norm2, 0.0)
        direction = torch.where(norm > ZERO_NORM, exact / norm, 0.0).to(dtype)
        return cls(exact, unit, unit.to(dtype), direction, exact.sign().to(dtype))


def _laid_out(g: torch.Tensor) -> torch.Tensor:
    """Return gradients `[rows, size]` in one piece; narrow ones column by column."""
    return g.T.contiguous().T if g.shape[1] < NARROW else g.contiguous()


def _middle(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Return the median of three tensors, element by element."""
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _centred(g: torch.Tensor, pivot: torch.Tensor, space: Workspace) -> tuple[torch.Tensor, torch.Tensor]:
    """`g − mean` `[rows, size]`, and `mean − pivot` `[size]` in float64.

    The pivot is a value of the column itself (the median of the first three of the run), so that a constant column
    gives zeros and its mean exactly; the second subtraction removes what is left of the mean.
    """
    X = torch.sub(g, pivot, out=space.beside("centred", g))
    rest = _column_sums(X) / g.shape[0]
    X -= rest.to(g.dtype)
    return X, rest


def _column_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over rows, float64 `[size]`.

    Up to 32 rows at a time in the dtype of `x`, float64 above; a column in one piece all in the dtype of `x`, pairwise.
    """
    rows, size = x.shape
    if x.stride(0) == 1:
        return x.sum(0).double()
    step = gcd(rows, 32)
    return x.view(step, rows // step * size).sum(0).view(rows // step, size).sum(0, dtype=torch.float64)


def _row_sums(x: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    """`out[:]` = sum over columns `[rows]` of `[rows, size]`."""
    if x.shape[1] == 1:
        return out.copy_(x[:, 0])
    if x.shape[1] < FEW_COLUMNS:
        return torch.mv(x, x.new_ones(x.shape[1]), out=out)
    return torch.sum(x, 1, out=out)


def _third_and_fourth(
    X: torch.Tensor, squares: torch.Tensor, M2: torch.Tensor, space: Workspace
) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums of X³ and X⁴, `[size]` each. Overwrites `squares`.

    Powers are taken of X over its root mean square, so that none leaves the range of the dtype.
    """
    square = M2.mean() / X.shape[0]
    square = torch.where(square > 0, square, 1.0)
    squares *= (1 / square).to(X.dtype)
    cubes = torch.mul(X, squares, out=space.beside("scratch", X))
    M3 = _column_sums(cubes) * square
    return M3, _column_sums(squares.mul_(squares)) * square**2


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
        cosine.mul_(target.sign)
        return count
    if g.stride(0) == 1:  # torch's norm over columns in one piece is a hundred times slower
        squares = torch.mul(g, g, out=space.beside("scratch", g))
        norms = _row_sums(squares, out=space.take("norms", (len(g),), g)).sqrt_()
    else:
        norms = torch.linalg.vector_norm(g, dim=1, out=space.take("norms", (len(g),), g))
    zeros: torch.Tensor = g.shape[0] - torch.count_nonzero(norms)
    _times(g, target.direction, out=cosine)  # of a row that is 0 this is 0 already
    cosine.div_(norms.clamp_(min=torch.finfo(g.dtype).tiny)).clamp_(-1, 1)
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
    d *= 1 / rms
    d2 = torch.mul(d, d, out=space.take("deviation squared", shape, v))
    if len(v) == 1:  # without a pass that writes
        sums = [d2.sum(1), torch.dot(d[0], d2[0]).view(1), torch.dot(d2[0], d2[0]).view(1)]
    else:
        sums = [d2.sum(1), d.mul_(d2).sum(1), d2.mul_(d2).sum(1)]
    return torch.stack([pivot[:, 0], rest[:, 0], rms[:, 0], *sums])


def _top(v: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` largest values of every row of `v` `[b, rows]`, largest first."""
    if v.is_cuda:
        return torch.topk(v, count).values
    least = v.shape[1] - count
    largest = np.partition(v.numpy(), least, axis=1)[:, least:]  # faster than torch's on a CPU
    return torch.from_numpy(-np.sort(-largest, axis=1))


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
