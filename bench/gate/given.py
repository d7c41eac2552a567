"""Baselines of gradients that were made elsewhere, and checks of newer gradients against them.

Both are made from the records of a study. Gradients that were made elsewhere cannot be drawn again, so a check of them
has one stage only. Its tests have the level of the second stage of other checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.gate.baseline import Baseline, Entry, assemble, entry_of
from bench.gate.changes import same_statistics
from bench.gate.decide import UNTRUNCATED, decide
from bench.gate.findings import Case, Evaluations, Finding, Sample, Verdict
from bench.gate.stages import Options, Report, commit_here
from bench.planning.selectors import UsageError, parse
from bench.planning.settings import Settings
from bench.records import store
from bench.records.lines import GIVEN, LineKind, Outcome, Record


def read(study: Path) -> list[Record]:
    """Return the moments records of the given gradients in a study folder.

    Given gradients were made elsewhere, such as in JAX, and have a name and a problem. A moments record has their bias,
    variance and other statistics. Of several records with the same name and problem, only the last one is returned.

    Raises:
        UsageError: the gradients have several dtypes, or a name that a baseline cannot hold.
        Damaged: the records cannot be read.
    """
    wanted = {"kind": LineKind.MOMENTS, "outcome": Outcome.MEASURED, "family": GIVEN}
    lines = (line for line in store.read(study) if all(line.get(key) == value for key, value in wanted.items()))
    found = list({line["cell"]: line for line in lines}.values())
    dtypes = sorted({line["dtype"] for line in found})
    if len(dtypes) > 1:
        raise UsageError(
            f"{study} has gradients in {' and '.join(dtypes)}: a baseline has one dtype. Keep two studies."
        )
    for name in (line[half] for line in found for half in ("estimator", "objective")):
        if ":" in name or parse(name).file:
            raise UsageError(
                f"{name!r} cannot be a name in a baseline, where a colon or .py at the end would mean code. Measure "
                "the gradients under another name."
            )
    return found


def baseline_of(lines: Sequence[Record]) -> Baseline:
    """Return a baseline, the file of accepted statistics, made of one or more records of given gradients.

    Given gradients were made elsewhere, such as in JAX.
    """
    first = lines[0]
    settings = Settings(
        min(line["replicates"] for line in lines), first["seed"], first["dtype"], first["device"], common_noise=False
    )
    return assemble(settings, map(_entry, lines), given=True)


def fitting(baseline: Baseline, study: Path) -> list[Record]:
    """Check that the given gradients in a study folder fit a baseline, and return their records.

    A baseline is the file of accepted statistics. Given gradients were made elsewhere, such as in JAX. The result has
    at least one record.

    Raises:
        UsageError: the baseline has estimators in place of given gradients, or the study has no gradients in the
            baseline's dtype.
        Damaged: the records cannot be read.
    """
    if not baseline.given:
        raise UsageError("The baseline is one of estimators, which are measured here: leave out --from.")
    lines = read(study)
    if not lines:
        raise UsageError(f"{study} has no gradients of `bench measure --gradients FILE.npy --out {study}`.")
    if lines[0]["dtype"] != baseline.setting.dtype:
        raise UsageError(f"The baseline has gradients in {baseline.setting.dtype}, and {study} in {lines[0]['dtype']}.")
    return lines


def check(baseline: Baseline, study: Path, options: Options, wanted: str | None = None) -> Report:
    """Compare the given gradients in a study folder with a baseline of given gradients, and return the report.

    Given gradients were made elsewhere, such as in JAX.

    Args:
        baseline: the file of accepted statistics.
        study: the study folder.
        options: the margin, and which findings fail the check.
        wanted: the label of a cell, such as ``grouped on policy``, or the beginning of its id. The report is then on
            this cell alone. None for all cells.

    Raises:
        UsageError: the baseline has estimators in place of given gradients; the study has no gradients in the
            baseline's dtype; or there is no cell ``wanted``.
        Damaged: the records cannot be read.
    """
    lines = {line["cell"]: line for line in fitting(baseline, study)}
    cases = [_case(entry, lines.get(entry.cell), options) for entry in baseline.cells]
    known = {entry.cell for entry in baseline.cells}
    why = "not in the baseline; `bench baseline promote` adds it"
    labels = {cell: f"{line['estimator']} on {line['objective']}" for cell, line in lines.items()}
    cases += [
        Case(cell, label, None, fate=Verdict.NEW, reason=why) for cell, label in labels.items() if cell not in known
    ]
    confirming = min(line["replicates"] for line in lines.values())
    findings = [_fitting(found) for found in decide(cases, cells=len(baseline.cells), confirming=confirming)]
    if wanted is not None:
        findings = [found for found in findings if found.label == wanted or found.cell.startswith(wanted)]
        if len(findings) != 1:
            raise UsageError(f"{wanted!r} is no cell here. Give a label such as {cases[0].label!r}, or an id.")
    return Report(findings, len(baseline.cells), commit_here(), options)


def _entry(line: Record) -> Entry:
    return entry_of(line, line["estimator"], line["objective"]).untruncated()  # new gradients have no such cut


def _case(entry: Entry, line: Record | None, options: Options) -> Case:
    """Return the case of an entry; its one sample is that of both stages, so the stricter second one decides."""
    case = Case(entry.cell, entry.label, entry, options.margin)
    if line is None:
        why = "the study has no gradients of this name, this problem and this exact gradient"
        return replace(case, fate=Verdict.MISSING, reason=why)
    now = _entry(line)
    case = replace(case, evaluations=Evaluations(line["f_evals"], line["grad_evals"]))
    if now.fingerprint == entry.fingerprint and same_statistics(entry, now):
        return replace(case, fate=Verdict.IDENTICAL, reason="the same gradients")
    sample = Sample(now, line["seed"], line["summary"]["verdict"])
    return replace(case, first=sample, second=sample)


def _fitting(found: Finding) -> Finding:
    """Return a finding with the words that fit given gradients, of which nothing is truncated."""
    notes = [note for note in found.notes if note != UNTRUNCATED]
    if found.verdict is Verdict.NOT_GATEABLE:
        return replace(found, notes=notes, reason="a heavy tail: given gradients have no truncated variance to compare")
    return replace(found, notes=notes)
