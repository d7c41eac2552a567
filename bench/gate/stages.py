"""The stages of a check: cells with equal fingerprints pass, the others are screened, flagged cells are confirmed."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.execution.objectives import check_apart
from bench.execution.pool import Pool
from bench.execution.progress import Progress, Silent
from bench.gate.baseline import Baseline, Entry, entry_of
from bench.gate.changes import same_statistics
from bench.gate.decide import decide, screen
from bench.gate.findings import UNCOMPARED, Case, Evaluations, Finding, Sample, Verdict
from bench.gate.measure import evaluations_vary, first_draws, measure_cell
from bench.gate.select import Picked, Selection
from bench.gate.speed import judge
from bench.measurement.summaries import OnProgress
from bench.planning.selectors import UsageError
from bench.planning.settings import SMALLEST_DRAW, Settings
from bench.records.environment import commit_of, version
from bench.records.lines import LineKind, Lost, Outcome, Record
from bench.records.seeds import draw_seed
from bench.records.text import message
from bench.stats.gate import SCREENING, STAGE_TWO_FACTOR
from estimators import Refusal

Speed = Literal["off", "advisory", "fail"]


@dataclass(frozen=True)
class Options:
    """The options of a check, which compares cells with a baseline, the file of accepted statistics.

    A check of one cell (an estimator on an objective) has up to three steps. First, its gradients for a few replicates
    are computed with the baseline's seed. If their digest is that of the baseline, the gradients are unchanged; the
    cell passes and is not measured further. If the digests differ, a first stage measures the cell. If the first stage
    finds something suspicious, a second stage measures the cell again.

    Args:
        replicates: replicates of the first stage; None for a tenth of the replicates in the baseline. The second stage
            has four times the replicates of the first.
        seed: seed of the first stage; None for the seed of the baseline. If the seed is not the baseline's, no
            gradients are compared, and every cell is measured.
        margin: relative growth of the variance that passes, 0.1 for 10 %. None for 5 %, or 10 % for a cell whose
            squared gradient norms vary a lot.
        device: "cpu" or "cuda"; None for the device of the baseline. If the device is not the baseline's, no gradients
            are compared, and every cell is measured.
        strict: whether cells that could not be judged fail the build.
        remeasure: whether to measure also the cells whose gradients are equal, and compare their statistics with those
            in the baseline.
        study: a study folder of gradients that were made elsewhere, such as in JAX, to check in place of measuring
            cells; None to measure.
        speed: "off" to time nothing; "advisory" to report cells that became slower; "fail" to fail the build for slower
            cells.

    Raises:
        UsageError: fewer replicates than the smallest draw (batch), or a margin outside [0, 10).
    """

    replicates: int | None = None
    seed: int | None = None
    margin: float | None = None
    device: str | None = None
    strict: bool = False
    remeasure: bool = False
    speed: Speed = "off"
    study: Path | None = None

    def __post_init__(self) -> None:
        if self.replicates is not None and self.replicates < SMALLEST_DRAW:
            got = f"(got {self.replicates})."
            raise UsageError(f"The gate needs at least {SMALLEST_DRAW} replicates {got}")
        if self.margin is not None and not 0 <= self.margin < 10:
            raise UsageError(f"The margin must be a fraction, such as 0.1 for 10 % (got {self.margin}).")


@dataclass(frozen=True)
class Report:
    """The result of a check. A check measures cells and, in a second stage, the suspicious ones again.

    Args:
        findings: one per cell, an estimator on an objective.
        cells: number of cells in the baseline, the file of accepted statistics. p-values are corrected for this number
            of tests.
        commit: commit of the user's code or, if there is none, the version of this package. The seed of the second
            stage is derived from ``commit`` and the cell.
        options: the options of the check.
    """

    findings: list[Finding]
    cells: int
    commit: str
    options: Options

    @property
    def compared(self) -> int:
        """Number of cells whose variance was compared with the accepted one in the baseline."""
        return sum(finding.verdict not in UNCOMPARED for finding in self.findings)

    @property
    def untimed(self) -> bool:
        """Whether slower cells were to fail the check (``--speed=fail``), but no cell's speed could be compared."""
        judged = any(finding.speed in ("slower", "unchanged") for finding in self.findings)
        return self.options.speed == "fail" and not judged

    @property
    def counts(self) -> Counter[Verdict]:
        """Number of cells with each verdict."""
        return Counter(finding.verdict for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """Exit code of ``bench check``: the first of 3, 1, 4 and 0 whose condition holds.

        A cell is an estimator on an objective; ``speed`` and ``strict`` are options of the check.

        - 3: a fault was confirmed, or a cell of the baseline is missing.
        - 1: a cell could not be measured.
        - 4: no cell was compared; or ``speed`` is "fail" and no cell's speed was compared; or ``strict`` is True and a
          cell could not be judged.
        - 0: the check has passed.
        """
        slower = self.options.speed == "fail" and any(finding.speed == "slower" for finding in self.findings)
        if slower or any(finding.fails for finding in self.findings):
            return 3
        if self.counts[Verdict.FAILED]:
            return 1
        unjudged = self.counts[Verdict.INCONCLUSIVE] + self.counts[Verdict.NOT_GATEABLE]
        return 4 if not self.compared or self.untimed or (self.options.strict and unjudged) else 0


def check(
    baseline: Baseline, selection: Selection, options: Options, progress: Progress, pool: Pool | None = None
) -> Report:
    """Measure the cells of a selection, and return a report on their differences from the accepted statistics.

    Args:
        baseline: the accepted statistics.
        selection: the cells, estimators on objectives.
        options: how many replicates are taken, and what fails the check.
        progress: is told which cell begins, how many of its replicates are done, and when it ends.
        pool: has the workers in which cells with a user's code are measured; None to measure all cells in this process.

    Raises:
        UsageError: the device is "cuda", but there is no CUDA device; or an objective is at fault.
    """
    checker = _Checker(baseline, options)
    for _, picked in selection.cells:
        check_apart(picked.cell.objective, pool)
    fates = {False: Verdict.MISSING, True: Verdict.FAILED}
    cases = [Case(m.entry.cell, m.label, m.entry, fate=fates[m.is_broken], reason=m.reason) for m in selection.missing]
    why = "not in the baseline; `bench baseline promote` adds it"
    cases += [Case(p.cell.id, p.label, None, fate=Verdict.NEW, reason=why) for p in selection.new]
    progress.start(len(selection.cells), 0)
    try:
        for entry, picked in selection.cells:
            progress.cell(picked.label)
            cases.append(_measured(_Comparison(checker, entry, picked), progress, pool))
            progress.finish(_line(cases[-1], entry))
    finally:
        progress.end()
    findings = decide(cases, cells=len(baseline.cells), confirming=STAGE_TWO_FACTOR * checker.settings.replicates)
    words = (
        judge(selection.cells, checker.baseline, pool.cell_timeout if pool else None) if options.speed != "off" else {}
    )
    for i, f in enumerate(findings):
        if f.cell in words and f.verdict not in (Verdict.MISSING, Verdict.FAILED):
            findings[i] = replace(f, speed=words[f.cell][0], speed_note=words[f.cell][1])
    return Report(findings, len(baseline.cells), checker.commit, options)


def commit_here() -> str:
    """Return the commit of the user's code or, if there is none, the version of this package."""
    return commit_of(Path()) or f"version {version('stochgrad-bench')}"


class _Checker:
    """Measures a cell, as the options say."""

    def __init__(self, baseline: Baseline, options: Options) -> None:
        setting = baseline.setting
        self.options = options
        self.commit = commit_here()
        self.baseline = replace(setting, device=options.device or setting.device)
        self.baseline.check_device()
        self.same_noise = options.seed in (None, setting.seed) and options.device in (None, setting.device)
        self.settings = replace(
            self.baseline,
            replicates=options.replicates or max(SMALLEST_DRAW, setting.replicates // SCREENING),
            seed=setting.seed if options.seed is None else options.seed,
            adapt_seed=setting.seed,  # the accepted variance belongs to one learned state
        )

    def case(self, case: Case, entry: Entry, picked: Picked, progress: OnProgress) -> Case:
        """Return the case of a cell, after the stages that it needs."""
        if self.same_noise and (settled := self._compare_samples(case, entry, picked, progress)):
            return settled
        case = self._stage(case, entry, picked, "first", self.settings, progress)
        flags = screen(case) if case.fate is None else None
        if flags and (flags.variance or flags.bias):
            fresh = draw_seed(self.settings.seed, "confirm", [self.commit, entry.cell], 0)
            second = replace(self.settings, replicates=STAGE_TWO_FACTOR * self.settings.replicates, seed=fresh)
            case = self._stage(case, entry, picked, "second", second, progress)
        return case

    def _compare_samples(self, case: Case, entry: Entry, picked: Picked, progress: OnProgress) -> Case | None:
        """Return the settled case if the first draws are the baseline's samples or the estimator refuses; else None."""
        settings = replace(self.baseline, replicates=entry.replicates)
        try:
            drawn = first_draws(picked.cell, settings)
        except Refusal as refusal:
            return replace(case, fate=Verdict.MISSING, reason=message(str(refusal)))
        except Exception:
            return None  # the first stage fails in the same way, and says how
        if drawn.fingerprint != entry.fingerprint:
            return None
        case = self._with_evaluations(case, entry, picked, drawn.evaluations)
        if self.options.remeasure or drawn.are_all:
            line = measure_cell(picked.cell, settings, progress)
            if line["outcome"] == Outcome.MEASURED and not same_statistics(entry, _again(entry, line)):
                why = (
                    f"the samples equal the baseline's, but the statistics differ (variance {entry.variance!r} in the "
                    f"baseline, {line['summary']['variance']!r} now): the harness has changed or is faulty, not the "
                    "estimator"
                )
                return replace(case, fate=Verdict.FAILED, reason=why)
        return replace(case, fate=Verdict.IDENTICAL, reason="the same samples")

    def _stage(
        self,
        case: Case,
        entry: Entry,
        picked: Picked,
        stage: Literal["first", "second"],
        settings: Settings,
        progress: OnProgress,
    ) -> Case:
        line = measure_cell(picked.cell, settings, progress, entry.truncated_at, heavy=entry.is_heavy)
        if line["outcome"] != Outcome.MEASURED:  # the estimator refused, or failed
            fate = Verdict.FAILED if line["outcome"] == Outcome.FAILED else Verdict.MISSING
            return replace(case, fate=fate, reason=line["reason"])
        sample = Sample(_again(entry, line), settings.seed, line["summary"]["verdict"])
        if stage == "second":
            return replace(case, second=sample)
        evaluations = (line["f_evals"], line["grad_evals"])
        return self._with_evaluations(replace(case, first=sample), entry, picked, evaluations)

    def _with_evaluations(self, case: Case, entry: Entry, picked: Picked, found: tuple[float, float]) -> Case:
        """Return the case with its evaluations of f and of df/dx, if the baseline has them to compare with."""
        if entry.evaluations is None:
            return case
        varies = found != entry.evaluations and evaluations_vary(picked.cell, self.settings)
        return replace(case, evaluations=Evaluations(*found, constant=not varies))


@dataclass(frozen=True)
class _Comparison:
    """The comparison of a cell with its entry in the baseline, as work for a worker process."""

    checker: _Checker
    entry: Entry
    picked: Picked

    @property
    def start(self) -> Case:
        """The case before anything is measured."""
        return Case(self.entry.cell, self.picked.label, self.entry, self.checker.options.margin)

    def record(self, progress: Progress | None = None, _pool: Any = None) -> Case:
        """Measure the cell, and return its case."""
        return self.checker.case(self.start, self.entry, self.picked, (progress or Silent()).block)


def _measured(work: _Comparison, progress: Progress, pool: Pool | None) -> Case:
    """Return the case of a cell, measured in a worker of the pool, if there is one, if it runs a user's code."""
    try:
        if pool is not None and pool.guards(work.picked.cell):
            return pool.ask(work, progress)  # type: ignore[no-any-return]
        return work.record(progress)
    except Lost as lost:
        return replace(work.start, fate=Verdict.FAILED, reason=message(str(lost)))


def _line(case: Case, entry: Entry) -> Record:
    """Return what progress is told about a case."""
    outcome = Outcome.FAILED if case.fate is Verdict.FAILED else Outcome.MEASURED
    halves = {"estimator": entry.estimator, "objective": entry.objective}
    return {"kind": LineKind.MOMENTS, "outcome": outcome, "reason": case.reason, **halves}


def _again(entry: Entry, line: Record) -> Entry:
    return entry_of(line, entry.estimator, entry.objective)
