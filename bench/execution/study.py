"""A study folder while it is written: the lines it holds, the lines it lacks, and the loop that makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.execution.pool import Pool, Preload
from bench.execution.progress import Progress
from bench.execution.tasks import LARGE, Task, done
from bench.measurement import pilot, reference
from bench.measurement.lines import common, safely, skipped_record
from bench.measurement.timing import timing_record
from bench.planning.cells import Cell, Skip
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.planning.spec import Spec
from bench.records import files, store
from bench.records.environment import cores
from bench.records.lines import Record
from bench.stats import Aim


class _Study:
    """A study folder while it is written: the lines that it holds, and what they lack."""

    def __init__(
        self, spec: Spec, writer: store.Store, records: Sequence[Record], progress: Progress, workers: int | None
    ) -> None:
        self.spec, self.writer, self.progress, self.workers = spec, writer, progress, workers
        self.lines = {(r["run"], r["kind"]): r for r in records}
        self.pool: Pool | None = None

    def lacks(self, wanted: Record) -> bool:
        """Tell whether there is no line of these keys, or none of a success with the code as it is."""
        line = self.lines.get((wanted["run"], wanted["kind"]))
        return line is None or line["outcome"] == "failed" or line["code"] != wanted["code"]

    def missing(self, cell: Cell, how: Settings, kind: str) -> bool:
        """Tell whether a cell's line is lacking."""
        return self.lacks(common(cell, how, kind))

    def keep(self, line: Record) -> None:
        """Write a line."""
        self.writer.append(line)
        self.lines[line["run"], line["kind"]] = line

    def finish(self, line: Record) -> None:
        """Write a line, and say so."""
        self.keep(line)
        self.progress.finish(line)

    def skip(self, skips: Sequence[Skip], settings: Settings) -> None:
        """Write what does not fit together."""
        for skip in skips:
            if self.missing(skip.cell, settings, "moments"):
                self.keep(skipped_record(skip.cell, settings, skip.reason))

    def plan_replicates(
        self, cells: Sequence[Cell], settings: Settings, aim: Aim
    ) -> tuple[dict[Cell, Settings], set[str]]:
        """Make the pilots that are lacking; return how to measure every cell, and the runs of pilots that failed."""
        wanted = {cell: pilot.identity(cell, settings, aim) for cell in cells}
        lacking = [Task(cell, settings, aim=aim) for cell in cells if self.lacks(wanted[cell])]
        self.progress.start(len(cells), len(cells) - len(lacking))
        for line in self.done(lacking):
            self.finish(line)
        found = {cell: self.lines[line["run"], pilot.KIND] for cell, line in wanted.items()}
        how = {
            cell: replace(settings, replicates=line["planned_replicates"])
            for cell, line in found.items()
            if line["outcome"] == "measured"
        }
        return how, {line["run"] for line in found.values() if line["outcome"] != "measured"}

    def measure(self, how: Mapping[Cell, Settings]) -> None:
        """Measure what is lacking: references, moments, times."""
        measuring = [cell for cell, given in how.items() if self.missing(cell, given, "moments")]
        timing = [cell for cell, given in how.items() if given.timing and self.missing(cell, given, "timing")]
        standing = _references(measuring, how)
        lacking = [task for task in standing if self.missing(task.cell, task.settings, reference.KIND)]
        total = sum(2 if given.timing else 1 for given in how.values()) + len(lacking)
        self.progress.start(total, total - len(measuring) - len(timing) - len(lacking))
        for task in lacking:
            self.progress.cell(f"reference of {label(task.cell.objective)}")
            work = partial(reference.reference_record, task.cell, task.settings, self.progress.block)
            self.finish(safely(work, task.cell, task.settings, reference.KIND))
        found = {
            task.cell.objective: reference.read(self.lines[_run_id(task.cell, task.settings), reference.KIND])
            for task in standing
        }
        tasks = [Task(cell, how[cell], found.get(cell.objective)) for cell in measuring]
        by_run = {_run_id(cell, given): cell for cell, given in how.items()}
        for line in self.done(tasks):
            self.finish(self.judged(line, by_run[line["run"]], how))
        for run, cell in by_run.items():  # also what was on record already, measured for another reason
            line = self.judged(self.lines[run, "moments"], cell, how)
            if line != self.lines[run, "moments"]:
                self.keep(line)
        self.stop()  # nothing may run beside the timing
        for cell in timing:
            if self.lines[_run_id(cell, how[cell]), "moments"]["outcome"] == "measured":
                self.progress.cell(f"timing {cell.label}")
                self.finish(safely(partial(timing_record, cell, how[cell]), cell, how[cell], "timing"))

    def judged(self, line: Record, cell: Cell, how: Mapping[Cell, Settings]) -> Record:
        """Return a moments line with what its pilot asked for, where there was one."""
        if self.spec.aim is None:
            return line
        return pilot.judged(line, self.lines[pilot.identity(cell, how[cell], self.spec.aim)["run"], pilot.KIND])

    def done(self, tasks: Sequence[Task]) -> Iterator[Record]:
        """Yield the line of every task: small ones a worker each, then large ones with their blocks spread."""
        count = _workers(self.workers, tasks)
        if count == 1:
            for task in tasks:
                self.progress.cell(_words(task))
                yield done(task, self.progress.block, self.progress.look)
            return
        estimators, objectives = self.spec.estimators, self.spec.objectives
        preload: Preload = [(s, "estimator") for s in estimators] + [(s, "objective") for s in objectives]
        small = [task for task in tasks if task.aim is not None or task.elements <= LARGE]
        self.pool = self.pool or Pool(count, preload)
        self.progress.cell(f"{len(small)} cells on {count} workers")
        yield from self.pool.cells(small)
        for task in tasks:
            if task not in small:
                self.progress.cell(_words(task))
                yield done(task, self.progress.block, self.progress.look, self.pool)

    def stop(self) -> None:
        """End the workers, if there are any."""
        if self.pool is not None:
            self.pool.stop()
            self.pool = None


def _words(task: Task) -> str:
    return f"pilot of {task.cell.label}" if task.aim else task.cell.label


def _keep_spec(spec: Spec, path: Path) -> None:
    """Write what the folder is a study of: this spec, and what it was a study of before."""
    whole = spec.extending(Spec.read(path)) if path.exists() else spec
    files.write(path, whole.to_toml(path.parent))


def _run_id(cell: Cell, settings: Settings) -> str:
    return str(common(cell, settings, "moments")["run"])


def _workers(workers: int | None, tasks: Sequence[Task]) -> int:
    """Return how many processes to use: starting them must be worth it, and one drives a GPU."""
    if not tasks or tasks[0].settings.device != "cpu":
        return 1
    if workers is None:
        return cores() if sum(task.elements for task in tasks) > LARGE else 1
    return workers


def _references(cells: Sequence[Cell], how: Mapping[Cell, Settings]) -> list[Task]:
    """Return what stands in for the exact gradients that the cells' objectives do not have, each once.

    A reference has the replicates of the longest run that it serves.
    """
    longest: dict[Cell, Settings] = {}
    for cell in cells:
        stand_in = reference.cell_of(cell.objective)
        if stand_in is not None:
            given = reference.settings_of(how[cell])
            known = longest.get(stand_in, given)
            longest[stand_in] = max(known, given, key=lambda settings: settings.replicates)
    return [Task(cell, settings) for cell, settings in longest.items()]
