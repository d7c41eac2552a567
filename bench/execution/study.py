"""A study folder at work: its records, those that it lacks, and the loop that makes and writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from bench.execution.cluster.address import Dask
from bench.execution.cluster.start import start
from bench.execution.pool import Pool
from bench.execution.progress import Progress
from bench.execution.rehearsal import selectors
from bench.execution.tasks import Task, TimingTask
from bench.measurement.lines import skipped
from bench.measurement.threads import single_thread
from bench.planning.cells import Skip
from bench.planning.spec import Spec
from bench.records import store, unfinished
from bench.records.environment import cores, gpus
from bench.records.lines import USUAL, LineKind, Outcome, Record, Rerun
from bench.records.standing import standing

if TYPE_CHECKING:
    from bench.execution.cluster.coordinator import Cluster

SomeTask = TypeVar("SomeTask", bound=Task)


class StudyWriter:
    """A study folder that is open for writing: it executes tasks and keeps their records. Use it as a context manager.

    Worker processes execute the tasks if there is enough work. Each record is on disk when its task ends, so that an
    interruption loses only the tasks under way. No other process can write to the folder until the ``with`` block ends.

    Args:
        spec: the spec of the study; workers load the classes of its estimators and objectives.
        folder: the study folder, created if it does not exist.
        progress: receives the events of the run.
        workers: number of processes, each with one thread; None for as many as the processors and the work allow; or a
            Dask cluster.
        rerun: which work is done again although the folder holds its records.
        cell_timeout: seconds without progress after which a worker process is ended, and its task has failed. If it is
            given, all tasks run in workers. If it is None, only tasks with a user's code do, with a limit of half an
            hour.

    Raises:
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        progress: Progress,
        workers: int | Dask | None,
        *,
        rerun: Collection[Rerun] = USUAL,
        cell_timeout: float | None = None,
    ) -> None:
        self.spec, self.folder, self.progress, self.workers, self.rerun = spec, folder, progress, workers, rerun
        self.pool = Pool(0, selectors(spec), cell_timeout)
        self.cluster: Cluster | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.store = stack.enter_context(store.Store(self.folder))
            self._found = self.store.reading()
            self.held = {(line["run"], line["kind"]): line for line in self._found.records}
            self.lines = {} if Rerun.ALL in self.rerun else self.held
            stack.enter_context(single_thread())
            stack.callback(self.progress.end)
            stack.callback(self.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def line(self, task: Task) -> Record:
        """Return the record of a task without those sums over gradients that tables do not need.

        The study folder must have a record of the task.
        """
        return self.lines[task.run_id, task.kind]

    def lacking(self, tasks: Sequence[SomeTask]) -> list[SomeTask]:
        """Return the tasks that are still to be done: their record is missing or not valid.

        The field ``rerun`` of this object says which records are not valid. By default, a record is not valid if it
        reports a failure, or if the code has changed since. If several tasks lead to the same record, such as
        measurements at two copies of one file of weights, only the first of them is returned.
        """
        found = dict[tuple[str, LineKind], SomeTask]()
        for task in tasks:
            found.setdefault((task.run_id, task.kind), task)
        each = [(task, self.lines.get(key)) for key, task in found.items()]
        return [task for task, line in each if line is None or not task.is_settled_by(line, self.rerun)]

    def begin(self, tasks: Sequence[Task], lacking: Sequence[Task]) -> None:
        """Report the number of all ``tasks`` to ``progress``, and how many of them are done already.

        ``lacking`` are the tasks that are still to be done. If a Dask cluster is to do them, it is started and checked.
        """
        self.progress.start(len(tasks), len(tasks) - len(lacking))
        if isinstance(self.workers, Dask) and not all(isinstance(task, TimingTask) for task in lacking):
            self.cluster = self.cluster or start(self.workers, self.spec, self.pool.cell_timeout)

    @contextmanager
    def told(self, tasks: Sequence[Task], timed: Collection[str] = ()) -> Iterator[None]:
        """Report to ``progress``, before and after the ``with`` block, how many of the ``tasks`` are on record.

        The first report is made only if some are on record by then. Neither report is made if the block does all the
        tasks.

        Args:
            tasks: the tasks of a command, such as measurements, pilots or trainings.
            timed: the ids of the measurements that are timed too.
        """
        runs, noun = {task.run_id: task.run_id in timed for task in tasks}, tasks[0].noun
        known = [line for task in self.lacking(tasks) if (line := self.lines.get((task.run_id, task.kind)))]
        stale = {line["run"] for line in known if line["outcome"] != Outcome.FAILED}
        kept = [line for line in self.lines.values() if line["run"] not in stale]
        first = replace(standing(runs, kept, noun), stale=len(stale))
        if first.here:
            self.progress.stand(str(first), [line for line in kept if line["run"] in first.here])
        try:
            yield
        finally:
            last = standing(runs, self.lines.values(), noun)
            if first.here or not last.is_complete:
                self.progress.end()
                self.progress.stand(str(last), [])

    def keep(self, line: Record) -> None:
        """Write a record to the folder. If it has no time under "written", it gets the present time there."""
        line = {**line, "written": line.get("written") or datetime.now(UTC).isoformat(timespec="seconds")}
        kept = store.slim(self.store.append(line))
        self.lines[line["run"], line["kind"]] = self.held[line["run"], line["kind"]] = kept
        if line["kind"] == LineKind.MOMENTS and line["outcome"] != Outcome.FAILED:
            unfinished.remove(self.folder, line["run"])

    def skip(self, task: Task, skip: Skip) -> None:
        """Write a record with the reason, ``skip``, why a task is not executed.

        Nothing is written if the folder holds a valid record of the task.
        """
        if self.lacking([task]):
            line = task.failed(skip.reason) if skip.failed else skipped(task.head(), skip.reason)
            self.keep(line)
            if skip.failed:
                self.progress.finish(line)

    def execute(self, tasks: Sequence[Task], *, one_by_one: bool = False) -> None:
        """Execute every task, write its record to the folder, and report the record to ``progress``.

        If ``one_by_one`` is True, nothing else runs beside a task. A task that runs a user's code is executed in a
        worker, because this code may end or hang its process. Other tasks are executed in this process if one process
        is enough.
        """
        processes = 1 if one_by_one else self._processes(tasks)
        for line in self._records(tasks, processes, None if one_by_one else self.cluster):
            self.keep(line)
            self.progress.finish(line)

    def _records(self, tasks: Sequence[Task], processes: int, cluster: Cluster | None) -> Iterator[Record]:
        """Yield every task's record. A small task goes to one worker; then the draws of each large one go to all."""
        helpers = cluster or (self.pool if processes > 1 else None)
        if helpers is self.pool:
            self.pool.grow(processes)  # an earlier stage with fewer tasks needed fewer
        if helpers is not None:
            whole = [task for task in tasks if not task.is_spread]
            if whole:
                self.progress.cell(f"{len(whole)} {whole[0].noun} on {helpers.size} workers")
            yield from helpers.records(whole)
            tasks = [task for task in tasks if task.is_spread]
        for task in tasks:
            self.progress.cell(task.label)
            if self.pool.guards(task.cell):
                # One more than the helpers, which waits for their sums.
                self.pool.grow(processes + 1 if helpers is self.pool else 1)
                yield self.pool.record(task, self.progress, helpers)
            else:
                yield task.record(self.progress, helpers)

    def _processes(self, tasks: Sequence[Task]) -> int:
        """Return the number of processes to use: starting them must be worth it, and one drives each GPU."""
        if isinstance(self.workers, Dask):
            return 1
        if any(task.settings.device != "cpu" for task in tasks):
            devices = gpus()
            count = min(len(devices), len(tasks), self.workers or len(devices))
            self.pool.devices = devices if count > 1 else ()
            return max(1, count)
        worthwhile = cores() if sum(task.effort for task in tasks) > 1 else 1
        count = worthwhile if self.workers is None else self.workers
        return count if any(task.is_spread for task in tasks) else min(count, len(tasks))

    def stop(self) -> None:
        """End the worker processes, if there are any."""
        self.pool.stop()
        if self.cluster is not None:
            self.cluster.stop()
            self.cluster = None

    def records(self, runs: Collection[str] | None = None) -> list[Record]:
        """Return the records of the runs whose ids are in ``runs``; None for all records of the folder.

        Most of the sums over gradients in a record are left out, because tables do not need them.

        Raises:
            Damaged: the folder lacks records that were written to it: it was removed or replaced.
        """
        self.store.check()
        return [line for line in self.held.values() if runs is None or line["run"] in runs]

    def digest(self) -> str:
        """Return the digest of the measurements in the folder (``bench.records.store.digest``)."""
        return self._found.digest

    def whole(self, tasks: Sequence[Task]) -> list[Record]:
        """Return the records of tasks with all their sums, read from the folder, in the order of the tasks."""
        keys = [(task.run_id, task.kind) for task in tasks]
        wanted = set(keys)
        found = {
            (line["run"], line["kind"]): line
            for line in (store.read(self.folder) if wanted else [])
            if (line["run"], line["kind"]) in wanted
        }
        return [found[key] for key in keys]
