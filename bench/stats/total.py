"""The total variance of a run, and everything that its intervals need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from bench.stats import series, variance
from bench.stats.bias import ROUNDING
from bench.stats.series import Array, Moments
from bench.stats.summary import Status
from bench.stats.sums import Sums
from bench.stats.tail import Tail, few_values, fit_tail
from bench.stats.variance import Interval, Shape


@dataclass(frozen=True)
class Total:
    """The total variance V̂ of a run, with everything that its intervals need.

    `shape` and `tail` belong to the squared norms whose mean V̂ is. `trace_square` estimates tr Σ². At a variance below
    `resolution`, rounding may be all there is.
    """

    sums: Sums
    V: float
    shape: Shape
    tail: Tail
    trace_square: float
    resolution: float

    @classmethod
    def of(cls, sums: Sums, dtype: str) -> Total:
        """Return the total variance of a run whose gradients were sampled in `dtype`.

        There is no tail to fit where rounding, or a law of few values, is all there is.
        """
        V, floor = sums.variance, _resolution(sums.mean, dtype)
        tail = tail_of(sums.w, sums.w_top)
        if floor > V or (sums.error_top is not None and few_values(sums.error_top, sums.followed, ROUNDING[dtype])):
            tail = replace(tail, khat=None, upper=None)
        return cls(sums, V, variance.shape(sums.w), tail, _trace_square(sums, V), floor)

    @property
    def R(self) -> int:  # noqa: N802
        """The number of replicates."""
        return self.sums.replicates

    @property
    def rho(self) -> float:
        """ρ = tr Σ²/V², at most 1."""
        return self.trace_square / self.V**2 if self.V > 0 else 1.0

    @property
    def status(self) -> Status:
        """How far the variance can be trusted."""
        return variance.status(self.V, self.tail.khat, self.R)

    @property
    def infinite(self) -> bool:
        """Whether the variance may be infinite."""
        return self.status is Status.INFINITE_VARIANCE_SUSPECTED

    def interval(self, confidence: float) -> Interval:
        """Return limits of the variance, with an infinite upper one where k̂ ≥ 1 or nothing varied."""
        return variance_interval(self.V, self.shape, self.rho, self.tail, confidence)

    def scalar(self) -> Shape | None:
        """Return the shape of the gradient itself where it is one number, else None."""
        if self.sums.size != 1:
            return None
        first, g = self.sums.shape, self.sums.coordinate
        kurtosis = float(series.kurtosis(first)[0])
        return Shape(
            n=self.R,
            mean=float(self.sums.mean[0]),
            variance=self.V,
            cv2=0.0,
            skewness=float(series.skewness(first)[0]),
            kurtosis=kurtosis,
            nu=variance.degrees_of_freedom(g.n, kurtosis),
        )


def variance_interval(V: float, shape: Shape, rho: float, tail: Tail, confidence: float) -> Interval:
    """Return limits for a mean V of positive numbers from their shape and tail.

    The upper limit is infinite where k̂ ≥ 1 or nothing varied. The bound of the tail is used with at least 1000
    replicates, or from a tail index of 1/2 on.
    """
    if V == 0:
        return Interval(0.0, 0.0, inf, 0.0)
    khat = tail.khat
    used = khat is not None and (shape.n >= variance.SMALL_REPLICATES or khat >= 0.5)
    interval = variance.positive_mean_interval(
        V, shape, rho=rho, confidence=confidence, tail_upper=tail.upper if used else None
    )
    return replace(interval, high=inf) if khat is not None and khat >= 1 else interval


def tail_of(values: Moments, top: Array) -> Tail:
    """Fit the tail of a series from its largest values `top`."""
    return fit_tail(top, float(values.mean) * values.n, values.n)


def whole(sums: Sums, part: Moments, means: Array | None) -> Moments:
    """Return a series over all rows, from its tracked rows and the means of all blocks (None: all rows are tracked)."""
    return part if means is None else series.stretch(part, means, sums.block_rows)


def scaled(tail: Tail, part: Moments, whole: Moments) -> Tail:
    """Return the tail of the tracked rows with its bound of their mean scaled to the mean of all rows."""
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
