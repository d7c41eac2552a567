"""One block of gradients to its partial sums, on the device where the gradients are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import gcd

import numpy as np
import torch

from bench.stats.accumulate import (
    MIN_REMAINDER,
    SHAPE_BLOCKS,
    SUB_BLOCK,
    SUB_BLOCKS,
    Partial,
    kept_in_block,
    kept_values,
    tail_length,
)
from bench.stats.series import Array, Moments

LADDER_START = 256  # rows of a block at the start of a run, at most
TINY, HUGE = 1e-20, 1e30  # squared norms outside lose their fourth powers in float32


def block_partial(
    gradients: torch.Tensor,
    *,
    index: int,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    truncate_at: float | None = None,
) -> Partial:
    """Partial sums of the block `index`.

    Arguments: `gradients` `[rows, size]`, one replicate per row, float32 or float64; `groups`, the tensors of theta by name
    with their number of coordinates; `centre` and `exact` `[size]` float64 on the same device; `replicates`, the planned R,
    which sets how many of the largest values are kept; `truncate_at`, the c0 of a truncated series `min(w, c0)`.

    Inside the block, sums are in the dtype of the gradients about the mean of the block (two passes), 32 rows at a time,
    and float64 above that; across blocks everything is float64 (Chan, Golub & LeVeque 1983). A coordinate that is constant
    in the block has M2 = 0 exactly. float32 gradients whose squares leave the range of float32 are reduced in float64.

    Raises ValueError for shapes that do not fit and for blocks under 64 rows.
    """
    _check(gradients, groups, centre, exact)
    partial = _reduce(gradients.detach(), index, groups, centre, exact, replicates, truncate_at)
    if gradients.dtype == torch.float32 and not _in_range(partial):
        partial = _reduce(gradients.detach().double(), index, groups, centre, exact, replicates, truncate_at)
    return partial if _finite(partial) else replace(partial, nonfinite=_nonfinite_rows(gradients))


def _check(
    gradients: torch.Tensor, groups: Mapping[str, int], centre: torch.Tensor, exact: torch.Tensor | None
) -> None:
    size = sum(groups.values())
    if gradients.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"gradients are float32 or float64 (got {gradients.dtype}).")
    if gradients.ndim != 2 or gradients.shape[1] != size:
        raise ValueError(f"gradients have shape {tuple(gradients.shape)}, the groups {dict(groups)} need [rows, {size}].")
    if gradients.shape[0] < 64:
        raise ValueError(
            f"a block needs at least 64 rows (got {gradients.shape[0]}): centring inside smaller blocks hides the "
            "spread of the squared norms. Append a short block to the one before it."
        )
    for name, vector in (("centre", centre), ("exact", exact)):
        if vector is not None and (vector.shape != (size,) or vector.dtype != torch.float64):
            raise ValueError(f"{name} is float64 of shape ({size},) (got {vector.dtype}, {tuple(vector.shape)}).")


def _reduce(
    g: torch.Tensor,
    index: int,
    groups: Mapping[str, int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
    replicates: int,
    truncate_at: float | None,
) -> Partial:
    """The reduction itself; the letters are those of `Partial`."""
    rows, size = g.shape
    pivot, X = _centred(g)
    squares = X * X
    M2 = _column_sums(squares)
    columns = [pivot - centre, M2, *(_third_and_fourth(X, M2) if index < SHAPE_BLOCKS else ())]
    square_norms = _row_sums(squares)
    unbias = rows / (rows - 1)

    table = {"w": square_norms * unbias}
    if len(groups) > 1:
        parts = squares.split(list(groups.values()), dim=1)
        table.update({f"w:{name}": _row_sums(part) * unbias for name, part in zip(groups, parts, strict=True)})
    if truncate_at is not None:
        table["truncated"] = table["w"].clamp(max=truncate_at)
    zero_rows = torch.zeros((), dtype=torch.float64, device=g.device)
    if exact is not None:
        table["error"], table["projection"] = _against_exact(X, square_norms, pivot - exact, exact)
        table["cosine"], zero_rows = _cosine(g, exact)

    kept = kept_in_block(kept_values(replicates), rows, replicates)
    tail = kept_in_block(tail_length(replicates) + 1, rows, replicates)
    tops = {name: _top(v, kept if name == "w" else tail) for name, v in table.items() if name[0] in "we"}
    sampled = index < SHAPE_BLOCKS and kept_values(replicates) <= replicates - -(-99 * replicates // 100)
    out = _to_host(
        {
            "columns": torch.stack(columns),
            "series": _series_moments(torch.stack(list(table.values()))),
            "traces": _square_traces(X, index),
            "zero_rows": zero_rows,
            "sample": table["w"] if sampled else table["w"][:0],
            **{f"top {name}": top for name, top in tops.items()},
        }
    )
    series = {name: _scalar(rows, out["series"][i]) for i, name in enumerate(table)}
    names = list(groups) if len(groups) > 1 else []
    return Partial(
        index=index,
        rows=rows,
        coordinate=Moments(rows, *out["columns"]),
        w=series["w"],
        w_top=out["top w"],
        traces=out["traces"],
        group_w={name: series[f"w:{name}"] for name in names},
        group_top={name: out[f"top w:{name}"] for name in names},
        error=series.get("error"),
        error_top=out.get("top error"),
        projection=series.get("projection"),
        cosine=series.get("cosine"),
        zero_rows=int(out["zero_rows"]),
        truncated=series.get("truncated"),
        truncate_at=truncate_at,
        sample=out["sample"] if sampled else None,
    )


def _centred(g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `[size]` in float64, and `g − mean` `[rows, size]`.

    The first subtraction is of a value of the column itself (the median of its first three), so that a constant column
    gives zeros and its mean exactly; the second one removes what is left of the mean.
    """
    a, b, c = g[0], g[1], g[2]
    first = torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
    X = g - first
    rest = _column_sums(X) / g.shape[0]
    X -= rest.to(g.dtype)
    return first.double() + rest, X


def _column_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over rows, float64 `[size]`: up to 32 rows at a time in the dtype of `x`, float64 above."""
    rows, size = x.shape
    step = gcd(rows, 32)
    return x.view(step, rows // step * size).sum(0).view(rows // step, size).sum(0, dtype=torch.float64)


def _row_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum over columns `[rows]`."""
    return x[:, 0] if x.shape[1] == 1 else x.sum(1)


def _third_and_fourth(X: torch.Tensor, M2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums of X³ and X⁴, `[size]` each, computed on X over its root mean square so that no power leaves the range."""
    rms = (M2.mean() / X.shape[0]).sqrt()
    rms = torch.where(rms > 0, rms, 1.0)
    Z = X * (1 / rms).to(X.dtype)
    Z2 = Z * Z
    return _column_sums(Z * Z2) * rms**3, _column_sums(Z2 * Z2) * rms**4


def _against_exact(
    X: torch.Tensor, square_norms: torch.Tensor, delta: torch.Tensor, exact: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`‖g_r − g*‖²` and `g*·(g_r − g*)/‖g*‖²` from g_r − g* = X_r + δ; the latter is 0 where g* is 0."""
    norm2 = exact @ exact
    unit = torch.where(norm2 > 0, exact / norm2, 0.0)
    products = X @ torch.stack([delta, unit], dim=1).to(X.dtype)
    error = square_norms + 2 * products[:, 0] + (delta @ delta).to(X.dtype)
    return error.clamp(min=0), products[:, 1] + (delta @ unit).to(X.dtype)


def _cosine(g: torch.Tensor, exact: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`cos(g_r, g*)` `[rows]`, 0 where g_r or g* is 0, and how many g_r are 0."""
    norm = exact.norm()
    direction = torch.where(norm > 0, exact / norm, 0.0).to(g.dtype)
    norms = g[:, 0].abs() if g.shape[1] == 1 else torch.linalg.vector_norm(g, dim=1)
    zero = norms == 0
    cosine = (g @ direction) / norms.masked_fill(zero, 1.0)
    return cosine.clamp(-1, 1), zero.sum(dtype=torch.float64)


def _series_moments(v: torch.Tensor) -> torch.Tensor:
    """Mean, M2, M3, M4 of every row of `v` `[k, rows]`, as float64 `[k, 4]`.

    Powers are taken of the deviation over its largest absolute value, so that none leaves the range of the dtype.
    """
    rows = v.shape[1]
    pivot = v[:, :5].median(dim=1, keepdim=True).values
    d = v - pivot
    rest = d.sum(1, keepdim=True, dtype=torch.float64) / rows
    d -= rest.to(v.dtype)
    scale = d.abs().amax(1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    d /= scale
    d2 = d * d
    sums = [x.sum(1, keepdim=True, dtype=torch.float64) for x in (d2, d2 * d, d2 * d2)]
    s = scale.double()
    return torch.cat([pivot.double() + rest, sums[0] * s**2, sums[1] * s**3, sums[2] * s**4], dim=1)


def _top(v: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` largest values, largest first."""
    return torch.topk(v, count).values


def _square_traces(X: torch.Tensor, index: int) -> torch.Tensor:
    """Unbiased estimates of tr Σ², one per sub-block of 32 consecutive rows; a rest of 16 or more rows is one too.

    Only as many as the first 64 sub-blocks of the run can need, which follows from the index and the rows of the block
    alone: earlier blocks had as many rows, or 256. None for D = 1, where tr Σ² = V² needs no estimate.
    """
    rows, size = X.shape
    wanted = max(0, SUB_BLOCKS - index * (min(rows, LADDER_START) // SUB_BLOCK))
    if size == 1 or wanted == 0:
        return torch.zeros(0, dtype=torch.float64, device=X.device)
    whole = min(rows // SUB_BLOCK, wanted)
    values = [square_trace(X[: whole * SUB_BLOCK].view(whole, SUB_BLOCK, size))]
    left = rows % SUB_BLOCK
    if left >= MIN_REMAINDER and whole < wanted:
        values.append(square_trace(X[rows - left :].unsqueeze(0)))
    return torch.cat(values)


def square_trace(x: torch.Tensor) -> torch.Tensor:
    """Unbiased estimate of tr Σ² from each of `b` samples of n rows, `x` `[b, n, size]` to float64 `[b]`.

    With the Gram matrix G of the rows about their mean::

        (n−1)/(n(n−2)(n−3)) · [(n−1)(n−2) ‖G‖²/(n−1)² + (tr G/(n−1))² − n Σ_i G_ii²/(n−1)]

    Source: Himeno & Yamada (2014), Journal of Multivariate Analysis 130:27.
    """
    n = x.shape[1]
    x = x - x.mean(1, keepdim=True)
    G = (x @ x.transpose(1, 2)).double()
    diagonal = G.diagonal(dim1=1, dim2=2)
    square = (G * G).sum((1, 2)) * ((n - 2) / (n - 1))
    bracket = square + (diagonal.sum(1) / (n - 1)) ** 2 - (diagonal**2).sum(1) * (n / (n - 1))
    return bracket * ((n - 1) / (n * (n - 2) * (n - 3)))


def _to_host(tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """All tensors as float64 numpy arrays, in one transfer."""
    flat = torch.cat([t.double().reshape(-1) for t in tensors.values()]).cpu().numpy()
    ends = np.cumsum([t.numel() for t in tensors.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(tuple(t.shape)) for (name, t), part in zip(tensors.items(), parts, strict=True)}


def _scalar(rows: int, values: Array) -> Moments:
    mean, M2, M3, M4 = (np.asarray(v) for v in values)
    return Moments(rows, mean, M2, M3, M4)


def _in_range(partial: Partial) -> bool:
    """Whether float32 could hold what was formed: nothing overflowed, and the squared norms are not about to underflow."""
    w = float(partial.w.mean)
    return _finite(partial) and (w > TINY or not np.any(partial.coordinate.M2)) and w < HUGE


def _finite(partial: Partial) -> bool:
    c = partial.coordinate
    scalars = [partial.w, *partial.group_w.values(), partial.error, partial.projection, partial.cosine]
    values = [c.mean, c.M2, c.M3, c.M4, partial.traces]
    values += [x for m in scalars if m is not None for x in (m.mean, m.M2, m.M3, m.M4)]
    return all(bool(np.isfinite(v).all()) for v in values if v is not None)


def _nonfinite_rows(gradients: torch.Tensor) -> int:
    """Rows that are not finite or whose square is not; 1 if only their fourth powers overflow."""
    norms = gradients.detach().double().square().sum(1)
    return max(1, int((~torch.isfinite(norms)).sum()))
