"""Tasks: pieces of work, each of which becomes one record of a study."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.execution.progress import Progress, Silent
from bench.execution.serving import Spreader
from bench.measurement import reference
from bench.measurement.engine import Engine
from bench.measurement.lines import failed, head, replicates_of, run_of, safely
from bench.measurement.moments import in_process, measure_moments
from bench.measurement.pilot import pilot_head, run_pilot, with_precision
from bench.measurement.threads import single_thread
from bench.measurement.timing import CELL_SECONDS, measure_timing
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.records import unfinished
from bench.records.code import code_digest
from bench.records.lines import USUAL, LineKind, Outcome, Record, Rerun
from bench.stats import PrecisionTarget, Reference

LARGE = 2**27
"""Smallest count of numbers in a cell's samples for which it pays to spread its draws over worker processes."""


@dataclass(frozen=True)
class Task(ABC):
    """A piece of work that becomes one record.

    Args:
        cell: the estimator and the objective.
        settings: how the cell is measured.
    """

    cell: Cell
    settings: Settings

    kind: ClassVar[LineKind]
    """Kind of the record."""
    noun: ClassVar[str] = "cells"
    """Plural noun for several tasks, in reports of progress."""
    title: ClassVar[str] = "{cell}"
    """Format of the task's label, with the fields ``cell``, ``objective`` (their labels) and ``seed``."""

    @functools.cached_property
    def run_id(self) -> str:
        """Id of the run that the record belongs to, 16 hexadecimal digits. A run is one measurement or one training."""
        return run_of(self.cell, self.settings)

    @property
    def label(self) -> str:
        """Text shown while the work is under way, such as ``timing rloo:n=4 on gaussian-quadratic``."""
        cell, seed = self.cell, self.settings.seed
        return self.title.format(cell=cell.label, objective=label(cell.objective), seed=seed)

    @property
    def effort(self) -> float:
        """Amount of work, without a unit. If the sum over all tasks is above 1, starting worker processes pays.

        The amount is a product divided by 2^27: the number of replicates, times the number n of samples per estimate,
        times the number of elements in the largest tensor for one sample.
        """
        n = int(getattr(self.cell.estimator, "n", 1))
        return replicates_of(self.cell, self.settings) * n * self.cell.objective.row_elements / LARGE

    @property
    def is_spread(self) -> bool:
        """Whether the draws (batches of replicates) of the task are spread over all workers; other tasks then wait."""
        return False

    def head(self) -> Record:
        """Return the start of the record: the keys that are known before the work."""
        return head(self.cell, self.settings, self.kind)

    def is_settled_by(self, line: Record, rerun: Collection[Rerun] = USUAL) -> bool:
        """Return whether the record ``line`` settles the task, so that the work need not be done again.

        By default there are two conditions: the recorded work did not fail, and the task's code has not changed since.
        ``rerun`` says which of these conditions count: "failed" is the word for the first, and "stale" for the second.
        """
        if Rerun.STALE in rerun and line["code"] != code_digest(self.cell.estimator, self.cell.objective):
            return False
        return not (Rerun.FAILED in rerun and line["outcome"] == Outcome.FAILED)

    def record(self, progress: Progress | None = None, pool: Spreader | None = None) -> Record:
        """Do the work and return its record.

        If the work raises, return a record of the failure. ``progress`` receives the events of the work. If there is a
        ``pool``, a large task spreads its draws (batches of replicates) over the workers of the pool.
        """
        with single_thread():
            return safely(lambda: self.work(progress or Silent(), pool), self.head())

    @abstractmethod
    def work(self, progress: Progress, pool: Spreader | None) -> Record:
        """Do the work and return its record. Exceptions are not caught.

        ``progress`` receives the events of the work. ``pool`` has other processes help with the draws (batches of
        replicates); None to compute all of them here.
        """

    def failed(self, reason: str) -> Record:
        """Return a record that says why the work failed."""
        return failed(self.head(), reason)


@dataclass(frozen=True)
class MomentsTask(Task):
    """The measurement of a cell (an estimator on an objective), which becomes a moments record.

    A moments record holds the mean, the variance and the bias of the estimator.

    Args:
        reference: the mean gradient of a long run, in place of an unknown exact gradient; None if there is no such run.
        pilot: record of the pilot, a separate run that found the number of replicates; None if there was no pilot.
        folder: the study folder, in which a long measurement keeps its sums until it ends; None to keep no sums.
    """

    reference: Reference | None = None
    pilot: Record | None = None
    folder: Path | None = None
    kind = LineKind.MOMENTS

    @property
    def is_spread(self) -> bool:
        """Whether the measurement is so large that its draws (batches of replicates) are spread over all workers."""
        return self.effort > 1

    def work(self, progress: Progress, pool: Spreader | None) -> Record:
        """Measure the estimator on the objective and return its moments record. Exceptions are not caught.

        ``progress`` receives the events of the work. ``pool`` has other processes help with the draws (batches of
        replicates); None to compute all of them here.
        """
        spread = in_process if pool is None else pool.spread
        keep = None if self.folder is None else unfinished.path_of(self.folder, self.run_id)
        return measure_moments(Engine(self.cell, self.settings), progress.block, spread, self.reference, keep)

    def record(self, progress: Progress | None = None, pool: Spreader | None = None) -> Record:
        """Measure the estimator on the objective and return the moments record.

        If the work raises, return a record of the failure.

        ``progress`` receives the events. The draws (batches) are spread over the ``pool`` if there is one.
        """
        return self.with_pilot(super().record(progress, pool))

    def failed(self, reason: str) -> Record:
        """Return a moments record that says why the estimator could not be measured on the objective."""
        return self.with_pilot(super().failed(reason))

    def with_pilot(self, line: Record) -> Record:
        """Return a copy of a moments record with two more facts: the wanted precision, and whether it was reached.

        The wanted precision comes from the pilot, the run that found the number of replicates. If there was no pilot,
        the record ``line`` is returned unchanged.
        """
        return line if self.pilot is None else with_precision(line, self.pilot)


@dataclass(frozen=True, kw_only=True)
class PilotTask(Task):
    """The search for the number of replicates that a cell needs; it becomes a pilot record.

    A cell is an estimator on an objective.

    Args:
        settings: how the cell is measured; ``replicates`` is the upper limit of the search, taken from ``target``.
        target: the wanted precision, and the largest number of replicates.
    """

    target: PrecisionTarget
    kind = LineKind.PILOT
    title = "pilot of {cell}"

    @functools.cached_property
    def run_id(self) -> str:
        """Id of the pilot's run; it depends on the settings and on the wanted precision."""
        return str(self.head()["run"])

    def head(self) -> Record:
        """Return the start of the pilot record: the keys that are known before the work."""
        return pilot_head(self.cell, self.settings, self.target)

    def work(self, progress: Progress, pool: Spreader | None) -> Record:
        """Run the pilot and return its record.

        ``progress`` receives the events of the work. ``pool`` is not used.
        """
        return run_pilot(self.cell, self.settings, self.target, progress.block, progress.look)


@dataclass(frozen=True)
class ReferenceTask(Task):
    """A long measurement on an objective without an exact gradient, which becomes a reference record.

    The mean gradient of the measurement takes the place of the exact gradient.
    """

    kind = LineKind.REFERENCE
    title = "reference of {objective}"

    def work(self, progress: Progress, pool: Spreader | None) -> Record:
        """Measure the mean gradient that is used in place of an exact one, and return the reference record.

        ``progress`` receives the events of the work. ``pool`` is not used.
        """
        return reference.measure_reference(self.cell, self.settings, progress.block)


@dataclass(frozen=True)
class TimingTask(Task):
    """The timing of a cell (an estimator on an objective), which becomes a timing record.

    Nothing else may run at the same time.

    Args:
        seconds: how long the timing may take.
    """

    seconds: float = CELL_SECONDS
    kind = LineKind.TIMING
    title = "timing {cell}"

    def work(self, progress: Progress, pool: Spreader | None) -> Record:
        """Time the estimator on the objective and return its timing record. No argument is used."""
        return measure_timing(self.cell, self.settings, self.seconds)
