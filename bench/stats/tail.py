"""The tail of the squared norms: whether the variance exists, and how large its unseen part may be.

V exists if and only if the tail index k of w = ‖g − μ‖² is below 1; a normal limit for V̂ needs k < 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, inf, sqrt

import numpy as np

from bench.stats.accumulate import tail_length
from bench.stats.series import Array

PRIOR = 3.0  # of Zhang and Stephens' grid
WEAK_K, WEAK_COUNT = 0.5, 10.0  # k̂ is shrunk to 1/2 with the weight of ten observations
QUANTILE_POINTS = 400
GRID_VALUES = 2**17  # logarithms taken at once
RELATIVE_STEP = 1e-9  # two values closer than this part of the larger one are one


@dataclass(frozen=True)
class Tail:
    """Generalised Pareto fit of the `exceedances` largest values over the next one.

    `khat` is None and `upper` None where the tail is discrete: too few distinct values to fit, a bounded law.
    `upper` bounds the mean of the whole series from above, and is infinite where k < 1 cannot be established.
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
    """Fit the tail of a positive series of `replicates` values with sum `total` from its largest values `top`.

    Uses `M = ⌈min(0.2 R, 3 √R)⌉` exceedances over the (M+1)-th largest value. Fewer than max(5, M/2) distinct steps
    make a discrete tail. `k̂ = (M k + 5)/(M + 10)`; σ is that before shrinking k. The upper bound of the mean is
    `[Σ_{w≤u} w + M (u + m)]/R` with m the 97.5 % posterior quantile of the mean excess.

    Source: Zhang & Stephens (2009), Technometrics 51:316; Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:72.
    """
    M = tail_length(replicates)
    largest = np.sort(np.asarray(top, dtype=np.float64))[::-1][: M + 1]
    if largest.size < M + 1:
        raise ValueError(f"a tail of {replicates} values needs the {M + 1} largest of them (got {largest.size}).")
    threshold = float(largest[-1])
    x = (largest[:-1] - threshold)[::-1]
    if _steps(largest) < max(5.0, M / 2):
        return Tail(M, None, None, None, None)
    k, sigma = pareto_fit(x)
    body = total - float(largest[:-1].sum())
    upper = (body + M * (threshold + mean_excess_quantile(x, 0.975))) / replicates
    return Tail(M, k, sigma, (M * k + WEAK_COUNT * WEAK_K) / (M + WEAK_COUNT), upper)


def few_values(top: Array, replicates: int, relative_step: float) -> bool:
    """Return whether the largest values `top` of a series have too few distinct steps for a tail, as in `fit_tail`.

    Squared norms about the mean of their own block hide the values of a discrete law: a few atoms, each smeared by the
    noise of that mean, look like the heaviest of tails. About a fixed centre they are what they are, up to the rounding
    of the samples, `relative_step`.
    """
    M = tail_length(replicates)
    return _steps(np.sort(np.asarray(top, dtype=np.float64))[::-1][: M + 1], relative_step) < max(5.0, M / 2)


def _steps(largest: Array, relative_step: float = RELATIVE_STEP) -> int:
    """Count the distinct steps of a descending series of squares, each as exact as a part of itself.

    A part of the largest one would be more than all but the first few values of a really heavy tail, which would then
    pass for a law of few values.
    """
    return int(np.count_nonzero(-np.diff(largest) > relative_step * largest[:-1]))


def _grid(x: Array, points: int) -> tuple[Array, Array, Array]:
    """Zhang and Stephens' grid of θ `[points]`, its k, and the profile log likelihood `n(ln(−θ/k) − k − 1)`.

    `x` `[n]` are the exceedances in ascending order.
    """
    n = x.size
    quartile = x[floor(n / 4 + 0.5) - 1]
    if quartile <= 0:
        quartile = x[x > 0][0]
    j = np.arange(1, points + 1)
    theta = 1 / x[-1] + (1 - np.sqrt(points / (j - 0.5))) / (PRIOR * quartile)
    theta = np.where(np.abs(theta) * x[-1] < 1e-9, -1e-9 / x[-1], theta)  # k/θ is continuous at 0, the quotient is not
    parts = np.array_split(theta, ceil(points * n / GRID_VALUES))  # all at once, 400 points of a long tail are 40 MB
    k = np.concatenate([np.log1p(-part[:, None] * x).mean(axis=1) for part in parts])
    return theta, k, n * (np.log(-theta / k) - k - 1)


def pareto_fit(x: Array) -> tuple[float, float]:
    """Fit k and σ of a generalised Pareto law, k > 0 for a heavy tail, for ascending exceedances `x` `[n]`.

    Source: Zhang & Stephens (2009), with a grid of 30 + ⌊√n⌋ points.
    """
    theta, _, log_likelihood = _grid(x, 30 + floor(sqrt(x.size)))
    weights = np.exp(log_likelihood - log_likelihood.max())
    mean = float((theta * weights).sum() / weights.sum())
    k = float(np.log1p(-mean * x).mean())
    return k, -k / mean


def mean_excess_quantile(x: Array, p: float) -> float:
    """Posterior p-quantile of the mean excess σ/(1 − k), infinite where that mass has k ≥ 1.

    The posterior is on a grid of 400 points, with a normal prior on k of mean 1/2 and the weight of ten observations:
    `exp(L − ½·10 (k − ½)²/1.5²)`.
    """
    theta, k, log_likelihood = _grid(x, QUANTILE_POINTS)
    log_weights = log_likelihood - 0.5 * WEAK_COUNT * (k - WEAK_K) ** 2 / 1.5**2
    weights = np.exp(log_weights - log_weights.max())
    finite = k < 1
    excess = np.where(finite, -k / theta / np.where(finite, 1 - k, 1.0), inf)
    order = np.argsort(excess)
    cumulative = np.cumsum(weights[order])
    return float(excess[order][np.searchsorted(cumulative, p * cumulative[-1])])
