"""The tail fit against the plain sums: every logarithm of every exceedance at every point of the grids."""

from math import floor, fsum, inf, sqrt

import numpy as np
import pytest
from scipy.stats import binom

from bench.stats import tail
from tests.tolerances import FAILURE_RATE

LAWS = {
    "exponential": lambda u: -np.log(u),
    "bounded": lambda u: 1 - u,
    "k = 1/2": lambda u: u**-0.5 - 1,
    "k = 1": lambda u: 1 / u - 1,
    "k = 4": lambda u: u**-4.0 - 1,
    "k = 15": lambda u: u**-15.0 - 1,  # up to 1e50 quartiles
    "two scales": lambda u: np.where(u < 0.7, 1e60 * (1 + u), 1 + u),  # a product of six of them overflows
    "nearly one value": lambda u: 1 + 1e-3 * u,
}


def exceedances(law, n):
    return np.sort(LAWS[law](1 - np.random.default_rng(n).random(n)))


def summed(theta, x):
    return np.array([fsum(np.log1p(-t * x)) / x.size for t in theta])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [1, 5, 16, 17, 31, 1000])
def test_a_logarithm_of_products_is_the_sum_of_the_logarithms(law, n):
    x = exceedances(law, n)
    sizes = np.array([1e-300, 1e-20, 1e-12, 1e-6, 1e-3, 0.1, 0.9])
    near = 1 - np.array([1e-3, 1e-6, 1e-9, 1e-12])  # where 1 − θ x of the largest x is nearly 0
    theta = np.concatenate([sizes, near, -sizes, -np.array([1.0, 30, 1e5])]) / x[-1]
    theta = np.append(theta, -9 / x[floor(n / 4)])  # about the last point of a grid
    np.testing.assert_allclose(tail.mean_log(theta, x), summed(theta, x), rtol=1e-12, atol=0)
    assert tail.mean_log(np.zeros(1), x) == 0


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("n", "times"), [(5, 1), (95, 1), (9487, 1), (1000, 1000)])
def test_interpolated_scales_are_the_summed_ones(law, n, times):
    x = exceedances(law, n)
    profile = tail.Profile(np.repeat(x, times))  # of a million, the fit has the finer grid
    for points in (profile.points, 400):
        grid = 1 / x[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3 * profile.scale)
        some = np.arange(0, points, 1 + points // 200)
        theta, sigma, log_likelihood = (values[some] for values in profile.grid(points))
        np.testing.assert_allclose(theta, grid[some], rtol=0, atol=1e-15 * np.abs(grid).max())
        k = summed(theta, x)
        np.testing.assert_allclose(sigma, -k / theta, rtol=1e-13)
        np.testing.assert_allclose(log_likelihood / (n * times), np.log(-theta / k) - k - 1, rtol=1e-13, atol=1e-13)


def plainly(x, p):
    """Return k, σ and the p-quantile of the mean excess by plain sums."""

    def grid(points):
        quartile = x[floor(x.size / 4 + 0.5) - 1]
        theta = 1 / x[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3 * quartile)
        k = summed(theta, x)
        return theta, k, x.size * (np.log(-theta / k) - k - 1)

    theta, _, log_likelihood = grid(30 + floor(sqrt(x.size)))
    weights = np.exp(log_likelihood - log_likelihood.max())
    mean = (theta * weights).sum() / weights.sum()
    k = summed([mean], x)[0]
    theta, ks, log_likelihood = grid(400)
    log_weights = log_likelihood - 5 * (ks - 0.5) ** 2 / 1.5**2
    weights = np.exp(log_weights - log_weights.max())
    excess = np.array([-a / t / (1 - a) if a < 1 else inf for t, a in zip(theta, ks, strict=True)])
    order = np.argsort(excess)
    share = np.cumsum(weights[order]) / weights.sum()
    return k, -k / mean, excess[order][np.flatnonzero(share >= p)[0]]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [95, 300, 2000])
def test_the_fit_equals_the_fit_by_plain_sums(law, n):
    x = exceedances(law, n)
    profile = tail.Profile(x)
    k, sigma, excess = plainly(x, 0.975)
    assert profile.fit() == pytest.approx((k, sigma), rel=1e-10)
    assert profile.mean_excess_quantile(0.975) == pytest.approx(excess, rel=1e-12)
    assert (excess == inf) == (law in ("k = 1", "k = 4", "k = 15", "two scales"))


def test_where_a_node_falls_on_theta_zero():
    x = exceedances("exponential", 300)
    distance = np.exp(tail._nodes(400))
    scale = x[floor(300 / 4 + 0.5) - 1]
    x[-1] = scale / distance[distance < scale / x[-1]][0]  # 1/x_max is the distance of a node, up to rounding
    profile = tail.Profile(x)
    theta, sigma, _ = profile.grid(400)
    np.testing.assert_allclose(sigma, -summed(theta, x) / theta, rtol=1e-13)


def test_the_sure_index_is_the_lower_limit_of_the_fit():
    top = 1e4 ** (np.arange(1000)[::-1] / 1000)  # so regular that all parts of the tail agree
    fit = tail.fit_tail(top, float(top.sum()), 1000)
    assert fit.k_raw is not None
    alone = (1 + fit.k_raw) / (1 + 1.6448536269514722 / sqrt(fit.exceedances)) - 1
    assert tail.sure_index(top, 1000) <= alone
    parts = [tail.Profile((top[:m] - top[m])[::-1]).fit()[0] for m in (95 // 2, 95 // 4)]
    assert tail.sure_index(top, 1000) == pytest.approx(min(alone, *parts), rel=1e-12)


@pytest.mark.parametrize("replicates", [1024, 4096])
def test_an_index_of_one_is_called_certain_at_the_stated_rate(replicates):
    """A Pareto law of index 1 is at the edge of the hypothesis: at most 5 % of its runs may pass."""
    runs = 400
    rng = np.random.default_rng(0)
    sure = [tail.sure_index(1 / (1 - rng.random(replicates)), replicates) for _ in range(runs)]
    passed = sum(x >= 1 for x in sure)
    assert passed <= binom.isf(FAILURE_RATE, runs, 0.05)
    assert passed > 0


def test_two_lobes_are_no_heavy_tail():
    """Most exceedances lie in a small lobe and some in a far one: one Pareto law through both has a large index."""
    rng = np.random.default_rng(0)
    w = np.concatenate([rng.random(9900), 100 + rng.random(100)])
    fit = tail.fit_tail(w, float(w.sum()), 10_000)
    assert fit.khat > 1
    assert tail.sure_index(w, 10_000) < 0


def test_few_values_are_never_certain():
    assert tail.sure_index(np.repeat([1.0, 2.0, 1e9], 400), 1200) == -inf
