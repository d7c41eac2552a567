"""Progress: the events of a run, and their receivers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.lines import Record


class Progress:
    """A receiver of events while a study runs. This class ignores them; a subclass overrides the methods it needs."""

    def start(self, total: int, done: int) -> None:
        """Receive the number of tasks, ``total``, and how many of them are on record already, ``done``."""

    def stand(self, standing: str, records: Sequence[Record]) -> None:
        """Receive how much of the study is done, in words, such as ``73 of 120 cells are here, 47 to go``.

        A run may call this method when it begins and again when it ends. ``records`` are the valid records that earlier
        runs have left; the call at the end passes an empty list.
        """

    def cell(self, label: str) -> None:
        """Receive the label of the work that begins, usually that of a cell, an estimator on an objective."""

    def block(self, done: int, total: int) -> None:
        """Receive how many replicates (estimates) of the current cell are done, and how many there are in all."""

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Receive how far a pilot has come: the precision reached, the precision wanted, and the replicates so far.

        A pilot is a run that finds how many replicates a cell (an estimator on an objective) needs. ``label`` names the
        cell. ``reached`` and ``wanted`` are half-widths of the variance's interval, divided by the variance: 0.05 for
        ±5 %.
        """

    def finish(self, record: Record) -> None:
        """Receive a record that has been written to disk."""

    def end(self) -> None:
        """Receive that the run has ended or was interrupted, or that it pauses while a table is printed."""


Silent = Progress
"""The receiver that ignores all events."""


class NoWorker(Exception):
    """A worker process cannot be started, so that the run cannot go on. The message is one sentence."""


@dataclass(frozen=True)
class Event:
    """A report from a worker process at its work: the name of a method of ``Progress``, with its arguments.

    An empty name only says that the work goes on.
    """

    name: str = ""
    arguments: tuple[Any, ...] = ()
