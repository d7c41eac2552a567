"""Every kernel against its plain formula."""

import numpy as np
import pytest
import torch

from bench.measurement.reduction import kernels
from bench.measurement.reduction.kernels import Workspace, series_powers, top
from bench.stats.series import from_powers
from tests.measurement.reduction.gradients import draw

SIZES = pytest.mark.parametrize("size", [1, 5, 40, 1200])
same = torch.testing.assert_close


@SIZES
@pytest.mark.parametrize("by_column", [False, True])
def test_sums_over_rows_of_blocks(size, by_column):
    x = draw(3 * 96, size)
    x = (x.T.contiguous().T if by_column else x).view(3, 96, size)
    same(kernels.column_sums(x), x.sum(1))
    same(kernels.third_and_fourth(x, x * x, 1.0, torch.empty_like(x)), [(x**3).sum(1), (x**4).sum(1)])
    tiny = 1e-8 * x
    same(
        kernels.third_and_fourth(tiny, tiny * tiny, 1e-16, torch.empty_like(x))[1], (tiny**4).sum(1), rtol=1e-9, atol=0
    )


@SIZES
@pytest.mark.parametrize("away", [None, 3.0])
def test_blocks_are_centred_on_their_means(size, away):
    g = draw(3 * 96, size)
    pivot, mean = None if away is None else torch.full((size,), away).double(), g.view(3, 96, size).mean(1)
    for squared in (False, True):
        out = torch.empty_like(g)
        d = kernels.centre_blocks(g, pivot, 3, out, squared=squared)
        same(d, mean - (away or 0.0))
        same(out.view(3, 96, size), (g.view(3, 96, size) - mean.unsqueeze(1)) ** (1 + squared))


@SIZES
def test_products_and_sums_of_rows(size):
    x, vectors = draw(3 * 96, size), draw(3 * 2, size, seed=1)
    for add in (False, True):
        out = torch.ones(3 * 96).double()
        kernels.row_sums(x, 0.5, out, add=add)
        same(out, 0.5 * x.sum(1) + add)
    out = torch.ones(3 * 96).double()
    kernels.add_products(x, vectors[0], out)
    same(out, 1 + x @ vectors[0])
    out = torch.ones(2, 3, 96).double()
    kernels.add_block_products(x.view(3, 96, size), vectors.view(3, 2, size), out)
    same(out, 1 + torch.einsum("brj,bkj->kbr", x.view(3, 96, size), vectors.view(3, 2, size)))


def test_sums_and_quotients_of_series():
    series, out = draw(3 * 2, 96).view(3, 2, 96), torch.empty(2, 96).double()
    kernels.weighted_sum(series, torch.tensor([1.0, 2.0, 0.5]).double(), out)
    same(out, series[0] + 2 * series[1] + series[2] / 2)
    g, e = draw(96, 3), torch.tensor([0.6, 0.0, 0.8]).double()
    g[7] = 0
    products = g @ e
    kernels.divide_by_norms(products, g.square().sum(1))
    same(products, torch.nn.functional.cosine_similarity(g, e.expand(96, 3), eps=1e-30))


@pytest.mark.parametrize(("rows", "wanted", "counts"), [(96, 9, [3]), (96, 2, [2]), (80, 9, [2, 1]), (79, 9, [2])])
def test_products_of_the_rows_of_sub_blocks(rows, wanted, counts):
    Y = draw(rows, 4)
    products, starts = Y @ Y.T, range(0, rows, 32)
    found = kernels.gram_matrices(Y, wanted)
    assert [len(G) for G in found] == counts
    for start, G in zip(starts, (G for each in found for G in each), strict=False):
        same(G, products[start : start + 32, start : start + 32])


@pytest.mark.parametrize("rising", [True, False])
@pytest.mark.parametrize("count", [1, 300])
def test_the_largest_values_are_found_whatever_the_order(rising, count):
    """Where the sample that is looked at first is larger than all else, too."""
    v = torch.arange(2.0**16).double()
    found = top((v if rising else v.flip(0)).unsqueeze(0), count)
    assert torch.equal(found.sort(descending=True).values, v.flip(0)[:count])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_series_has_no_spread_at_all(dtype):
    table = torch.full((3, 2, 1000), 0.1, dtype=dtype)
    table[1] = 7e12
    for orders in (2, 4):
        powers = series_powers(table.clone(), orders, Workspace()).double().numpy()
        mean, *others = from_powers(1000, powers)
        assert mean.tolist() == table[:, :, 0].double().tolist()
        assert len(others) == orders - 1
        assert not np.any(others)
