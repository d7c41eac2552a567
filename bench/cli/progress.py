"""Progress on stderr: a live bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from bench.execution.progress import Silent

if TYPE_CHECKING:
    from bench.execution.progress import Progress
    from bench.records.lines import Record


class Plain(Silent):
    """Writes a line when something begins or ends, but not more often than every ``interval`` seconds; failures always.

    Args:
        stream: where to.
        interval: seconds between lines.
        clock: seconds, from any origin.
    """

    def __init__(self, stream: TextIO, interval: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._interval, self._clock = stream, interval, clock
        self._total, self._done, self._next = 0, 0, clock()

    def start(self, total: int, done: int) -> None:
        """Write how much work there is."""
        self._total, self._done = total, done
        self._write(f"measurements: {total}" + (f", {done} on record already" if done else ""))

    def cell(self, label: str) -> None:
        """Write what begins, if it is time to."""
        self._now_and_then(f"[{self._done + 1}/{self._total}] {label}")

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Write how precise a cell is by now, if it is time to."""
        self._now_and_then(f"[{self._done + 1}/{self._total}] {looked(label, reached, wanted, replicates)}")

    def finish(self, record: Record) -> None:
        """Count a piece of work, and write why it failed or is imprecise, or what it was if it is time to."""
        self._done += 1
        if said := complaint(record):
            self._write(said)
        else:
            self._now_and_then(f"[{self._done}/{self._total}] {named(record)}: done")

    def _now_and_then(self, line: str) -> None:
        if self._clock() >= self._next:
            self._next = self._clock() + self._interval
            self._write(line)

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Live(Silent):
    """A bar that fills as replicates are measured, with the time that is left; failures stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._done = 0

    def start(self, total: int, done: int) -> None:
        """Show the bar."""
        self._done = done
        self._bar.start()
        self._bar.update(self._task, total=total, completed=done)

    def cell(self, label: str) -> None:
        """Show what begins."""
        self._bar.update(self._task, description=label)

    def block(self, done: int, total: int) -> None:
        """Fill the bar by the fraction of the cell that is done."""
        self._bar.update(self._task, completed=self._done + done / total)

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Show how precise a cell is by now."""
        self._bar.update(self._task, description=looked(label, reached, wanted, replicates))

    def finish(self, record: Record) -> None:
        """Count a piece of work, and show why it failed or is imprecise."""
        if said := complaint(record):
            self._bar.console.print(said, markup=False, highlight=False)
        self._done += 1
        self._bar.update(self._task, completed=self._done)

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def named(record: Record) -> str:
    """Return what a record is of: ``rloo on x``, and of training ``rloo on x, seed 3``."""
    name = f"{record['estimator']} on {record['objective']}"
    return f"{name}, seed {record['seed']}" if record["kind"] == "training" else name


def complaint(record: Record) -> str:
    """Return one line that says what failed or diverged and why, or stays imprecise; empty where nothing is amiss."""
    name = named(record)
    if record["outcome"] == "failed":
        return f"failed: {name}: {record['reason']}"
    if record["outcome"] == "diverged":
        return f"diverged at step {record['diverged_at']}: {name}"
    if record["outcome"] == "measured" and record.get("precision_reached") is False:
        return f"not within ±{100 * record['precision']:g} %: {name}, with {record['replicates']:,} replicates"
    return ""


def looked(label: str, reached: float, wanted: float, replicates: int) -> str:
    """Return how precise a cell is by now: ``pilot of rloo on x: ±12 % after 4,096, wanted ±5 %``."""
    now = "no upper end" if math.isinf(reached) else f"±{100 * reached:.2g} %"
    return f"pilot of {label}: {now} after {replicates:,}, wanted ±{100 * wanted:g} %"


def choose(*, quiet: bool) -> Progress:
    """Return what suits stderr: silent if quiet, live on a terminal that can move its cursor, else plain lines."""
    if quiet:
        return Silent()
    live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return Live() if live else Plain(sys.stderr)
