"""A study folder while it is written: the lines it holds, the lines it lacks, and the loop that makes them."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

from bench.execution.pool import Pool, Preload
from bench.execution.progress import Progress
from bench.execution.tasks import Task
from bench.measurement.lines import skipped
from bench.measurement.threads import single_thread
from bench.planning.spec import FILE, Spec
from bench.records import files, store
from bench.records.environment import cores
from bench.records.lines import Record

SomeTask = TypeVar("SomeTask", bound=Task)


class StudyWriter:
    """A study folder while it is written; a context manager.

    Each line is on disk when its work ends: an interruption loses only the work under way.

    Args:
        spec: estimators and objectives, whose classes the workers load.
        folder: the study folder, made if it does not exist.
        progress: receives the events of the run.
        workers: processes that measure, of one thread each; None for as many as there are processors and work for.

    Raises:
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """

    def __init__(self, spec: Spec, folder: Path, progress: Progress, workers: int | None) -> None:
        self.spec, self.folder, self.progress, self.workers = spec, folder, progress, workers
        self.pool: Pool | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.store = stack.enter_context(store.Store(self.folder))
            self.lines = {(line["run"], line["kind"]): line for line in store.read(self.folder)}
            stack.enter_context(single_thread())
            stack.callback(self.progress.end)
            stack.callback(self.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep_spec(self) -> None:
        """Write the spec to the folder, joined to the one that is there already."""
        path = self.folder / FILE
        whole = self.spec.extending(Spec.read(path)) if path.exists() else self.spec
        files.write(path, whole.to_toml(self.folder))

    def line(self, task: Task) -> Record:
        """Return the line of a task that is on record."""
        return self.lines[task.run, task.kind]

    def lacking(self, tasks: Sequence[SomeTask]) -> list[SomeTask]:
        """Return the tasks whose line is missing, failed, or was made by other code."""
        lines = [(task, self.lines.get((task.run, task.kind))) for task in tasks]
        return [task for task, line in lines if line is None or not task.is_settled_by(line)]

    def keep(self, line: Record) -> None:
        """Write a line."""
        self.store.append(line)
        self.lines[line["run"], line["kind"]] = line

    def skip(self, task: Task, reason: str) -> None:
        """Write the line of a pair that does not fit together, unless it is on record."""
        if self.lacking([task]):
            self.keep(skipped(task.head(), reason))

    def execute(self, tasks: Sequence[Task], *, in_process: bool = False) -> None:
        """Do the work of every task, write its line, and report it; ``in_process`` without workers, in order."""
        for line in self._records(tasks, 1 if in_process else self._processes(tasks)):
            self.keep(line)
            self.progress.finish(line)

    def _records(self, tasks: Sequence[Task], processes: int) -> Iterator[Record]:
        """Yield the line of every task. A small task goes to one worker; then the draws of each large one go to all."""
        if processes > 1:
            preload: Preload = [(s, "estimator") for s in self.spec.estimators]
            self.pool = self.pool or Pool(processes, [*preload, *((s, "objective") for s in self.spec.objectives)])
            whole = [task for task in tasks if not task.is_spread]
            if whole:
                self.progress.cell(f"{len(whole)} {whole[0].noun} on {processes} workers")
            yield from self.pool.records(whole)
            tasks = [task for task in tasks if task.is_spread]
        for task in tasks:
            self.progress.cell(task.label)
            yield task.record(self.progress, self.pool if processes > 1 else None)

    def _processes(self, tasks: Sequence[Task]) -> int:
        """Return the number of processes to use: starting them must be worth it, and one drives a GPU."""
        if not tasks or tasks[0].settings.device != "cpu":
            return 1
        worthwhile = cores() if sum(task.effort for task in tasks) > 1 else 1
        count = worthwhile if self.workers is None else self.workers
        return count if any(task.is_spread for task in tasks) else min(count, len(tasks))

    def stop(self) -> None:
        """End the workers, if there are any."""
        if self.pool is not None:
            self.pool.stop()
            self.pool = None

    def records(self, runs: Collection[str]) -> list[Record]:
        """Return the records of these runs, as the folder holds them."""
        return [line for line in store.read(self.folder) if line["run"] in runs]
