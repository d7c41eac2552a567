"""The bias of an estimator: a point estimate, an upper bound that holds in every direction, tests and a verdict.

Letters: ḡ is the mean of R gradients of length D, g* the exact gradient and δ = ḡ − g*. b is the bias. Σ is the
covariance of one gradient and V its trace. T = ‖δ‖² − V̂/R is an unbiased estimate of ‖b‖².
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
"""Relative rounding error of a gradient by its dtype. Gradients that differ by less count as equal."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A measured gradient in place of an unknown exact one, from replicates that are independent of the run.

    `mean` `[size]` is the mean of the `replicates` gradients (at least 2). `variance` is the trace of the covariance Σ
    of one gradient, and `trace_square` is the trace of Σ².
    """

    mean: Array
    replicates: int
    variance: float
    trace_square: float

    def __post_init__(self) -> None:
        if self.replicates < 2:
            raise ValueError(f"a reference needs at least 2 replicates (got {self.replicates}).")


@dataclass(frozen=True)
class BiasTests:
    """p-values of three tests of "no bias", and their combination `p_bias`.

    `p_max` is from the most significant coordinate of the gradient. `p_sum` is from an estimate of the squared norm of
    the bias, to which all coordinates add. `p_projection` is from the component along the exact gradient. A p-value is
    None if its test does not apply.
    """

    p_bias: float
    p_max: float
    p_sum: float | None
    p_projection: float | None


def squared_bias(delta_norm: float, variance: float, replicates: int, reference: Reference | None = None) -> float:
    """Return an unbiased estimate of the squared norm of the bias, `delta_norm² − variance/replicates`.

    The estimate may be negative. `delta_norm` is the distance of the mean of `replicates` gradients from the exact
    gradient, and `variance` the total variance of one gradient. If a `reference`, a measured gradient, takes the place
    of the exact one, the reference's own variance/replicates is subtracted too.
    """
    T = delta_norm**2 - variance / replicates
    return T if reference is None else T - reference.variance / reference.replicates


def noise_terms(trace_square: float, replicates: int, reference: Reference | None = None) -> tuple[float, float]:
    """Return A and C of the bound `Var T ≤ A + C ‖b‖²`, for the estimate T of the squared norm of the bias b.

    With R `replicates`, the covariance Σ of one gradient, and the index 0 for the reference (a measured gradient in
    place of the exact one)::

        A = 2 (√trΣ²/√(R(R−1)) + √trΣ₀²/√(R₀(R₀−1)))²
        C = 4 (√trΣ²/R + √trΣ₀²/R₀)

    `trace_square` is trΣ², the trace of Σ², and √trΣ² is its root. If there is no reference, the terms with index 0 are
    0. C uses √trΣ² because no eigenvalue of Σ is larger. In A, the Cauchy–Schwarz inequality bounds the cross term of
    run and reference.
    """
    root, R = sqrt(trace_square), replicates
    a, c = root / sqrt(R * (R - 1)), root / R
    if reference is not None:
        root0, R0 = sqrt(reference.trace_square), reference.replicates
        a, c = a + root0 / sqrt(R0 * (R0 - 1)), c + root0 / R0
    return 2 * a * a, 4 * c


def bias_upper(delta_norm: float, T: float, A: float, C: float, z: float) -> float:
    """Return an upper confidence bound of the norm of the bias b.

    The bound holds for every direction of b and every dimension. It is the smaller of two bounds. The first is `‖δ‖ + z
    √(C/4)`, which holds because ‖δ‖ ≥ δ·b/‖b‖. The second is √max(u, 0), with u the larger root of::

        u − T = z √(A + C u)

    Both come from lower-tail tests of one statistic, so their minimum needs no correction.

    Args:
        delta_norm: ‖δ‖, the distance of the mean gradient from the exact one.
        T: estimate of ‖b‖², with `Var T ≤ A + C ‖b‖²`.
        A: the constant term of this limit of Var T.
        C: the factor of ‖b‖² in this limit.
        z: quantile for the level of the bound.
    """
    u1 = delta_norm + z * sqrt(C / 4)
    u2 = T + z * z * C / 2 + z * sqrt(max(A + C * T + (z * C) ** 2 / 4, 0.0))
    return min(u1, sqrt(max(u2, 0.0)))


def bias_lower(T: float, A: float, C: float, z: float) -> float:
    """Return a lower confidence bound of the norm of the bias b. `z` is the quantile for the level of the bound.

    `T` estimates ‖b‖², with `Var T ≤ A + C ‖b‖²`. The bound is √u, and u solves `T − u = z √(A + C u)`. If there is no
    solution (T ≤ z √A), the bound is 0.
    """
    if z * sqrt(A) >= T:
        return 0.0
    u = T + z * z * C / 2 - z * sqrt(max(A + C * T + (z * C) ** 2 / 4, 0.0))
    return sqrt(max(u, 0.0))


def scalar_limits(delta: float, values: Shape, confidence: float) -> tuple[float, float]:
    """Return the lower and the upper one-sided confidence limit of the bias of a gradient with one coordinate.

    `delta` is the mean gradient minus the exact one, `values` the shape (variance, skewness, kurtosis) of the
    gradients' distribution, and `confidence` the level of each limit. Each limit is the more cautious one of two, from
    Student's t and from Hall's transform, which corrects t for skewness.
    """
    interval = mean_interval(delta, values, confidence=2 * confidence - 1)
    return interval.low, interval.high


def bias_df(cv2: float, replicates: int) -> float:
    """Return the degrees of freedom for the bounds of the bias: clip(2R/max(cv², 1e-9), 1, R − 1), for R replicates.

    `cv2` is variance/mean² of the squared norms of the centred gradients.
    """
    return clip(2 * replicates / max(cv2, 1e-9), 1, replicates - 1)


def mean_test(delta: float, values: Shape) -> float:
    """Return the two-sided p-value of the hypothesis that the mean of a scalar series has a given value.

    `delta` is the sample mean minus the given value, and `values` the shape (variance, skewness, kurtosis) of the
    series. The result is the larger of two p-values. One is from Student's t with `values.nu` degrees of freedom; the
    other is from Hall's transform of t, which corrects t for skewness. The correction is clipped to ±1.5. For a
    constant series the result is 1.
    """
    if values.variance == 0:
        return 1.0
    t = delta / sqrt(values.variance / values.n)
    transformed = hall(t, clip(values.skewness / sqrt(values.n), -1.5, 1.5))
    return min(1.0, 2 * t_upper(min(abs(t), abs(transformed)), values.nu))


def max_test(
    delta: Array, coordinate: Moments, shape: Moments, total_variance: float, reference: Reference | None = None
) -> float:
    """Return the p-value of "no bias" from the most significant of D coordinates, `1 − (1 − min_j p_j)^D` (Šidák).

    For coordinate j with the error δ_j, the sample variance s_j² and R replicates::

        s̃_j² = max(s_j², V̂/D)
        t_j = δ_j/√(s̃_j²/R)

    p_j is the larger of two p-values: one from Student's t for t_j, and one from Hall's transform, which corrects t_j
    for skewness. V̂ is the total variance. s̃_j² is at least V̂/D because a coordinate may have rare jumps that were
    never sampled. Where V̂/D is used, the skewness is not corrected.

    Args:
        delta: δ, the mean gradient minus the exact one, `[D]`.
        coordinate: moments of the coordinates; R and all s_j² come from them.
        shape: third and fourth moments of the coordinates.
        total_variance: V̂.
        reference: the measured gradient in place of an unknown exact one, or None. With R₀ replicates of covariance Σ₀,
            it adds √tr(Σ₀²)/R₀ to s̃_j²/R.
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
    """Return the one-sided p-value of "no bias" from a self-normalised martingale over blocks of gradients.

    Let y_k be the sum, over block k, of the gradients minus the exact one. With sums over the blocks::

        S_k = y_1 + ... + y_k
        q_k = S_{k−1}·y_k
        T = Σ q_k
        Q = Σ q_k²

    If there is no bias, q_k has mean 0 for every covariance. The p-value is P(t > T/√Q) for Student's t with ν =
    `terms` degrees of freedom; ν is the number of blocks minus 1. T/√Q is at most √ν. So no bias, however large, brings
    the p-value below P(t > √ν), and a run should have 32 blocks or more.

    Source: de la Peña (1999), Annals of Probability 27:537.
    """
    return t_upper(T / sqrt(Q), terms) if Q > 0 and terms > 0 else 1.0


def two_sample_sum_test(T: float, A: float) -> float:
    """Return the p-value of "no bias" for a run with a measured reference: P(χ²₁ > max(0, √2 T/√A + 1)).

    The reference takes the place of an unknown exact gradient. T estimates the squared norm of the bias. A bounds the
    variance of T if there is no bias. The p-value is exact if the covariance has rank one; for a higher rank it is too
    large, so the test is cautious.
    """
    return chi2_upper(max(0.0, sqrt(2) * T / sqrt(A) + 1), 1) if A > 0 else 1.0


def combine(p_max: float, p_sum: float | None, p_projection: float | None, size: int) -> BiasTests:
    """Return the three p-values with their combination `p_bias = 3 min(p_max, p_sum, p_projection)`, at most 1.

    A p-value of None is left out of the minimum; the factor is 3 all the same. `size` is the number of coordinates of
    the gradient; if it is 1, p_bias is p_max.
    """
    if size == 1:
        return BiasTests(p_max, p_max, p_sum, p_projection)
    parts = [p for p in (p_max, p_sum, p_projection) if p is not None]
    return BiasTests(min(1.0, 3 * min(parts)), p_max, p_sum, p_projection)


def rounding(variance: float, mean_norm: float, dtype: str, exact_error: float) -> float:
    """Return how far rounding alone may move a mean gradient away from the exact one.

    The distance is `ε √(variance + mean_norm²) + exact_error`, with ε = 1e-6 for float32 and 1e-12 for float64.
    `variance` is the total variance of one gradient, and `mean_norm` the norm of the mean gradient. If the exact
    gradient is an approximation, `exact_error` is the norm of its error, else 0.
    """
    return ROUNDING[dtype] * sqrt(variance + mean_norm**2) + exact_error


def stuck_coordinates(delta: Array, coordinate: Moments, eps: float) -> list[int]:
    """Return the indices of the coordinates that never varied, but are further from the exact gradient than `eps`.

    `delta` `[size]` is the mean gradient minus the exact one. `coordinate` has the moments of all coordinates. `eps` is
    the distance that rounding may cause.
    """
    return [int(j) for j in np.flatnonzero((coordinate.M2 == 0) & (np.abs(delta) > eps))]


def constant_verdict(norm: float, rounding: float, allowed: float) -> BiasVerdict:
    """Return the verdict on a deterministic estimator whose gradient is at distance `norm` from the exact one.

    The verdict is EXACT if `norm` ≤ `rounding`, EXACT_WITHIN_TOL if `norm` + `rounding` ≤ `allowed`, else
    DETERMINISTIC_BIASED. `rounding` is the distance that rounding alone may cause, `allowed` the tolerance times the
    norm of the exact gradient. EXACT_WITHIN_TOL does not count as a bias. The distance may come from rounding inside f:
    if terms of f cancel, the rounding errors of f can exceed `rounding`.
    """
    if norm <= rounding:
        return BiasVerdict.EXACT
    return BiasVerdict.EXACT_WITHIN_TOL if norm + rounding <= allowed else BiasVerdict.DETERMINISTIC_BIASED


def verdict(*, p_bias: float, alpha: float, lower: float, upper: float, allowed: float) -> BiasVerdict:
    """Return the verdict on the bias of an estimator with noise.

    `lower` and `upper` bound the norm of the bias. A bias was found if `p_bias` < `alpha` and `lower` > 0. `allowed` is
    the tolerance times the norm of the exact gradient.

    - BIASED: a bias was found, and `upper` > `allowed`.
    - BIASED_WITHIN_TOL: a bias was found, and `upper` ≤ `allowed`.
    - UNBIASED_WITHIN_TOL: no bias was found, and `upper` ≤ `allowed`.
    - INCONCLUSIVE: no bias was found, and `upper` > `allowed`.

    Only an upper bound shows that a bias is small; a test that does not reject shows nothing (Schuirmann 1987).
    """
    if p_bias < alpha and lower > 0:
        return BiasVerdict.BIASED_WITHIN_TOL if upper <= allowed else BiasVerdict.BIASED
    return BiasVerdict.UNBIASED_WITHIN_TOL if upper <= allowed else BiasVerdict.INCONCLUSIVE


def replicates_needed(upper: float, allowed: float, replicates: int) -> float:
    """Return about how many replicates are needed until the upper bound of the bias falls to `allowed`.

    `upper` is the bound after `replicates` replicates. The result is `replicates (upper/allowed)²`, or infinity if
    `allowed` is 0. The result assumes that there is no bias.
    """
    ratio = upper / allowed if allowed > 0 else inf
    return replicates * (ratio * ratio)
