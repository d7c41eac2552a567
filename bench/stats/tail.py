"""The tail of the squared norms: whether the variance exists, and how large its unseen part may be.

The variance is the mean of w = ‖g − μ‖², g being a gradient and μ its mean. It exists if and only if the tail index k
of w is below 1; its estimate has a normal limit only if k < 1/2.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, inf, pi, sqrt

import numpy as np

from bench.stats.layout import tail_length
from bench.stats.quantiles import normal_quantile
from bench.stats.series import Array

PRIOR = 3.0  # spread of Zhang and Stephens' grid
WEAK_K, WEAK_COUNT = 0.5, 10.0  # k̂ is shrunk to 1/2, which has the weight of ten observations
QUANTILE_POINTS = 400
NODES = 56  # with so many, an interpolated ln σ is as exact as a summed one
ANGLES = pi * (np.arange(NODES) + 0.5) / NODES
SMALL_K = 1e-3  # below it, the rounding of 1 − θ x would show in k
RELATIVE_STEP = 1e-9  # two values that are closer, relative to the larger one, are one


@dataclass(frozen=True)
class Tail:
    """Generalised Pareto fit to the `exceedances` largest values of a series, with the next largest as the threshold.

    `k_raw` and `sigma` are the shape and the scale. `khat` is the shape shrunk towards 1/2. `upper` bounds the mean of
    the whole series from above; it is infinite unless the data show that the shape is below 1. A tail is discrete if it
    has too few distinct values for a fit. A discrete tail counts as bounded, and its `khat` and `upper` are None.
    """

    exceedances: int
    k_raw: float | None
    sigma: float | None
    khat: float | None
    upper: float | None

    @property
    def discrete(self) -> bool:
        """Whether there were too few distinct values for a fit."""
        return self.khat is None


def fit_tail(top: Array, total: float, replicates: int) -> Tail:
    """Fit a generalised Pareto law to the largest values of a positive series w with R = `replicates` values.

    `top` are the largest values, and `total` is the sum of all values. Let M = ⌈min(0.2 R, 3 √R)⌉. The threshold u is
    the (M+1)-th largest value; the law is fitted to the excesses w − u of the M largest values. If the M + 1 largest
    values have fewer than max(5, M/2) steps between distinct values, the tail is discrete and is not fitted. The fitted
    shape k is shrunk, while the scale σ is not::

        k̂ = (M k + 5)/(M + 10)

    With m the 97.5 % posterior quantile of the mean excess, the upper bound of the mean of w is::

        [Σ_{w≤u} w + M (u + m)]/R

    Source: Zhang & Stephens (2009), Technometrics 51:316; Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:72.
    """
    M = tail_length(replicates)
    largest = np.sort(np.asarray(top, dtype=np.float64))[::-1][: M + 1]
    if largest.size < M + 1:
        raise ValueError(f"a tail of {replicates} values needs the {M + 1} largest (got {largest.size}).")
    threshold = float(largest[-1])
    x = (largest[:-1] - threshold)[::-1]
    if _steps(largest) < max(5.0, M / 2):
        return Tail(M, None, None, None, None)
    profile = Profile(x)
    k, sigma = profile.fit()
    body = total - float(largest[:-1].sum())
    upper = (body + M * (threshold + profile.mean_excess_quantile(0.975))) / replicates
    return Tail(M, k, sigma, (M * k + WEAK_COUNT * WEAK_K) / (M + WEAK_COUNT), upper)


def sure_index(top: Array, replicates: int, confidence: float = 0.95) -> float:
    """Return a number that the tail index k of a series exceeds with the probability `confidence`.

    `top` are the largest of the R = `replicates` values. A generalised Pareto law is fitted to the M = ⌈min(0.2 R, 3
    √R)⌉ largest. The fitted shape k̂ has the standard error (1 + k)/√M. So the lower confidence limit of k, with the
    normal quantile z, is::

        (1 + k̂)/(1 + z/√M) − 1

    The limit is far too high for some distributions, such as those with several peaks or a tail that becomes lighter
    further out. So the result is the smallest of three numbers: the limit, and the shapes fitted to the largest M/2 and
    M/4 values. The three agree if the tail is a power law. The result is −∞ if the tail has too few distinct values for
    a fit.

    Source: Smith (1987), Annals of Statistics 15:1174, for the standard error.
    """
    M = tail_length(replicates)
    largest = np.sort(np.asarray(top, dtype=np.float64))[::-1][: M + 1]
    shapes = [_shape(largest[: M // part + 1]) for part in (1, 2, 4)]
    limit = (1 + shapes[0]) / (1 + normal_quantile(confidence) / sqrt(M)) - 1
    return min(limit, *shapes[1:])


def _shape(largest: Array) -> float:
    """Return the shape of the exceedances over the last of `largest`, in descending order; −∞ if they are discrete."""
    if _steps(largest) < max(5.0, (largest.size - 1) / 2):
        return -inf
    return Profile((largest[:-1] - largest[-1])[::-1]).fit()[0]


def few_values(top: Array, replicates: int, relative_step: float) -> bool:
    """Return whether the largest values `top` of a series have too few distinct values for a tail fit.

    `replicates` is the number of all values in the series. Values that differ by less than the relative rounding
    `relative_step` count as equal.

    The values must be squared distances from a fixed centre: equal ones then stay equal up to rounding. Distances from
    the mean of a block of gradients would not do, because this mean is noisy. Its noise makes a few distinct values
    look like a very heavy tail.
    """
    M = tail_length(replicates)
    return _steps(np.sort(np.asarray(top, dtype=np.float64))[::-1][: M + 1], relative_step) < max(5.0, M / 2)


def _steps(largest: Array, relative_step: float = RELATIVE_STEP) -> int:
    """Count the distinct steps of a descending series of squares, whose rounding is relative to each value.

    Relative to the largest value, all but a few steps of a very heavy tail would vanish.
    """
    return int(np.count_nonzero(-np.diff(largest) > relative_step * largest[:-1]))


class Profile:
    """Profile likelihood of a generalised Pareto law with shape k and scale σ, as a function of θ = −k/σ.

    The argument `x` `[n]` holds the exceedances in ascending order; the largest must be positive. A positive k means a
    heavy tail. Given θ, the likeliest k is the mean of ln(1 − θ x) over all exceedances x, and the likeliest σ is −k/θ.

    k and σ are computed at 56 values of θ only, Chebyshev's points in s = ln(1/x_max − θ), where x_max is the largest
    exceedance. In between, ln σ is interpolated by a polynomial in s. Each further point lowers the error of the
    polynomial by a factor of 1.7.

    Source: Zhang & Stephens (2009), Technometrics 51:316, for the likelihood and for the values of θ in the method
    `grid`.
    """

    def __init__(self, x: Array) -> None:
        quartile = x[floor(x.size / 4 + 0.5) - 1]
        self.scale = float(quartile if quartile > 0 else x[x > 0][0])
        self.x = x
        self.points = 30 + floor(sqrt(x.size))
        self.widest = max(self.points, QUANTILE_POINTS)
        theta = self._theta(np.exp(_nodes(self.widest)))
        theta = np.where(theta == 0, -1e-16 / x[-1], theta)  # k/θ is continuous at 0, the quotient is not
        self.log_sigma = np.log(-mean_log(theta, x) / theta)

    def _theta(self, distance: Array) -> Array:
        return np.asarray(1 / self.x[-1] - distance / self.scale)

    def grid(self, points: int) -> tuple[Array, Array, Array]:
        """Return the profile likelihood on a grid of θ = −k/σ: the arrays θ, σ and log likelihood, each `[points]`.

        k is the shape and σ the scale of a generalised Pareto law. At each θ of the grid, σ is the likeliest scale. The
        log likelihood of the n exceedances is `−n (ln σ + k + 1)`, with k = −θ σ. The grid is in ascending order.
        `points` is at most the larger of 400 and 30 + ⌊√n⌋.
        """
        theta = self._theta(_distances(points))
        log_sigma = _interpolation(points, self.widest) @ self.log_sigma
        sigma = np.exp(log_sigma)
        return theta, sigma, self.x.size * (theta * sigma - log_sigma - 1)

    def fit(self) -> tuple[float, float]:
        """Return the shape k and the scale σ of the fitted generalised Pareto law.

        Both follow from the posterior mean of −k/σ, which is computed on a grid of 30 + ⌊√n⌋ points, with n the number
        of exceedances.
        """
        theta, _, log_likelihood = self.grid(self.points)
        weights = np.exp(log_likelihood - log_likelihood.max())
        mean = float((theta * weights).sum() / weights.sum())
        k = float(np.log1p(-mean * self.x).mean())
        return k, -k / mean

    def mean_excess_quantile(self, p: float) -> float:
        """Return the posterior p-quantile of the mean excess σ/(1 − k) of the generalised Pareto law.

        The shape k and the scale σ are uncertain. Their posterior, `exp(L − ½·10 (k − ½)²/1.5²)` with the log
        likelihood L, is evaluated on a grid of 400 points. The prior on k is normal, with the mean 1/2 and the weight
        of ten observations. For k ≥ 1 the mean excess is infinite.
        """
        theta, sigma, log_likelihood = self.grid(QUANTILE_POINTS)
        k = -theta * sigma
        log_weights = log_likelihood - 0.5 * WEAK_COUNT * (k - WEAK_K) ** 2 / 1.5**2
        weights = np.exp(log_weights - log_weights.max())
        finite = k < 1
        excess = np.where(finite, sigma / np.where(finite, 1 - k, 1.0), inf)
        order = np.argsort(excess)
        cumulative = np.cumsum(weights[order])
        return float(excess[order][np.searchsorted(cumulative, p * cumulative[-1])])


def mean_log(theta: Array, x: Array) -> Array:
    """Return the mean of ln(1 − θ x) over `x` for every θ, `[points]`, like `np.log1p(-theta[:, None] * x).mean(1)`.

    Every θ in `theta` `[points]` must be below 1/x_max. `x` `[n]` must be ascending and not negative.

    For speed, about √n/4 numbers 1 − θ x at a time are multiplied, and the logarithms of the products are summed. A
    product gets fewer factors if it could overflow. If the mean is so small that rounding 1 − θ x loses the digits of θ
    x, the logarithms are summed one by one.
    """
    span = float(np.abs(np.log(1 - theta * x[-1])).max())  # the largest logarithm: smaller x are closer to 0
    factors = max(1, min(floor(sqrt(x.size) / 4), floor(700 / max(span, 1.0))))
    rows = np.zeros((factors, ceil(x.size / factors)))
    rows.flat[: x.size] = x  # the remaining zeros make factors of one
    product = np.ones((theta.size, rows.shape[1]))
    factor = np.empty_like(product)
    minus = -theta[:, None]
    for row in rows:
        np.multiply(minus, row, out=factor)
        factor += 1
        product *= factor
    k = np.asarray(np.log(product, out=product).sum(axis=1) / x.size)
    for i in np.flatnonzero(np.abs(k) < SMALL_K):
        k[i] = np.log1p(-theta[i] * x).mean()
    return k


@lru_cache(maxsize=8)
def _distances(points: int) -> Array:
    """Return Zhang and Stephens' grid: the distances of θ from 1/x_max, times the first quartile of x."""
    return np.asarray((np.sqrt(points / (np.arange(1, points + 1) - 0.5)) - 1) / PRIOR)


@lru_cache(maxsize=8)
def _nodes(widest: int) -> Array:
    """Return Chebyshev's points of the first kind between the logarithms of the ends of a grid of `widest` points."""
    high, low = np.log(_distances(widest)[[0, -1]])
    return np.asarray((high + low) / 2 + (high - low) / 2 * np.cos(ANGLES))


@lru_cache(maxsize=8)
def _interpolation(points: int, widest: int) -> Array:
    """Return the matrix `[points, NODES]` that interpolates values at `_nodes(widest)` on the grid of `points`.

    Source: Berrut & Trefethen (2004), SIAM Review 46:501, for the second barycentric formula.
    """
    gap = np.log(_distances(points))[:, None] - _nodes(widest)
    weights = np.sin(ANGLES) * (-1.0) ** np.arange(NODES) / gap
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
