"""Worker processes, each with one thread.

A small cell goes to one worker; the draws (batches of replicates) of a large cell go to all workers. Every process
computes the same bits for a draw, and draws are merged in order, so the number of workers changes no result. A worker
that dies, or makes no progress for too long, costs only the cell it was working on. Python's own pools lose all pending
work when a worker dies; this one has plain processes, each with its own pipe.
"""

from __future__ import annotations

import itertools
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from bench.execution.progress import Progress
from bench.execution.worker import PATIENCE, Worker, answering
from bench.planning.selectors import Named
from bench.records.lines import Lost, Record

if TYPE_CHECKING:
    from bench.execution.serving import Drawable, Request, Spreader
    from bench.execution.serving import Work as Answerable
    from bench.measurement.moments import Partials
    from bench.measurement.source import Vector
    from bench.planning.cells import Cell
    from bench.stats import Partial

CHUNKS, AHEAD = 32, 4
"""Limits per worker: chunks of a cell; chunks under way or waiting to be merged, which bounds the memory.

A chunk is a range of successive draws. All chunks of a cell have about the same number of replicates.
"""


class Work(Protocol):
    """Picklable work that one worker can do alone."""

    def record(self, progress: Progress | None = None, pool: Any = None) -> Record:
        """Do the work and return its record.

        Args:
            progress: receives progress events; None to report nothing.
            pool: a ``Spreader``, which has other processes help with the draws; None to do all of the work here.
        """

    def failed(self, reason: str) -> Record:
        """Return a record that says why the work failed."""


class Pool:
    """``count`` worker processes, as a context manager that ends them.

    Args:
        count: number of processes to begin with.
        preload: the classes that each process loads first, by selector and kind, such as ``mine.py::Mine`` and
            "estimator".
        cell_timeout: seconds without progress after which a process is ended, and its cell has failed; None for half an
            hour.
    """

    def __init__(self, count: int = 0, preload: Named = (), cell_timeout: float | None = None) -> None:
        self.preload, self.cell_timeout = preload, cell_timeout
        self.devices: Sequence[str] = ()
        """GPUs, as ``CUDA_VISIBLE_DEVICES`` names them. If there are any, each process sees only one of them."""
        self._workers: list[Worker] = []
        self._leader: Worker | None = None
        self.grow(count)

    @property
    def size(self) -> int:
        """The number of processes."""
        return len(self._workers)

    def grow(self, count: int) -> None:
        """Start processes until there are at least ``count``.

        Raises:
            NoWorker: a process cannot be started.
        """
        self._workers += [self._worker(place) for place in range(len(self._workers), count)]

    def _worker(self, place: int) -> Worker:
        patience = PATIENCE if self.cell_timeout is None else self.cell_timeout
        if not self.devices:
            return Worker(self.preload, patience)
        own = {"CUDA_VISIBLE_DEVICES": self.devices[place % len(self.devices)]}
        return Worker(self.preload, patience, fresh=True, environment=own)

    def guards(self, cell: Cell) -> bool:
        """Return whether a cell (an estimator on an objective) must be measured in a worker.

        There are two reasons: the cell runs a user's code, or a ``cell_timeout`` was given. In both cases it may be
        necessary to end the process.
        """
        return cell.is_own or self.cell_timeout is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all worker processes."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def _replace(self, worker: Worker) -> None:
        worker.stop()
        place = self._workers.index(worker)
        self._workers[place] = self._worker(place)

    def records(self, tasks: Sequence[Work]) -> Iterator[Record]:
        """Yield the record of every task as it ends. If a worker dies, its task yields a record of the failure."""
        from bench.execution.serving import Job

        waiting, busy = deque(tasks), dict[Worker, Work]()
        while waiting or busy:
            for worker in self._workers:
                while waiting and worker not in busy:
                    task = waiting.popleft()
                    try:
                        worker.ask(Job(task))
                        busy[worker] = task
                    except Lost as lost:
                        yield task.failed(str(lost))
            for worker in answering(busy):
                task = busy.pop(worker)
                try:
                    line = worker.answer()
                except Lost as lost:
                    line = task.failed(str(lost))
                if worker.is_lost:
                    self._replace(worker)
                yield line

    def record(self, task: Work, progress: Progress, spreader: Spreader | None = None) -> Record:
        """Have a worker do a task, and return its record. If the worker dies, the record tells of the failure.

        Args:
            task: the work.
            progress: receives the events of the work.
            spreader: processes that may help with the draws of the task, such as this pool; None if there are none.
        """
        try:
            return self.ask(task, progress, spreader)  # type: ignore[no-any-return]
        except Lost as lost:
            return task.failed(str(lost))

    def ask(self, work: Answerable, progress: Progress | None = None, spreader: Spreader | None = None) -> Any:
        """Have a worker do some work, and return the result.

        Args:
            work: the work.
            progress: receives the events of the work.
            spreader: processes that may help with the draws of the work, such as this pool; None if there are none.

        Raises:
            Lost: the worker died, or made no progress for too long.
            Exception: the exception that the work raised.
        """
        from bench.execution.serving import Job, Request

        self.grow(1)
        self._leader = worker = self._workers[0]
        try:
            worker.ask(Job(work, spreads=spreader is not None), progress)
            while isinstance(answer := worker.answer(), Request):
                assert spreader is not None
                self._relay(worker, answer, spreader)
            return answer
        finally:
            self._leader = None
            if worker.is_lost:
                self._replace(worker)

    def _relay(self, worker: Worker, request: Request, spreader: Spreader) -> None:
        """Send a worker the partial sums of its cell, which other processes compute."""
        from estimators import Refusal

        try:
            for partial in spreader.spread(request, request.centre, request.exact):
                worker.send(pickle.dumps(partial))
                worker.listen()  # its reports must not fill the pipe
            answer: object = None
        except (Lost, Refusal) as error:
            answer = error
        worker.again(pickle.dumps(answer))

    def spread(self, engine: Drawable, centre: Vector, exact: Vector | None) -> Partials:
        """Compute the partial sums of one cell with the workers, and yield them in the order of its blocks.

        A block is a group of gradients that are summed together; a partial sum (``stats.Partial``) covers successive
        blocks. If ``ask`` has given a worker the cell to measure, that worker needs the sums, and waits while the
        others compute them.

        Args:
            engine: computes the gradients of the cell, an estimator on an objective.
            centre: a point near the mean gradient, subtracted from every gradient before it is summed.
            exact: the exact gradient, or None if it is unknown.

        Raises:
            Lost: a worker died, or the computation raised in a worker. The work under way is discarded.
            Refusal: the estimator refused the objective.
        """
        from bench.execution.serving import Draws

        workers = [worker for worker in self._workers if worker is not self._leader]
        state = engine.state_bytes()
        chunks = deque(chunks_of(engine.spans, engine.sizes, len(workers)))
        ready: dict[int, tuple[int, list[tuple[Partial, str]]]] = {}  # first draw of a chunk: the end of it, its sums
        asked: dict[Worker, deque[range]] = {worker: deque() for worker in workers}
        begun, following = set[Worker](), engine.spans[0].start
        try:
            while chunks or any(asked.values()):
                # Two questions at a time: no worker waits for its next one while answers are merged.
                for depth, worker in itertools.product((1, 2), workers):
                    waiting = len(ready) + sum(map(len, asked.values()))
                    if chunks and len(asked[worker]) < depth and waiting < AHEAD * len(workers):
                        chunk = chunks.popleft()
                        asked[worker].append(chunk)
                        whole = Draws(engine.cell, engine.settings, state, centre, exact, chunk)
                        worker.ask(chunk if worker in begun else whole)
                        begun.add(worker)
                for worker in answering([worker for worker in workers if asked[worker]]):
                    chunk = asked[worker].popleft()
                    ready[chunk.start] = chunk.stop, worker.answer()
                while following in ready:
                    following, partials = ready.pop(following)
                    yield from partials
        finally:
            for worker, under_way in asked.items():
                if under_way or worker.is_lost:  # otherwise its answer is no longer wanted
                    self._replace(worker)


def chunks_of(spans: Sequence[range], sizes: Sequence[int], workers: int) -> Iterator[range]:
    """Yield ranges of draws, each a piece of work for one worker; together they cover all spans in order.

    A draw is a batch of replicates. A worker that has finished its range gets the next one.

    Args:
        spans: ranges of draws that must not be split, because the gradients of a span are reduced together.
        sizes: number of replicates in each draw.
        workers: number of workers. Every worker gets many short ranges, so that none waits long for the others at the
            end.
    """
    share, start, rows = sum(sizes) / (CHUNKS * workers), spans[0].start, 0
    for span in spans:
        rows += sum(sizes[span.start : span.stop])
        if rows >= share or span is spans[-1]:
            yield range(start, span.stop)
            start, rows = span.stop, 0
