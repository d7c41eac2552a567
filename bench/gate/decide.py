"""The verdicts of a check, decided from its measurements. No cell is measured here.

The first stage tests for any growth at all (margin 0) and flags suspicious cells. The second stage measures the flagged
cells again, with fresh noise, and decides. It alone limits the rate of false alarms: Holm's correction covers all cells
of the baseline, and a cell that was not flagged counts as p = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.gate.baseline import Entry
from bench.gate.changes import count
from bench.gate.findings import FAILING, Case, Finding, Sample, Verdict
from bench.stats.gate import (
    ALPHA_BIAS,
    ALPHA_VARIANCE,
    STAGE_ONE_BIAS,
    STAGE_ONE_VARIANCE,
    CellOutcome,
    CellTest,
    gate_cell,
    holm,
    is_stale,
    smallest_change,
)
from bench.stats.printing import format_estimate
from bench.stats.summary import BiasVerdict, Summary

SMALLEST = 1e-300
"""p-values up to this are printed as ``p < 1e-300``."""
ROUNDING = 10.0
"""On another platform, the rounding error of a gradient may be larger by this factor."""
UNTRUNCATED = "no truncated variance was compared"
"""The note on a cell whose plain variance alone was tested."""
COARSEST = 1.0
"""A test is inconclusive if it could not have found this relative growth of the variance, a doubling."""


@dataclass(frozen=True)
class Flags:
    """What the first stage of a check has found for a cell (an estimator on an objective).

    The first stage measures the cell once. If it looks suspicious, the second stage measures and tests it again.

    Args:
        test: the test whether the variance is larger than in the baseline, the file of accepted statistics.
        variance: whether the second stage must test the variance.
        bias: whether the second stage must test the bias.
        p_bias: the p-value of the test of the bias in the first stage; None if the bias was not tested.
    """

    test: CellTest
    variance: bool
    bias: bool
    p_bias: float | None


def screen(case: Case) -> Flags:
    """Test the first measurement of a cell, and return what a second measurement must test again.

    A cell is an estimator on an objective. The ``case`` holds its measurement and the accepted statistics. Two tests
    are made: whether the variance is larger than the accepted one, and whether the gradient has a bias. The result has
    their p-values, and whether each is small enough to be suspicious.
    """
    entry, first = _both(case)
    test = gate_cell(entry.gate, first.statistics.gate, 0.0)
    p_bias = _p_bias(entry, first)
    return Flags(
        test,
        variance=test.outcome is CellOutcome.TESTED and test.p is not None and test.p <= STAGE_ONE_VARIANCE,
        bias=p_bias is not None and p_bias <= STAGE_ONE_BIAS,
        p_bias=p_bias,
    )


def decide(cases: Sequence[Case], *, cells: int, confirming: int) -> list[Finding]:
    """Return one finding (a verdict with its evidence) per case, in the order of the cases.

    Args:
        cases: what is known about each selected cell (an estimator on an objective) from the measurements of a check.
            The first stage of a check measures the cells, the second stage measures the suspicious ones again.
        cells: number of cells in the whole baseline (the file of accepted statistics), selected or not.
        confirming: replicates of the second stage; ``smallest_change`` and ``smallest_bias`` of a finding depend on it.
    """
    flags = {case.cell: screen(case) for case in cases if case.fate is None}
    tests, p_bias = {}, {}
    for case in cases:
        if case.fate is None and case.second is not None and case.entry is not None:
            if flags[case.cell].variance:
                tests[case.cell] = gate_cell(case.entry.gate, case.second.statistics.gate, case.allowed)
            if flags[case.cell].bias:
                found = _p_bias(case.entry, case.second)
                p_bias[case.cell] = 1.0 if found is None else found
    variance = holm({cell: 1.0 if t.p is None else t.p for cell, t in tests.items()}, cells=cells, alpha=ALPHA_VARIANCE)
    bias = holm(p_bias, cells=cells, alpha=ALPHA_BIAS)
    none = (False, None)
    return [
        _settled(case)
        if case.fate is not None
        else _finding(
            case,
            flags[case.cell],
            tests.get(case.cell),
            p_bias.get(case.cell),
            variance.get(case.cell, none),
            bias.get(case.cell, none),
            cells,
            confirming,
        )
        for case in cases
    ]


def _settled(case: Case) -> Finding:
    """Return the finding on a case whose verdict needs no statistics, but perhaps its evaluations."""
    verdict, reason, notes = case.fate, case.reason, []
    if more := _costlier(case):
        verdict, reason = Verdict.COSTLIER, f"{more}; {reason}"
    else:
        notes = _evaluation_notes(case)
    return Finding(case.cell, case.label, verdict, reason, **_facts(case), notes=notes)  # type: ignore[arg-type]


def _finding(
    case: Case,
    flags: Flags,
    test: CellTest | None,
    p_bias: float | None,
    variance: tuple[bool, float | None],
    bias: tuple[bool, float | None],
    cells: int,
    confirming: int,
) -> Finding:
    entry, first = _both(case)
    seen = smallest_change(
        entry.gate,
        screening=first.statistics.replicates,
        confirming=confirming,
        margin=case.allowed,
        cells=cells,
        alpha=ALPHA_VARIANCE,
    )
    verdict, reason = _verdict(case, flags, variance, bias, seen, cells)
    notes = _notes(entry, first, flags)
    if more := _costlier(case):
        if verdict in FAILING:
            notes.append(f"also {more}")
        else:
            verdict, reason = Verdict.COSTLIER, f"{more}; {reason}"
    else:
        notes += _evaluation_notes(case)
    measured = first.statistics
    least = measured.smallest_bias(screening=measured.replicates, confirming=confirming, cells=cells)
    return Finding(
        case.cell,
        case.label,
        verdict,
        reason,
        **_facts(case),
        p_screen=flags.test.p,
        p_variance=test.p_variance if test else None,
        p_truncated=test.p_truncated if test else None,
        p=test.p if test else None,
        p_adjusted=variance[1],
        p_bias_screen=flags.p_bias,
        p_bias=p_bias,
        p_bias_adjusted=bias[1],
        smallest_change=seen,
        smallest_bias=least,
        notes=notes,
    )


def _verdict(
    case: Case,
    flags: Flags,
    variance: tuple[bool, float | None],
    bias: tuple[bool, float | None],
    seen: float | None,
    cells: int,
) -> tuple[Verdict, str]:
    entry, first = _both(case)
    new, last = first.statistics, case.second or first
    growth, corrected = _growth(entry, last.statistics), f"after correction for {count(cells)}"
    grown = f"{growth}, beyond the margin of {case.allowed:.0%} ({p_text(variance[1])} {corrected})"
    if flags.test.reason == "DETERMINISTIC_BECAME_RANDOM":
        return Verdict.BECAME_RANDOM, f"nothing varied in the baseline; now the variance is {new.variance:.4g}"
    if first.bias == BiasVerdict.DETERMINISTIC_BIASED and entry.unbiased and _moved(entry, new):
        was = f" (by {entry.bias_norm:.3g} in the baseline)" if entry.bias_norm else ""
        part = f", {(new.bias_norm or 0.0) / new.exact_norm:.1%} of the exact gradient" if new.exact_norm else ""
        return Verdict.BIASED, f"the gradient has no noise and is off by {new.bias_norm:.3g}{part}{was}"
    if bias[0]:
        also = f"; also {grown}" if variance[0] else ""
        off = f"it is declared unbiased, but {off_text(last.statistics)}"
        return Verdict.BIASED, f"{off} ({p_text(bias[1])} {corrected}){also}"
    if variance[0]:
        return Verdict.REGRESSED, grown
    if flags.test.outcome is CellOutcome.NOT_GATEABLE:
        return Verdict.NOT_GATEABLE, f"{flags.test.reason}; `bench baseline promote` measures what is needed"
    if _is_improved(entry, first, case.allowed, cells):
        return Verdict.IMPROVED, f"{growth}: the baseline is stale"
    if seen is not None and seen > COARSEST:
        return Verdict.INCONCLUSIVE, f"{growth}; only growth of {seen:.0%} or more would have been found"
    return Verdict.UNCHANGED, growth


def p_text(p: float | None) -> str:
    """Return a p-value as text: ``p = 0.01`` or ``p < 1e-300``; ``not tested`` for None."""
    if p is None:
        return "not tested"
    return f"p = {p:.1g}" if p > SMALLEST else f"p < {SMALLEST:g}"


def _facts(case: Case) -> dict[str, Any]:
    """Return the fields of a finding that do not depend on its verdict."""
    last = case.second or case.first
    entry, new = case.entry, last.statistics if last else None
    return {
        "margin": case.allowed if entry else None,
        "change": _change(entry, new) if entry and new else None,
        "baseline_variance": entry.variance if entry and not entry.is_heavy else None,
        "variance": new.variance if new and not (entry and entry.is_heavy) else None,
        "baseline_replicates": entry.replicates if entry else None,
        "screen_replicates": case.first.statistics.replicates if case.first else None,
        "screen_seed": case.first.seed if case.first else None,
        "confirm_replicates": case.second.statistics.replicates if case.second else None,
        "confirm_seed": case.second.seed if case.second else None,
        "evaluations": (case.evaluations.f, case.evaluations.df) if case.evaluations else None,
        "baseline_evaluations": entry.evaluations if entry else None,
    }


def _costlier(case: Case) -> str | None:
    """Return how an estimate evaluates f or df/dx more often than in the baseline; None if it does not."""
    now, was = case.evaluations, case.entry.evaluations if case.entry else None
    if now is None or was is None or not now.constant or (now.f <= was[0] and now.df <= was[1]):
        return None
    return f"an estimate takes {evaluations_text(now.f, now.df)} instead of {evaluations_text(*was)}"


def _evaluation_notes(case: Case) -> list[str]:
    """Return notes on numbers of evaluations that have changed without growing."""
    now, was = case.evaluations, case.entry.evaluations if case.entry else None
    if now is None or was is None or (now.f, now.df) == was:
        return []
    if not now.constant:
        return ["the number of evaluations of f changes from call to call, and was not compared"]
    said = f"an estimate takes {evaluations_text(now.f, now.df)} instead of {evaluations_text(*was)}"
    return [f"cheaper: {said}; `bench baseline promote` guards that"]


def evaluations_text(f: float, df: float) -> str:
    """Return the numbers ``f`` and ``df`` of evaluations as text, such as ``4 evaluations of f and 1 of df/dx``."""
    return f"{f:g} evaluation{'' if f == 1 else 's'} of f" + (f" and {df:g} of df/dx" if df else "")


def _change(entry: Entry, new: Entry) -> float | None:
    """Return the variance or, for a heavy tail, the truncated variance over the baseline's; None if undefined."""
    if not entry.is_heavy:
        return new.variance / entry.variance if entry.variance else None
    cut = entry.truncated_at is not None and entry.truncated_at == new.truncated_at
    return new.truncated_mean / entry.truncated_mean if cut and new.truncated_mean and entry.truncated_mean else None


def _both(case: Case) -> tuple[Entry, Sample]:
    if case.entry is None or case.first is None:
        raise ValueError(f"{case.label} has no entry or no first measurement. Set its fate.")
    return case.entry, case.first


def _p_bias(entry: Entry, sample: Sample) -> float | None:
    """Return the p-value of the bias; None unless the cell is declared unbiased and its variance exists."""
    declared = entry.unbiased or sample.statistics.unbiased
    return sample.statistics.p_bias if declared and sample.is_reliable else None


def _is_improved(entry: Entry, first: Sample, margin: float, cells: int) -> bool:
    new = first.statistics
    return not (entry.is_heavy or new.is_heavy) and is_stale(entry.gate, new.gate, margin, ALPHA_VARIANCE / cells)


def _moved(entry: Entry, new: Entry) -> bool:
    """Tell whether a gradient without noise is further off than in the baseline, by more than rounding explains."""
    return (new.bias_norm or 0.0) > ROUNDING * (entry.bias_norm or 0.0)


def _growth(entry: Entry, new: Entry) -> str:
    if entry.is_heavy:
        change = _change(entry, new)
        return "no variance to compare" if change is None else f"truncated variance times {change:.3g}"
    if entry.variance == new.variance == 0:
        return "nothing varies"
    said = f"{entry.variance:.4g} to {new.variance:.4g}"
    if entry.variance == 0 or new.variance == 0:
        return f"variance {said}"
    return f"variance times {new.variance / entry.variance:.3g} ({said})"


def off_text(found: Entry | Summary) -> str:
    """Return the bias of a measurement as text, such as ``its mean is off by about 3.1% of the exact gradient``.

    The size of the bias is corrected for noise. The scale is the component of the mean gradient along the exact one,
    divided by the norm of the exact one. If it is known, the text also has the scale with its 95 % limits:
    ``, and 1.03 ± 0.01 times as long in its direction``.
    """
    size = max(found.bias_squared or 0.0, 0.0) ** 0.5
    if not found.exact_norm:
        return f"its mean is off by about {size:.3g}, from an exact gradient of 0"
    off = f"its mean is off by about {size / found.exact_norm:.1%} of the exact gradient"
    if found.scale is None:
        return off
    scale = format_estimate(found.scale, found.scale_low, found.scale_high)
    return f"{off}, and {scale} times as long in its direction"


def _notes(entry: Entry, first: Sample, flags: Flags) -> list[str]:
    new, notes = first.statistics, []
    if flags.test.outcome is CellOutcome.TESTED and flags.test.reason:
        notes.append(flags.test.reason)
    if flags.test.outcome is CellOutcome.TESTED and flags.test.p_truncated is None and entry.variance:
        notes.append(UNTRUNCATED)
    if entry.is_heavy and flags.test.outcome is CellOutcome.TESTED:
        notes.append("heavy tail: only the variance truncated at the baseline's 99 % quantile is compared")
    if entry.unbiased != new.unbiased:
        was, now = ("unbiased", "biased") if entry.unbiased else ("biased", "unbiased")
        notes.append(f"was declared {was} and is now declared {now}")
    if (entry.unbiased or new.unbiased) and flags.p_bias is None:
        why = "the variance may be infinite" if not first.is_reliable else "there is no gradient to compare with"
        notes.append(f"the bias was not tested: {why}")
    return notes
