"""The stages of a check: equal fingerprints pass, other cells are screened, flagged cells are confirmed."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.execution.progress import Progress
from bench.gate.baseline import Baseline, Entry, entry_of
from bench.gate.changes import same_statistics
from bench.gate.decide import UNCOMPARED, Case, Finding, Sample, Verdict, decide, screen
from bench.gate.measure import first_draws, measure_cell
from bench.gate.select import Picked, Selection
from bench.gate.speed import judge
from bench.planning.selectors import UsageError
from bench.planning.settings import SMALLEST_DRAW, Settings
from bench.records.environment import commit_of, version
from bench.records.lines import LineKind, Outcome, Record
from bench.records.seeds import draw_seed
from bench.stats.gate import STAGE_TWO_FACTOR
from estimators import Refusal

SCREENING = 10
"""Replicates of the baseline for each replicate of the first stage."""
Speed = Literal["off", "advisory", "fail"]


@dataclass(frozen=True)
class Options:
    """How a check is made.

    Args:
        replicates: of the first stage; a tenth of the baseline's when None. A confirmation has four times as many.
        seed: seed of the first stage; the baseline's when None. With another seed every cell is tested.
        margin: growth of the variance that passes; 5 or 10 %, depending on the cell, when None.
        device: "cpu" or "cuda"; the baseline's when None.
        strict: whether cells that could not be judged fail the build.
        remeasure: whether to measure cells with equal fingerprints again, and compare their statistics.
        speed: whether to compare costs too, and whether they can fail the build.

    Raises:
        UsageError: too few replicates, or a margin that is no fraction.
    """

    replicates: int | None = None
    seed: int | None = None
    margin: float | None = None
    device: str | None = None
    strict: bool = False
    remeasure: bool = False
    speed: Speed = "off"

    def __post_init__(self) -> None:
        if self.replicates is not None and self.replicates < SMALLEST_DRAW:
            got = f"(got {self.replicates}): the smallest draw."
            raise UsageError(f"The gate needs at least {SMALLEST_DRAW} replicates {got}")
        if self.margin is not None and not 0 <= self.margin < 10:
            raise UsageError(f"The margin is a fraction, such as 0.1 for 10 % (got {self.margin}).")


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        findings: one per cell.
        cells: number of cells in the baseline, for which p-values are corrected.
        commit: the commit of the user's code, or the version of this package. With the cell, it gives the seed of the
            second stage.
        options: how the check was made.
    """

    findings: list[Finding]
    cells: int
    commit: str
    options: Options

    @property
    def compared(self) -> int:
        """Number of cells whose variance was compared with the baseline's."""
        return sum(finding.verdict not in UNCOMPARED for finding in self.findings)

    @property
    def counts(self) -> Counter[Verdict]:
        """The number of cells with each verdict."""
        return Counter(finding.verdict for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """3 for a confirmed fault, 1 for a failed cell, 4 if nothing (if strict: not all) was judged, else 0."""
        slower = self.options.speed == "fail" and any(finding.speed == "slower" for finding in self.findings)
        if slower or any(finding.fails for finding in self.findings):
            return 3
        if self.counts[Verdict.FAILED]:
            return 1
        unjudged = self.counts[Verdict.INCONCLUSIVE] + self.counts[Verdict.NOT_GATEABLE]
        return 4 if not self.compared or (self.options.strict and unjudged) else 0


def check(baseline: Baseline, selection: Selection, options: Options, progress: Progress) -> Report:
    """Compare the cells of a selection with their baseline.

    Raises:
        UsageError: the device is "cuda", and there is no CUDA device.
    """
    checker = _Checker(baseline, options, progress)
    cases = [Case(m.entry.cell, m.label, m.entry, fate=Verdict.MISSING, reason=m.reason) for m in selection.missing]
    why = "not in the baseline; `bench baseline promote` takes it in"
    cases += [Case(p.cell.id, p.label, None, fate=Verdict.NEW, reason=why) for p in selection.new]
    progress.start(len(selection.cells), 0)
    try:
        cases += [checker.case(entry, picked) for entry, picked in selection.cells]
    finally:
        progress.end()
    findings = decide(cases, cells=len(baseline.cells), confirming=STAGE_TWO_FACTOR * checker.settings.replicates)
    words = judge(selection.cells, checker.settings) if options.speed != "off" else {}
    for i, f in enumerate(findings):
        if f.cell in words and f.verdict not in (Verdict.MISSING, Verdict.FAILED):
            findings[i] = replace(f, speed=words[f.cell][0], speed_note=words[f.cell][1])
    return Report(findings, len(baseline.cells), checker.commit, options)


class _Checker:
    """Measures one cell after another, as the options say."""

    def __init__(self, baseline: Baseline, options: Options, progress: Progress) -> None:
        setting = baseline.setting
        self.options, self.progress = options, progress
        self.commit = commit_of(Path()) or f"version {version('stochgrad-bench')}"
        self.baseline = replace(setting, device=options.device or setting.device)
        self.baseline.check_device()
        self.same_noise = options.seed in (None, setting.seed) and options.device in (None, setting.device)
        self.settings = replace(
            self.baseline,
            replicates=options.replicates or max(SMALLEST_DRAW, setting.replicates // SCREENING),
            seed=setting.seed if options.seed is None else options.seed,
            adapt_seed=setting.seed,  # the variance that was accepted is that of one state
        )

    def case(self, entry: Entry, picked: Picked) -> Case:
        """Return the case of a cell, after the stages that it needs."""
        self.progress.cell(picked.label)
        case = self._measure(Case(entry.cell, picked.label, entry, self.options.margin), entry, picked)
        outcome = Outcome.FAILED if case.fate is Verdict.FAILED else Outcome.MEASURED
        halves = {"estimator": entry.estimator, "objective": entry.objective}
        self.progress.finish({"kind": LineKind.MOMENTS, "outcome": outcome, "reason": case.reason, **halves})
        return case

    def _measure(self, case: Case, entry: Entry, picked: Picked) -> Case:
        if self.same_noise and (settled := self._compare_samples(case, entry, picked)):
            return settled
        case = self._stage(case, entry, picked, "first", self.settings)
        flags = screen(case) if case.fate is None else None
        if flags and (flags.variance or flags.bias):
            fresh = draw_seed(self.settings.seed, "confirm", [self.commit, entry.cell], 0)
            second = replace(self.settings, replicates=STAGE_TWO_FACTOR * self.settings.replicates, seed=fresh)
            case = self._stage(case, entry, picked, "second", second)
        return case

    def _compare_samples(self, case: Case, entry: Entry, picked: Picked) -> Case | None:
        """Return the settled case if the first draws are the baseline's samples or the estimator refuses; else None."""
        settings = replace(self.baseline, replicates=entry.replicates)
        try:
            drawn, all_draws = first_draws(picked.cell, settings)
        except Refusal as refusal:
            return replace(case, fate=Verdict.MISSING, reason=str(refusal))
        except Exception:
            return None  # the first stage fails in the same way, and says how
        if drawn != entry.fingerprint:
            return None
        if self.options.remeasure or all_draws:
            line = measure_cell(picked.cell, settings, self.progress.block)
            if line["outcome"] == Outcome.MEASURED and not same_statistics(entry, _again(entry, line)):
                why = (
                    f"the samples are the baseline's and the statistics are not (variance {entry.variance!r} in the "
                    f"baseline, {line['summary']['variance']!r} now): the harness has changed or is faulty, not the "
                    "estimator"
                )
                return replace(case, fate=Verdict.FAILED, reason=why)
        return replace(case, fate=Verdict.IDENTICAL, reason="the same samples")

    def _stage(
        self, case: Case, entry: Entry, picked: Picked, stage: Literal["first", "second"], settings: Settings
    ) -> Case:
        line = measure_cell(picked.cell, settings, self.progress.block, entry.truncated_at, heavy=entry.is_heavy)
        if line["outcome"] != Outcome.MEASURED:  # the estimator refused, or failed
            fate = Verdict.FAILED if line["outcome"] == Outcome.FAILED else Verdict.MISSING
            return replace(case, fate=fate, reason=line["reason"])
        sample = Sample(_again(entry, line), settings.seed, line["summary"]["verdict"])
        return replace(case, first=sample) if stage == "first" else replace(case, second=sample)


def _again(entry: Entry, line: Record) -> Entry:
    return entry_of(line, entry.estimator, entry.objective)
