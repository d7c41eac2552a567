"""The advice as plain data, and as a report in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.report.words import count
from bench.stats.printing import format_estimate, format_number

WIDTH, MARGIN = 100, 12
"""Columns of the report, and of the titles in front of its lines."""
SHOWN = 6
"""Most names in a list; the rest is counted."""
Limits = tuple[float | None, float | None, float | None]
"""An estimate, its lower limit and its upper limit; None where nothing is known."""


@dataclass(frozen=True)
class Entry:
    """A candidate (an estimator with fixed fields) with the numbers that were measured.

    Args:
        label: the selector, such as ``rloo:n=8``.
        variance: total variance of one estimate with its 95 % limits. If the candidates were measured at several values
            of theta, the variance is that at the first.
        f_evals: evaluations of f for one estimate.
        grad_evals: evaluations of df/dx for one estimate.
        work: evaluations that the candidate needs for a given precision, divided by those of the recommended candidate;
            with 95 % limits.
        seconds: seconds that the candidate needs for a given precision, divided by those of the recommended candidate;
            with 95 % limits. None if the candidate was not timed, or the seconds were too noisy.
        learned: number of steps in which the estimator's state learned before the measurement; 0 if there is no state.
        learns: whether the state has parameters. In training, these are learned at every step, and this takes as many
            evaluations as the estimate.
        relative_bias: norm of the bias divided by the norm of the exact gradient; None for an unbiased estimator.
    """

    label: str
    variance: Limits
    f_evals: float
    grad_evals: float
    work: Limits
    seconds: Limits | None = None
    learned: int = 0
    learns: bool = False
    relative_bias: float | None = None


@dataclass(frozen=True)
class Advice:
    """A recommendation for an objective, and how certain it is. ``print`` prints the report of ``bench advise``.

    A candidate is an estimator with fixed fields. Its work is the number of evaluations that it needs for a given
    precision.

    Args:
        objectives: labels of the objectives.
        family: name of the class of q.
        per_gradient: largest number of evaluations that one gradient may take.
        best: the recommended candidate. Its numbers were measured on noise that was not used to choose it.
        candidates: number of unbiased candidates that were measured.
        possible: labels of all candidates that may be the best, from best to worst. With 95 % confidence, the best one
            is among them.
        least: a number, with 95 % confidence: every other candidate needs at least this fraction of the work of
            ``best``.
        by_n: for the candidates that differ from ``best`` only in n, by label: the work divided by the work of
            ``best``.
        runner_up: the best candidate of another class than ``best``; None if there is none.
        smaller: for the numbers 1, 2, 4 ... below ``per_gradient``: label of the best candidate if a gradient may take
            only this number of evaluations.
        noisier: a cheaper candidate, which is better than ``best`` if other noise in training, such as the choice of
            minibatches, is large; None if there is none. Three facts: the candidate's label; N, such that the candidate
            is better if the variance of the other noise is above N; and N divided by the squared norm of the exact
            gradient, or None if this norm is unknown.
        biased: the best biased candidate; None if there is none.
        biased_below: number of evaluations per gradient below which ``biased`` certainly has a lower mean squared error
            than ``best``; 0 if there is no such number.
        exact: for each candidate without noise that takes more evaluations per gradient than ``per_gradient``, by
            label: the number of evaluations.
        refuted: labels of candidates that are declared unbiased, but were found to be biased.
        untried: names of the estimators that were not tried, by reason.
        failed: reasons why candidates could not be measured, by label.
        points: if the candidates were measured at several points (values of theta), three facts for each: the title of
            the point, the label of the best candidate there, and the work of ``best`` divided by that candidate's work.
        hurried: number of candidates that were left out before any measurement, to save budget for the others.
        named: whether the user named the candidates. If not, they are the whole catalogue.
        noisy: whether the candidates were timed, but the times were too noisy to compare.
        spent: number of evaluations spent.
        elapsed: number of seconds spent.
        code: lines to paste into a training loop.
    """

    objectives: list[str]
    family: str
    per_gradient: int
    best: Entry
    candidates: int
    possible: list[str]
    least: float
    by_n: dict[str, float]
    runner_up: Entry | None
    smaller: dict[int, str]
    noisier: tuple[str, float, float | None] | None
    biased: Entry | None
    biased_below: float
    exact: dict[str, float]
    refuted: list[str]
    untried: dict[str, list[str]]
    failed: dict[str, str]
    points: list[tuple[str, str, float]]
    hurried: int
    named: bool
    noisy: bool
    spent: float
    elapsed: float
    code: str = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the advice as dictionaries, lists, text and numbers, for JSON; infinite numbers become None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found

    def report(self, width: int = WIDTH) -> str:
        """Return the advice in words: what to use, how sure that is, when another estimator is better, lines to paste.

        Text is broken at ``width`` columns; the lines to paste are not.
        """
        paragraphs = [_wrapped(line, width) for line in _lines(self)]
        return "\n".join([*paragraphs, "", "In a training loop:", "", textwrap.indent(self.code.rstrip(), "    ")])

    def __str__(self) -> str:
        return self.report()


def _wrapped(line: str, width: int) -> str:
    """Break a line at ``width`` columns; the text goes on below the text, not below the title."""
    indent = " " * MARGIN if line[MARGIN - 2 : MARGIN] == "  " else ""
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _lines(advice: Advice) -> Iterator[str]:
    where = ", ".join(dict.fromkeys(advice.objectives))
    yield f"{where}: q is {advice.family}, at most {advice.per_gradient} evaluations of f and df/dx per gradient"
    yield ""
    yield f"Use:        {advice.best.label}, {_figures(advice.best)}"
    yield f"How sure:   {_certainty(advice)}"
    if advice.by_n and advice.best.variance[0] != 0:
        others = ", ".join(f"{_n_of(label)} {_times(work)}" for label, work in _sorted(advice.by_n)[:SHOWN])
        yield f"Its n:      evaluations for equal precision: {others}"
    if advice.runner_up is not None:
        yield f"Runner-up:  {_runner_up(advice, advice.runner_up)}"
    if advice.smaller and advice.best.variance[0] != 0:
        each = ", ".join(f"within {most} {label}" for most, label in sorted(advice.smaller.items(), reverse=True))
        yield f"On less:    the best if one gradient takes fewer evaluations: {each}"
    if advice.noisier is not None:
        label, noise, relative = advice.noisier
        share = "" if relative is None else f", {format_number(relative, 2)} times the squared norm of the gradient"
        yield (
            f"In noise:   {label} wins if the rest of training is noisy: where other noise, such as the choice of "
            f"minibatches, has a variance above {format_number(noise, 2)}{share}"
        )
    if advice.biased is not None and advice.best.variance[0] != 0:
        yield f"Biased:     {_biased(advice, advice.biased)}"
    for label, evaluations in advice.exact.items():
        yield f"Exact:      {label} has no noise, and takes {evaluations:,.0f} evaluations per gradient"
    for title, label, work in advice.points:
        best = "is the best" if work == 1 else f"needs {_times(work)} the evaluations of {label}, the best here"
        yield f"Point:      at {title}, {advice.best.label} {best}"
    for label in advice.refuted:
        yield f"Wrong:      {label} declares itself unbiased, and is biased here"
    yield f"Not tried:  {_untried(advice)}"
    for label, reason in advice.failed.items():
        yield f"Failed:     {label}: {reason}"
    spent = f"{advice.spent:,.0f} evaluations, {advice.elapsed:.0f} s"
    yield f"Measured:   {advice.candidates} unbiased candidates, {spent}"


def _figures(entry: Entry) -> str:
    spread = "no noise" if entry.variance[0] == 0 else f"variance {format_estimate(*entry.variance)}"
    again = ", and as many again for learning" if entry.learns else ""
    state = f"; its state learned for {entry.learned} steps and was frozen, in training it goes on learning"
    return f"{spread} for {_cost(entry)}{again}{state if entry.learned else ''}"


def _cost(entry: Entry) -> str:
    slope = f" and {count(entry.grad_evals)} of df/dx" if entry.grad_evals else ""
    return f"{count(entry.f_evals)} {'evaluation' if entry.f_evals == 1 else 'evaluations'} of f{slope}"


def _certainty(advice: Advice) -> str:
    named = advice.possible
    if advice.best.variance[0] == 0:
        return "an estimate has no noise, so no other one can be better"
    if len(named) == 1:
        return f"with 95 % confidence, it is the best of {advice.candidates} unbiased candidates"
    others = _several(named[1:])
    limit = (
        f"none needs less than {format_number(math.floor(100 * advice.least) / 100, 2)} times its evaluations"
        if advice.least >= 0.01
        else "a larger --budget would tell more"
    )
    return f"with 95 % confidence, the best of {advice.candidates} unbiased candidates is it or {others}; {limit}"


def _several(names: list[str]) -> str:
    shown = names if len(names) <= SHOWN else [*names[: SHOWN - 1], f"{len(names) - SHOWN + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _runner_up(advice: Advice, entry: Entry) -> str:
    if entry.variance[0] == 0 == advice.best.variance[0]:
        return f"{entry.label} has no noise either, and takes {_cost(entry)}"
    if advice.best.variance[0] == 0:
        return f"{entry.label} has noise, and takes {_cost(entry)}"
    needs = f"{entry.label} needs {_range(entry.work)} the evaluations for equal precision"
    if entry.variance[2] is None:
        needs += ", but its variance has no upper limit yet"
    if entry.seconds is not None and entry.seconds[0] is not None:
        return f"{needs}, and {_range(entry.seconds)} the seconds"
    return f"{needs}; the machine was too noisy to compare seconds" if advice.noisy else needs


def _biased(advice: Advice, entry: Entry) -> str:
    size = f" ({100 * entry.relative_bias:.2g} % of the gradient)" if entry.relative_bias else ""
    if advice.biased_below > 1:
        return (
            f"{entry.label} has the lower mean squared error up to {format_number(advice.biased_below, 2)} evaluations "
            f"per gradient, in spite of its bias{size}; more steps do not average a bias out"
        )
    return (
        f"none has a mean squared error that is certainly lower, whatever the budget; the best is {entry.label}{size}"
    )


def _untried(advice: Advice) -> str:
    parts = []
    for reason, names in sorted(advice.untried.items(), key=lambda item: -len(item[1])):
        parts.append(f"{len(names)} {reason}" if reason.startswith("not for") else f"{', '.join(names)} ({reason})")
    if advice.hurried:
        parts.append(f"{advice.hurried} further n and temperatures, for which the budget did not suffice")
    if advice.named:
        parts.append("what was not named as a candidate")
    return "; ".join(parts) or "nothing"


def _times(work: float) -> str:
    return f"{format_number(work, 3)} times"


def _range(limits: Limits) -> str:
    value, low, high = limits
    if value is None:
        return "an unknown multiple of"
    if low is None:
        return _times(value)
    upper = "∞" if high is None else format_number(high, 2)
    return f"{format_number(value, 2)} times [{format_number(low, 2)}, {upper}]"


def _n_of(label: str) -> str:
    """Return the part of a selector that gives n, such as ``n=4``."""
    return next((part for part in label.partition(":")[2].split(",") if part.startswith("n=")), label)


def _sorted(by_n: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(by_n.items(), key=lambda item: item[1])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
