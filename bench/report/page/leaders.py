"""The first screen of a page: who leads on each objective at equal cost, and how far this can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.records.lines import Outcome
from bench.report import training, words
from bench.report.advice import alternatives, candidates, clauses
from bench.report.by_objective import Section, filled
from bench.report.overview import OVERVIEW, row_of
from bench.report.style import Style, styles
from bench.stats.decision import Candidate, Cost, Decision, decide
from bench.stats.printing import format_estimate
from bench.stats.seeds import across_seeds
from bench.stats.summary import BiasVerdict, Status

if TYPE_CHECKING:
    from bench.report.curves import Problem

UNITS: dict[Cost, str] = {
    "evaluations": "Cost: evaluations of f and of its gradient for one estimate.",
    "seconds": "Cost: seconds for one estimate, on the machine named under Provenance.",
    "samples": "Cost: the estimator's n, its number of samples in one call. A sample can take several evaluations of "
    "f, and an estimator without n, such as enumeration, has no cost in samples.",
}
"""The units of cost that a reader can choose, each with a sentence on what is counted."""
NAMES: dict[Cost, str] = {"evaluations": "evaluations of f and ∇f", "seconds": "seconds", "samples": "samples n"}
SHOWN = 3
"""Most names in a condition of trust."""
LEADERS = 8
"""Most names of a leading group."""


class Check(NamedTuple):
    """One condition under which the numbers of a study can be trusted.

    Args:
        about: the subject of the condition, in a word.
        holds: whether the condition holds; None if it is only a remark.
        finding: what was found, in a few words.
        amount: number of measurements for which it was found; 0 if they are not counted.
        names: the labels of these measurements, if they are to be named.
    """

    about: str
    holds: bool | None
    finding: str
    amount: int = 0
    names: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was found, as text, with the number of measurements for which it was found, and their labels."""
        more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        named = f": {', '.join(self.names[:SHOWN])}{more}" if self.names else ""
        return f"{f'{self.amount:,} ' if self.amount else ''}{self.finding}{named}"

    @property
    def state(self) -> str:
        """Whether the condition holds, as a word: "holds", "broken", or "open" if ``holds`` is None."""
        return "open" if self.holds is None else "holds" if self.holds else "broken"


def objectives(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return what the first screen of the page says about each objective, in one dictionary for each objective.

    The keys are ``name``, the label; ``facts``, a line on the objective; ``leads``, which estimators are the best, for
    each unit of cost; and ``checks``, the conditions under which the numbers can be trusted. The units of cost are
    "evaluations", "seconds" and "samples".

    ``sections`` has the results on each objective.
    """
    look = styles([row.estimator_name for section in sections for row in section.runs])
    return [
        {
            "name": section.problem,
            "facts": ", ".join(part for part in section.facts.split(", ") if not part.startswith("cost in ")),
            "leads": _leads(_measured(section), look),
            "checks": checks(section.runs),
        }
        for section in sections
    ]


def units(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return facts on each unit in which the cost of an estimate can be counted, in a dictionary by the unit.

    The units are "evaluations", "seconds" and "samples". The facts are ``name``, the unit in words; ``text``, a
    sentence on what is counted; and ``used``, whether the best estimators of at least one objective are known in this
    unit.

    ``found`` has a dictionary for each objective, as the function ``objectives`` of this module makes it.
    """
    used = {unit: any(each["leads"][unit]["verb"] for each in found if each["leads"]) for unit in UNITS}
    return {unit: {"name": NAMES[unit], "text": text, "used": used[unit]} for unit, text in UNITS.items()}


def overviews(sections: Sequence[Section]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return three tables in a dictionary by the unit of cost: "evaluations", "seconds" and "samples".

    A table is a pair (header, rows). It has a row for each objective, with the estimators that are best when the cost
    of an estimate is counted in this unit. ``sections`` has the results on each objective.
    """
    by = {section.problem: rows for section in sections if (rows := _measured(section))}
    return {unit: filled(OVERVIEW, [row_of(name, rows, unit) for name, rows in by.items()]) for unit in UNITS}


def _measured(section: Section) -> list[Any]:
    return [row for row in section.runs if row.outcome == Outcome.MEASURED]


def _leads(measured: Sequence[Any], look: Mapping[str, Style]) -> dict[str, dict[str, Any]]:
    """Return who leads at equal cost, for each unit of cost; no units if nothing was measured."""
    found = candidates(measured)
    return {unit: _lead(decide(found, unit), unit, measured, look) for unit in UNITS if found}


def _lead(decision: Decision, unit: Cost, rows: Sequence[Any], look: Mapping[str, Style]) -> dict[str, Any]:
    """Return who leads at equal cost: sentences, the leading group with its numbers, and its cheapest members."""
    if decision.cost != unit:
        return {"before": "", "group": [], "others": 0, "verb": "", "after": _unranked(unit, rows), "more": []}
    names = {row.estimator: row.estimator_name for row in rows}
    said, *more = clauses(decision)
    group, verb = decision.best, "leads:" if len(decision.best) == 1 else "lead together:"
    if not group:
        group, verb = ((decision.exact,), "is exact") if decision.exact else ((), "")
    before, after = _around(said, group)
    return {
        "before": before,
        "group": [
            {"label": c.label, "colour": look[names[c.label]].colour, "work": _work(c, unit)} for c in group[:LEADERS]
        ],
        "others": max(0, len(group) - LEADERS),
        "verb": verb,
        "after": after,
        "more": [*([_cheapest(group, unit)] if len(group) > 1 else ()), *more],
    }


def _around(said: str, group: Sequence[Candidate]) -> tuple[str, str]:
    """Return what a recommendation says before and after the names of the leading group."""
    names = alternatives(group, "or") if group else ""
    for middle in (f"use {names}: ", f"{names}: ", f"{names} is exact "):
        before, found, after = said.partition(middle)
        if found:
            return before, after
    return "", said


def _unranked(unit: Cost, rows: Sequence[Any]) -> str:
    """Say why the estimators of an objective have no order in a unit of cost."""
    if unit == "samples":
        lacking = [row.estimator for row in rows if row.fair and not row.exact and not row.n > 0]
        return f"Not ranked by samples: {lacking[0]} has no number of samples"
    noisy = any(row.noisy == 1 for row in rows)
    return f"Not ranked by seconds: {'the machine was noisy' if noisy else 'not every estimator was timed'}"


def _work(candidate: Candidate, unit: Cost) -> str:
    """Return a candidate's variance times cost with its interval; empty for an exact one."""
    if candidate.exact or candidate.variance is None:
        return ""
    value, low, high = candidate.work(unit)
    return format_estimate(value, low, None if math.isinf(high) else high)


def _cheapest(group: Sequence[Candidate], unit: Cost) -> str:
    """Say which estimators of a leading group are the cheapest, and what one estimate costs them."""
    least = min(group, key=lambda c: c.price(unit)[0])
    names = [c.label for c in group if c.price(unit)[1] <= least.price(unit)[2]]
    cost = least.price(unit)[0]
    price = words.duration(cost) if unit == "seconds" else f"{words.count(cost)} {unit[: -1 if cost == 1 else None]}"
    if len(names) == len(group):
        return f"one estimate of each costs {'about ' * (unit == 'seconds')}{price}"
    shown = [*names[:SHOWN], *[f"{len(names) - SHOWN} more"] * (len(names) > SHOWN)]
    return f"cheapest of them: {' and '.join(shown)}, {price} an estimate"


def checks(rows: Sequence[Any]) -> list[Check]:
    """Return the conditions under which the numbers of an objective can be trusted, and whether they hold.

    ``rows`` are the objective's measurements, rows of a frame.
    """
    measured = [row for row in rows if row.outcome == Outcome.MEASURED]
    failed = len(rows) - len(measured)
    found = [Check("cells", not failed, "failed" if failed else "none failed", failed)]
    if not measured:
        return found
    judged = not any(row.verdict == BiasVerdict.NO_REFERENCE for row in measured)
    by = "judged by an exact gradient or a reference" if judged else "not judged: no exact gradient"
    found.append(Check("biases", judged, by))
    wrong = tuple(row.estimator for row in measured if row.unbiased == 1 and row.biased)
    where = "found where none is declared" if wrong else "found only where one is declared"
    found.append(Check("declarations", not wrong, f"a bias was {where}", names=wrong))
    heavy = sum(row.heavy for row in measured)
    tails = "too heavy: only a lower limit of the variance" if heavy else "none too heavy"
    found.append(Check("tails", not heavy, tails, heavy))
    if few := sum(row.status == Status.SMALL_R for row in measured):
        found.append(Check("intervals", False, "from fewer than 1,000 replicates: they may be too narrow", few))
    if rare := sum(row.status == Status.RARE_LARGE_VALUES for row in measured):
        found.append(Check("replicates", False, "with rare large values had too few", rare))
    if short := sum(row.precision_reached == 0 for row in measured):
        found.append(Check("precision", False, "did not reach the one asked for", short))
    if any(row.noisy == 1 for row in measured):
        found.append(Check("times", False, "rough: the machine was noisy"))
    if learned := sum(row.learned for row in measured):
        found.append(Check("states", None, "learned and frozen at this point", learned))
    return found


def summed(found: Sequence[Sequence[Check]]) -> list[Check]:
    """Return the conditions of trust of a whole study, from those of its objectives.

    ``found`` has a list of conditions for each objective. In the result, each condition stands once. A condition that
    does not hold on some objectives does not hold in the result, and its text says on how many.
    """
    by: dict[str, list[Check]] = {}
    for check in (check for each in found for check in each):
        by.setdefault(check.about, []).append(check)
    whole = []
    for about, same in by.items():
        kept = [check for check in same if check.holds is False] or same
        holds, finding = kept[0].holds, kept[0].finding
        where = f"on {len(kept)} of {len(found)} objectives: "
        amount = sum(check.amount for check in kept)
        names = tuple(dict.fromkeys(name for check in kept for name in check.names))
        text = f"{f'{amount:,} ' if amount else ''}{finding}"
        whole.append(Check(about, holds, text if holds else where + text, names=names))
    return whole


def trained(problem: Problem) -> str:
    """Return a sentence on which estimators are best at the end of training, and which may be as good.

    ``problem`` has the training results of all estimators on one objective.
    """
    best, *others = problem.ranked
    upwards = 1.0 if problem.maximise else -1.0
    end = training.estimate(best.final)
    if not others:
        return f"{best.estimator} alone was trained: it ends at {end}."
    tied, few = [], best.final.is_range or best.final.runs == 1
    for other in others:
        shared = [seed for seed in best.seeds if seed in other.seeds]
        ends = [np.array([c.value[c.seeds.index(seed), -1] for seed in shared]) for c in (best, other)]
        if not shared or not np.isfinite(ends[0]).all() or across_seeds(upwards * (ends[0] - ends[1])).low <= 0:
            tied.append(other.estimator)
    said = f"{best.estimator} ends best, at {end}"
    if few:
        return f"{said}; {best.final.runs} seeds are too few to tell it from others: an interval takes 6."
    if not tied:
        return f"{said}; every other estimator ends behind it, seed by seed."
    shown = [*tied[:SHOWN], *[f"{len(tied) - SHOWN} more"] * (len(tied) > SHOWN)]
    return f"{said}; not told apart from it, seed by seed: {', '.join(shown)}."
