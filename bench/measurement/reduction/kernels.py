"""Kernels: the sums over gradients and over series, on the device where they are."""

from __future__ import annotations

from math import ceil, gcd, prod, sqrt

import numpy as np
import torch

from bench.stats.layout import MIN_REMAINDER, SUB_BLOCK
from bench.stats.series import Array

IN_CACHE = 2**19  # numbers that are passed over several times while they are in the cache
FEW_COLUMNS = 1000  # below this the matrix product is the faster sum of a row
WIDE = 64  # from so many columns torch sums over rows without help
ORDINARY = 1e6  # squares up to here, and down to one over it, may be squared as they are
SPARSE, SAMPLED = 100, 32  # the largest values are looked for in two steps if they are one of so many; sample: one of


class Workspace:
    """Memory that `draws_partial` writes into, kept by the caller from draw to draw.

    Fresh memory of the size of a draw costs more, in page faults, than all the arithmetic on it. One workspace serves
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


def column_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum `[blocks, rows, size]` over rows, float64 `[blocks, size]`.

    In the dtype of `x`, pairwise, and of few columns, which have no others to share the last rounding with, in 32 or
    more parts, and float64 above.
    """
    blocks, rows, size = x.shape
    step = gcd(rows, 32)
    if x.stride(1) == 1:
        return x.permute(2, 0, 1).view(size, blocks, step, rows // step).sum(3).sum(2, dtype=torch.float64).T
    if size >= WIDE:
        return x.sum(1).double()
    folded = x.reshape(blocks, step, rows // step * size).sum(1)
    return folded.view(blocks, rows // step, size).sum(1, dtype=torch.float64)


def centred(
    g: torch.Tensor, pivot: torch.Tensor | None, blocks: int, out: torch.Tensor, *, squared: bool
) -> torch.Tensor:
    """Write `g` off the means of its blocks, or the squares of that, to `out`.

    Returns these means off the pivot, `[blocks, size]`, float64.
    """
    if pivot is not None:
        g = torch.sub(g, pivot, out=out)
    g, out = g.view(blocks, -1, g.shape[1]), out.view(blocks, -1, g.shape[1])
    d = column_sums(g) / g.shape[1]
    mean = d.to(g.dtype).unsqueeze(1)  # what rounding leaves of the mean is 0 beside the spread
    if squared:
        torch.ops.aten.mse_loss.out(g, mean.expand_as(g), 0, out=out)  # in one pass
    else:
        torch.sub(g, mean, out=out)
    return d


def row_sums(x: torch.Tensor, scale: float, out: torch.Tensor, *, add: bool) -> None:
    """Write the sum over columns of `[rows, size]`, times `scale`, to `out` `[rows]`, or add it."""
    if 1 < x.shape[1] < FEW_COLUMNS:
        torch.addmv(out, x, x.new_full((x.shape[1],), scale), beta=float(add), out=out)
        return
    each = x[:, 0] if x.shape[1] == 1 else x.sum(1)
    torch.add(out, each, alpha=scale, out=out) if add else torch.mul(each, scale, out=out)


def add_products(x: torch.Tensor, vector: torch.Tensor, out: torch.Tensor) -> None:
    """`out += x @ vector`; a matrix of one column is not worth the matrix product."""
    if x.shape[1] == 1:
        out.addcmul_(x[:, 0], vector)
    else:
        torch.addmv(out, x, vector, out=out)


def third_and_fourth(Y: torch.Tensor, squares: torch.Tensor, typical: float, cubes: torch.Tensor) -> list[torch.Tensor]:
    """Sum up Y³ and Y⁴ over the rows of `[blocks, rows, size]`, `[blocks, size]` each; overwrite all but Y.

    Where the `typical` square is not near 1, powers are taken of Y over its root, so that none leaves the range of the
    dtype.
    """
    scale = 1.0 if 1 / ORDINARY < typical < ORDINARY else typical
    if scale != 1:
        squares *= 1 / scale
    M3 = column_sums(torch.mul(Y, squares, out=cubes)) * scale
    return [M3, column_sums(squares.mul_(squares)) * scale**2]


def series_powers(table: torch.Tensor, orders: int, space: Workspace) -> torch.Tensor:
    """Sum up 2 or 4 powers of the series of `table` `[k, blocks, rows]`, which is overwritten.

    As `series.from_powers` takes them, `[1 + orders, k, blocks]`.
    """
    k, blocks, rows = table.shape
    parts = [_powers(v, orders, space) for v in torch.split(table.view(-1, rows), max(1, IN_CACHE // rows))]
    return torch.cat(parts, dim=1).view(-1, k, blocks)


def _powers(v: torch.Tensor, orders: int, space: Workspace) -> torch.Tensor:
    """Sum up powers of every row of `v` `[k, rows]` off a pivot, z: pivot, Σz, Σz² and perhaps Σz³, Σz⁴.

    The pivot is a value of the row itself (the median of its first five), so that a constant row gives zeros. The
    caller sees to it that the powers stay in the range of the dtype. Overwrites `v`.
    """
    pivot = v[:, :5].median(dim=1, keepdim=True).values
    v -= pivot
    if orders == 2:
        return torch.stack([pivot[:, 0], v.sum(1), torch.linalg.vector_norm(v, dim=1).square_()])
    z2 = torch.mul(v, v, out=space.take("squared series", tuple(v.shape), v))
    return torch.stack([pivot[:, 0], v.sum(1), z2.sum(1), v.mul_(z2).sum(1), z2.mul_(z2).sum(1)])


def top(v: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` largest values of each row of `v` `[blocks, rows]`, together.

    Of each block as many, and no more: where one gradient is so large that it shifts the mean of its block, all others
    in it seem to be far off, and that block would fill the tail.
    """
    if v.is_cuda:
        return torch.topk(v, count).values.flatten()
    values = v.numpy()
    sparse = SPARSE * count < values.shape[1]  # most are below what more than enough of a sample exceed
    rows = [_above_a_sample(row, count)[None] for row in values] if sparse else [values]
    largest = [np.partition(row, row.shape[1] - count, axis=1)[:, row.shape[1] - count :] for row in rows]
    return torch.from_numpy(np.concatenate(largest, axis=None))


def _above_a_sample(values: Array, count: int) -> Array:
    """Return the largest values, some more than `count` of them; all where the sample has led astray."""
    sample, share = values[: values.size // SAMPLED], count / SAMPLED
    rank = ceil(share + 3 * sqrt(share)) + 2
    above = values[values >= np.partition(sample, -rank)[-rank]]
    return above if above.size >= count else values


def row_products(Y: torch.Tensor, wanted: int) -> list[torch.Tensor]:
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
    return square_trace_of(torch.bmm(x, x.transpose(1, 2)).double())


def square_trace_of(G: torch.Tensor) -> torch.Tensor:
    """Estimate the same from the products of rows `[b, n, n]` about a point near their mean."""
    n = G.shape[1]
    G = G - G.mean(1, keepdim=True) - G.mean(2, keepdim=True) + G.mean((1, 2), keepdim=True)
    diagonal = G.diagonal(dim1=1, dim2=2)
    square = (G * G).sum((1, 2)) * ((n - 2) / (n - 1))
    bracket = square + (diagonal.sum(1) / (n - 1)) ** 2 - (diagonal**2).sum(1) * (n / (n - 1))
    return bracket * ((n - 1) / (n * (n - 2) * (n - 3)))
