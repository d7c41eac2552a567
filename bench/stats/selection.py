"""Selection of the best of many candidates by their loss, with an error rate that covers the selection.

The loss of a candidate is the logarithm of its mean squared error for one unit of work; lower is better. Every
candidate has an interval for its loss. Candidates that lost early have wide intervals from few replicates, and the
statements below allow for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log

from bench.stats.summary import Summary

ERROR_RATE = 0.05
"""Probability that the best candidate is not among the named ones, or is better than the stated limit."""

NEGLIGIBLE = 1e3
"""A variance below this multiple of the rounding of the gradient counts as 0: estimators compute with intermediates."""

AGREES = 1e-3
"""Largest relative distance from the exact gradient at which equal estimates count as free of noise."""


@dataclass(frozen=True)
class Loss:
    """The loss of a candidate, with a lower and an upper limit; the candidate with the lowest loss is the best.

    The loss is ln(B e), where e is the mean squared error that the candidate reaches with a budget of B evaluations.

    The value and both limits are −∞ if there is neither noise nor bias. `high` is ∞ if the variance has no upper limit.
    """

    value: float
    low: float
    high: float

    @property
    def is_open(self) -> bool:
        """Whether the loss has no upper limit."""
        return self.high == inf


def level_of_limits(rounds: int) -> float:
    """Return 1 − 0.05/rounds, the confidence level of each interval in a race that may be wrong with probability 0.05.

    A race measures candidates in `rounds` rounds, and drops the worse ones after each round. Its statement about the
    best candidate can be wrong for two reasons:

    - In some round, the lower limit of the best candidate's loss is above the candidate's true loss.
    - In the last round, the upper limit of the winner's loss is below the winner's true loss.

    Each reason gets half of the 0.05. The first one divides its half among the rounds (Bonferroni). Only the limits of
    the best candidate matter there, so no correction for the number of candidates is needed.
    """
    return 1 - ERROR_RATE / rounds


def loss_of(summary: Summary, work: float, budget: float, *, unbiased: bool, deterministic: bool = False) -> Loss:
    """Return the loss of an estimator: the logarithm of budget times mean squared error, ln(B b² + V c).

    One estimate has the variance V, the cost c and the bias b. A budget of B evaluations pays for B/c estimates, and
    their mean has the mean squared error `b² + V c/B`. Times B, this is `B b² + V c`.

    The loss is ∞, with the limits −∞ and ∞, if all estimates were equal but a different one may still come.

    Args:
        summary: statistics of the estimates.
        work: c, the evaluations of f and df/dx for one estimate.
        budget: B, the evaluations that one gradient may take.
        unbiased: whether the estimator is declared unbiased; b is then 0.
        deterministic: whether the estimator is declared to have no noise.
    """
    V, V_low, V_high = summary.variance, summary.variance_low, summary.variance_high
    if V is None:
        return Loss(inf, _log(V_low * work), inf)
    if unbiased and is_tiny(summary):
        is_free = has_no_noise(summary, deterministic=deterministic)
        return Loss(-inf, -inf, -inf) if is_free else Loss(inf, -inf, inf)
    squares = (0.0, 0.0, 0.0) if unbiased else _squared_bias(summary)
    value, low = (_log(budget * b + v * work) for b, v in zip(squares[:2], (V, V_low), strict=True))
    high = inf if V_high is None else _log(budget * squares[2] + V_high * work)
    return Loss(value, min(low, value), max(high, value))


def is_tiny(summary: Summary) -> bool:
    """Return whether a variance is so small that it may be rounding alone.

    The limit is 1000 times the summary's ``float_floor``, which is the variance that rounding the gradient may cause.
    The factor 1000 is there because estimators round intermediate results too.
    """
    return summary.variance is not None and summary.variance <= NEGLIGIBLE * summary.float_floor


def has_no_noise(summary: Summary, *, deterministic: bool) -> bool:
    """Return whether the estimates of an unbiased estimator count as free of noise.

    The result is False if the estimates differ by more than rounding. Estimates that are equal up to rounding count as
    free of noise in three cases:

    - the estimator is declared to be ``deterministic``;
    - the exact gradient is known and not 0, and the estimates agree with it up to a thousandth of its norm;
    - the exact gradient is unknown, and the estimates are not 0.

    In all other cases, a rare, different estimate may still come, and the result is False.
    """
    if not is_tiny(summary):
        return False
    if deterministic:
        return True
    if summary.exact_norm is None or summary.bias_norm is None:
        return summary.mean_norm > 0
    return summary.exact_norm > 0 and summary.bias_norm <= AGREES * summary.exact_norm


def _squared_bias(summary: Summary) -> tuple[float, float, float]:
    """Return the squared norm of the bias with its limits; (∞, 0, ∞) if there is nothing to compare with."""
    if summary.bias_squared is None or summary.bias_bound is None:
        return inf, 0.0, inf
    return max(summary.bias_squared, 0.0), (summary.bias_low or 0.0) ** 2, summary.bias_bound**2


def _log(x: float) -> float:
    return log(x) if x > 0 else -inf


def combined(losses: Sequence[Loss], offsets: Sequence[float]) -> Loss:
    """Return one loss for a candidate from its losses at several points (sets of parameter values).

    The combined loss is the logarithm of a mean of exp(loss − offset) over the points. exp(offset) is a typical value
    of exp(loss) at a point, so no point counts more because its gradients are larger. The limits are combined in the
    same way. The loss at a single point is returned as it is.

    A mean of the losses themselves would be −∞ for a candidate that has no noise at one of the points, and this
    candidate would win.
    """
    if len(losses) == 1:
        return losses[0]

    def mean(values: Sequence[float]) -> float:
        shifted = [value - offset for value, offset in zip(values, offsets, strict=True)]
        most = max(shifted)
        return most if not isfinite(most) else most + log(sum(exp(x - most) for x in shifted) / len(shifted))

    value, low, high = (mean([getattr(loss, name) for loss in losses]) for name in ("value", "low", "high"))
    return Loss(value, low, high)


def still_possible(losses: Mapping[str, Loss], bar: float) -> list[str]:
    """Return the names of the candidates that may still be the best, in order of their loss, the lowest first.

    A candidate may still be the best if the lower limit of its loss is at most `bar`. `bar` is an upper limit of the
    lowest loss, such as the upper limit of the winner's loss. `losses` has the loss of each candidate by name.
    """
    return sorted((name for name, loss in losses.items() if loss.low <= bar), key=lambda name: losses[name].value)


def least_work(losses: Mapping[str, Loss], winner: str) -> float:
    """Return how much work every rival of the winner needs at least, as a fraction of the winner's work.

    Work is the cost of a given precision. A result of 0.9 says that every other candidate needs at least 0.9 times the
    work of `winner`. The result is at most 1; it is 0 if nothing can be said. `losses` has the loss of each candidate
    by name, with its limits. The result holds at the confidence of these limits.
    """
    others = [loss.low for name, loss in losses.items() if name != winner]
    bar = losses[winner].high
    if bar == -inf or not others:
        return 1.0
    return min(1.0, exp(min(others) - bar)) if bar < inf and min(others) > -inf else 0.0
