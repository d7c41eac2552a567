"""Worker processes, each with one thread.

A small cell goes to one worker; the draws (batches of replicates) of a large cell go to all workers. Every process
computes the same bits for a draw, and draws are merged in order, so the number of workers changes no result. A worker
that dies costs only the cell it was working on. Python's own pools lose all pending work when a worker dies; this one
has plain processes, each with its own pipe.
"""

import contextlib
import faulthandler
import functools
import itertools
import multiprocessing
import pickle
import signal
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, Self

import torch

from bench.measurement.engine import Engine
from bench.measurement.lines import Lost, reason_of
from bench.measurement.moments import Partials
from bench.measurement.source import Vector
from bench.planning.catalogue import Kind
from bench.planning.cells import Cell
from bench.planning.loading import load
from bench.planning.selectors import Selector
from bench.planning.settings import Settings
from bench.planning.user_code import set_apart
from bench.records.lines import Record
from bench.stats import Partial
from estimators import Refusal

CHUNKS, AHEAD = 32, 4
"""Limits per worker: chunks of a cell; chunks under way or waiting to be merged, which bounds the memory.

A chunk is a range of successive draws. All chunks of a cell have about the same number of replicates.
"""
Preload = Sequence[tuple[Selector, Kind]]
"""Selectors with their kinds. Every worker loads their classes first, so that it knows users' own classes."""


class Work(Protocol):
    """Picklable work that one worker can do alone."""

    def record(self) -> Record:
        """Do the work and return its record."""

    def failed(self, reason: str) -> Record:
        """Return a record that says why the work failed."""


@dataclass(frozen=True)
class _Draws:
    """The first question about a cell: all that a worker needs to sum up any draws, and the draws to begin with."""

    cell: Cell
    settings: Settings
    state: bytes | None
    centre: Vector
    exact: Vector | None
    indices: range

    @functools.cached_property
    def engine(self) -> Engine:
        """The cell made ready, in the worker."""
        return Engine(self.cell, self.settings, self.state)

    def partials(self, indices: range) -> list[tuple[Partial, str]] | Exception:
        """Return the sums of some draws, or the exception to raise in the parent: one that can be pickled."""
        try:
            with set_apart():
                return list(self.engine.partials(indices, self.centre, self.exact))
        except Refusal as refusal:
            return type(refusal)(str(refusal))
        except Exception as error:
            return Lost(reason_of(error))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Have child processes ignore interrupts: a terminal sends them to the whole group, and the parent handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signals, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Worker:
    """A worker process and the pipe to it.

    The process first loads the classes that ``preload`` names by selector and kind, such as ``mine.py::Mine`` and
    "estimator".
    """

    def __init__(self, preload: Preload) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, list(preload)), daemon=True)
        with _uninterrupted():
            self.process.start()
        theirs.close()

    def ask(self, task: object) -> None:
        """Send a task to the process, and return at once; ``answer`` later gives the answer.

        If the process has died, ``answer`` will raise ``Lost``.
        """
        with contextlib.suppress(OSError):
            self.connection.send_bytes(pickle.dumps(task))

    def answer(self) -> Any:
        """Wait for the answer of the process, and return it. Tasks are answered in the order in which they were sent.

        Raises:
            Lost: the process has died.
        """
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            why = ", as happens when memory runs out" if code == -signal.SIGKILL else ""
            raise Lost(f"The worker process {how}{why}. No other cell is affected.") from None

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


class Pool:
    """``count`` worker processes, as a context manager that ends them.

    Each process first loads the classes that ``preload`` names by selector and kind, such as ``mine.py::Mine`` and
    "estimator".
    """

    def __init__(self, count: int, preload: Preload = ()) -> None:
        self._preload = preload
        self._workers: list[Worker] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """Start processes until there are at least ``count``."""
        self._workers += [Worker(self._preload) for _ in range(count - len(self._workers))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all worker processes."""
        for worker in self._workers:
            worker.stop()

    def _replace(self, worker: Worker) -> None:
        worker.stop()
        self._workers[self._workers.index(worker)] = Worker(self._preload)

    def records(self, tasks: Sequence[Work]) -> Iterator[Record]:
        """Yield the record of every task as it ends. If a worker dies, its task yields a record of the failure."""
        waiting, busy = deque(tasks), dict[Worker, Work]()
        while waiting or busy:
            for worker in self._workers:
                if waiting and worker not in busy:
                    busy[worker] = waiting.popleft()
                    worker.ask(busy[worker])
            for worker in _answering(busy):
                task = busy.pop(worker)
                try:
                    yield worker.answer()
                except Lost as lost:
                    self._replace(worker)
                    yield task.failed(str(lost))

    def spread(self, engine: Engine, centre: Vector, exact: Vector | None) -> Partials:
        """Compute the partial sums of one cell with all workers, and yield them in the order of the cell's blocks.

        A block is a group of gradients that are summed together; a partial sum (``stats.Partial``) covers successive
        blocks.

        Args:
            engine: computes the gradients of the cell, an estimator on an objective.
            centre: a point near the mean gradient, subtracted from every gradient before it is summed.
            exact: the exact gradient, or None if it is unknown.

        Raises:
            Lost: a worker died, or the computation raised in a worker. The work under way is discarded.
            Refusal: the estimator refused the objective.
        """
        state = engine.state_bytes()
        chunks = deque(chunks_of(engine.spans, engine.sizes, len(self._workers)))
        ready: dict[int, tuple[int, list[tuple[Partial, str]]]] = {}  # first draw of a chunk: the end of it, its sums
        asked: dict[Worker, deque[range]] = {worker: deque() for worker in self._workers}
        begun, following = set[Worker](), engine.spans[0].start
        try:
            while chunks or any(asked.values()):
                # Two questions at a time: no worker waits for its next one while answers are merged.
                for depth, worker in itertools.product((1, 2), self._workers):
                    waiting = len(ready) + sum(map(len, asked.values()))
                    if chunks and len(asked[worker]) < depth and waiting < AHEAD * len(self._workers):
                        chunk = chunks.popleft()
                        asked[worker].append(chunk)
                        whole = _Draws(engine.cell, engine.settings, state, centre, exact, chunk)
                        worker.ask(chunk if worker in begun else whole)
                        begun.add(worker)
                for worker in _answering([worker for worker in self._workers if asked[worker]]):
                    answer = worker.answer()
                    chunk = asked[worker].popleft()
                    if isinstance(answer, Exception):
                        raise answer
                    ready[chunk.start] = chunk.stop, answer
                while following in ready:
                    following, partials = ready.pop(following)
                    yield from partials
        finally:
            for worker, under_way in asked.items():
                if under_way:  # the worker is dead, or its answer is no longer wanted
                    self._replace(worker)


def _answering(busy: Collection[Worker]) -> list[Worker]:
    """Wait until workers have answered, or died, and return them."""
    answered = wait([worker.connection for worker in busy])
    return [worker for worker in busy if worker.connection in answered]


def chunks_of(spans: Sequence[range], sizes: Sequence[int], workers: int) -> Iterator[range]:
    """Yield ranges of draws, each a piece of work for one worker; together they cover all spans in order.

    A draw is a batch of replicates. A worker that has finished its range gets the next one.

    Args:
        spans: ranges of draws that must not be split, because the gradients of a span are reduced together.
        sizes: number of replicates in each draw.
        workers: number of workers. There are many ranges per worker, so that none idles long at the end.
    """
    share, start, rows = sum(sizes) / (CHUNKS * workers), spans[0].start, 0
    for span in spans:
        rows += sum(sizes[span.start : span.stop])
        if rows >= share or span is spans[-1]:
            yield range(start, span.stop)
            start, rows = span.stop, 0


def _serve(connection: Connection, preload: Preload) -> None:
    """Answer questions until the pipe closes. This is all that a worker does."""
    faulthandler.enable()  # a crash of the interpreter names the line
    torch.set_num_threads(1)
    for selector, kind in preload:
        load(selector, kind)
    cell: _Draws | None = None
    while True:
        try:
            question = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        answer: object
        match question:
            case _Draws():
                cell = question
                answer = cell.partials(cell.indices)
            case range() if cell is not None:
                answer = cell.partials(question)
            case _:
                answer = question.record()
        connection.send_bytes(pickle.dumps(answer))
