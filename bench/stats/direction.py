"""The bias of an estimator in two parts: the scale of its mean gradient, and the direction.

A wrong scale is harmless to an optimizer that divides by the size of the gradient, such as Adam; a wrong direction is
not. Letters: g is a gradient, g* the exact one, u = g*/‖g*‖, and ḡ the mean of R gradients. The scale is E⟨g, u⟩/‖g*‖,
and h = g − ⟨g, u⟩ u is the part of g that is perpendicular to g*. The direction is right if E h = 0.
"""

from dataclasses import dataclass, replace
from math import atan, atan2, degrees, sqrt

import numpy as np

from bench.stats import bias, variance
from bench.stats.against import Fields, Target
from bench.stats.bias import ROUNDING, Reference
from bench.stats.layout import ZERO_NORM
from bench.stats.quantiles import t_quantile
from bench.stats.series import Array, Moments
from bench.stats.summary import BiasVerdict, Direction
from bench.stats.total import Total, whole
from bench.stats.variance import Interval, Shape

RIGHT = (BiasVerdict.UNBIASED_WITHIN_TOL, BiasVerdict.EXACT, BiasVerdict.EXACT_WITHIN_TOL)
"""Verdicts on the whole bias that include scale and direction."""


def direction_fields(
    total: Total, target: Target, *, right: bool, confidence: float, tolerance: float, significance: float
) -> Fields:
    """Return the fields of a run's `Summary` that are about scale and direction, by name.

    The scale is the component of the mean gradient along the exact one, divided by the exact one's norm. The direction
    is judged by the angle between the two. The result is empty if the exact gradient is 0, or measured with too much
    noise. Fields about the direction are missing if a gradient has one coordinate. If nothing varied, the fields have
    no limits.

    Args:
        total: the run.
        target: the exact gradient, or the measured one in its place.
        right: whether the whole bias was found to be within the tolerance.
        confidence: level of the limits.
        tolerance: the largest error that still counts as right: |scale − 1| for the scale, the tangent of the angle for
            the direction.
        significance: level of each test of scale or direction. It is small, because a report holds many such tests.
    """
    scale = _scale(total, target, confidence)
    if scale is None:
        return {}
    angle = _angle(total, target, scale, confidence, significance)
    out: Fields = {"scale": scale.value, "angle": angle.value, "p_direction": angle.p}
    if total.infinite:
        return out | {"scale_low": scale.low, "scale_high": scale.high}
    if not total.exactly_known(target.reference):
        out |= {f"scale_{end}": getattr(scale, end) for end in ("low", "high")}
        out |= {f"angle_{end}": getattr(angle, end) for end in ("low", "high")}
    elif not total.deterministic:
        return out
    return out | {"direction": Direction.UNBIASED if right else _word(scale, angle, tolerance, significance)}


@dataclass(frozen=True)
class _Scale:
    """The scale with its limits. `shape` belongs to the numbers whose mean it is; `norm` is ‖g*‖.

    `slack` is how far rounding and the error of the exact gradient may move the scale.
    """

    value: float
    low: float
    high: float
    shape: Shape
    norm: float
    slack: float

    def above(self, other: float, significance: float) -> bool:
        """Return whether the scale is above `other` for certain."""
        return self.low - self.slack > other and self._differs(other, significance)

    def below(self, other: float, significance: float) -> bool:
        """Return whether the scale is below `other` for certain."""
        return self.high + self.slack < other and self._differs(other, significance)

    def _differs(self, other: float, significance: float) -> bool:
        return self.low == self.high or bias.mean_test(self.value - other, self.shape) < significance


@dataclass(frozen=True)
class _Angle:
    """The angle between ḡ and g* in degrees, with its limits, and the p-value of "it is 0"; None: there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def _scale(total: Total, target: Target, confidence: float) -> _Scale | None:
    """Return the scale; None if g* is 0, or if a reference is so noisy that its own length is not known.

    If a reference g₀ with R₀ replicates of total variance V₀ takes the place of g*, ‖g*‖² is estimated by ‖g₀‖² −
    V₀/R₀. The noise of g₀ adds at most V₀/R₀ ‖ḡ‖²/‖g*‖⁴ to the variance of the scale.
    """
    sums, reference = total.sums, target.reference
    if sums.projection is None or target.norm <= ZERO_NORM:
        return None
    shape, norm = variance.shape(whole(sums, sums.projection, sums.block_projection)), target.norm
    value = 1 + shape.mean
    if reference is not None:
        noise = reference.variance / reference.replicates
        square = norm**2 - noise
        if square <= noise:
            return None
        longer = norm**2 / square
        value, norm = value * longer, sqrt(square)
        own = noise / square * float(sums.mean @ sums.mean) / square
        shape = replace(shape, variance=shape.variance * longer**2 + own * total.R)
    interval = Interval(value, value, value)
    if not total.exactly_known(reference):
        interval = variance.mean_interval(value, shape, confidence=confidence)
    slack = bias.rounding(total.V, float(np.linalg.norm(sums.mean)), total.dtype, target.error) / norm
    return _Scale(value, interval.low, interval.high, shape, norm, slack)


def _angle(total: Total, target: Target, scale: _Scale, confidence: float, significance: float) -> _Angle:
    """Return the angle; without limits if nothing varied or the variance seems infinite, and empty in one dimension.

    The upper limit is the arctangent of the upper limit of ‖E h‖, over the lower limit of ⟨E g, u⟩; the lower limit is
    found vice versa, and is 0 unless the test rejects. Each of the four limits holds at the level (1 + confidence)/2.
    """
    sums = total.sums
    if sums.size == 1:
        return _Angle()
    u = target.gradient / target.norm
    delta = target.distance(sums)
    h = delta - (delta @ u) * u
    if total.exactly_known(target.reference) or total.infinite or sums.across_M2 is None:
        return _Angle(_degrees(float(np.linalg.norm(h)), scale.value * scale.norm))
    part = _across(total, target.reference, h, sums.across_M2, scale.value)
    eps, z = scale.slack * scale.norm, t_quantile((1 + confidence) / 2, bias.bias_df(total.shape.cv2, total.R))
    upper = bias.bias_upper(float(np.linalg.norm(h)), part.most, part.A, part.C, z) + eps
    lower = max(bias.bias_lower(part.T, part.A, part.C, z) - eps, 0.0) if part.p < significance else 0.0
    return _Angle(
        _degrees(sqrt(max(part.T, 0.0)), scale.value * scale.norm),
        _degrees(lower if scale.high > 0 else upper, scale.high * scale.norm),
        _degrees(upper, scale.low * scale.norm) if scale.low > 0 else 180.0,
        part.p,
    )


def _degrees(across: float, along: float) -> float:
    return degrees(atan2(across, along))


@dataclass(frozen=True)
class _Across:
    """T estimates ‖E h‖², with `Var T ≤ A + C ‖E h‖²`; `most` is at least T; `p` is the p-value of "E h = 0"."""

    T: float
    most: float
    A: float
    C: float
    p: float


def _across(total: Total, reference: Reference | None, h: Array, M2: Array, scale: float) -> _Across:
    """Return the estimate of ‖E h‖² and its test, from the mean `h` and the sums of squared deviations `M2`, `[size]`.

    The test has two parts: the most significant coordinate of h, and the sum over all of them. The skewness of h is not
    known; of the kurtosis, that of g is taken. The component along u, which is 0, would test the rounding alone.

    The noise of a reference g₀ that takes the place of g* has two parts, too. It turns g₀, which seems to turn ḡ, by
    `scale` times as much; its part along g₀ does not, but only its size is known, at most √trΣ₀². T has the variance
    V₀/R₀ of all the noise subtracted, `most` the least possible. The sum test alone allows for it.
    """
    sums, R = total.sums, total.R
    norm, traces = float(np.linalg.norm(h)), sums.across_traces
    V = max(float(M2.sum()) / (R - 1), ROUNDING[total.dtype] * total.V)
    trace = V**2 if traces is None or traces.size == 0 else float(traces.mean())
    trace = variance.clip(trace, V**2 / min(sums.size - 1, R - 1), V**2)
    if reference is not None:
        V0, trace0 = scale**2 * reference.variance, scale**4 * reference.trace_square
        reference = replace(reference, variance=V0, trace_square=trace0)
        least = replace(reference, variance=max(V0 - sqrt(trace0), 0.0))
        A, C = bias.noise_terms(trace, R, reference)
        T, most = (bias.squared_bias(norm, V, R, noise) for noise in (reference, least))
        return _Across(T, most, A, C, bias.two_sample_sum_test(T, A))
    A, C = bias.noise_terms(trace, R)
    T = bias.squared_bias(norm, V, R)
    shape = replace(sums.shape, M3=np.zeros(sums.size))
    p_max = bias.max_test(h, Moments(R, h, M2), shape, V)
    p_sum = bias.sum_test(sums.across_T, sums.across_Q, sums.martingale_terms)
    return _Across(T, T, A, C, min(1.0, 2 * min(p_max, p_sum)))


def _word(scale: _Scale, angle: _Angle, tolerance: float, significance: float) -> Direction:
    """Return the word for scale and direction, whose whole bias was not found to be within the tolerance."""
    if scale.below(0.0, significance):
        return Direction.POINTS_AWAY
    low, high = (angle.value, angle.value) if angle.high is None else (angle.low, angle.high)
    if (high or 0.0) > degrees(atan(tolerance)):
        return Direction.TURNED if low else Direction.UNDECIDED
    if scale.above(1.0, significance) or scale.below(1.0, significance):
        return Direction.SCALED
    within = 1 - tolerance <= scale.low and scale.high <= 1 + tolerance
    return Direction.UNBIASED if within else Direction.UNDECIDED
