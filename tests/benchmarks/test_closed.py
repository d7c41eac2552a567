"""The yardstick is right: it has the mean and variance of the product and of the installed peers."""

import pytest
import torch

from tests.benchmarks import peers
from tests.benchmarks.product import Product
from tests.benchmarks.workloads import ROWS, Row
from tests.tolerances import z_limit

over_rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


def replicates(row: Row) -> int:
    return {"W1": 200_000, "W5": 1_000, "W6": 256}.get(row.workload, 8_000)


def against(mean, variance, count, other_mean, other_variance, other_count) -> None:
    """Compare two sample means of every coordinate that varies, in standard errors of their difference."""
    standard_error = (variance / count + other_variance / other_count).sqrt()
    differs = standard_error > 0
    assert differs.any()
    z = (mean - other_mean)[differs] / standard_error[differs]
    assert z.abs().max() < z_limit(len(z))


@over_rows
def test_closed_has_the_mean_and_the_variance_of_the_product(row):
    closed, product = row.closed(), Product(row, replicates(row), seed=1)
    mean, variance = closed.measure(replicates(row))
    product_mean, product_variance = product.lean()
    against(mean, variance, closed.replicates(replicates(row)), product_mean, product_variance, product.replicates)
    # The variance is a mean of squares: from several sections it gets a standard error of its own.
    totals = torch.stack([closed.measure(closed.rows, seed)[1].sum() for seed in range(1, 41)])
    summary = Product(row, replicates(row), seed=2).whole()
    error = (totals.var() / len(totals) + (summary.se_log * summary.variance) ** 2).sqrt()
    assert abs(totals.mean() - summary.variance) < z_limit() * error


@over_rows
def test_the_lean_job_has_the_moments_of_the_whole_one(row):
    product = Product(row, min(2_000, replicates(row)))
    _, variance = product.lean()
    assert variance.sum().item() == pytest.approx(product.whole().variance, rel=1e-4)


def test_closed_repeats_itself():
    closed = ROWS[4].closed()
    first, again, other = closed.measure(1_000), closed.measure(1_000), closed.measure(1_000, seed=1)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@over_rows
def test_jax_has_the_same_mean(row):
    pytest.importorskip("jax")
    small = Row(row.workload, row.name, row.estimator, row.objective, row.closed, replicates(row))
    jobs = peers.peers(small)
    if row.workload == "W6":
        assert "JAX" not in jobs
        return
    pivot, first, second = (torch.tensor(part.tolist()).double() for part in jobs["JAX"].run())
    count, rows = jobs["JAX"].estimates, jobs["JAX"].estimates // len(pivot)
    mean = (pivot + first / rows).mean(0)
    variance = (second / rows - (first / rows).square()).mean(0)
    closed = row.closed()
    closed_mean, closed_variance = closed.measure(replicates(row))
    against(mean, variance, count, closed_mean, closed_variance, closed.replicates(replicates(row)))


@pytest.mark.parametrize("name", ["reinmax", "pyro"])
def test_libraries_have_the_same_mean(name):
    pytest.importorskip(name)
    wanted = {"reinmax": ("reinmax", "W4 ReinMax"), "pyro": ("Pyro", "W5 pathwise")}
    job, row_id = wanted[name]
    row = next(row for row in ROWS if row.id == row_id)
    small = Row(row.workload, row.name, row.estimator, row.objective, row.closed, replicates(row))
    torch.manual_seed(0)
    found = peers.peers(small, share=1.0)[job]
    parts = found.run()
    mean, variance = (torch.cat([part[k] for part in parts]) for k in (0, 1))
    closed = row.closed()
    closed_mean, closed_variance = closed.measure(replicates(row))
    against(mean, variance, found.estimates, closed_mean, closed_variance, closed.replicates(replicates(row)))
