"""From the end of a race to advice: the recommended estimator, how sure that is, and when another one wins."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from bench.advice.arms import Arm
from bench.advice.budget import Budget
from bench.advice.candidates import counts, variant
from bench.advice.course import Outcome
from bench.advice.paste import Loop, learning, lines_for
from bench.advice.result import Advice, Entry, Limits
from bench.measurement.timing import measure_timing
from bench.planning.cells import Cell
from bench.planning.selectors import full_label
from bench.records.lines import Record
from bench.stats.comparison import work_normalised
from bench.stats.selection import Loss, least_work, still_possible

TIMED = 4
"""Most candidates that are timed."""


def found(outcome: Outcome, *, timing: bool, named_only: bool = False) -> Advice:
    """Return the advice that follows from the outcome of a race between candidates.

    If ``timing`` is True, the seconds of the winner and of up to three of its rivals are measured first. ``named_only``
    says whether the user named the candidates; the advice then says that all others were not tried.
    """
    race, winner, prepared = outcome.race, outcome.winner, outcome.prepared
    losses = {arm.label: race.loss(arm) for arm in (winner, *outcome.rivals)}
    named = [winner.label, *(n for n in still_possible(losses, losses[winner.label].high) if n != winner.label)]
    runner_up = next((arm for arm in outcome.rivals if arm.name != winner.name), None)
    biased = next(iter(race.ranked(race.biased)), None)
    leaders = [arm for arm in (winner, runner_up, *outcome.rivals) if arm is not None]
    clocks = _timed(list(dict.fromkeys(leaders)), race.budget) if timing else {}
    noisy = any(clock["noisy"] for clock in clocks.values())
    objective, q = outcome.points[0].objective, winner.engines[0].q

    def entry(arm: Arm) -> Entry:
        first, is_free = arm.looks[0].summary, race.loss(arm).value == -math.inf
        relative = None
        if not arm.estimator.unbiased and first.bias_squared is not None and first.exact_norm:
            relative = math.sqrt(max(first.bias_squared, 0.0)) / first.exact_norm
        return Entry(
            arm.label,
            (0.0, 0.0, 0.0) if is_free else (first.variance, first.variance_low, first.variance_high),
            arm.f_evals,
            arm.grad_evals,
            _relative(race.loss(arm), losses[winner.label]),
            None if noisy or arm.label not in clocks else _by_the_clock(arm, winner, clocks),
            arm.adapt_steps,
            arm.learns,
            relative,
        )

    return Advice(
        objectives=[full_label(point.objective) for point in outcome.points],
        family=objective.family.__name__,
        per_gradient=race.per_gradient,
        best=entry(winner),
        candidates=len(losses),
        possible=named,
        least=least_work(losses, winner.label),
        by_n={
            arm.label: _ratio(losses[arm.label].value, losses[winner.label].value)
            for arm in outcome.rivals
            if variant(arm.estimator) == variant(winner.estimator)
        },
        runner_up=None if runner_up is None else entry(runner_up),
        smaller=_smaller(outcome),
        noisier=noisier(outcome),
        biased=None if biased is None else entry(biased),
        biased_below=0.0 if biased is None else min(crossing(outcome, biased, at) for at in range(len(winner.looks))),
        exact=prepared.exact,
        refuted=[arm.label for arm in race.refuted],
        untried=_by_reason(outcome),
        failed=race.failed,
        points=_by_point(outcome),
        hurried=prepared.hurried,
        named=named_only,
        noisy=noisy,
        spent=race.budget.spent,
        elapsed=race.budget.elapsed,
        code=lines_for(winner.estimator, Loop.of(objective), learns=learning(winner.estimator, q)),
    )


def _ratio(loss: float, other: float) -> float:
    """Return exp(loss − other); 1 if both are free of noise, 0 or infinity if one is."""
    return 1.0 if loss == other else math.exp(min(loss - other, 700.0))


def _relative(loss: Loss, best: Loss) -> Limits:
    """Return the work of a candidate in units of the best one's; the half-widths of both add in quadrature."""
    if loss is best:
        return 1.0, 1.0, 1.0
    value = _ratio(loss.value, best.value)
    if not (math.isfinite(loss.value) and math.isfinite(best.value)):
        return value, None, None
    below = math.hypot(loss.value - loss.low, best.high - best.value)
    above = math.hypot(loss.high - loss.value, best.value - best.low)
    return value, value * math.exp(-below), value * math.exp(above) if above < math.inf else None


def _timed(arms: Sequence[Arm], budget: Budget) -> dict[str, Record]:
    """Return the timing records of candidates at the first point, by label.

    The first two are timed in any case, further ones only if the budget has seconds left.
    """
    clocks: dict[str, Record] = {}
    for arm in arms[:TIMED]:
        if len(clocks) < 2 or budget.elapsed < budget.seconds:
            clocks[arm.label] = measure_timing(Cell(arm.estimator, arm.points[0].objective), arm.engines[0].settings)
    return clocks


def _by_the_clock(arm: Arm, winner: Arm, clocks: dict[str, Record]) -> Limits:
    """Return the seconds that a candidate needs for the precision that the winner reaches in one second."""

    def product(each: Arm) -> tuple[float, float, float | None] | None:
        summary, clock = each.looks[0].summary, clocks[each.label]
        if not summary.variance:
            return None
        variance = (summary.variance, summary.variance_low, summary.variance_high)
        return work_normalised(variance, (clock["seconds"], clock["seconds_low"], clock["seconds_high"]))

    mine, best = product(arm), product(winner)
    if arm is winner:
        return 1.0, 1.0, 1.0
    if mine is None or best is None:
        return None, None, None
    (a, a_low, a_high), (b, b_low, b_high) = mine, best
    value = a / b
    low = None if b_high is None else value * math.exp(-math.hypot(math.log(a / a_low), math.log(b_high / b)))
    high = None if a_high is None else value * math.exp(math.hypot(math.log(a_high / a), math.log(b / b_low)))
    return value, low, high


def _smaller(outcome: Outcome) -> dict[int, str]:
    """Return the best candidate for smaller numbers of evaluations per gradient, each candidate at its largest one."""
    unbiased, best = [outcome.winner, *outcome.rivals], dict[int, str]()
    for most in reversed(counts(outcome.race.per_gradient - 1)):
        cheap = outcome.race.winner([arm for arm in unbiased if arm.evaluations <= most])
        if cheap and most < outcome.winner.evaluations and cheap.label not in best.values():
            best[most] = cheap.label
    return best


def noisier(outcome: Outcome) -> tuple[str, float, float | None] | None:
    """Return a cheaper candidate that beats the winner if training has much other noise, such as that of minibatches.

    Let the gradient of the winner have cost c and variance V, and let N be the variance of the other noise in a step.
    The work of the winner is then c (V + N). A cheaper candidate, with c' and V', has less work than the winner if N is
    above (V' c' − V c)/(c − c').

    The result is (label, limit, ratio) for the candidate with the lowest such limit. The ratio is the limit divided by
    the squared norm of the exact gradient; None if this norm is unknown. If there is no cheaper candidate, the result
    is None in place of the tuple. ``outcome`` is the end of a race.
    """
    winner, best = outcome.winner, None
    V, c = winner.looks[0].summary.variance, winner.evaluations
    for arm in outcome.rivals:
        other = arm.looks[0].summary.variance
        if V is None or other is None or arm.evaluations >= c:
            continue
        noise = (other * arm.evaluations - V * c) / (c - arm.evaluations)
        if noise > 0 and (best is None or noise < best[1]):
            best = arm.label, noise
    if best is None:
        return None
    norm = winner.looks[0].summary.exact_norm
    return *best, best[1] / norm**2 if norm else None


def crossing(outcome: Outcome, biased: Arm, at: int) -> float:
    """Return the number B of evaluations per gradient below which a biased candidate certainly beats the winner.

    One estimate of the winner has the variance V and costs c evaluations; one of the biased candidate has V' and c'. If
    B evaluations are spent on estimates, the mean of the winner's estimates has the mean squared error V c/B. The mean
    of the biased candidate's estimates has the error bias² + V' c'/B. The two errors are equal at::

        B = (V c − V' c')/bias²

    V is taken at its lower limit, V' and the bias at their upper limits; all three favour the winner. B is 0 if the
    biased candidate then never beats the winner, or if V' or the bias has no upper limit. ``outcome`` is the end of the
    race, and ``at`` the index of the point (value of theta) at which V, V' and the bias were measured.
    """
    mine, best = biased.looks[at].summary, outcome.winner.looks[at].summary
    if mine.variance_high is None or not mine.bias_bound:
        return 0.0
    gap = best.variance_low * outcome.winner.evaluations - mine.variance_high * biased.evaluations
    return max(0.0, gap / mine.bias_bound**2)


def _by_reason(outcome: Outcome) -> dict[str, list[str]]:
    """Return the names of estimators that were not tried, by reason; a reason without its estimator's own name."""
    objective, groups = outcome.points[0].objective, dict[str, list[str]]()
    for name, reason in outcome.prepared.reasons.items():
        groups.setdefault(_short(reason, objective.family.__name__), []).append(name)
    for name, count in outcome.prepared.dear.items():
        groups.setdefault(f"at least {count:,.0f} evaluations per gradient", []).append(name)
    return groups


def _short(reason: str, family: str) -> str:
    """Return why an estimator does not fit, in a few words that several estimators share."""
    for part, words in (
        ("needs df/dx", "f has no gradient"),
        ("off the support", "f is not defined between the states of q"),
        ("needs the log-weights", "f is no bound"),
    ):
        if part in reason:
            return words
    if family in reason:
        return f"not for {family}"
    return re.sub(r"^\w+(\([^)]*\))? (?=lists|needs)", "", reason.partition(". Use ")[0])


def _by_point(outcome: Outcome) -> list[tuple[str, str, float]]:
    """Return, for every point of several: title, the best candidate there, and the winner's work relative to it."""
    if len(outcome.points) == 1:
        return []
    rows = []
    for at, point in enumerate(outcome.points):
        losses = {arm.label: outcome.race.loss_at(arm, at).value for arm in (outcome.winner, *outcome.rivals)}
        best = min(losses, key=lambda label: losses[label])
        rows.append((point.title, best, _ratio(losses[outcome.winner.label], losses[best])))
    return rows
