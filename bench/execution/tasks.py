"""Tasks: pieces of work, each of which becomes one line of a study."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from bench.execution.pool import Pool
from bench.execution.progress import Progress, Silent
from bench.measurement import reference
from bench.measurement.engine import Engine
from bench.measurement.lines import failed, head, replicates_of, run_of, safely
from bench.measurement.moments import in_process, measure_moments
from bench.measurement.pilot import pilot_head, run_pilot, with_precision
from bench.measurement.threads import single_thread
from bench.measurement.timing import measure_timing
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.records.code import code_digest
from bench.records.lines import LineKind, Outcome, Record
from bench.stats import PrecisionTarget, Reference

LARGE = 2**27
"""Numbers in a cell's samples from which it pays to spread its draws over worker processes."""


@dataclass(frozen=True)
class Task(ABC):
    """A piece of work that becomes one line.

    Args:
        cell: estimator and objective.
        settings: how the cell is measured.
    """

    cell: Cell
    settings: Settings

    kind: ClassVar[LineKind]
    """Kind of the line."""
    noun: ClassVar[str] = "cells"
    """Word for several tasks."""
    title: ClassVar[str] = "{cell}"
    """Format of the label, from the labels of the cell and the objective and the seed."""

    @functools.cached_property
    def run(self) -> str:
        """Id of the run that the line belongs to."""
        return run_of(self.cell, self.settings)

    @property
    def label(self) -> str:
        """Text shown while the work is under way."""
        cell, seed = self.cell, self.settings.seed
        return self.title.format(cell=cell.label, objective=label(cell.objective), seed=seed)

    @property
    def effort(self) -> float:
        """Amount of work, the numbers in all samples in units of ``LARGE``; from 1 on it pays to start processes."""
        n = int(getattr(self.cell.estimator, "n", 1))
        return replicates_of(self.cell, self.settings) * n * self.cell.objective.row_elements / LARGE

    @property
    def is_spread(self) -> bool:
        """Whether its draws are spread over all workers, one task at a time."""
        return False

    def head(self) -> Record:
        """Return the keys of the line that are known before the work."""
        return head(self.cell, self.settings, self.kind)

    def is_settled_by(self, line: Record) -> bool:
        """Return whether a line on record makes the work needless: it did not fail, and the code is unchanged."""
        code = code_digest(self.cell.estimator, self.cell.objective)
        return bool(line["outcome"] != Outcome.FAILED and line["code"] == code)

    def record(self, progress: Progress | None = None, pool: Pool | None = None) -> Record:
        """Do the work and return its line, whatever happens. Draws are spread over the pool if there is one."""
        with single_thread():
            return safely(lambda: self.work(progress or Silent(), pool), self.head())

    @abstractmethod
    def work(self, progress: Progress, pool: Pool | None) -> Record:
        """Do the work and return its line."""

    def failed(self, reason: str) -> Record:
        """Return the line that says why the work could not be done."""
        return failed(self.head(), reason)


@dataclass(frozen=True)
class MomentsTask(Task):
    """Measures a cell.

    Args:
        reference: stands in for the exact gradient if the objective has none.
        pilot: line of the pilot that found the replicates, if there was one.
    """

    reference: Reference | None = None
    pilot: Record | None = None
    kind = LineKind.MOMENTS

    @property
    def is_spread(self) -> bool:
        """Whether its draws are spread over all workers: a large cell's are."""
        return self.effort > 1

    def work(self, progress: Progress, pool: Pool | None) -> Record:
        """Measure the cell and return its line."""
        spread = in_process if pool is None else pool.spread
        return measure_moments(Engine(self.cell, self.settings), progress.block, spread, self.reference)

    def record(self, progress: Progress | None = None, pool: Pool | None = None) -> Record:
        """Measure the cell and return its line, whatever happens."""
        return self.with_pilot(super().record(progress, pool))

    def failed(self, reason: str) -> Record:
        """Return the line that says why the cell could not be measured."""
        return self.with_pilot(super().failed(reason))

    def with_pilot(self, line: Record) -> Record:
        """Return a line of the cell with the precision that its pilot was made for."""
        return line if self.pilot is None else with_precision(line, self.pilot)


@dataclass(frozen=True, kw_only=True)
class PilotTask(Task):
    """Finds out how many replicates a cell needs.

    Args:
        settings: how the cell is measured, with the most replicates that the target allows.
        target: the wanted precision.
    """

    target: PrecisionTarget
    kind = LineKind.PILOT
    title = "pilot of {cell}"

    @functools.cached_property
    def run(self) -> str:
        """Id of the run; it depends on the target."""
        return str(self.head()["run"])

    def head(self) -> Record:
        """Return the keys of the line that are known before the work."""
        return pilot_head(self.cell, self.settings, self.target)

    def work(self, progress: Progress, pool: Pool | None) -> Record:
        """Make the pilot and return its line."""
        return run_pilot(self.cell, self.settings, self.target, progress.block, progress.look)


@dataclass(frozen=True)
class ReferenceTask(Task):
    """Measures the gradient that stands in for an objective's exact one."""

    kind = LineKind.REFERENCE
    title = "reference of {objective}"

    def work(self, progress: Progress, pool: Pool | None) -> Record:
        """Measure the reference and return its line."""
        return reference.measure_reference(self.cell, self.settings, progress.block)


@dataclass(frozen=True)
class TimingTask(Task):
    """Times a cell; nothing else may run beside it."""

    kind = LineKind.TIMING
    title = "timing {cell}"

    def work(self, progress: Progress, pool: Pool | None) -> Record:
        """Time the cell and return its line."""
        return measure_timing(self.cell, self.settings)
