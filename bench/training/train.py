"""What an estimator's variance does to learning: runs of training, one estimator and one seed each.

All estimators of a seed begin at the same weights, see the same minibatches in the same order, and draw from the same
stream of noise. At stated steps a run stops to look at itself: at its objective, and at the variance of its gradient.
A look has noise of its own and changes nothing: a run that is looked at is the run that is not, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.execution.pool import Pool, Preload
from bench.execution.progress import Progress
from bench.measurement.lines import common, failed_record, safely, skipped_record
from bench.measurement.threads import single_thread
from bench.objectives import _weights
from bench.planning.cells import Cell, plan
from bench.planning.spec import Spec
from bench.records import store
from bench.records.environment import cores
from bench.records.identity import digest
from bench.records.lines import Record
from bench.training.settings import Training
from bench.training.trainee import KIND, Trainee, upwards

WEIGHTS = "weights"
"""Folder, inside the study's, of the weights that are kept."""
WORTH_WORKERS = 5_000
"""Steps of all runs from which it pays to start processes."""


@dataclass(frozen=True)
class Run:
    """One estimator on one objective, trained once."""

    cell: Cell
    how: Training
    seed: int
    keep: Path | None = None
    """Folder for the weights that it ends with; None to forget them."""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.cell.label}, seed {self.seed}"

    def as_training(self, line: Record) -> Record:
        """Return a line of the cell as one of this run."""
        how = {key: value for key, value in asdict(self.how).items() if key not in ("seeds", "measure_every")}
        given = {**how, "looks": self.how.looks}
        identity = digest([self.cell.id, KIND, given, self.seed])
        facts = {"maximise": upwards(self.cell.objective), "learning_rate": given.pop("rate")}
        return {**line, "kind": KIND, "run": identity, **given, **facts, "seed": self.seed}

    def identity(self) -> Record:
        """Return the keys that are known before the run."""
        return self.as_training(common(self.cell, self.how.settings(self.seed), KIND))

    def done(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Record:
        """Train, and return the line, whatever happens.

        Args:
            progress: called with the steps done and in all at every look.
        """
        settings = self.how.settings(self.seed)

        def work() -> Record:
            trainee = Trainee(self.cell, self.how, self.seed)
            found = trainee.trained(progress)
            if self.keep is not None:
                _weights.save(trainee.problem, self.keep)
            return {**self.identity(), **found}

        with single_thread():
            return self.as_training(safely(work, self.cell, settings, KIND))

    def lost(self, reason: str) -> Record:
        """Return the line of a run that could not be made."""
        return self.as_training(failed_record(self.cell, self.how.settings(self.seed), reason, KIND))


def train(
    spec: Spec, how: Training, folder: Path, progress: Progress, workers: int | None = 1, *, keep_weights: bool = False
) -> list[Record]:
    """Train what a study folder lacks, and return the records of the runs that were asked for.

    A record is on disk when its run ends: an interruption loses only the runs under way. Runs that failed, or whose
    code has changed, are made again; those that diverged are not.

    Args:
        spec: estimators and objectives; all else in it counts for nothing.
        how: how to train, on a device that there is.
        folder: the study folder, made if there is none.
        progress: is told how far the runs are.
        workers: processes that train, one thread each; None for as many as there are processors and work for. Their
            number changes no figure but the seconds.
        keep_weights: write what every run ends with to ``weights`` in the folder, under the digest on its record.

    Raises:
        UsageError: an estimator or an objective cannot be made.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """
    cells, skips = plan(*spec.instances())
    keep = folder / WEIGHTS if keep_weights else None
    runs = [Run(cell, how, seed, keep) for seed in range(how.seeds) for cell in cells]
    wanted = {run.identity()["run"]: run for run in runs}
    refused = [
        Run(skip.cell, how, 0).as_training(skipped_record(skip.cell, how.settings(0), skip.reason)) for skip in skips
    ]
    with store.Store(folder) as writer:
        lines = {line["run"]: line for line in store.read(folder) if line["kind"] == KIND}
        for line in refused:
            if line["run"] not in lines:
                writer.append(line)
        lacking = [run for id_, run in wanted.items() if _lacks(lines.get(id_), run)]
        progress.start(len(runs), len(runs) - len(lacking))
        try:
            for line in _done(lacking, spec, progress, _workers(workers, lacking)):
                writer.append(line)
                progress.finish(line)
        finally:
            progress.end()
    asked = wanted.keys() | {line["run"] for line in refused}
    return [line for line in store.read(folder) if line["kind"] == KIND and line["run"] in asked]


def _lacks(line: Record | None, run: Run) -> bool:
    if line is None or line["outcome"] == "failed" or line["code"] != run.identity()["code"]:
        return True
    return run.keep is not None and not (run.keep / f"{line.get('weights_digest')}.pt").exists()


def _workers(workers: int | None, runs: Sequence[Run]) -> int:
    """Return how many processes to use: starting them must be worth it, and one drives a GPU."""
    if not runs or runs[0].how.device != "cpu":
        return 1
    return workers or (cores() if sum(run.how.steps for run in runs) > WORTH_WORKERS else 1)


def _done(runs: Sequence[Run], spec: Spec, progress: Progress, workers: int) -> Iterator[Record]:
    """Yield the line of every run."""
    if workers == 1:
        for run in runs:
            progress.cell(run.label)
            yield run.done(progress.block)
        return
    preload: Preload = [(s, "estimator") for s in spec.estimators] + [(s, "objective") for s in spec.objectives]
    progress.cell(f"{len(runs)} runs on {workers} workers")
    with Pool(min(workers, len(runs)), preload) as pool:
        yield from pool.cells(runs)
