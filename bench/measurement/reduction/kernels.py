"""Kernels: sums over gradients and over series, on the device that holds them.

The docstrings hold the plain formulas; the code computes them with fewer or faster operations.
"""

from math import ceil, gcd, prod, sqrt

import numpy as np
import torch
from torch import Tensor

from bench.stats.layout import MIN_REMAINDER, SUB_BLOCK
from bench.stats.series import Array

IN_CACHE = 2**19  # numbers of series that fit into the cache, so that several operations find them there
FEW_COLUMNS = 1000  # with fewer columns a matrix product is the fastest sum along the rows
WIDE = 64  # from this many columns on, torch's own sum over rows is fast and accurate
ORDINARY = 1e6  # squares between 1/ORDINARY and ORDINARY may be squared without scaling
SPARSE, SAMPLED = 100, 32  # if fewer than 1 value in SPARSE is wanted, 1 value in SAMPLED gives a threshold first


class Workspace:
    """Buffers that are reused from draw to draw; only one thread may use a workspace at a time.

    A draw is a batch of gradients. Fresh memory for each draw takes more time, by its page faults, than all the
    arithmetic on the draw.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the buffer `name` in this shape, uninitialised, with the dtype and device of `like`.

        Calls with one name share memory: a tensor from an earlier call is overwritten when this one is filled. New
        memory is taken if there is no such buffer, or if it is too small or has another dtype or device.
        """
        buffer, count = self._buffers.get(name), prod(shape)
        if buffer is None or buffer.numel() < count or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = torch.empty(count, dtype=like.dtype, device=like.device)
            self._buffers[name] = buffer
        return buffer[:count].view(shape)


def column_sums(x: Tensor) -> Tensor:
    """Return the sums over the rows of every block of `x` `[blocks, rows, size]`, float64 `[blocks, size]`.

        out[b, j] = Σ_r x[b, r, j]

    Sums are pairwise, in the dtype of `x`. With many columns, the rounding errors of single columns average out,
    because every statistic of a gradient is a sum over columns. With few columns, each is summed in 32 or more parts,
    and the parts are added in float64.
    """
    blocks, rows, size = x.shape
    step = gcd(rows, 32)
    if x.stride(1) == 1:
        return x.permute(2, 0, 1).view(size, blocks, step, rows // step).sum(3).sum(2, dtype=torch.float64).T
    if size >= WIDE:
        return x.sum(1).double()
    folded = x.reshape(blocks, step, rows // step * size).sum(1)
    return folded.view(blocks, rows // step, size).sum(1, dtype=torch.float64)


def centre_blocks(g: Tensor, pivot: Tensor | None, blocks: int, out: Tensor, *, squared: bool) -> Tensor:
    """Write the gradients minus the mean of their block to `out`, and return the mean of every block minus the pivot.

        d = mean(g) − pivot
        out = (g − pivot) − d

    `g` holds the gradients of `blocks` equal blocks. The values in `out` are squared if `squared` is True. `g` and
    `out` are `[blocks · rows, size]`. The pivot, a point near the mean of `g`, is `[size]`, or None for 0. The result d
    is `[blocks, size]`, float64.
    """
    if pivot is not None:
        g = torch.sub(g, pivot, out=out)
    g, out = g.view(blocks, -1, g.shape[1]), out.view(blocks, -1, g.shape[1])
    d = column_sums(g) / g.shape[1]
    mean = d.to(g.dtype).unsqueeze(1)  # its rounding error is negligible beside the spread
    if squared:
        torch.ops.aten.mse_loss.out(g, mean.expand_as(g), 0, out=out)  # (g − mean)² in one pass
    else:
        torch.sub(g, mean, out=out)
    return d


def row_sums(x: Tensor, scale: float, out: Tensor, *, add: bool) -> None:
    """Write `scale · Σ_j x[r, j]` to `out[r]`, or add it to `out[r]` if `add` is True.

    `x` is `[rows, size]`, and `out` is `[rows]`.
    """
    if 1 < x.shape[1] < FEW_COLUMNS:
        torch.addmv(out, x, x.new_full((x.shape[1],), scale), beta=float(add), out=out)
        return
    each = x[:, 0] if x.shape[1] == 1 else x.sum(1)
    torch.add(out, each, alpha=scale, out=out) if add else torch.mul(each, scale, out=out)


def add_products(x: Tensor, vector: Tensor, out: Tensor) -> None:
    """Add `x @ vector` to `out`. `x` is `[rows, size]`, `vector` is `[size]`, and `out` is `[rows]`."""
    if x.shape[1] == 1:  # not worth a matrix product
        out.addcmul_(x[:, 0], vector)
    else:
        torch.addmv(out, x, vector, out=out)


def add_block_products(Y: Tensor, vectors: Tensor, out: Tensor) -> None:
    """Add to `out` the products of each row of `Y` with K vectors. Every block of rows has its own K vectors.

        out[k, b] += Y[b] @ vectors[b, k]

    `Y` is `[blocks, rows, size]`, `vectors` are `[blocks, K, size]`, and `out` is `[K, blocks, rows]`.
    """
    out += torch.bmm(vectors.to(Y.dtype), Y.transpose(1, 2)).transpose(0, 1)


def cross_sums(g: Tensor, pivot: Tensor | None, weights: Tensor) -> Tensor:
    """Return the weighted sums of the rows of every block of `g`, float64 `[blocks, size]`.

        out[b, j] = Σ_r weights[b, r] (g[b, r, j] − pivot[j])

    `g` is `[blocks · rows, size]`, and `weights` are `[blocks, rows]`. The pivot, a point near the mean of `g`, is
    `[size]`, or None for 0. If the weights of a block sum to 0, the pivot changes the rounding alone.
    """
    g = g if pivot is None else g - pivot
    return torch.bmm(weights.unsqueeze(1), g.view(*weights.shape, -1)).squeeze(1).double()


def weighted_sum(series: Tensor, weights: Tensor, out: Tensor) -> None:
    """Write `Σ_k weights[k] · series[k]` to `out` `[blocks, rows]`.

    `series` is `[K, blocks, rows]`, and `weights` is `[K]`.
    """
    torch.mv(series.view(len(series), -1).T, weights, out=out.view(-1))


def divide_by_norms(products: Tensor, squared_norms: Tensor) -> None:
    """Turn products `g·e` of gradients g with a unit vector e into cosines, in place.

        products = products / √squared_norms

    `squared_norms` holds `‖g‖²` and is overwritten. The cosine of a gradient of 0 is 0.
    """
    products.mul_(squared_norms.clamp_(min=torch.finfo(products.dtype).tiny).rsqrt_()).clamp_(-1, 1)


def third_and_fourth(Y: Tensor, squares: Tensor, typical: float, cubes: Tensor) -> list[Tensor]:
    """Return the sums of Y³ and Y⁴ over the rows of every block, each `[blocks, size]`, float64.

        M3 = Σ_r Y[b, r, j]³
        M4 = Σ_r Y[b, r, j]⁴

    If `typical` is far from 1, powers of `Y / √typical` are summed, and the sums are scaled back. So no power leaves
    the range of the dtype.

    Args:
        Y: gradients minus the mean of their block, `[blocks, rows, size]`.
        squares: Y²; overwritten.
        typical: a typical Y².
        cubes: memory of the shape of `Y`; overwritten.
    """
    scale = 1.0 if 1 / ORDINARY < typical < ORDINARY else typical
    if scale != 1:
        squares *= 1 / scale
    M3 = column_sums(torch.mul(Y, squares, out=cubes)) * scale
    return [M3, column_sums(squares.mul_(squares)) * scale**2]


def series_powers(table: Tensor, orders: int, space: Workspace) -> Tensor:
    """Return, for every series and block, a pivot and the power sums about this pivot, `[1 + orders, K, blocks]`.

    The pivot p is a number near the mean of the series, and z a value of the series minus p. Along the first axis, the
    result holds p, Σz, Σz² and, if `orders` is 4, Σz³ and Σz⁴. The sums are over the rows of a block.

    Args:
        table: the K series, `[K, blocks, rows]`; overwritten.
        orders: 2 or 4.
        space: lends the memory.
    """
    k, blocks, rows = table.shape
    parts = [_powers(v, orders, space) for v in torch.split(table.view(-1, rows), max(1, IN_CACHE // rows))]
    return torch.cat(parts, dim=1).view(-1, k, blocks)


def _powers(v: Tensor, orders: int, space: Workspace) -> Tensor:
    """Return the pivot of every row of `v` `[k, rows]` and the sums of powers of `z = v − pivot`: Σz, Σz², Σz³, Σz⁴.

    The pivot is a value of the row itself (the median of its first five), so that a constant row gives zeros. The
    caller ensures that the powers stay in the range of the dtype. `v` is overwritten.
    """
    pivot = v[:, :5].median(dim=1, keepdim=True).values
    v -= pivot
    if orders == 2:
        return torch.stack([pivot[:, 0], v.sum(1), torch.linalg.vector_norm(v, dim=1).square_()])
    z2 = torch.mul(v, v, out=space.take("squared series", tuple(v.shape), v))
    return torch.stack([pivot[:, 0], v.sum(1), z2.sum(1), v.mul_(z2).sum(1), z2.mul_(z2).sum(1)])


def top(v: Tensor, count: int) -> Tensor:
    """Return the `count` largest values of every block in `v` `[blocks, rows]`, joined, in no particular order.

    `v` has one number for each gradient (row), such as its squared distance from the mean of its block. A huge gradient
    shifts this mean, so that all other rows of its block seem far away, and could crowd out the rows of other blocks.
    Therefore the largest values of each block are chosen by themselves.
    """
    if v.is_cuda:
        return torch.topk(v, count).values.flatten()
    values = v.numpy()
    sparse = SPARSE * count < values.shape[1]
    rows = [_above_a_sample(row, count)[None] for row in values] if sparse else [values]
    largest = [np.partition(row, row.shape[1] - count, axis=1)[:, row.shape[1] - count :] for row in rows]
    return torch.from_numpy(np.concatenate(largest, axis=None))


def _above_a_sample(values: Array, count: int) -> Array:
    """Return the largest values, somewhat more than `count`, by a threshold from a sample of the first values.

    If the sample misleads and fewer than `count` values pass the threshold, all values are returned.
    """
    sample, share = values[: values.size // SAMPLED], count / SAMPLED
    rank = ceil(share + 3 * sqrt(share)) + 2
    above = values[values >= np.partition(sample, -rank)[-rank]]
    return above if above.size >= count else values


def gram_matrices(Y: Tensor, wanted: int) -> list[Tensor]:
    """Return the Gram matrices `y yᵀ` of the first `wanted` sub-blocks y of centred gradients `Y` `[rows, size]`.

    A sub-block has 32 consecutive rows. A remainder of 16 or more rows is a sub-block, too.

    Returns:
        A tensor `[sub-blocks, 32, 32]`, float64. If a remainder of n rows is among the sub-blocks, a tensor `[1, n, n]`
        follows in the list.
    """
    rows, size = Y.shape
    whole, left = min(rows // SUB_BLOCK, wanted), rows % SUB_BLOCK
    x = [Y[: whole * SUB_BLOCK].reshape(whole, SUB_BLOCK, size)]
    if left >= MIN_REMAINDER and whole < wanted:
        x.append(Y[rows - left :].unsqueeze(0))
    return [torch.bmm(each, each.transpose(1, 2)).double() for each in x]


def square_trace(G: Tensor) -> Tensor:
    """Return unbiased estimates `[b]` of tr Σ², float64, from `G` `[b, n, n]`, the Gram matrices of b samples.

    Σ is the covariance of a row. A sample has n ≥ 4 rows; a point near their mean was subtracted from all rows. If this
    point is the mean itself, the estimate is::

        (n−1)/(n(n−2)(n−3)) · [(n−1)(n−2) ‖G‖²/(n−1)² + (tr G/(n−1))² − n Σ_i G_ii²/(n−1)]

    Source: Himeno & Yamada (2014), Journal of Multivariate Analysis 130:27.
    """
    n = G.shape[1]
    G = G - G.mean(1, keepdim=True) - G.mean(2, keepdim=True) + G.mean((1, 2), keepdim=True)
    diagonal = G.diagonal(dim1=1, dim2=2)
    square = (G * G).sum((1, 2)) * ((n - 2) / (n - 1))
    bracket = square + (diagonal.sum(1) / (n - 1)) ** 2 - (diagonal**2).sum(1) * (n / (n - 1))
    return bracket * ((n - 1) / (n * (n - 2) * (n - 3)))
