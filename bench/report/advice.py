"""What a report recommends: which estimator to use on an objective, as a sentence."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.records.lines import Outcome
from bench.report import words
from bench.report.cost import priced
from bench.report.frame import each, frame
from bench.stats.decision import Candidate, Cost, Decision, Factor, Interval, decide
from bench.stats.printing import format_number

if TYPE_CHECKING:
    pass

BY = {unit: f"variance × {unit}" for unit in ("evaluations", "seconds", "samples")}
AMOUNT = {"evaluations": "times as many evaluations", "seconds": "times as much time"}
AMOUNT |= {"samples": "times as many samples"}
SHOWN = 3
"""Largest number of names in a list of alternatives."""


def candidates(rows: Sequence[Any]) -> list[Candidate]:
    """Return the measured runs of one objective as the candidates among which ``stats.decision.decide`` chooses.

    A run is one measurement of an estimator. ``rows`` are rows of the frame that ``bench.report.cost.priced`` returns.
    Runs that were skipped, failed or needed no evaluation are left out.
    """
    return [_candidate(row) for row in rows if row.outcome == Outcome.MEASURED and row.evals > 0]


def decisions(records: Sequence[Mapping[str, Any]], cost: Cost = "evaluations") -> dict[str, Decision]:
    """Return a dictionary from the label of each objective to its ``Decision``, which names its best estimators.

    An objective that was measured with several dtypes, devices or seeds has a decision and a label for each, such as
    ``gaussian-quadratic (seed 3)``. Objectives on which nothing was measured are left out.

    Args:
        records: the records of one study.
        cost: the unit of the cost of an estimate: "evaluations", "seconds" or "samples".
    """
    table = priced(frame(records))
    groups = table[table["outcome"] == Outcome.MEASURED].groupby("problem", sort=False)
    return {str(problem): decide(candidates(each(group)), cost) for problem, group in groups}


@functools.lru_cache
def method_of(label: str) -> str:
    """Return an estimator's label without n: ``rloo`` for ``rloo:n=4``."""
    return re.sub(r"(?<=[:,])n=[^,]*,?", "", label).rstrip(":,")


def sentence(decision: Decision) -> str:
    """Return a sentence that recommends an estimator for one objective. It claims no more than the intervals show.

    ``decision`` is the result of comparing all estimators on this objective. One estimator alone is recommended only if
    its interval of variance times cost lies below the intervals of all others; other values of its n do not count.

    Averaging does not remove a bias. So a biased estimator is mentioned together with the largest budget at which its
    error is certainly below the error of the best unbiased estimator.
    """
    return "; ".join(clauses(decision))


def clauses(decision: Decision) -> list[str]:
    """Return the parts of the sentence that recommends an estimator: first the recommendation, then its limits.

    ``decision`` is the result of comparing all estimators on one objective.
    """
    if decision.fault:
        return [_at_fault(decision.fault)]
    if not decision.best:
        return [_without_rivals(decision)]
    first = decision.best[0]
    parts = [_exact(decision) + _recommendation(decision), *_samples(decision), *_frozen(decision)]
    if decision.faster:
        parts.append(f"by seconds on this machine, {decision.faster.label} is ahead")
    if decision.biased:
        budget = f"{format_number(decision.budget, 2)} estimates of {first.label}"
        parts.append(f"below a budget of {budget}, {decision.biased.label} has the lower error in spite of its bias")
    return parts


def _candidate(row: Any) -> Candidate:
    refutes = bool(row.biased and row.deterministic and row.unbiased)
    return Candidate(
        label=row.estimator,
        method=method_of(row.estimator),
        n=None if math.isnan(row.n) else row.n,
        evaluations=row.evals,
        variance=_interval(row.variance, row.variance_low, row.variance_high),
        unbiased=bool(row.fair),
        biased=bool(row.biased),
        exact=bool(row.exact),
        refutes=refutes,
        learned=bool(row.learned),
        bias_bound=0.0 if math.isnan(row.bias_bound) else row.bias_bound,
        error=_interval(row.mse, row.mse_low, row.mse_high),
        seconds=_interval(row.seconds, row.seconds_low, row.seconds_high),
        noisy=row.noisy == 1,
    )


def _interval(value: float, low: float, high: float) -> Interval | None:
    return (
        None if math.isnan(value) else (value, 0.0 if math.isnan(low) else low, math.inf if math.isnan(high) else high)
    )


def _recommendation(decision: Decision) -> str:
    first, by = decision.best[0], BY[decision.cost]
    if decision.methods == 1:
        return f"{first.label}: the only unbiased estimator here with a variance to trust"
    if len(decision.best) == 1:
        told = f"use {first.label}: lowest {by} of {decision.methods} unbiased methods"
        return f"{told}; {_needs(decision.runner_up, decision.cost)}" if decision.runner_up else told
    if len(decision.best) <= SHOWN:
        names = alternatives(decision.best, "or")
        return (
            f"use {names}: tied for the lowest {by} of {decision.methods} unbiased methods; more replicates would tell"
        )
    return f"{tied_of(decision)} unbiased methods tied for the lowest {by}: more replicates would tell"


def tied_of(decision: Decision) -> str:
    """Return as text how many of the compared methods are tied for the first place: ``all 7`` or ``5 of 7``.

    ``decision`` is the result of comparing all estimators on one objective. A method is an estimator in all its sample
    sizes n.
    """
    tied = len(decision.best)
    return f"all {tied}" if tied == decision.methods else f"{tied} of {decision.methods}"


def _needs(factor: Factor, cost: Cost) -> str:
    return f"{factor.candidate.label} needs {_span(factor)} {AMOUNT[cost]} for the same precision"


def _span(factor: Factor) -> str:
    open_end = math.isinf(factor.high)
    return f"≥ {format_number(factor.low, 2)}" if open_end else words.span(factor.low, factor.high)


def _samples(decision: Decision) -> list[str]:
    """Compare the numbers of samples of the method that is recommended alone."""
    if len(decision.best) > 1 or not decision.samples:
        return []
    worse = [f for f in decision.samples if f.low > 1]
    equal = [f.candidate.label for f in decision.samples if f.low <= 1]
    does = "does" if len(equal) == 1 else "do"
    parts = [f"{' and '.join(equal)} {does} as well per {decision.cost.removesuffix('s')}"] if equal else []
    return parts + [f"{f.candidate.label} needs {_span(f)} times as much" for f in worse[:1]]


def _frozen(decision: Decision) -> list[str]:
    learned = [c.label for c in decision.best[:SHOWN] if c.learned] if len(decision.best) <= SHOWN else []
    if not learned:
        return []
    was = "was" if len(learned) == 1 else "were"
    return [f"{' and '.join(learned)} learned and {was} frozen at this point, which never happens in training"]


def _exact(decision: Decision) -> str:
    """Weigh an exact method against the best random one."""
    if decision.exact is None:
        return ""
    name, evaluations = decision.exact.label, words.count(decision.exact.evaluations)
    if decision.exact.price(decision.cost)[0] <= decision.best[0].price(decision.cost)[0]:
        return f"use {name}: exact, and no more expensive than one random estimate; of the random ones, "
    return f"{name} is exact, with {evaluations} evaluations an estimate; on a smaller budget, "


def _at_fault(exact: Candidate) -> str:
    """Say what it means that an exact method, without noise and unbiased, does not give the exact gradient."""
    where = "" if exact.method == "enumeration" else f", or {exact.label} if it is your own"
    return (
        f"{exact.label} is exact, and differs from the exact gradient: the objective is at fault{where}, and no bias "
        "here says anything about an estimator; see bench check-objective"
    )


def _without_rivals(decision: Decision) -> str:
    """Say what can be used where no unbiased estimator has a trustworthy variance above zero."""
    if decision.exact:
        return f"{decision.exact.label} is exact ({words.count(decision.exact.evaluations)} evaluations an estimate)"
    unsure = "no unbiased estimator with a variance to trust was measured"
    if not decision.least_error:
        return unsure
    names = alternatives(decision.least_error, "or")
    return f"{unsure}; lowest mean squared error of one estimate: {names}"


def alternatives(found: Sequence[Candidate], joint: str) -> str:
    """Return the candidates' labels as one text: ``x or y``, or ``x, y or 3 more`` for more than three.

    ``joint`` is the word before the last label, such as ``or``.
    """
    names = [c.label for c in found]
    if len(names) == 1:
        return names[0]
    if len(names) > SHOWN:
        names = [*names[: SHOWN - 1], f"{len(names) - SHOWN + 1} more"]
    return f"{', '.join(names[:-1])} {joint} {names[-1]}"
