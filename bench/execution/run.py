"""A run of a study: the spec is planned into cells, each cell is measured, and each measurement becomes a record."""

import functools
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from bench.execution.cluster.address import Dask
from bench.execution.objectives import examine
from bench.execution.progress import Progress
from bench.execution.rehearsal import require_sound
from bench.execution.study import StudyWriter
from bench.execution.tasks import MomentsTask, PilotTask, ReferenceTask, Task, TimingTask
from bench.measurement import reference
from bench.measurement.timing import CELL_SECONDS
from bench.objectives import Objective
from bench.planning import plans
from bench.planning.cells import Cell, Skip, plan
from bench.planning.selectors import NothingFits
from bench.planning.settings import Settings
from bench.planning.spec import Spec
from bench.records import unfinished
from bench.records.lines import USUAL, Outcome, Record, Rerun

STUDY_SECONDS = 6.0
"""Seconds that the timing of a study takes, shared by its cells, as long as each has ``LEAST_SECONDS``."""
LEAST_SECONDS = 0.03
"""Fewest seconds for the timing of a cell: enough for the shortest timing of fast calls."""


class Ran(NamedTuple):
    """The records after a run. Most of the sums over gradients in them are left out, because tables do not need them.

    Args:
        records: the records of all cells (estimators on objectives) of the specs: of measurements, of timings,
            and of cells that could not be measured.
        held: all records of the study folder.
        digest: digest of the measurements in the folder at the end of the run (``bench.records.store.digest``); empty
            before the end.
    """

    records: list[Record]
    held: list[Record]
    digest: str = ""


def run_study(
    spec: Spec | Sequence[Spec],
    folder: Path,
    progress: Progress,
    workers: int | Dask | None = 1,
    *,
    rerun: Collection[Rerun] = USUAL,
    cell_timeout: float | None = None,
    before_timing: Callable[[Ran], None] | None = None,
) -> Ran:
    """Measure every cell of a spec that has no record in a study folder yet, and return the records.

    A cell is an estimator on an objective. Each record is on disk when its cell ends: an interrupted run loses only the
    cells under way. By default, cells that failed, or whose code has changed, are measured again. If the spec asks for
    a precision, every cell is first measured in a pilot, a short run that finds the number of replicates. A pilot on
    record is not repeated. Timing comes last, when nothing else runs.

    Args:
        spec: estimators, objectives and settings; or several specs. The device of a spec is "cpu" or "cuda", as
            ``Spec.on_device`` returns it.
        folder: the study folder, created if it does not exist.
        progress: receives the events of the run.
        workers: number of processes that measure, each with one thread; None for as many as the processors and the work
            allow; or a Dask cluster. The results are the same for every choice. Timing always uses one process of this
            machine.
        rerun: which cells are measured again although the folder holds their records.
        cell_timeout: seconds without progress after which a worker process is ended, and its cell has failed. If it is
            given, all cells are measured in workers. If it is None, only cells with a user's code are, with a limit of
            half an hour.
        before_timing: called with the records when only timing is left to do; not called if no cell is to be timed.

    Raises:
        UsageError: an estimator or an objective cannot be created, or an objective is at fault.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
        Gone: the Dask cluster cannot go on.
        NothingFits: no estimator fits its objective. The folder stays as it is.
    """
    specs = [spec] if isinstance(spec, Spec) else spec
    whole = functools.reduce(lambda older, newer: newer.extending(older), specs)
    study = StudyWriter(whole, folder, progress, workers, rerun=rerun, cell_timeout=cell_timeout)
    with study.pool:
        require_sound(study.pool, whole)
        known = dict[Objective, Objective]()
        parts = [_Part.of(each, known) for each in specs]
        examined = examine(list(known), folder, study.pool, fresh=Rerun.ALL in rerun)
        if not any(part.cells or any(skip.failed for skip in part.skips) for part in parts):
            raise NothingFits(skip.reason for part in parts for skip in part.skips)
        return _run(study, parts, examined, before_timing)


@dataclass(frozen=True)
class _Part:
    """One spec of a study, planned into cells; with the tasks for them, and for the pairs that do not fit."""

    spec: Spec
    settings: Settings
    cells: list[Cell]
    skips: list[Skip]

    @classmethod
    def of(cls, spec: Spec, known: dict[Objective, Objective]) -> Self:
        """Plan a spec. Equal objectives of several specs are one instance, which ``known`` holds."""
        estimators, objectives = spec.instances()
        settings = spec.settings()
        settings.check_device()
        return cls(
            spec, settings, *plan(estimators, [known.setdefault(objective, objective) for objective in objectives])
        )

    @functools.cached_property
    def tasks(self) -> list[MomentsTask]:
        """The measurements whose number of replicates is fixed."""
        wanted = [] if self.spec.precision_target else self.cells
        return [MomentsTask(cell, self.settings) for cell in wanted]

    @functools.cached_property
    def refused(self) -> list[MomentsTask]:
        return [MomentsTask(skip.cell, self.settings) for skip in self.skips]

    @functools.cached_property
    def pilots(self) -> list[PilotTask]:
        target = self.spec.precision_target
        if target is None:
            return []
        most = replace(self.settings, replicates=target.max_replicates)
        return [PilotTask(cell, most, target=target) for cell in self.cells]

    @functools.cached_property
    def runs(self) -> list[str]:
        """Ids of the runs that are known before anything is measured: of the pilots, if a precision is wanted."""
        return [task.run_id for task in (*self.pilots, *self.tasks)]


def _run(
    study: StudyWriter,
    parts: Sequence[_Part],
    examined: Sequence[Record],
    before_timing: Callable[[Ran], None] | None,
) -> Ran:
    """Measure what the study folder lacks, and return the records."""
    with study:
        plans.keep(study.folder, [(part.spec, part.runs) for part in parts])
        for line in examined:
            study.keep(line)
        for part in parts:
            for task, skip in zip(part.refused, part.skips, strict=True):
                study.skip(task, skip)
        asked = [task for part in parts for task in (*part.pilots, *part.tasks)]
        with study.told(asked, {run for part in parts if part.spec.timing for run in part.runs}):
            tasks, lost = _with_pilots(study, [pilot for part in parts for pilot in part.pilots])
            tasks = [*(task for part in parts for task in part.tasks), *tasks]
            runs = {task.run_id for task in (*tasks, *lost, *(task for part in parts for task in part.refused))}
            untimed = _measure(study, tasks)
            if untimed and before_timing:
                study.progress.end()
                before_timing(Ran(study.records(runs), study.records()))
            _time(study, untimed)
        return Ran(study.records(runs), study.records(), study.digest())


def _with_pilots(study: StudyWriter, pilots: Sequence[PilotTask]) -> tuple[list[MomentsTask], list[Task]]:
    """Run the pilots that are lacking; return the measurements that they ask for, and the pilots that failed."""
    if not pilots:
        return [], []
    lacking = study.lacking(pilots)
    study.begin(pilots, lacking)
    study.execute(lacking)
    tasks, lost = list[MomentsTask](), list[Task]()
    for pilot in pilots:
        line = study.line(pilot)
        if line["outcome"] == Outcome.MEASURED:
            settings = replace(pilot.settings, replicates=line["planned_replicates"])
            tasks.append(MomentsTask(pilot.cell, settings, pilot=line))
        else:
            lost.append(pilot)
    return tasks, lost


def _measure(study: StudyWriter, tasks: Sequence[MomentsTask]) -> list[TimingTask]:
    """Measure what is lacking, references and moments, and return the cells that are still to be timed."""
    timing = [TimingTask(task.cell, task.settings) for task in tasks if task.settings.timing]
    measuring, untimed = study.lacking(tasks), study.lacking(timing)
    stand_ins = [ReferenceTask(*pair) for pair in _references([(task.cell, task.settings) for task in measuring])]
    references = study.lacking(stand_ins)
    study.begin([*tasks, *timing, *references], [*measuring, *untimed, *references])
    study.execute(references, one_by_one=True)
    found = {_served(task.cell, task.settings): reference.read(study.line(task)) for task in stand_ins}
    for task in measuring if Rerun.ALL in study.rerun else ():
        unfinished.remove(study.folder, task.run_id)
    place = study.folder.resolve()
    study.execute([replace(t, reference=found.get(_served(t.cell, t.settings)), folder=place) for t in measuring])
    # A record in the folder may come from a run without this pilot. The record of two pilots has the finer precision.
    coarse_first = sorted(tasks, key=lambda task: -task.pilot["precision"] if task.pilot else 0.0)
    finest = {task.run_id: task for task in coarse_first if task.pilot}
    changed = [task for task in finest.values() if task.with_pilot(study.line(task)) != study.line(task)]
    for task, line in zip(changed, study.whole(changed), strict=True):
        study.keep(task.with_pilot(line))
    study.stop()  # nothing may run beside the timing
    measured = {task.run_id for task in tasks if study.line(task)["outcome"] == Outcome.MEASURED}
    return [task for task in untimed if task.run_id in measured]


def _time(study: StudyWriter, tasks: Sequence[TimingTask]) -> None:
    """Time cells one by one. Time that a cell does not need is left for the cells that follow."""
    end = time.monotonic() + STUDY_SECONDS
    for waiting, task in zip(range(len(tasks), 0, -1), tasks, strict=True):
        share = (end - time.monotonic()) / waiting
        seconds = min(CELL_SECONDS, max(LEAST_SECONDS, share))
        study.execute([replace(task, seconds=seconds)], one_by_one=True)


def _references(measured: Sequence[tuple[Cell, Settings]]) -> list[tuple[Cell, Settings]]:
    """Return one reference for each objective without an exact gradient, as long as the longest run that it serves.

    Runs with different settings, such as seeds, have references of their own.
    """
    longest: dict[Hashable, tuple[Cell, Settings]] = {}
    for cell, settings in measured:
        if stand_in := reference.cell_of(cell.objective):
            given, key = reference.settings_of(settings), _served(cell, settings)
            held = longest.get(key, (stand_in, given))
            longest[key] = max(held, (stand_in, given), key=lambda pair: pair[1].replicates)
    return list(longest.values())


def _served(cell: Cell, settings: Settings) -> Hashable:
    """Return what a measurement and its reference have in common: the objective, and all settings but the length."""
    return cell.objective, replace(reference.settings_of(settings), replicates=1)
