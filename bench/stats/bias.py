"""The bias of an estimator: a point estimate, an upper bound that holds in every direction, tests and a verdict.

Letters: δ is ḡ − g*, D the size of the gradient, and T = ‖δ‖² − V̂/R an unbiased estimate of the squared bias ‖b‖².
"""

from dataclasses import dataclass
from math import expm1, inf, log1p, sqrt

import numpy as np

from bench.stats import series
from bench.stats.quantiles import chi2_upper, t_upper
from bench.stats.series import Array, Moments
from bench.stats.summary import BiasVerdict
from bench.stats.variance import Shape, clip, hall, mean_interval

ROUNDING = {"float32": 1e-6, "float64": 1e-12}
"""Relative rounding error of a gradient by its dtype: two values that are closer count as one."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A Monte Carlo reference gradient from R₀ replicates independent of the run: ḡ₀ `[size]`, V₀ and tr Σ₀²."""

    mean: Array
    replicates: int
    variance: float
    trace_square: float

    def __post_init__(self) -> None:
        if self.replicates < 2:
            raise ValueError(f"a reference needs at least 2 replicates (got {self.replicates}).")


@dataclass(frozen=True)
class BiasTests:
    """p-values of the hypothesis of no bias. `p_bias` combines the others; a part that does not apply is None."""

    p_bias: float
    p_max: float
    p_sum: float | None
    p_projection: float | None


def squared_bias(delta_norm: float, variance: float, replicates: int, reference: Reference | None = None) -> float:
    """Return T = ‖δ‖² − V̂/R, less V₀/R₀ for a Monte Carlo reference: unbiased for ‖b‖², and at times negative."""
    T = delta_norm**2 - variance / replicates
    return T if reference is None else T - reference.variance / reference.replicates


def noise_terms(trace_square: float, replicates: int, reference: Reference | None = None) -> tuple[float, float]:
    """Return A and C of `Var T ≤ A + C ‖b‖²`.

    `A = 2(√trΣ²/√(R(R−1)) + √trΣ₀²/√(R₀(R₀−1)))²` and `C = 4(λ/R + λ₀/R₀)`. λ = √trΣ² is at least the largest
    eigenvalue of Σ. The Cauchy–Schwarz inequality bounds the cross term of two samples.
    """
    root, R = sqrt(trace_square), replicates
    a, c = root / sqrt(R * (R - 1)), root / R
    if reference is not None:
        root0, R0 = sqrt(reference.trace_square), reference.replicates
        a, c = a + root0 / sqrt(R0 * (R0 - 1)), c + root0 / R0
    return 2 * a * a, 4 * c


def bias_upper(delta_norm: float, T: float, A: float, C: float, z: float) -> float:
    """Return an upper bound of ‖b‖ at the level of the quantile z, for every direction of b and any D relative to R.

    `min(u1, √max(u2, 0))`, with `u1 = ‖δ‖ + z √(C/4)` from ‖δ‖ ≥ δ·b/‖b‖, and u2 the larger root of u in
    `u − T = z √(A + C u)`. Both are lower-tail tests of one statistic, so their minimum needs no correction.
    """
    u1 = delta_norm + z * sqrt(C / 4)
    u2 = T + z * z * C / 2 + z * sqrt(max(A + C * T + (z * C) ** 2 / 4, 0.0))
    return min(u1, sqrt(max(u2, 0.0)))


def bias_lower(T: float, A: float, C: float, z: float) -> float:
    """Return a lower bound of ‖b‖: √u with T − u = z √(A + C u), or 0 where T ≤ z √A, which leaves no solution."""
    if z * sqrt(A) >= T:
        return 0.0
    u = T + z * z * C / 2 - z * sqrt(max(A + C * T + (z * C) ** 2 / 4, 0.0))
    return sqrt(max(u, 0.0))


def scalar_limits(delta: float, values: Shape, confidence: float) -> tuple[float, float]:
    """Return one-sided limits of a scalar bias, each at `confidence`: the wider of the t_ν and Hall limits."""
    interval = mean_interval(delta, values, confidence=2 * confidence - 1)
    return interval.low, interval.high


def bias_df(cv2: float, replicates: int) -> float:
    """Return the degrees of freedom of the quantile in the bounds: clip(2R/max(cv², 1e-9), 1, R − 1)."""
    return clip(2 * replicates / max(cv2, 1e-9), 1, replicates - 1)


def mean_test(delta: float, values: Shape) -> float:
    """Return the two-sided p-value for the mean of a scalar series, which is `delta` away from its hypothesis.

    It is the larger of two: for Student's t with ν degrees of freedom, and for Hall's transform of t, with the skewness
    correction clipped to ±1.5. A constant series allows no test: 1.
    """
    if values.variance == 0:
        return 1.0
    t = delta / sqrt(values.variance / values.n)
    transformed = hall(t, clip(values.skewness / sqrt(values.n), -1.5, 1.5))
    return min(1.0, 2 * t_upper(min(abs(t), abs(transformed)), values.nu))


def max_test(
    delta: Array, coordinate: Moments, shape: Moments, total_variance: float, reference: Reference | None = None
) -> float:
    """Return the p-value of the largest studentised coordinate, Šidák-corrected: 1 − (1 − min_j p_j)^D.

    p_j tests `t_j = δ_j/√(s̃_j²/R)` like `mean_test`, with the pooled floor `s̃_j² = max(s_j², V̂/D)`, for a coordinate
    whose rare jump was never sampled. Where the floor is active, the skewness is not corrected. A reference adds
    √trΣ₀²/R₀ to s̃_j²/R. `shape` has the third and fourth moments.
    """
    R, D = coordinate.n, delta.size
    floor = total_variance / D
    s2 = coordinate.M2 / (R - 1)
    squared_error = np.maximum(s2, floor) / R
    if reference is not None:
        squared_error = squared_error + sqrt(reference.trace_square) / reference.replicates
    if not np.all(squared_error > 0):
        return 1.0
    t = np.abs(delta) / np.sqrt(squared_error)
    floored = s2 < floor * (1 - 1e-12)
    A = np.where(floored, 0.0, np.clip(np.sign(delta) * series.skewness(shape) / sqrt(R), -1.5, 1.5))
    smallest = _smallest_p(np.minimum(t, np.abs(_hall(t, A))), series.kurtosis(shape), R)
    return -expm1(D * log1p(-smallest)) if smallest < 1 else 1.0


def _hall(t: Array, A: Array) -> Array:
    a = np.where(np.abs(A) < 1e-9, 1.0, A)
    return np.where(np.abs(A) < 1e-9, t, ((1 + a * t / 3) ** 3 - 1) / a + a / 6)


def _smallest_p(t: Array, kurtosis: Array, R: int) -> float:
    from scipy.special import stdtr

    excess = np.maximum(kurtosis - 1, 2 / R)
    return float(min(1.0, 2 * np.min(stdtr(np.clip(2 * R / excess, 1, max(R - 1, 1)), -t))))


def sum_test(T: float, Q: float, terms: int) -> float:
    """Return the one-sided p-value of the self-normalised martingale over blocks: `T_ν sf(T/√Q)`, ν being `terms`.

    Let y_k be the sum of g_r − g* over block k, S_k = y_1 + ... + y_k and q_k = S_{k−1}·y_k. T is the sum of q_k, and Q
    of q_k². Without bias E q = 0 for every Σ. Use 32 blocks or more: B blocks give p ≥ T_{B−1} sf(√(B−1)).

    Source: de la Peña (1999), Annals of Probability 27:537.
    """
    return t_upper(T / sqrt(Q), terms) if Q > 0 and terms > 0 else 1.0


def two_sample_sum_test(T: float, A: float) -> float:
    """Return the p-value of T against a reference: `χ²₁ sf(max(0, √2 T/√A + 1))`, exact at rank one, else too large."""
    return chi2_upper(max(0.0, sqrt(2) * T / sqrt(A) + 1), 1) if A > 0 else 1.0


def combine(p_max: float, p_sum: float | None, p_projection: float | None, size: int) -> BiasTests:
    """Return the tests with `p_bias = 3 min(p_max, p_sum, p_projection)`, at most 1; for D = 1 it is p_max alone."""
    if size == 1:
        return BiasTests(p_max, p_max, p_sum, p_projection)
    parts = [p for p in (p_max, p_sum, p_projection) if p is not None]
    return BiasTests(min(1.0, 3 * min(parts)), p_max, p_sum, p_projection)


def rounding(variance: float, mean_norm: float, dtype: str, exact_error: float) -> float:
    """Return how far rounding may move equal gradients apart: `1e-6 √(V̂ + ‖ḡ‖²)` (float64: 1e-12) + g*'s error."""
    return ROUNDING[dtype] * sqrt(variance + mean_norm**2) + exact_error


def stuck_coordinates(delta: Array, coordinate: Moments, eps: float) -> list[int]:
    """Return the coordinates that never varied and are off by more than rounding: M2_j = 0 and |δ_j| > ε."""
    return [int(j) for j in np.flatnonzero((coordinate.M2 == 0) & (np.abs(delta) > eps))]


def constant_verdict(norm: float, rounding: float, allowed: float) -> BiasVerdict:
    """Return the verdict on a deterministic estimator at distance ``norm`` from the exact gradient.

    Where f cancels, its rounding is larger than the gradient's. So a distance within the tolerance is no bias.
    """
    if norm <= rounding:
        return BiasVerdict.EXACT
    return BiasVerdict.EXACT_WITHIN_TOL if norm + rounding <= allowed else BiasVerdict.DETERMINISTIC_BIASED


def verdict(*, p_bias: float, alpha: float, lower: float, upper: float, allowed: float) -> BiasVerdict:
    """Return the verdict on an estimator with noise: BIASED or UNBIASED (each perhaps WITHIN_TOL), or INCONCLUSIVE.

    `allowed` is the tolerance times ‖g*‖. Only an upper bound shows that a bias is small; a test that does not reject
    shows nothing (Schuirmann 1987).
    """
    if p_bias < alpha and lower > 0:
        return BiasVerdict.BIASED_WITHIN_TOL if upper <= allowed else BiasVerdict.BIASED
    return BiasVerdict.UNBIASED_WITHIN_TOL if upper <= allowed else BiasVerdict.INCONCLUSIVE


def replicates_needed(upper: float, allowed: float, replicates: int) -> float:
    """Return about how many replicates bring the bound U down to `allowed` without a bias: R (U/allowed)²."""
    ratio = upper / allowed if allowed > 0 else inf
    return replicates * (ratio * ratio)
