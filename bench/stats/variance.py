"""Intervals for a mean of positive, skewed numbers: the total variance and the mean squared error.

The total variance is E‖g − μ‖², a mean of iid positive scalars, with g a gradient and μ its mean. Its interval is the
union of Student's on the log scale and Hall's, which fail in different cells. A heavy tail raises the upper limit
(`tail.py`).
"""

from dataclasses import dataclass
from math import cbrt, ceil, exp, floor, inf, log10, sqrt

from bench.stats import series
from bench.stats.quantiles import normal_quantile, t_quantile
from bench.stats.series import Moments
from bench.stats.summary import Status

SMALL_REPLICATES = 1000
HEAVY_TAIL_INDEX = 0.7
"""A variance with this tail index or a larger one has no upper limit."""
TAIL_REPLICATES = 4000
"""With fewer replicates, no tail is called heavy: the tails of finite variances look like those of infinite ones."""
SETTLED = 0.05
"""Relative half-width of an interval that counts as settled."""


@dataclass(frozen=True)
class Shape:
    """Count, mean, variance, skewness and kurtosis of a scalar series, and two numbers that follow from them.

    With n the count, `cv2` is variance/mean², and `nu` is Satterthwaite's degrees of freedom of the variance:
    2n/(kurtosis − 1), but at least 1 and at most n − 1.
    """

    n: int
    mean: float
    variance: float
    cv2: float
    skewness: float
    kurtosis: float
    nu: float


@dataclass(frozen=True)
class Interval:
    """An estimate ``value`` with its limits ``low`` and ``high``, and the standard error ``se_log`` of its logarithm.

    ``high`` is infinite if there is no upper limit.
    """

    value: float
    low: float
    high: float
    se_log: float = 0.0


def degrees_of_freedom(n: float, kurtosis: float) -> float:
    """Return Satterthwaite's degrees of freedom of a sample variance of n values: clip(2n/(kurtosis − 1), 1, n − 1)."""
    most = max(n - 1.0, 1.0)
    return most if kurtosis <= 1 else min(max(2 * n / (kurtosis - 1), 1.0), most)


def shape(values: Moments) -> Shape:
    """Return the shape of a scalar series: mean, variance, skewness, kurtosis, variance/mean² and degrees of freedom.

    A constant series of n values has variance 0, skewness 0, kurtosis 3 and n − 1 degrees of freedom.
    """
    n, mean, variance = values.n, float(values.mean), float(series.variance(values))
    skewness, kurtosis = float(series.skewness(values)), float(series.kurtosis(values))
    cv2 = variance / mean / mean if variance > 0 and mean != 0 else 0.0
    nu = degrees_of_freedom(n, kurtosis) if variance > 0 else max(n - 1.0, 1.0)
    return Shape(n=n, mean=mean, variance=variance, cv2=cv2, skewness=skewness, kurtosis=kurtosis, nu=nu)


def hall(t: float, A: float) -> float:
    """Return a studentised mean t without its skewness: Hall's transform `((1 + A t/3)³ − 1)/A + A/6` of t.

    `A` is skewness/√n of the n values in the mean. If A is about 0, the result is t.

    Source: Hall (1992), Journal of the Royal Statistical Society B 54:221.
    """
    return t if abs(A) < 1e-9 else ((1 + A * t / 3) ** 3 - 1) / A + A / 6


def hall_inverse(q: float, A: float) -> float:
    """Return the t for which Hall's transform is q: `(3/A)(∛(1 + A(q − A/6)) − 1)`, or q if A is about 0.

    Hall's transform `((1 + A t/3)³ − 1)/A + A/6` removes the skewness from a studentised mean t. `A` is skewness/√n of
    the n values in the mean.
    """
    return q if abs(A) < 1e-9 else (3 / A) * (cbrt(1 + A * (q - A / 6)) - 1)


def clip(x: float, low: float, high: float) -> float:
    """Return x, or the nearer of `low` and `high` if x lies outside of [low, high]."""
    return min(max(x, low), high)


def log_standard_error(cv2: float, rho: float, n: int) -> float:
    """Return the standard error of the logarithm of a total variance that was estimated from `n` gradients.

    The standard error is `√(cv²/n + 2ρ/(n(n − 1)))`. `cv2` is cv², the variance/mean² of the squared norms ‖g − μ‖²,
    where g is a gradient and μ the mean gradient. `rho` is ρ = tr Σ²/(tr Σ)², with Σ the covariance of one gradient. If
    all norms ‖g − μ‖ are equal, cv² is 0, and only the second term remains.
    """
    return sqrt(cv2 / n + 2 * rho / (n * (n - 1)))


def positive_mean_interval(
    value: float, values: Shape, *, rho: float, confidence: float, tail_upper: float | None = None
) -> Interval:
    """Return confidence limits for the mean of positive numbers, which `value` estimates.

    `values` is the shape (variance, skewness, kurtosis) of the numbers' distribution. If the numbers are squared norms
    of centred gradients with covariance Σ, `rho` is tr Σ²/(tr Σ)².

    The result is the union of two intervals::

        V̂ exp(∓ t_ν se)
        V̂ (1 − se g⁻¹(±z))

    V̂ is `value`, and se the standard error of ln V̂. t_ν is the quantile of Student's t with ν = ``values.nu`` degrees
    of freedom, and z the quantile of the normal law. g is Hall's transform (`hall`) with A = skewness/√n, clipped to
    [−2, 2], for n numbers. The lower limit is at least 0. The upper limit is at least `tail_upper`, an upper bound from
    the tail, if it is given.
    """
    upper = (1 + confidence) / 2
    se, A = log_standard_error(values.cv2, rho, values.n), clip(values.skewness / sqrt(values.n), -2, 2)
    z, t = normal_quantile(upper), t_quantile(upper, values.nu)
    low = min(value * exp(-t * se), value * (1 - se * hall_inverse(z, A)))
    high = max(value * _exp(t * se), value * (1 - se * hall_inverse(-z, A)), tail_upper or 0.0)
    return Interval(value, max(0.0, low), high, se)


def mean_interval(value: float, values: Shape, *, confidence: float) -> Interval:
    """Return confidence limits for the mean of a scalar series: the union of Student's t interval and Hall's interval.

    `value` is the estimated mean, and `values` the shape (variance, skewness, kurtosis) of the series. Hall's interval
    corrects t for skewness. Values may have any sign.
    """
    upper = (1 + confidence) / 2
    se, A = sqrt(values.variance / values.n), clip(values.skewness / sqrt(values.n), -2, 2)
    z, t = normal_quantile(upper), t_quantile(upper, values.nu)
    low = min(value - t * se, value - se * hall_inverse(z, A))
    return Interval(value, low, max(value + t * se, value - se * hall_inverse(-z, A)))


def _exp(x: float) -> float:
    return exp(x) if x < 700 else inf


def status(
    variance: float, khat: float | None, replicates: int, *, sure: float = -inf, finite_support: bool = False
) -> Status:
    """Return the status of a variance, a word for how far it can be trusted: the first in the list that applies.

    `khat` is the tail index of the squared norms; it is None if their tail has too few distinct values. With 95 %
    confidence, the tail index is above `sure`. `finite_support` says whether the samples can take only finitely many
    values.

    - DEGENERATE: the variance is 0.
    - TAIL_WARNING: the tail index `khat` is at least 0.5, but below 0.7.
    - RARE_LARGE_VALUES: `khat` is at least 0.7, but `finite_support` is True, so the variance is finite.
    - FEW_FOR_TAIL: `khat` is at least 0.7, but not for certain: `replicates` < 4000, or `sure` < 0.7.
    - INFINITE_VARIANCE_SUSPECTED: `sure` is at least 1.
    - HEAVY_TAIL: `sure` is at least 0.7.
    - SMALL_R: `replicates` < 1000, and `khat` is below 0.5 or None.
    - OK: none of the others applies.
    """
    if variance == 0:
        return Status.DEGENERATE
    if khat is None or khat < 0.5:
        return Status.SMALL_R if replicates < SMALL_REPLICATES else Status.OK
    if khat < HEAVY_TAIL_INDEX:
        return Status.TAIL_WARNING
    if finite_support:
        return Status.RARE_LARGE_VALUES
    if replicates < TAIL_REPLICATES or sure < HEAVY_TAIL_INDEX:
        return Status.FEW_FOR_TAIL
    return Status.INFINITE_VARIANCE_SUSPECTED if sure >= 1 else Status.HEAVY_TAIL


def settling_replicates(cv2: float, replicates: int) -> int:
    """Return about how many replicates bring the 95 % interval of a variance to ±5 %, such as 30000.

    `cv2` is cv², the variance/mean² of the squared norms of the centred gradients. If the tail of the squared norms is
    bounded, `cv² (1.96/0.05)²` replicates are enough. The result is at least four times the present `replicates`,
    because the tail fit of a longer run uses a smaller fraction of the values. The result is rounded up to one
    significant digit.
    """
    wanted = max(4 * replicates, cv2 * (normal_quantile(0.975) / SETTLED) ** 2)
    return rounded_up(wanted)


def rounded_up(count: float) -> int:
    """Return a number of replicates rounded up to one significant digit: 2000 for 1234."""
    unit = int(10 ** floor(log10(count)))
    return ceil(count / unit) * unit
