"""The points at which advice measures: an objective's own theta, and theta along a training run."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bench.measurement.engine import DTYPES, exact_gradient
from bench.measurement.source import Vector
from bench.objectives import Objective, Problem
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.training.settings import Training
from bench.training.trainee import Trainee
from estimators import Estimator


@dataclass(eq=False)
class Point:
    """An objective at one theta.

    Args:
        title: name of the point in reports, such as "step 500".
        objective: the objective, which describes the test problem.
        problem: the objective's tensors and functions: this theta, q and f, in one dtype on one device.
        exact: the exact gradient, ``[size of theta]``, float64; None if it is unknown.
    """

    title: str
    objective: Objective
    problem: Problem
    exact: Vector | None

    @classmethod
    def of(cls, objective: Objective, settings: Settings, title: str, trained: Problem | None = None) -> "Point":
        """Return the point of an objective: the objective at one theta.

        theta is that of the problem ``trained``, or the initial one if ``trained`` is None. ``title`` is the name of
        the point in reports. ``settings`` have the dtype and the device.
        """
        own = _with_weights(objective.build(DTYPES[settings.dtype], settings.device), trained)
        exact = None
        if objective.has_exact:
            sharp = _with_weights(objective.build(torch.float64, "cpu"), trained)
            exact = exact_gradient(objective, own, sharp)[1]
        return cls(title, objective, own, exact)


def along_training(
    objective: Objective, estimator: Estimator, steps: int, settings: Settings, rate: float
) -> Iterator[Point]:
    """Train the objective with an estimator, and yield the points in the middle and at the end of the training.

    A point is the objective at one theta.

    Args:
        objective: the objective, trained from the theta with which it is built.
        estimator: the estimator that trains.
        steps: number of steps of Adam.
        settings: dtype, device and seed of the training.
        rate: Adam's learning rate.
    """
    how = Training(steps=steps, seeds=1, rate=rate, replicates=0, dtype=settings.dtype, device=settings.device)
    trainee = Trainee(Cell(estimator, objective), how, settings.seed)
    done = 0
    for until in dict.fromkeys((max(1, steps // 2), steps)):
        for i in range(done, until):
            trainee.step(i)
        done = until
        yield Point.of(objective, settings, f"step {until:,}", trainee.problem)


def _with_weights(fresh: Problem, trained: Problem | None) -> Problem:
    """Return a problem with its weights replaced by those of a trained problem, if there is one."""
    if trained is not None:
        with torch.no_grad():
            for mine, theirs in ((fresh.theta, trained.theta), (fresh.extra, trained.extra)):
                for name, t in mine.items():
                    t.copy_(theirs[name])
    return fresh
