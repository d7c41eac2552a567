"""The decision which estimator to use on a problem, from the intervals of variance times cost.

The product of variance and cost is the variance of a mean that takes one unit of work, so it compares estimators of
unequal cost. The decision claims no more than the intervals show. It compares methods, each at its best number of
samples n, and treats n apart. It never rests on seconds that were measured on a busy machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from bench.stats.comparison import work_normalised

Cost = Literal["evaluations", "seconds", "samples"]
"""Unit of the cost of an estimate. Its samples are the n of the estimator."""
Interval = tuple[float, float, float]
"""A value, its lower and its upper limit; the upper limit is infinite if none is known."""


@dataclass(frozen=True)
class Candidate:
    """An estimator with its settings, as measured on one objective.

    An interval is a triple: a value, its lower limit and its upper limit. The upper limit is infinite if none is known.

    Args:
        label: the estimator with its settings: ``rloo:n=4``.
        method: the label without n. Candidates that differ in n alone are one method.
        n: the number of samples; None if the estimator has none.
        evaluations: number of evaluations of the objective's f and of df/dx for one estimate.
        variance: total variance of one estimate, an interval; None if the tail is too heavy to estimate the variance.
        unbiased: whether the estimator may compete as unbiased: it was declared or shown to be unbiased, and no bias
            was found.
        biased: whether a bias was found.
        exact: whether the estimates are exact up to rounding: they do not vary, and no bias was found.
        refutes: whether the estimator is declared exact, but differs from the objective's exact gradient. The objective
            is then at fault.
        learned: whether the estimator learned something, such as a control variate, before the measurement.
        bias_bound: upper limit of the norm of the bias; 0 if unknown.
        error: mean squared error of one estimate, an interval; None if unknown.
        seconds: time of one estimate, an interval; None if not measured.
        noisy: whether the machine was too busy for the time to be reliable.
    """

    label: str
    method: str
    n: float | None
    evaluations: float
    variance: Interval | None
    unbiased: bool = True
    biased: bool = False
    exact: bool = False
    refutes: bool = False
    learned: bool = False
    bias_bound: float = 0.0
    error: Interval | None = None
    seconds: Interval | None = None
    noisy: bool = False

    def price(self, cost: Cost) -> Interval:
        """Return the cost of one estimate in the unit ``cost``, as (value, lower limit, upper limit).

        If ``cost`` is "seconds", the candidate must have been timed. If it is "samples", the cost of a candidate
        without n is infinite.
        """
        if cost == "seconds":
            assert self.seconds is not None
            return self.seconds
        amount = self.evaluations if cost == "evaluations" else self.n or math.inf
        return amount, amount, amount

    def work(self, cost: Cost) -> Interval:
        """Return the variance of one estimate times its cost, as (value, lower limit, upper limit).

        ``cost`` is the unit of the cost. There must be a variance above 0, and a time if the unit is seconds.
        """
        assert self.variance is not None
        value, low, high = self.variance
        product, least, most = work_normalised((value, low, None if math.isinf(high) else high), self.price(cost))
        return product, least, math.inf if most is None else most


@dataclass(frozen=True)
class Factor:
    """The work of one candidate divided by the work of the best candidate: a number between ``low`` and ``high``.

    Work is variance times cost, so a factor of 2 means twice the cost for equal precision. ``low`` is 0 if the variance
    of the best candidate has no upper limit. ``high`` is infinite if the variance of ``candidate`` has none.
    """

    candidate: Candidate
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """Which estimator to use on an objective, and how sure that is.

    A candidate is an estimator with its settings. A method is all candidates that differ in the number of samples n
    alone. Work is variance times cost.

    Args:
        cost: the unit in which the candidates were compared.
        methods: number of methods that were compared: those with an unbiased candidate of known variance above 0.
        best: the candidate with the least work, or several candidates of different methods that are tied for the least
            work. First come candidates whose variance has an upper limit; among equals, those that learned nothing
            before the measurement.
        samples: the other candidates of the same method as the first of ``best``, in ascending order of n. Each has its
            work divided by the work of the first of ``best``. Empty if only one n was measured.
        runner_up: the next method after the best; None if several are tied as best or there is no other method.
        exact: the cheapest candidate whose estimates are exact up to rounding; None if there is none.
        biased: a biased candidate whose error at equal cost is certainly lower than that of the first of ``best``, up
            to ``budget``. Of several, the one with the largest ``budget``. None if there is none.
        budget: the largest cost up to which ``biased`` has the lower error, as a number of estimates of the first of
            ``best``. 0 if ``biased`` is None.
        faster: the candidate with the least variance times seconds, if all methods in ``best`` certainly have more.
            None if they do not, if times are noisy or missing, or if ``cost`` is not evaluations.
        least_error: candidates tied for the lowest mean squared error of one estimate, if no methods could be compared.
        fault: a candidate that is declared exact but contradicts the exact gradient; then nothing else is decided. None
            if there is no such candidate.
    """

    cost: Cost
    methods: int = 0
    best: tuple[Candidate, ...] = ()
    samples: tuple[Factor, ...] = ()
    runner_up: Factor | None = None
    exact: Candidate | None = None
    biased: Candidate | None = None
    budget: float = 0.0
    faster: Candidate | None = None
    least_error: tuple[Candidate, ...] = ()
    fault: Candidate | None = None


def decide(candidates: Sequence[Candidate], cost: Cost = "evaluations") -> Decision:
    """Decide which estimator to use on one objective, by variance times cost.

    Args:
        candidates: what was measured on the objective.
        cost: the unit of cost that is wanted. The decision is by evaluations in two cases: "seconds" are wanted, but a
            competing candidate was not timed on a quiet machine; "samples" are wanted, but an unbiased candidate has no
            n.
    """
    for candidate in candidates:
        if candidate.refutes:
            return Decision(cost, fault=candidate)
    rivals = [c for c in candidates if c.unbiased and not c.exact and c.variance is not None and c.variance[0] > 0]
    exact = [c for c in candidates if c.exact]
    timed = all(c.seconds is not None and not c.noisy for c in [*rivals, *exact])
    known = {"evaluations": True, "seconds": timed, "samples": all(c.n for c in rivals)}
    unit: Cost = cost if known[cost] else "evaluations"
    cheapest = min(exact, key=lambda c: c.price(unit)[0], default=None)
    if not rivals:
        return Decision(unit, exact=cheapest, least_error=_least_error(candidates))
    methods = _methods(rivals, unit)
    best = _tied([group[0] for group in methods], unit)
    first = best[0]
    own = next(group for group in methods if group[0] is first)
    others = [group[0] for group in methods if group[0] not in best]
    lasting = max((c for c in candidates if c.biased), key=lambda c: crossing(c, first, unit), default=None)
    budget = 0.0 if lasting is None else crossing(lasting, first, unit)
    return Decision(
        unit,
        methods=len(methods),
        best=tuple(best),
        samples=tuple(_factor(c, first, unit) for c in sorted(own[1:], key=lambda c: c.n or 0)),
        runner_up=_runner_up(others, first, unit) if len(best) == 1 else None,
        exact=cheapest,
        biased=lasting if budget > 1 else None,
        budget=budget if budget > 1 else 0.0,
        faster=_faster(methods, best) if timed and unit == "evaluations" else None,
    )


def crossing(biased: Candidate, best: Candidate, cost: Cost) -> float:
    """Return the budget N up to which a biased candidate certainly errs less than an unbiased one.

    A candidate is an estimator with its settings. N is a number of estimates of the unbiased candidate `best`. One of
    these has the variance V and the cost c; one estimate of the `biased` candidate has V' and c'. `cost` is the unit of
    c and c': evaluations, seconds or samples. The mean of N estimates of `best` has the mean squared error V/N. For the
    same cost, one gets N c/c' estimates of the biased candidate, whose mean has the error bias² + V' c'/(N c). The two
    errors are equal at::

        N = (V c − V' c')/(bias² c)

    The bias is taken at its upper limit, V c at its lower limit and V' c' at its upper limit; all three favour `best`.
    The result is 0 if the biased candidate then never has the lower error, or if its variance, cost or bias limit is
    unknown.
    """
    if biased.variance is None or (cost == "seconds" and (biased.seconds is None or biased.noisy)):
        return 0.0
    if cost == "samples" and not biased.n:
        return 0.0
    most = biased.work(cost)[2] if biased.variance[0] > 0 else 0.0
    gap = best.work(cost)[1] - most
    return gap / (biased.bias_bound**2 * best.price(cost)[0]) if gap > 0 and biased.bias_bound > 0 else 0.0


def _methods(rivals: Sequence[Candidate], cost: Cost) -> list[list[Candidate]]:
    """Return the candidates of each method, its lowest variance times cost first."""
    ordered = sorted(rivals, key=lambda c: (c.method, c.work(cost)[0]))
    return [list(group) for _, group in groupby(ordered, key=lambda c: c.method)]


def _tied(candidates: Sequence[Candidate], cost: Cost) -> list[Candidate]:
    """Return the candidates that may have the lowest variance times cost, the one to recommend first.

    A candidate whose variance has no upper limit may be the best, but excludes no other.
    """
    bounded = [c for c in candidates if not math.isinf(c.work(cost)[2])] or candidates
    ceiling = min(bounded, key=lambda c: c.work(cost)[0]).work(cost)[2]
    tied = [c for c in candidates if c.work(cost)[1] <= ceiling]
    return sorted(tied, key=lambda c: (math.isinf(c.work(cost)[2]), c.learned, c.work(cost)[0]))


def _runner_up(others: Sequence[Candidate], best: Candidate, cost: Cost) -> Factor | None:
    found = min(others, key=lambda c: c.work(cost)[1], default=None)
    return None if found is None else _factor(found, best, cost)


def _factor(candidate: Candidate, best: Candidate, cost: Cost) -> Factor:
    _, low, high = candidate.work(cost)
    _, best_low, best_high = best.work(cost)
    return Factor(
        candidate, low / best_high if best_high < math.inf else 0.0, high / best_low if best_low > 0 else math.inf
    )


def _faster(methods: Sequence[Sequence[Candidate]], best: Sequence[Candidate]) -> Candidate | None:
    """Return the best candidate by seconds if the intervals exclude all methods that are best by evaluations."""
    by_time = [min(group, key=lambda c: c.work("seconds")[0]) for group in methods]
    tied = _tied(by_time, "seconds")
    return tied[0] if not {c.method for c in best} & {c.method for c in tied} else None


def _least_error(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    errors = [(c, c.error) for c in candidates if c.error is not None and c.error[0] > 0]
    if not errors:
        return ()
    ceiling = min(error for _, error in errors)[2]
    tied = sorted((e for e in errors if e[1][1] <= ceiling), key=lambda e: e[1][0])
    return tuple(c for c, _ in tied)
