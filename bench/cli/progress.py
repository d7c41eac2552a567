"""Progress on stderr: a live bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from bench.cli.terminal import console
from bench.execution.progress import Progress, Silent
from bench.records.labels import labelled
from bench.records.lines import LineKind, Outcome
from bench.records.text import on_terminals

if TYPE_CHECKING:
    from bench.records.lines import Record


class Plain(Silent):
    """Progress as lines of text on a stream.

    Every failure is written as a line. All other lines are written only if the last line is at least ``interval``
    seconds old. ``clock`` returns the time in seconds.
    """

    def __init__(self, stream: TextIO, interval: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._interval, self._clock = stream, interval, clock
        self._total, self._done, self._next = 0, 0, clock()

    def start(self, total: int, done: int) -> None:
        """Write the number of measurements, ``total``, as in ``measurements: 12``.

        ``done`` is the number of measurements that are finished already. Later lines count from it, as in ``[3/12]``.
        """
        self._total, self._done = total, done
        self._write(f"measurements: {total}")

    def stand(self, standing: str, records: Sequence[Record]) -> None:
        """Write how much of the study is done, and the dates of the records of earlier runs.

        ``standing`` is a text that says how much is done, such as ``73 of 120 cells are here, 47 to go``. ``records``
        are those of earlier runs that are used again; the list may be empty.
        """
        self._write(describe_standing(standing, records))

    def cell(self, label: str) -> None:
        """Write the label of the cell (an estimator on an objective) that begins.

        Nothing is written if a line was written in the last few seconds.
        """
        self.say(f"[{self._done + 1}/{self._total}] {label}")

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Write the precision that a pilot has reached, unless a line was written in the last few seconds.

        The pilot is the run that finds how many replicates a cell (an estimator on an objective) needs; ``label`` names
        the cell. ``reached`` and ``wanted`` are half-widths of the variance's interval, divided by the variance: 0.05
        for ±5 %. ``replicates`` is the number of replicates so far.
        """
        self.say(f"[{self._done + 1}/{self._total}] {describe_look(label, reached, wanted, replicates)}")

    def finish(self, record: Record) -> None:
        """Count a new record, and write a line if it failed, diverged or is imprecise.

        A record that is fine has a line only if none was written in the last few seconds.
        """
        self._done += 1
        if said := complaint(record):
            self._write(said)
        else:
            self.say(f"[{self._done}/{self._total}] {name_of(record)}: done")

    def say(self, line: str) -> None:
        """Write a line of text, unless a line was written in the last few seconds."""
        if self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self._write(line)

    def _write(self, line: str) -> None:
        print(on_terminals(line), file=self._stream, flush=True)


class Live(Silent):
    """Progress as a bar on a terminal, with the remaining time. Failures stay visible above the bar."""

    def __init__(self) -> None:
        from rich import progress

        self.bar = progress.Progress(
            progress.MofNCompleteColumn(),
            progress.BarColumn(bar_width=24),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("{task.description}", markup=False),
            console=console(stderr=True),
            transient=True,
        )
        self._task, self._done = self.bar.add_task("", total=None), 0

    def start(self, total: int, done: int) -> None:
        """Show the progress bar, with ``done`` of ``total`` measurements finished."""
        self._done = done
        self.bar.start()
        self.bar.update(self._task, total=total, completed=done)

    def stand(self, standing: str, records: Sequence[Record]) -> None:
        """Print above the progress bar how much of the study is done, and the dates of the records of earlier runs.

        ``standing`` is a text that says how much is done, such as ``73 of 120 cells are here, 47 to go``. ``records``
        are those of earlier runs that are used again; the list may be empty.
        """
        self.bar.console.print(describe_standing(standing, records), markup=False, highlight=False)

    def cell(self, label: str) -> None:
        """Show the label of the cell (an estimator on an objective) that begins.

        If the progress bar was removed, show it again.
        """
        self.bar.start()
        self.bar.update(self._task, description=label)

    def block(self, done: int, total: int) -> None:
        """Advance the progress bar to the state of the present measurement: ``done`` of its ``total`` replicates."""
        self.bar.update(self._task, completed=self._done + done / total)

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Show the precision that a pilot has reached so far.

        The pilot is the run that finds how many replicates a cell (an estimator on an objective) needs; ``label`` names
        the cell. ``reached`` and ``wanted`` are half-widths of the variance's interval, divided by the variance: 0.05
        for ±5 %. ``replicates`` is the number of replicates so far.
        """
        self.bar.update(self._task, description=describe_look(label, reached, wanted, replicates))

    def finish(self, record: Record) -> None:
        """Count a new record. If it failed, diverged or is imprecise, print the reason above the progress bar."""
        if said := complaint(record):
            self.bar.console.print(said, markup=False, highlight=False)
        self._done += 1
        self.bar.update(self._task, completed=self._done)

    def end(self) -> None:
        """Remove the progress bar from the terminal."""
        self.bar.stop()


def name_of(record: Record) -> str:
    """Return what a record is about: ``rloo:n=2 on qubo`` or, for training, ``rloo:n=2 on qubo, seed 3``."""
    (shown,) = labelled([record])
    name = f"{shown['estimator']} on {shown['objective']}"
    return f"{name}, seed {record['seed']}" if record["kind"] == LineKind.TRAINING else name


def complaint(record: Record) -> str:
    """Return a line about a measurement that failed, diverged or is imprecise; empty text if it is fine."""
    name = name_of(record)
    if record["outcome"] == Outcome.FAILED:
        return f"failed: {name}: {record['reason']}"
    if record["outcome"] == Outcome.DIVERGED:
        return f"diverged at step {record['diverged_at']}: {name}"
    if record["outcome"] == Outcome.MEASURED and record.get("precision_reached") is False:
        return f"not within ±{100 * record['precision']:g} %: {name}, with {record['replicates']:,} replicates"
    return ""


def describe_standing(standing: str, records: Sequence[Record]) -> str:
    """Return a line of text: ``standing``, followed by when the ``records`` of earlier runs were written.

    ``standing`` says how much of a study is done, and ``records`` are those that are used again. The line is such as
    ``73 of 120 cells are here, 47 to go; records of 28 November 2026, 12:03 (--fresh measures again)``. If there are no
    records, the line is ``standing`` alone.
    """
    if not records:
        return standing
    times = sorted(datetime.fromisoformat(record["written"]) for record in records if record.get("written"))
    shown = [f"{time.astimezone():%d %B %Y, %H:%M}".lstrip("0") for time in (*times[:1], *times[-1:])]
    when = " to ".join(dict.fromkeys(shown))
    return f"{standing}; records{when and f' of {when}'} (--fresh measures again)"


def describe_look(label: str, reached: float, wanted: float, replicates: int) -> str:
    """Return a pilot's progress as text: ``pilot of rloo on x: ±12 % after 4,096 replicates, wanted ±5 %``.

    The pilot is the run that finds how many replicates a cell (an estimator on an objective) needs; ``label`` names the
    cell. ``reached`` and ``wanted`` are half-widths of the variance's interval, divided by the variance: 0.05 for ±5 %.
    ``replicates`` is the number of replicates so far.
    """
    now = "no upper limit" if math.isinf(reached) else f"±{100 * reached:.2g} %"
    return f"pilot of {label}: {now} after {replicates:,} replicates, wanted ±{100 * wanted:g} %"


def choose(*, quiet: bool) -> Progress:
    """Return the progress that suits stderr: a bar on a terminal, else lines of text; nothing if ``quiet``."""
    if quiet:
        return Silent()
    return Live() if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" else Plain(sys.stderr)
