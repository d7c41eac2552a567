"""Tasks: cells to measure, each with its settings and its run id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.execution.pool import Pool
from bench.measurement.draws import draws
from bench.measurement.engine import Engine
from bench.measurement.lines import failed_record, safely
from bench.measurement.moments import moments_record
from bench.measurement.pilot import Look, identity, pilot_record
from bench.measurement.threads import single_thread
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import Record
from bench.stats import PrecisionTarget, Reference

LARGE = 2**27
"""Elements of a cell's samples from which its draws are spread over the workers."""


@dataclass(frozen=True)
class Task:
    """A cell that is measured whole: how, against which reference, or with a target that sets its replicates."""

    cell: Cell
    settings: Settings
    reference: Reference | None = None
    target: PrecisionTarget | None = None

    @property
    def elements(self) -> int:
        """About how many numbers its samples are, of a pilot at most."""
        replicates = self.target.max_replicates if self.target else self.settings.replicates
        return elements(self.cell, replace(self.settings, replicates=replicates))

    def done(self) -> Record:
        """Return the line, done in this process."""
        return done(self, lambda _done, _total: None, lambda *_: None)

    def lost(self, reason: str) -> Record:
        """Return the record of why it could not be done."""
        if self.target is None:
            return failed_record(self.cell, self.settings, reason)
        return {**identity(self.cell, self.settings, self.target), "outcome": "failed", "reason": reason}


def elements(cell: Cell, settings: Settings) -> int:
    """Return about how many numbers the samples of a cell are."""
    n = int(getattr(cell.estimator, "n", 1))
    return sum(draws(cell, settings.replicates, settings.device)) * n * cell.objective.row_elements


def done(task: Task, progress: Callable[[int, int], None], look: Look, pool: Pool | None = None) -> Record:
    """Return the line of a task, done here or, with a pool, with a measurement's draws spread over the workers."""
    target = task.target
    if target is None:
        return measured(task.cell, task.settings, progress, pool, task.reference)
    with single_thread():
        line = safely(lambda: pilot_record(task.cell, task.settings, target, progress, look), task.cell, task.settings)
    return line if line["outcome"] == "measured" else {**task.lost(line["reason"]), "outcome": line["outcome"]}


def measured(
    cell: Cell,
    settings: Settings,
    progress: Callable[[int, int], None],
    pool: Pool | None = None,
    reference: Reference | None = None,
) -> Record:
    """Return the moments line of a cell, measured here or, with a pool, with its draws spread over the workers."""

    def work() -> Record:
        engine = Engine(cell, settings)
        return moments_record(engine, progress, pool.spread if pool else None, reference)

    with single_thread():
        return safely(work, cell, settings)
