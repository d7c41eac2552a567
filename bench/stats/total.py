"""The total variance of a run, and everything that its intervals need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from bench.stats import bias, series, variance
from bench.stats.bias import ROUNDING, Reference
from bench.stats.quantiles import t_quantile
from bench.stats.series import Array, Moments
from bench.stats.summary import OPEN, Status
from bench.stats.sums import Sums
from bench.stats.tail import Tail, few_values, fit_tail, sure_index
from bench.stats.variance import Interval, Shape


@dataclass(frozen=True)
class Total:
    """The total variance `V` of a run, with what its intervals need.

    `dtype` is the dtype in which the gradients were sampled, and `sums` the sufficient statistics of the run. `shape`
    and `tail` describe the squared distances of the gradients from their mean; V is the mean of these. `status` says
    how far V can be trusted. `trace_square` estimates tr Σ², with Σ the covariance of one gradient. A variance below
    `resolution` may be rounding alone. `deterministic` tells whether the estimator was declared or shown to have no
    noise.
    """

    sums: Sums
    dtype: str
    deterministic: bool
    V: float
    shape: Shape
    tail: Tail
    status: Status
    trace_square: float
    resolution: float

    @classmethod
    def of(cls, sums: Sums, dtype: str, *, deterministic: bool = False, finite_support: bool = False) -> Total:
        """Return the total variance of a run from its sufficient statistics `sums`.

        `dtype` is the dtype of the gradients. `deterministic` says whether the estimator has no noise, and
        `finite_support` whether the samples can take only finitely many values.

        Whether the tail is heavy is decided by the squared distances of the gradients from the exact gradient, if it is
        known. Distances from the mean of a block (a group of gradients) would mislead: one huge gradient makes all
        other gradients of the block look far away.
        """
        V, floor = sums.variance, _resolution(sums.mean, dtype)
        tail = tail_of(sums.w, sums.w_top, sums.w)
        if floor > V or (sums.error_top is not None and few_values(sums.error_top, sums.followed, ROUNDING[dtype])):
            tail = replace(tail, khat=None, upper=None)
        top, n = (sums.w_top, sums.w.n) if sums.error_top is None else (sums.error_top, sums.followed)
        status = status_of(V, tail, sums.replicates, top, n, finite_support=finite_support)
        return cls(sums, dtype, deterministic, V, variance.shape(sums.w), tail, status, _trace_square(sums, V), floor)

    @property
    def R(self) -> int:  # noqa: N802
        """The number of replicates."""
        return self.sums.replicates

    @property
    def rho(self) -> float:
        """ρ = tr Σ²/V², at most 1, with Σ the covariance of one gradient and V its trace."""
        return self.trace_square / self.V**2 if self.V > 0 else 1.0

    @property
    def constant(self) -> bool:
        """Whether the gradients of the run did not vary or, for a deterministic estimator, varied by rounding alone."""
        return self.V == 0 or (self.deterministic and self.resolution > self.V)

    def exactly_known(self, reference: Reference | None) -> bool:
        """Return whether the bias needs no test, because the gradients of the run did not vary.

        `reference` is the measured gradient in place of an unknown exact one, or None. If the estimator is
        deterministic and the reference has noise, the result is False.
        """
        noisy = reference is not None and reference.variance > 0
        return self.constant and not (self.deterministic and noisy)

    @property
    def infinite(self) -> bool:
        """Whether the variance seems to be infinite: its status is INFINITE_VARIANCE_SUSPECTED."""
        return self.status is Status.INFINITE_VARIANCE_SUSPECTED

    @property
    def is_open(self) -> bool:
        """Whether the status says that the variance has no upper limit."""
        return self.status in OPEN

    def interval(self, confidence: float) -> Interval:
        """Return the variance with its lower and upper limit, an interval at the level `confidence`.

        The upper limit is infinite if nothing varied or `is_open` is True.
        """
        interval = variance_interval(self.V, self.shape, self.rho, self.tail, confidence)
        return replace(interval, high=inf) if self.is_open else interval

    def scalar(self) -> Shape | None:
        """Return moments of the gradient's distribution if the gradient is a single number, else None.

        The moments are mean, variance, skewness, kurtosis, and the degrees of freedom of the variance.
        """
        if self.sums.size != 1:
            return None
        first, g = self.sums.shape, self.sums.coordinate
        mean, skewness, kurtosis = (
            float(v[0]) for v in (self.sums.mean, series.skewness(first), series.kurtosis(first))
        )
        nu = variance.degrees_of_freedom(g.n, kurtosis)
        return Shape(n=self.R, mean=mean, variance=self.V, cv2=0.0, skewness=skewness, kurtosis=kurtosis, nu=nu)

    def norm_limits(
        self, delta: Array, T: float, reference: Reference | None, below: float, above: float
    ) -> tuple[float, float]:
        """Return a lower bound of the norm of the bias b at the level `below`, and an upper bound at the level `above`.

        `delta` `[size]` estimates b, and `T` estimates ‖b‖². `reference` is the measured gradient in place of an
        unknown exact one, or None. The bounds do not allow for rounding.
        """
        scalar = self.scalar()
        if scalar is not None and reference is None:
            low, high = bias.scalar_limits(float(delta[0]), scalar, below)
            lower = max(low, -high, 0.0)
            low, high = bias.scalar_limits(float(delta[0]), scalar, above)
            return lower, max(high, -low)
        norm, df = float(np.linalg.norm(delta)), bias.bias_df(self.shape.cv2, self.R)
        A, C = bias.noise_terms(self.trace_square, self.R, reference)
        lower = bias.bias_lower(T, A, C, t_quantile(below, df))
        return lower, bias.bias_upper(norm, T, A, C, t_quantile(above, df))


def variance_interval(V: float, shape: Shape, rho: float, tail: Tail, confidence: float) -> Interval:
    """Return confidence limits for the expectation of non-negative numbers with the sample mean `V`.

    There is one number per replicate. `shape` and `tail` describe the distribution of the numbers. For squared norms of
    centred gradients with covariance Σ, `rho` is tr Σ²/(tr Σ)², or 1 if this is unknown. For other numbers, `rho` is 0.
    The upper limit is infinite if the tail index is at least 1 or V = 0. With at least 1000 replicates, or a tail index
    of at least 1/2, the upper limit is not below the tail's upper bound of the mean.
    """
    if V == 0:
        return Interval(0.0, 0.0, inf, 0.0)
    khat = tail.khat
    used = khat is not None and (shape.n >= variance.SMALL_REPLICATES or khat >= 0.5)
    bound = tail.upper if used else None
    interval = variance.positive_mean_interval(V, shape, rho=rho, confidence=confidence, tail_upper=bound)
    return replace(interval, high=inf) if khat is not None and khat >= 1 else interval


def status_of(V: float, tail: Tail, replicates: int, top: Array, n: int, *, finite_support: bool) -> Status:
    """Return the status of a variance, which says how far the variance can be trusted.

    Args:
        V: the variance, which is the mean of the squared norms of the centred gradients.
        tail: the tail fitted to the squared norms.
        replicates: number of replicates of the run.
        top: the largest values in a series of squared distances. They are distances of gradients from the exact
            gradient, or from the mean of their block (a group of gradients). These values decide whether the tail is
            heavy for certain.
        n: number of distances in the whole series.
        finite_support: whether the samples can take only finitely many values.
    """
    heavy = tail.khat is not None and tail.khat >= variance.HEAVY_TAIL_INDEX
    sure = sure_index(top, n) if heavy and not finite_support else -inf
    return variance.status(V, tail.khat, replicates, sure=sure, finite_support=finite_support)


def whole(sums: Sums, part: Moments, means: Array | None) -> Moments:
    """Return the moments of a series over all replicates of a run.

    A series has one number per replicate, such as the squared error of its gradient. For most series, a long run
    computes these numbers at its first replicates only; at the others, it has only the mean over every block (a group
    of replicates).

    Args:
        sums: the sums of the run; they have the number of replicates in each block.
        part: moments of the numbers that were computed.
        means: mean of the series in each block of the whole run, `[blocks]`. None if `part` covers the whole run; the
            result is then `part`.
    """
    return part if means is None else series.stretch(part, means, sums.block_rows)


def tail_of(part: Moments, top: Array, whole: Moments) -> Tail:
    """Return the tail of a series, fitted to `top`, its largest values.

    A long run computes most series at its first replicates only; of the others, it has the mean over every block (a
    group of replicates). `part` has the moments of the values that were computed, and `top` the largest of these
    values. `whole` has the moments over all replicates, as the function `whole` of this module returns them. The tail's
    upper bound of the mean is multiplied by the mean of `whole` and divided by the mean of `part`.
    """
    tail = fit_tail(top, float(part.mean) * part.n, part.n)
    bound = tail.upper
    return tail if part is whole or bound is None else replace(tail, upper=bound * float(whole.mean / part.mean))


def _trace_square(sums: Sums, V: float) -> float:
    """Return the mean of the estimates of tr Σ², clipped to the possible [V²/min(D, R − 1), V²]; V² without any."""
    if sums.traces.size == 0:
        return V**2
    return variance.clip(float(sums.traces.mean()), V**2 / min(sums.size, sums.replicates - 1), V**2)


def _resolution(mean: Array, dtype: str) -> float:
    """Return the variance below which rounding may be all there is: a standard deviation of ten roundings of the mean.

    It is the larger of two. 100 q², with q² = Σ_j ulp(|ḡ_j|)²/12, is what storing the samples alone gives. 100 ε² ‖ḡ‖²
    is for an f that loses digits before that.
    """
    ulp = np.spacing(np.abs(mean).astype(dtype)).astype(np.float64)
    return 100 * max(float((ulp**2).sum() / 12), float(np.finfo(dtype).eps ** 2 * (mean**2).sum()))
