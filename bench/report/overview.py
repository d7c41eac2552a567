"""The table over all objectives of a study: who is best on each, by how much, and what is biased there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report import words
from bench.report.advice import SHOWN, candidates, tied_of
from bench.stats.decision import Cost, decide
from bench.stats.printing import NONE, format_number

OVERVIEW = ("objective", "best unbiased", "variance", "f + ∇f", "runner-up", "eff.", "biased", "exact")
"""Columns of the table."""


def row_of(problem: str, rows: Sequence[Any], cost: Cost = "evaluations") -> tuple[str, ...]:
    """Return one objective's row of the overview table, as a text for each column in ``OVERVIEW``.

    The row names the best unbiased estimators by variance times cost, the runner-up, and what is biased or exact. A
    star marks an estimator with a learned, frozen state.

    Args:
        problem: the objective's label.
        rows: the objective's measured runs, rows of the frame that ``bench.report.cost.priced`` returns.
        cost: the unit of the cost of an estimate: "evaluations" (of f and of its gradient), "seconds" or "samples".
    """
    found = candidates(rows)
    decision = decide(found, cost)
    if decision.fault:
        return problem, "the objective is at fault", *[NONE] * 6
    ends = _biases(rows), decision.exact.label if decision.exact else NONE
    if decision.cost != cost:
        return problem, f"not ranked by {cost}", *[NONE] * 4, *ends
    if not decision.best or len(decision.best) > SHOWN:
        return problem, f"{tied_of(decision)} tied" if decision.best else NONE, *[NONE] * 4, *ends
    several = {c.method for c in found if c.n and c.n > 1}
    names = {c.label: "* " * c.learned + (c.label if c.method in several else c.method) for c in found}
    first, *tied = decision.best
    row = next(row for row in rows if row.estimator == first.label)
    variance = words.terse(row.variance, row.variance_low, row.variance_high)
    evaluations = words.evaluations(row.f_evals, row.grad_evals)
    following, efficiency = NONE, NONE
    if tied:
        following, efficiency = " and ".join(names[c.label] for c in tied), "tied"
    elif decision.runner_up:
        other = decision.runner_up.candidate
        following = names[other.label]
        efficiency = format_number(first.work(decision.cost)[0] / other.work(decision.cost)[0], 2)
    return problem, names[first.label], variance, evaluations, following, efficiency, *ends


def _biases(rows: Sequence[Any]) -> str:
    """Return how many estimators are biased, and the range of their biases: ``5: 5.9–70 %``."""
    biased = [row for row in rows if row.biased]
    if not biased:
        return NONE
    sizes = [row.bias_norm / row.exact_norm for row in biased if row.exact_norm > 0]
    return f"{len(biased)}: {words.span(100 * min(sizes), 100 * max(sizes))} %" if sizes else str(len(biased))
