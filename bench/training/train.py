"""The training record: a training run of one estimator on one objective with one seed.

Runs with the same seed begin at the same weights, see the same minibatches in the same order, and draw from the same
stream of noise. At its checkpoints a run evaluates its objective and the variance of its gradient. Checkpoints use
noise of their own and change nothing: a run with checkpoints equals the run without them, bit for bit.
"""

import csv
import functools
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.execution.cluster.address import Dask
from bench.execution.objectives import examine
from bench.execution.progress import Progress
from bench.execution.rehearsal import require_sound
from bench.execution.serving import Spreader
from bench.execution.study import StudyWriter
from bench.execution.tasks import Task
from bench.measurement.lines import head
from bench.measurement.objective_checks import QUICK
from bench.measurement.objective_checks.parts import training_data
from bench.objectives.autoencoders import weights
from bench.planning import plans
from bench.planning.cells import Cell, Skip, plan
from bench.planning.selectors import NothingFits
from bench.planning.spec import Spec
from bench.records import files
from bench.records.identity import digest
from bench.records.lines import USUAL, LineKind, Record, Rerun
from bench.training.settings import Training
from bench.training.trainee import Trainee, upwards

WEIGHTS = "weights"
"""Name of the folder, inside the study folder, for weights that are kept."""
INDEX = "weights.csv"
"""Name of the table, inside the study folder, that says which file of weights belongs to which run."""
WORTH_WORKERS = 5_000
"""Smallest number of steps, in all runs together, for which it pays to start processes."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun(Task):
    """One training run of an estimator on an objective. Its result is a training record.

    Args:
        cell: the estimator and the objective.
        settings: options for measuring the gradient's variance; their seed is also the seed of the training run.
        how: options of the training itself.
        keep: folder for the final weights; None to discard them.
    """

    how: Training
    keep: Path | None = None
    kind = LineKind.TRAINING
    noun = "runs"
    title = "{cell}, seed {seed}"

    @classmethod
    def of(cls, cell: Cell, how: Training, seed: int, keep: Path | None = None) -> Self:
        """Return the training run of a cell (an estimator on an objective) with a seed.

        ``how`` has the options of the training; ``keep`` is the folder for the final weights, or None to discard them.
        """
        return cls(cell=cell, settings=how.settings(seed), how=how, keep=keep)

    @property
    def seed(self) -> int:
        """Seed of the weights, the minibatches and the noise."""
        return self.settings.seed

    @property
    def effort(self) -> float:
        """Amount of work: the number of steps, divided by 5,000.

        If the efforts of all runs add up to more than 1, it pays to start worker processes.
        """
        return self.how.steps / WORTH_WORKERS

    @functools.cached_property
    def run_id(self) -> str:
        """Id of the training run: a digest of the cell, the settings of the training and the seed."""
        return digest([self.cell.id, self.kind, self._training(), self.seed])

    def _training(self) -> dict[str, Any]:
        """Return the part of the run's identity besides cell and seed."""
        how = {key: value for key, value in asdict(self.how).items() if key not in ("seeds", "measure_every")}
        return {**how, "looks": self.how.checkpoints}

    def head(self) -> Record:
        """Return the part of the training record that is known before the training."""
        given = self._training()
        facts = {"maximise": upwards(self.cell.objective), "learning_rate": given.pop("rate"), "seed": self.seed}
        return {**head(self.cell, self.settings, self.kind), "run": self.run_id, **given, **facts}

    def is_settled_by(self, line: Record, rerun: Collection[Rerun] = USUAL) -> bool:
        """Return whether the record ``line`` holds the result of the run, so that the run need not be repeated.

        By default there are two conditions: the record is no failure, and the code has not changed since. ``rerun``
        says which of these conditions count: "failed" is the word for the first, and "stale" for the second. If weights
        are kept, their file must exist as well.
        """
        kept = self.keep is None or (self.keep / f"{line.get('weights_digest')}.pt").exists()
        return super().is_settled_by(line, rerun) and kept

    def work(self, progress: Progress, pool: Spreader | None) -> Record:
        """Train, and return the training record.

        ``progress`` receives the number of steps done. ``pool`` is not used.
        """
        trainee = Trainee(self.cell, self.how, self.seed)
        found = trainee.train(progress.block)
        if self.keep is not None:
            weights.save(trainee.problem, self.keep)
        return {**self.head(), **found}


def train(
    spec: Spec,
    how: Training,
    folder: Path,
    progress: Progress,
    workers: int | Dask | None = 1,
    *,
    keep_weights: bool = False,
    rerun: Collection[Rerun] = USUAL,
    cell_timeout: float | None = None,
) -> list[Record]:
    """Make the training runs that a study folder lacks, and return the records of all requested runs.

    A record is on disk when its run ends: an interruption loses only the runs under way. By default, runs that failed,
    or whose code has changed, are repeated. Runs that diverged are not repeated.

    Args:
        spec: has the estimators and objectives; nothing else in the spec is used.
        how: the settings of the training, with a device that this machine has.
        folder: the study folder, created if it does not exist.
        progress: receives the events of the runs, such as the start and the end of each.
        workers: number of processes that train, each with one thread; None for as many as the processors and the work
            allow; or a Dask cluster. Of the results, only the seconds depend on it.
        keep_weights: whether to keep the final weights of every run. They are written to ``weights`` in the folder,
            named by their digest. ``weights.csv`` lists the files and the runs.
        rerun: which runs are made again although the folder holds their records: a selection of the words of ``Rerun``,
            such as "stale".
        cell_timeout: seconds without progress after which a worker process is ended, and its run has failed. If it is
            given, all runs are made in workers. If it is None, only runs with a user's code have to be made in workers,
            and their limit is half an hour.

    Raises:
        UsageError: an estimator or an objective cannot be created, or an objective is at fault.
        Damaged: the folder's records cannot be read.
        OSError: the folder cannot be written.
        Busy: another process writes to the folder.
        Gone: the Dask cluster cannot go on.
        NothingFits: no estimator fits its objective. The folder stays as it is.
    """
    study = StudyWriter(spec, folder, progress, workers, rerun=rerun, cell_timeout=cell_timeout)
    with study.pool:
        require_sound(study.pool, spec)
        estimators, objectives = spec.instances()
        examined = examine(objectives, folder, study.pool, (*QUICK, training_data), fresh=Rerun.ALL in rerun)
        cells, skips = plan(estimators, objectives)
        if not cells and not any(skip.failed for skip in skips):
            raise NothingFits(skip.reason for skip in skips)
        keep = folder / WEIGHTS if keep_weights else None
        runs = [TrainingRun.of(cell, how, seed, keep) for seed in range(how.seeds) for cell in cells]
        refused = [(TrainingRun.of(skip.cell, how, 0), skip) for skip in skips]
        return _train(study, how, runs, refused, examined, keep)


def _train(
    study: StudyWriter,
    how: Training,
    runs: Sequence[TrainingRun],
    refused: Sequence[tuple[TrainingRun, Skip]],
    examined: Sequence[Record],
    keep: Path | None,
) -> list[Record]:
    """Make the training runs that the study folder lacks, and return the records of all."""
    with study:
        training = {**asdict(how), "keep_weights": keep is not None}
        plans.keep_training(study.folder, study.spec, [run.run_id for run in runs], training)
        for line in examined:
            study.keep(line)
        for run, skip in refused:
            study.skip(run, skip)
        lacking = study.lacking(runs)
        with study.told(runs):
            study.begin(runs, lacking)
            study.execute(lacking)
        if keep is not None:
            files.write(study.folder / INDEX, _index(keep, study.lines.values()))
    return study.records({run.run_id for run in (*runs, *(run for run, _ in refused))})


def _index(folder: Path, lines: Iterable[Record]) -> str:
    """Return a table of the files of weights in a folder: objective, estimator, seed and settings of their runs."""
    columns = ("objective", "estimator", "seed", "steps", "optimizer", "learning_rate", "dtype", "outcome")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("file", *columns))
    for line in lines:
        if line["kind"] == LineKind.TRAINING and (file := folder / f"{line.get('weights_digest')}.pt").exists():
            table.writerow((file.name, *(line[column] for column in columns)))
    return text.getvalue()
