"""What a worker process does: it answers the questions of its parent until the pipe closes."""

import functools
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import torch

from bench.execution.progress import Event, Progress
from bench.measurement import pulse
from bench.measurement.engine import Engine
from bench.measurement.lines import reason_of
from bench.measurement.moments import Partials
from bench.measurement.source import Vector
from bench.planning.cells import Cell
from bench.planning.loading import load
from bench.planning.selectors import Named, UsageError
from bench.planning.settings import Settings
from bench.planning.user_code import set_apart
from bench.records.lines import Lost
from bench.stats import Partial
from estimators import Refusal

BEAT = 0.5
"""Fewest seconds from one report of progress to the next."""


class Drawable(Protocol):
    """A cell (an estimator on an objective) whose draws can be summed in several processes.

    ``Engine`` is one such class. ``Request`` is another, for a process that has no engine.
    """

    @property
    def cell(self) -> Cell:
        """The estimator and the objective."""

    @property
    def settings(self) -> Settings:
        """How the cell is measured."""

    @property
    def sizes(self) -> list[int]:
        """The number of replicates in each draw."""

    @property
    def spans(self) -> list[range]:
        """Ranges of draws (batches of replicates) that must not be split, because they are summed in one pass."""

    def state_bytes(self) -> bytes | None:
        """Return the estimator's state (what it has learned) as bytes; None if it has no state."""


class Spreader(Protocol):
    """Processes over which the draws (batches of replicates) of a cell can be spread."""

    def spread(self, engine: Drawable, centre: Vector, exact: Vector | None) -> Partials:
        """Compute the partial sums of one cell, and yield them in the order of the blocks that they cover.

        A block is a group of gradients that are summed together; a partial sum (``stats.Partial``) covers successive
        blocks.

        Args:
            engine: computes the gradients of the cell, an estimator on an objective.
            centre: a point near the mean gradient, subtracted from every gradient before it is summed.
            exact: the exact gradient, or None if it is unknown.
        """


class Work(Protocol):
    """Picklable work that one worker can do."""

    def record(self, progress: Progress | None = None, pool: Any = None) -> Any:
        """Do the work and return its result, usually a record.

        ``progress`` receives the events of the work. ``pool`` is a ``Spreader``, which has other processes help with
        large work; None if the work is done in this process alone.
        """


@dataclass(frozen=True)
class Job:
    """Work for a worker. ``spreads`` tells whether other processes may help with its draws (batches of replicates)."""

    work: Work
    spreads: bool = False


@dataclass(frozen=True)
class Draws:
    """What a worker needs to compute partial sums of a cell, an estimator on an objective.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured.
        state: the estimator's learned state; None if there is none.
        centre: a point near the mean gradient, subtracted from every gradient.
        exact: the exact gradient, or None if it is unknown.
        indices: numbers of the draws (batches of replicates) to compute first; the worker is asked for others later.
    """

    cell: Cell
    settings: Settings
    state: bytes | None
    centre: Vector
    exact: Vector | None
    indices: range

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine that computes the gradients of the cell; it is made at the first access, in the worker."""
        return Engine(self.cell, self.settings, self.state)

    def partials(self, indices: range) -> list[tuple[Partial, str]] | Exception:
        """Return sums over the gradients of the draws with the numbers ``indices``; if the work fails, an exception.

        A draw is a batch of replicates; a span is a range of draws that are summed in one pass. The result has a pair
        for each span: its sums, and a text with the digests of its draws. Only the first draws of a cell have
        digests, so the text of a later span is empty. The exception can be pickled, and the parent process raises it.
        """
        try:
            with set_apart():
                return list(self.engine.partials(indices, self.centre, self.exact))
        except Refusal as refusal:
            return type(refusal)(str(refusal))
        except Exception as error:
            return Lost(reason_of(error))


@dataclass(frozen=True)
class Request:
    """A worker's request to spread the draws (batches of replicates) of its cell over other processes.

    The worker has an engine, the object that computes the gradients of its cell. The process that receives the request
    has none, because making one would run the user's code. This process uses the request in place of the engine.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured.
        state: the estimator's learned state; None if there is none.
        sizes: the number of replicates in each draw.
        spans: ranges of draws that must not be split.
        centre: a point near the mean gradient, subtracted from every gradient.
        exact: the exact gradient, or None if it is unknown.
    """

    cell: Cell
    settings: Settings
    state: bytes | None
    sizes: list[int]
    spans: list[range]
    centre: Vector
    exact: Vector | None

    def state_bytes(self) -> bytes | None:
        """Return the estimator's state (what it has learned) as bytes; None if it has no state."""
        return self.state


class _Reports(Progress):
    """Progress that goes to the parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._next = connection, 0.0

    def block(self, done: int, total: int) -> None:
        """Report the replicates that are done, unless something was reported a moment ago."""
        self._report(Event("block", (done, total)))

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Report how far a pilot has come."""
        self._send(Event("look", (label, reached, wanted, replicates)))

    def cell(self, label: str) -> None:
        """Report the label of the work that begins."""
        self._send(Event("cell", (label,)))

    def beat(self) -> None:
        """Report that the work goes on, unless something was reported a moment ago."""
        self._report(Event())

    def _report(self, event: Event) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + BEAT
            self._send(event)

    def _send(self, event: Event) -> None:
        self._connection.send_bytes(pickle.dumps(event))


class _Relay:
    """Asks the parent to spread the draws of a cell over other workers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def spread(self, engine: Drawable, centre: Vector, exact: Vector | None) -> Partials:
        """Yield the partial sums of a cell, which other workers compute.

        Raises:
            Lost: another worker has died, or the computation raised in it.
            Refusal: the estimator refused the objective.
        """
        state = engine.state_bytes()
        request = Request(engine.cell, engine.settings, state, engine.sizes, engine.spans, centre, exact)
        self._connection.send_bytes(pickle.dumps(request))
        while (answer := pickle.loads(self._connection.recv_bytes())) is not None:
            if isinstance(answer, Exception):
                raise answer
            yield answer


def serve(connection: Connection, preload: Named) -> None:
    """Do the work that comes through the pipe ``connection``, and send the results back, until the pipe closes.

    This is all that a worker process does. ``preload`` names the classes to load first: each by a selector such as
    ``mine.py::Mine``, and "estimator" or "objective".
    """
    torch.set_num_threads(1)
    np.random.seed()  # a forked process would repeat the noise of the others
    for selector, kind in preload:
        load(selector, kind)
    reports = _Reports(connection)
    pulse.listeners.append(reports.beat)
    connection.send_bytes(pickle.dumps(Event()))
    cell: Draws | None = None
    for question in _questions(connection):
        answer: object
        match question:
            case Draws():
                cell = question
                answer = cell.partials(cell.indices)
            case range() if cell is not None:
                answer = cell.partials(question)
            case Job():
                answer = _done(question, reports, _Relay(connection) if question.spreads else None)
            case _:
                answer = question
        connection.send_bytes(pickle.dumps(answer))


def _questions(connection: Connection) -> Iterator[Any]:
    """Yield the questions of the parent; an exception in place of one that cannot be read."""
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            yield pickle.loads(message)
        except Exception as error:
            yield Lost(reason_of(error))


def _done(job: Job, reports: _Reports, relay: _Relay | None) -> object:
    """Return the result of a job, or the exception to raise in the parent."""
    try:
        return job.work.record(reports, relay)
    except UsageError as error:
        return type(error)(str(error))
    except Exception as error:
        return Lost(reason_of(error))
