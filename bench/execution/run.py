"""The straight line: a spec is planned into cells, each cell is measured, each measurement is a line in a file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.execution.progress import Progress
from bench.execution.study import _keep_spec, _run_id, _Study
from bench.measurement.threads import single_thread
from bench.planning.cells import plan
from bench.planning.spec import FILE, Spec
from bench.records import store
from bench.records.lines import Record


def run(spec: Spec, folder: Path, progress: Progress, workers: int | None = 1) -> list[Record]:
    """Measure what a study folder lacks, and return the records of the spec's runs.

    Each record is on disk when its cell ends: an interrupted run loses only the cell it was in. Cells that failed, or
    whose code has changed, are measured again. Where the spec asks for a precision, a pilot finds every cell's
    replicates first; a pilot on record is not made again. Timing comes last and alone.

    Args:
        spec: what to measure; "auto" device must be decided (``Spec.on_device``).
        folder: the study folder, made if there is none.
        progress: is told how far the run is.
        workers: processes that measure, one thread each; None for as many as there are processors and work for. Their
            number changes no figure. Timing always runs alone.

    Raises:
        UsageError: an estimator or an objective cannot be made.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """
    estimators, objectives = spec.instances()
    cells, skips = plan(estimators, objectives)
    settings = spec.settings()
    with store.Store(folder) as writer, ExitStack() as stack:
        _keep_spec(spec, folder / FILE)
        study = _Study(spec, writer, store.read(folder), progress, workers)
        study.skip(skips, settings)
        stack.callback(progress.end)
        stack.callback(study.stop)
        stack.enter_context(single_thread())
        how = dict.fromkeys(cells, settings)
        lost: set[str] = set()
        if spec.aim is not None:
            how, lost = study.plan_replicates(cells, settings, spec.aim)
        study.measure(how)
    wanted = {_run_id(cell, given) for cell, given in how.items()} | lost
    wanted |= {_run_id(skip.cell, settings) for skip in skips}
    return [r for r in store.read(folder) if r["run"] in wanted]
