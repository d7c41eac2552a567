"""Selection of the best of many candidates by their loss, with an error rate that covers the selection.

The loss of a candidate is the logarithm of its mean squared error for one unit of work; lower is better. Every
candidate has an interval for its loss. Candidates that lost early have wide intervals from few replicates, and the
statements below allow for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, sqrt

from bench.stats.summary import Summary

ERROR_RATE = 0.05
"""Probability that the best candidate is not among the named ones, or is better than the stated limit."""

NEGLIGIBLE = 1e3
"""A variance below this multiple of the rounding of the gradient counts as 0: estimators compute with intermediates."""


@dataclass(frozen=True)
class Loss:
    """The loss of a candidate, with its lower and upper limit: the logarithm of budget times mean squared error.

    All three numbers are −∞ if there is neither noise nor bias. `high` is ∞ if the variance has no upper limit.
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

    A race measures candidates in `rounds` rounds and drops the worse ones after each round. Its statement about the
    best candidate can be wrong in two events. In the first, the lower limit of the best candidate's loss is above its
    true loss in some round. In the second, the upper limit of the winner's loss in the last round is below its true
    loss. Each event gets half of the 0.05. The first event divides its half among the rounds (Bonferroni). It concerns
    one candidate only, so the number of candidates does not matter.
    """
    return 1 - ERROR_RATE / rounds


def loss_of(summary: Summary, work: float, budget: float, *, unbiased: bool) -> Loss:
    """Return the loss of an estimator: the logarithm of budget times mean squared error, ln(B b² + V c).

    A budget of B evaluations pays for B/c estimates. Their mean has the mean squared error `b² + V c/B`, with the
    variance V, the cost c and the bias b of one estimate. Times B, this is `B b² + V c`.

    Args:
        summary: statistics of the estimates.
        work: c, the evaluations of f and df/dx for one estimate.
        budget: B, the evaluations that one gradient may take.
        unbiased: whether the estimator is declared unbiased; b is then 0.
    """
    V, V_low, V_high = summary.variance, summary.variance_low, summary.variance_high
    if V is None:
        return Loss(inf, _log(V_low * work), inf)
    if is_negligible(summary):
        V_low = V = V_high = 0.0
    squares = (0.0, 0.0, 0.0) if unbiased else _squared_bias(summary)
    value, low = (_log(budget * b + v * work) for b, v in zip(squares[:2], (V, V_low), strict=True))
    high = inf if V_high is None else _log(budget * squares[2] + V_high * work)
    return Loss(value, min(low, value), max(high, value))


def is_negligible(summary: Summary) -> bool:
    """Return whether a variance is so small that it may be rounding alone; it then counts as 0.

    The limit is 1000 times the summary's ``float_floor``, the variance that rounding the gradient may cause, because
    estimators round intermediate results too.
    """
    return summary.variance is not None and summary.variance <= NEGLIGIBLE * summary.float_floor


def _squared_bias(summary: Summary) -> tuple[float, float, float]:
    """Return the squared norm of the bias with its limits; (∞, 0, ∞) if there is nothing to compare with."""
    if summary.bias_squared is None or summary.bias_bound is None:
        return inf, 0.0, inf
    return max(summary.bias_squared, 0.0), (summary.bias_low or 0.0) ** 2, summary.bias_bound**2


def _log(x: float) -> float:
    return log(x) if x > 0 else -inf


def averaged(losses: Sequence[Loss]) -> Loss:
    """Return the mean of one candidate's losses at several points (sets of parameter values), with its limits.

    The intervals at the points are independent. So the half-width of the mean's interval is the root of the sum of the
    squared half-widths, divided by the number of points.
    """
    count = len(losses)
    if count == 1:
        return losses[0]
    value = sum(loss.value for loss in losses) / count
    if not isfinite(value):
        return Loss(value, value if value == -inf else min(loss.low for loss in losses), value)
    below = sqrt(sum((loss.value - loss.low) ** 2 for loss in losses)) / count
    above = sqrt(sum((loss.high - loss.value) ** 2 for loss in losses)) / count
    return Loss(value, value - below, value + above)


def still_possible(losses: Mapping[str, Loss], bar: float) -> list[str]:
    """Return the names of the candidates that may still be the best, in order of their loss, the lowest first.

    These are the candidates whose lower limit is at most `bar`, an upper limit of the loss of the best candidate. The
    upper limit of the winner's loss is such a number.
    """
    return sorted((name for name, loss in losses.items() if loss.low <= bar), key=lambda name: losses[name].value)


def least_work(losses: Mapping[str, Loss], winner: str) -> float:
    """Return a lower limit of the work that any candidate but the winner needs, divided by the winner's work.

    Works are compared for equal precision: 0.9 means that every other candidate needs at least 0.9 times the work of
    `winner`. The limit is at most 1; it is 0 if nothing can be said. It holds with the confidence of the losses'
    intervals.
    """
    others = [loss.low for name, loss in losses.items() if name != winner]
    bar = losses[winner].high
    if bar == -inf or not others:
        return 1.0
    return min(1.0, exp(min(others) - bar)) if bar < inf and min(others) > -inf else 0.0
