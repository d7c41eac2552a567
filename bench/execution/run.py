"""A run of a study: the spec is planned into cells, each cell is measured, and each measurement becomes a record."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.execution.objectives import examine
from bench.execution.progress import Progress
from bench.execution.study import StudyWriter
from bench.execution.tasks import MomentsTask, PilotTask, ReferenceTask, Task, TimingTask
from bench.measurement import reference
from bench.measurement.timing import CELL_SECONDS
from bench.planning.cells import Cell, plan
from bench.planning.selectors import NothingFits
from bench.planning.settings import Settings
from bench.planning.spec import Spec
from bench.records.lines import Outcome, Record

STUDY_SECONDS = 6.0
"""Seconds that the timing of a study takes, shared by its cells, as long as each has ``LEAST_SECONDS``."""
LEAST_SECONDS = 0.03
"""Fewest seconds for the timing of a cell: enough for the shortest timing of fast calls."""


def run(
    spec: Spec,
    folder: Path,
    progress: Progress,
    workers: int | None = 1,
    *,
    fresh: bool = False,
    before_timing: Callable[[list[Record]], None] | None = None,
) -> list[Record]:
    """Measure the cells of a spec that a study folder lacks, and return the records of all its cells.

    Each record is on disk when its cell ends: an interrupted run loses only the cells under way. Cells that failed, or
    whose code has changed, are measured again. If the spec asks for a precision, a pilot (a run of its own) first finds
    the number of replicates for every cell; a pilot on record is not repeated. Timing comes last, when nothing else
    runs.

    Args:
        spec: estimators, objectives and settings. Its device is "cpu" or "cuda": ``Spec.on_device`` replaces "auto".
        folder: the study folder, created if it does not exist.
        progress: receives the events of the run.
        workers: number of processes that measure, each with one thread; None for as many as the processors and the work
            allow. The number changes no result. Timing always uses one process.
        fresh: whether to measure every cell again, whatever records the folder holds.
        before_timing: called with the records of all cells as soon as only timing is left to do; not called if no cell
            is to be timed.

    Raises:
        UsageError: an estimator or an objective cannot be created, or an objective is at fault.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
        NothingFits: no estimator fits its objective. The folder stays as it is.
    """
    estimators, objectives = spec.instances()
    settings = spec.settings()
    settings.check_device()
    examined = examine(objectives, folder, fresh=fresh)
    cells, skips = plan(estimators, objectives)
    if not cells:
        raise NothingFits(skip.reason for skip in skips)
    with StudyWriter(spec, folder, progress, workers, fresh=fresh) as study:
        study.keep_spec()
        for line in examined:
            study.keep(line)
        refused = [MomentsTask(skip.cell, settings) for skip in skips]
        for task, skip in zip(refused, skips, strict=True):
            study.skip(task, skip.reason)
        tasks, lost = [MomentsTask(cell, settings) for cell in cells], list[Task]()
        if target := spec.precision_target:
            most = replace(settings, replicates=target.max_replicates)
            tasks, lost = _with_pilots(study, [PilotTask(cell, most, target=target) for cell in cells])
        runs = {task.run_id for task in (*tasks, *lost, *refused)}
        untimed = _measure(study, tasks)
        if untimed and before_timing:
            progress.end()
            before_timing(study.records(runs))
        _time(study, untimed)
    return study.records(runs)


def _with_pilots(study: StudyWriter, pilots: Sequence[PilotTask]) -> tuple[list[MomentsTask], list[Task]]:
    """Run the pilots that are lacking; return the measurements that they ask for, and the pilots that failed."""
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
    stand_ins = _references([(task.cell, task.settings) for task in measuring])
    references = study.lacking(stand_ins)
    study.begin([*tasks, *timing, *references], [*measuring, *untimed, *references])
    study.execute(references, in_process=True)
    found = {task.cell.objective: reference.read(study.line(task)) for task in stand_ins}
    study.execute([replace(task, reference=found.get(task.cell.objective)) for task in measuring])
    for task in tasks:  # a record in the folder may come from a run without this pilot
        line = task.with_pilot(study.line(task))
        if line != study.line(task):
            study.keep(line)
    study.stop()  # nothing may run beside the timing
    measured = {task.run_id for task in tasks if study.line(task)["outcome"] == Outcome.MEASURED}
    return [task for task in untimed if task.run_id in measured]


def _time(study: StudyWriter, tasks: Sequence[TimingTask]) -> None:
    """Time cells one by one. Time that a cell does not need is left for the cells that follow."""
    end = time.monotonic() + STUDY_SECONDS
    for waiting, task in zip(range(len(tasks), 0, -1), tasks, strict=True):
        share = (end - time.monotonic()) / waiting
        seconds = min(CELL_SECONDS, max(LEAST_SECONDS, share))
        study.execute([replace(task, seconds=seconds)], in_process=True)


def _references(measured: Sequence[tuple[Cell, Settings]]) -> list[ReferenceTask]:
    """Return one reference for each objective without an exact gradient, as long as the longest run that it serves."""
    longest: dict[Cell, Settings] = {}
    for cell, settings in measured:
        if stand_in := reference.cell_of(cell.objective):
            given = reference.settings_of(settings)
            longest[stand_in] = max(longest.get(stand_in, given), given, key=lambda settings: settings.replicates)
    return [ReferenceTask(cell, settings) for cell, settings in longest.items()]
