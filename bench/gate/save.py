"""New baselines: measured, promoted from an old baseline, or read from the records of a study."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench.execution.objectives import check_apart
from bench.execution.pool import Pool
from bench.execution.progress import Progress, Silent
from bench.execution.rehearsal import require_sound
from bench.gate import given
from bench.gate.baseline import SETTING, Baseline, Entry, assemble, entry_of
from bench.gate.measure import measure_for_baseline
from bench.gate.select import Picked, Selection, pick
from bench.gate.speed import baseline_costs
from bench.measurement.lines import failed, head
from bench.planning.cells import Cell
from bench.planning.plans import specs_of
from bench.planning.selectors import UsageError
from bench.planning.settings import SMALLEST_DRAW, Settings
from bench.planning.spec import FILE
from bench.records import store
from bench.records.code import code_digest
from bench.records.environment import environment
from bench.records.identity import digest
from bench.records.lines import LineKind, Outcome, Record


class Loss(NamedTuple):
    """A cell (an estimator on an objective) that could not be measured.

    ``outcome`` is "failed" if the code raised an exception or its process died, and "skipped" if the estimator does not
    fit the objective. ``label`` is the cell's readable name, and ``reason`` says what went wrong.
    """

    outcome: Outcome
    label: str
    reason: str


@dataclass(frozen=True)
class Draft:
    """A baseline that is not written yet. ``lost`` has the cells that could not be measured.

    A baseline is the gate's file of accepted statistics, one entry per cell (an estimator on an objective).
    """

    baseline: Baseline
    lost: list[Loss]


def work_folder(path: Path) -> Path:
    """Return the folder that keeps the records of cells while a baseline is measured. It lies beside the baseline.

    A cell is an estimator on an objective, a baseline the gate's file of accepted statistics; ``path`` is this file.
    """
    return path.with_suffix(".unfinished")


@dataclass(frozen=True)
class _Measurement:
    """The measurement of a cell for a baseline, as work for a worker process. ``keep`` is the folder of its sums."""

    cell: Cell
    settings: Settings
    adaptive: bool
    keep: Path

    def record(self, progress: Progress | None = None, _pool: Any = None) -> Record:
        """Measure the cell, and return its moments record."""
        told = (progress or Silent()).block
        return measure_for_baseline(self.cell, self.settings, told, adaptive=self.adaptive, keep=self.keep)

    def failed(self, reason: str) -> Record:
        """Return a moments record that says why the cell could not be measured."""
        return failed(head(self.cell, self.settings, LineKind.MOMENTS), reason)


def measure(
    picked: Sequence[Picked],
    settings: Settings,
    path: Path,
    progress: Progress,
    pool: Pool,
    *,
    adaptive: bool,
    speed: bool,
    fresh: bool = False,
) -> Draft:
    """Measure cells (estimators on objectives), and return the draft of a new baseline, which is not written.

    A baseline is the gate's file of accepted statistics. Until it is written, ``work_folder`` keeps the record of each
    measured cell. After an interruption, a cell with such a record is not measured again, unless the settings, its code
    or the versions of packages have changed.

    Args:
        picked: the cells.
        settings: how they are measured.
        path: the file of the baseline; the paths of users' files are stored relative to its folder.
        progress: is told which cell begins, how many of its replicates are done, and when it ends.
        pool: has the worker process that measures the cells with a user's code.
        adaptive: whether each cell gets at least 1e5 replicates, and 4e5 if its squared norms vary a lot.
        speed: whether the cells are timed too.
        fresh: whether to ignore the cells that an interrupted command has kept.

    Raises:
        UsageError: the settings name a CUDA device, but there is none; or an objective is at fault.
        Damaged: the records in the work folder cannot be read.
        OSError, Busy: the work folder cannot be written.
    """
    settings.check_device()
    for p in picked:
        check_apart(p.cell.objective, pool)
    lines, work, folder = list[Record](), work_folder(path), path.parent
    requests = [_request(p, settings, adaptive=adaptive) for p in picked]
    with store.Store(work) as kept:
        held = {} if fresh else {line.get("request"): line for line in store.read(work)}
        found = [held[request] for request in requests if request in held]
        progress.start(len(picked), len(found))
        if found:
            progress.stand(f"{len(found)} of {len(picked)} cells are here", found)
        try:
            for p, request in zip(picked, requests, strict=True):
                if request not in held:
                    progress.cell(p.label)
                    task = _Measurement(p.cell, settings, adaptive, work)
                    line = pool.record(task, progress) if pool.guards(p.cell) else task.record(progress)
                    held[request] = {**line, "request": request, "written": datetime.now(UTC).isoformat("T", "seconds")}
                    if line["outcome"] != Outcome.FAILED:
                        kept.append(held[request])
                    progress.finish(line)
                lines.append(held[request])
        finally:
            progress.end()
    costs = baseline_costs(picked, settings, pool.cell_timeout) if speed else {}
    entries = [
        _entry(line, p, folder, costs.get(line["cell"]))
        for line, p in zip(lines, picked, strict=True)
        if line["outcome"] == Outcome.MEASURED
    ]
    lost = [
        Loss(line["outcome"], p.label, line["reason"])
        for line, p in zip(lines, picked, strict=True)
        if line["outcome"] != Outcome.MEASURED
    ]
    return Draft(assemble(settings, entries), lost)


def _request(picked: Picked, settings: Settings, *, adaptive: bool) -> str:
    """Return a digest of all that the record of a cell in a baseline depends on."""
    here = {key: value for key, value in environment().items() if key != "commit"}
    code = code_digest(picked.cell.estimator, picked.cell.objective)
    return digest([picked.cell.id, code, asdict(settings), adaptive, here])


def promote(
    old: Baseline, selection: Selection, path: Path, progress: Progress, pool: Pool, *, speed: bool, fresh: bool = False
) -> Draft:
    """Measure the cells of a selection again, and return the draft of the renewed baseline, which is not written.

    A baseline is a file of accepted statistics, a cell an estimator on an objective. New cells of the selection are
    added, and selected cells that no longer exist are dropped. Cells outside the selection stay as they are; so do
    cells that could not be measured.

    Args:
        old: the baseline to renew.
        selection: the cells to measure.
        path: the file of the baseline.
        progress: is told which cell begins, how many of its replicates are done, and when it ends.
        pool: has the worker process that measures the cells with a user's code.
        speed: whether to time the cells; they are also timed if the old baseline has times of any of them.
        fresh: whether to ignore the cells that an interrupted command has kept in ``work_folder(path)``.

    Raises:
        UsageError: the baseline was measured on a CUDA device, but there is none; or an objective is at fault.
        Damaged: the records in the work folder cannot be read.
        OSError, Busy: the work folder cannot be written.
    """
    picked = [p for _, p in selection.cells] + selection.new
    speed = speed or any(entry.speed for entry, _ in selection.cells)
    adaptive = any(entry.replicates > 2 * old.setting.replicates for entry in old.cells)
    new = measure(picked, old.setting, path, progress, pool, adaptive=adaptive, speed=speed, fresh=fresh)
    gone = {missing.entry.cell for missing in selection.missing if not missing.is_broken}
    replaced = {entry.cell for entry in new.baseline.cells} | gone
    kept = [entry for entry in old.cells if entry.cell not in replaced]
    broken = [Loss(Outcome.FAILED, each.label, each.reason) for each in selection.missing if each.is_broken]
    return Draft(assemble(old.setting, [*kept, *new.baseline.cells]), [*new.lost, *broken])


def promote_given(old: Baseline, study: Path) -> Draft:
    """Return the draft of a baseline of given gradients: the old entries, or newer ones where a study has them.

    ``old`` is the old baseline. A baseline is the gate's file of accepted statistics; given gradients were made
    elsewhere, such as in JAX. ``study`` is the folder of the study.

    Raises:
        UsageError: the old baseline has estimators in place of given gradients, or the study has no gradients in the
            baseline's dtype.
        Damaged: the records cannot be read.
    """
    new = given.baseline_of(given.fitting(old, study))
    replaced = {entry.cell for entry in new.cells}
    kept = [entry for entry in old.cells if entry.cell not in replaced]
    return Draft(assemble(new.setting, [*kept, *new.cells], given=True), [])


def read_study(study: Path, folder: Path) -> Draft:
    """Return the draft of a baseline made from the records of a study: for each cell, the run with the most replicates.

    A baseline is a file of accepted statistics, a cell an estimator on an objective. Paths of users' files are stored
    relative to ``folder``, the baseline's folder. The settings are those of the study's last command. A cell of an
    earlier command counts if its settings are the same, except for the number of replicates.

    A study of gradients that were made elsewhere, such as in JAX, has no spec. Such gradients have a name and a
    problem. If several have the same name and problem, the baseline's entry is made from the last of them.

    Raises:
        UsageError: the study has neither a spec nor such gradients, or it has no measured cell of its spec.
        Damaged: the records cannot be read.
    """
    if not (study / FILE).exists() and (lines := given.read(study)):
        return Draft(given.baseline_of(lines), [])
    specs = specs_of(study)
    with Pool() as pool:
        for each in specs:
            require_sound(pool, each)
    spec = specs[-1].on_device()
    settings = replace(spec.settings(), replicates=max(SMALLEST_DRAW, spec.replicates))
    wanted = {"kind": LineKind.MOMENTS} | {key: getattr(settings, key) for key in SETTING if key != "replicates"}
    records = [r for r in store.read(study) if all(r.get(key) == value for key, value in wanted.items())]
    latest = {r["cell"]: r for r in sorted(records, key=lambda r: r["replicates"])}
    picked = {p.cell.id: p for each in specs for p in pick(each.estimators, each.objectives)}
    held = [(p, latest[cell]) for cell, p in picked.items() if cell in latest]
    entries = [_entry(line, p, folder) for p, line in held if line["outcome"] == Outcome.MEASURED]
    if not entries:
        raise UsageError(f"{study} holds no measured cell of its own spec. Run `bench run {study}` first.")
    entries = [entry.untruncated() if entry.is_heavy else entry for entry in entries]  # a study measures no pairs
    lost = [Loss(Outcome.FAILED, p.label, line["reason"]) for p, line in held if line["outcome"] == Outcome.FAILED]
    return Draft(assemble(settings, entries), lost)


def _entry(line: Record, picked: Picked, folder: Path, speed: Sequence[float] | None = None) -> Entry:
    estimator, objective = (str(half.relative_to(folder)) for half in (picked.estimator, picked.objective))
    return entry_of(line, estimator, objective, speed)
