"""A run compared with the exact gradient or a reference: bias, mean squared error, cosine and alignment."""

from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf, sqrt

import numpy as np

from bench.stats import bias, variance
from bench.stats.bias import BiasTests, Reference
from bench.stats.layout import ZERO_NORM
from bench.stats.series import Array, Moments
from bench.stats.summary import BiasVerdict, finite
from bench.stats.sums import Sums
from bench.stats.total import Total, tail_of, variance_interval, whole

STUCK_LISTED = 32  # stuck coordinates named; their count is always complete
STUCK_ERRORS = 5.0  # standard errors of a reference: a coordinate of it is off by more with probability 6e-7

Fields = dict[str, object]
"""Fields of a `Summary` by name."""

WITHOUT_NOISE = {
    BiasVerdict.BIASED: BiasVerdict.DETERMINISTIC_BIASED,
    BiasVerdict.BIASED_WITHIN_TOL: BiasVerdict.EXACT_WITHIN_TOL,
    BiasVerdict.UNBIASED_WITHIN_TOL: BiasVerdict.EXACT_WITHIN_TOL,
}
"""The verdicts on a deterministic estimator, by the verdicts on an estimator with noise."""


@dataclass(frozen=True, eq=False)
class Target:
    """The gradient `[size]` that a run's mean gradient is compared with: the exact one, or a measured one in its place.

    If the exact gradient is an approximation, `error` bounds the norm of its error. If the exact gradient is unknown,
    the mean of a `reference`, a measured gradient, takes its place; otherwise `reference` is None.
    """

    gradient: Array
    error: float = 0.0
    reference: Reference | None = None

    @cached_property
    def norm(self) -> float:
        """The Euclidean norm of ``gradient``."""
        return float(np.linalg.norm(self.gradient))

    def distance(self, sums: Sums) -> Array:
        """Return a run's mean gradient minus the target's gradient, `[size]`.

        No digits cancel if the target is the point that was subtracted from all gradients of the run, `sums.centre`.
        """
        return sums.coordinate.mean + (sums.centre - self.gradient)


def bias_fields(total: Total, target: Target, *, confidence: float, tolerance: float, significance: float) -> Fields:
    """Return the fields of a run's `Summary` that are about the bias, by name, such as ``{"bias_norm": 0.02, ...}``.

    If the gradients of the run did not vary, the verdict comes without a test. For an estimator that is known to be
    deterministic, the verdict is EXACT, EXACT_WITHIN_TOL or DETERMINISTIC_BIASED; for any other, DEGENERATE. There is a
    test after all if a deterministic estimator is compared with a measured gradient, which has noise. The verdict is
    then EXACT_WITHIN_TOL, DETERMINISTIC_BIASED or INCONCLUSIVE.

    Args:
        total: the run.
        target: the gradient to compare the run with.
        confidence: level of the bounds.
        tolerance: the relative bias that counts as unbiased.
        significance: level of the test that finds a bias.
    """
    sums, V, R, reference = total.sums, total.V, total.R, target.reference
    delta = target.distance(sums)
    norm, allowed = float(np.linalg.norm(delta)), tolerance * target.norm
    eps = bias.rounding(V, float(np.linalg.norm(sums.mean)), total.dtype, target.error)
    noise = 0.0 if reference is None else sqrt(sqrt(reference.trace_square) / reference.replicates)
    stuck = bias.stuck_coordinates(delta, sums.coordinate, eps + STUCK_ERRORS * noise)
    T = bias.squared_bias(norm, V, R, reference)
    out: Fields = {
        "exact_norm": target.norm,
        "bias_norm": norm,
        "bias_squared": T,
        "stuck_coordinates": stuck[:STUCK_LISTED],
        "stuck_count": len(stuck),
    }
    if total.exactly_known(reference):
        word = bias.constant_verdict(norm, eps, allowed) if total.deterministic else BiasVerdict.DEGENERATE
        bound = norm + eps if total.deterministic else None
        relative = bound / target.norm if bound is not None and target.norm > ZERO_NORM else None
        return out | {"p_bias": 1.0, "verdict": word, "bias_bound": bound, "relative_bias_bound": relative}
    tests = _tests(total, delta, T, reference)
    out |= asdict(tests)
    if total.infinite:
        return out | {"verdict": BiasVerdict.UNRELIABLE}
    alpha = 1 - confidence
    lower, upper = total.norm_limits(delta, T, reference, 1 - alpha / 2, 1 - alpha)
    lower, upper = max(lower - eps, 0.0) if tests.p_bias < significance else 0.0, upper + eps
    word = bias.verdict(p_bias=tests.p_bias, alpha=significance, lower=lower, upper=upper, allowed=allowed)
    needed = bias.replicates_needed(upper, allowed, R) if word is BiasVerdict.INCONCLUSIVE else inf
    if total.constant:  # only the reference has noise, and more replicates of the run would not lower it
        word, needed = WITHOUT_NOISE.get(word, word), inf
    return out | {
        "bias_bound": upper,
        "bias_low": lower,
        "relative_bias_bound": upper / target.norm if target.norm > ZERO_NORM else None,
        "bias_per_sd_bound": None if total.constant else upper / sqrt(V),
        "verdict": word,
        "replicates_needed": finite(needed),
    }


def _tests(total: Total, delta: Array, T: float, reference: Reference | None) -> BiasTests:
    sums = total.sums
    p_max = bias.max_test(delta, sums.coordinate, sums.shape, total.V, reference)
    if reference is not None:
        A, _ = bias.noise_terms(total.trace_square, total.R, reference)
        return bias.combine(p_max, bias.two_sample_sum_test(T, A), None, sums.size)
    p_sum = bias.sum_test(sums.martingale_T, sums.martingale_Q, sums.martingale_terms)
    p_projection = None
    if sums.projection is not None:
        projection = whole(sums, sums.projection, sums.block_projection)
        p_projection = bias.mean_test(float(projection.mean), variance.shape(projection))
    return bias.combine(p_max, p_sum if sums.error is not None else None, p_projection, sums.size)


def error_fields(total: Total, target: Target, *, confidence: float) -> Fields:
    """Return the fields of a run's `Summary` about mean squared error, cosine and alignment, by name.

    The cosine is the mean cosine between one gradient and the exact one. The alignment is the cosine between the mean
    gradient and the exact one. If the exact gradient is unknown, a measured gradient takes its place; its noise is then
    subtracted from the mean squared error.

    Args:
        total: the run.
        target: the exact gradient, or the measured one in its place.
        confidence: level of the limits.
    """
    sums = total.sums
    out: Fields = {}
    if sums.error is not None and sums.error_top is not None and not total.infinite:
        out |= _mse(total, sums.error, sums.error_top, target.reference, confidence)
    if sums.cosine is not None:
        shape = variance.shape(sums.cosine)
        interval = variance.mean_interval(shape.mean, shape, confidence=confidence)
        low, high = max(interval.low, -1.0), min(interval.high, 1.0)
        out |= {"cosine": interval.value, "cosine_low": low, "cosine_high": high, "zero_rows": sums.zero_rows}
    signal = float(sums.mean @ sums.mean) - total.V / total.R
    if signal > 0 and target.norm > ZERO_NORM:
        out["alignment"] = float(sums.mean @ target.gradient) / target.norm / sqrt(signal)
    return out


def _mse(total: Total, part: Moments, top: Array, reference: Reference | None, confidence: float) -> Fields:
    error = whole(total.sums, part, total.sums.block_error)
    value, noise = float(error.mean), 0.0 if reference is None else reference.variance / reference.replicates
    if total.constant:
        exactly = total.deterministic and total.exactly_known(reference)
        value = max(value - noise, 0.0)
        return {"mse": value, "mse_low": value if exactly else 0.0, "mse_high": value if exactly else None}
    interval = variance_interval(value, variance.shape(error), 0.0, tail_of(part, top, error), confidence)
    return {
        "mse": max(value - noise, 0.0),
        "mse_low": max(interval.low - noise, 0.0),
        "mse_high": None if total.is_open else finite(interval.high - noise),
    }
