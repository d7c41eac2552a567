"""What a block of gradients and the series made of it are summed with, on the device where they are."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod

import numpy as np
import torch

from bench.stats.accumulate import MIN_REMAINDER, SUB_BLOCK

LONG_SERIES = 2**16  # values from which a series fills the cache on its own
FEW_COLUMNS = 1000  # below this the matrix product is the faster sum of a row
WIDE = 64  # from so many columns torch sums over rows without help
SPARSE, SAMPLED = 100, 32  # the largest values are looked for in two steps if they are one of so many; every so manieth


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


def column_sums(x: torch.Tensor) -> torch.Tensor:
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


def by_group(x: torch.Tensor, groups: Mapping[str, int]) -> torch.Tensor:
    """Sum the columns of `x` `[blocks, size]` by group, `[blocks, groups]`."""
    return torch.stack([each.sum(1) for each in torch.split(x, list(groups.values()), 1)], 1)


def add_row_sums(x: torch.Tensor, out: torch.Tensor) -> None:
    """`out += ` sum over columns `[rows]` of `[rows, size]`."""
    if x.shape[1] == 1:
        out.add_(x[:, 0])
    elif x.shape[1] < FEW_COLUMNS:
        torch.addmv(out, x, x.new_ones(x.shape[1]), out=out)
    else:
        out.add_(x.sum(1))


def add_products(x: torch.Tensor, vector: torch.Tensor, out: torch.Tensor, *, factor: float = 1) -> None:
    """`out += factor · x @ vector`; a matrix of one column is not worth the matrix product."""
    if x.shape[1] == 1:
        out.addcmul_(x[:, 0], vector, value=factor)
    else:
        torch.addmv(out, x, vector, alpha=factor, out=out)


def add_both_products(Y: torch.Tensor, vectors: torch.Tensor, out: torch.Tensor) -> None:
    """`out += vectors @ Yᵀ`, `[2, rows]`."""
    if Y.shape[1] == 1:
        out.addcmul_(vectors, Y[:, 0])
    else:
        torch.addmm(out, vectors, Y.T, out=out)


def third_and_fourth(
    Y: torch.Tensor, squares: torch.Tensor, S2: torch.Tensor, cubes: torch.Tensor
) -> list[torch.Tensor]:
    """Column sums of Y³ and Y⁴, `[size]` each. Overwrites `squares` and `cubes`.

    Powers are taken of Y over its root mean square, so that none leaves the range of the dtype.
    """
    square = S2.mean() / Y.shape[0]
    square = torch.where(square > 0, square, 1.0)
    squares *= (1 / square).to(Y.dtype)
    S3 = column_sums(torch.mul(Y, squares, out=cubes)) * square
    return [S3, column_sums(squares.mul_(squares)) * square**2]


def central(S: torch.Tensor, n: int) -> torch.Tensor:
    """From S1, S2 and perhaps S3, S4 of n values, sums of powers about a point, to mean − point, M2 and M3, M4."""
    m = S[0] / n
    out = [m, (S[1] - n * m**2).clamp_(min=0)]
    if len(S) > 2:
        out += [
            S[2] - 3 * m * S[1] + 2 * n * m**3,
            (S[3] - 4 * m * S[2] + 6 * m**2 * S[1] - 3 * n * m**4).clamp_(min=0),
        ]
    return torch.stack(out)


def series_moments(table: torch.Tensor, space: Workspace) -> torch.Tensor:
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


def top(v: torch.Tensor, count: int) -> torch.Tensor:
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
