"""Runs of training, and an estimator that fails or is interrupted until a file exists."""

import os
from dataclasses import dataclass
from pathlib import Path

from bench.objectives import BernoulliVAE
from bench.planning.cells import Cell
from bench.training.settings import Training
from bench.training.train import TrainingRun
from estimators import Estimator, ScoreFunction

SMALL = BernoulliVAE(dim=3, hidden=5, batch=4)


SHARP = Training(steps=6, seeds=1, rate=0.05, measure_every=2, replicates=0, dtype="float64")


def record_of(estimator, objective, how=SHARP, seed=0):
    return TrainingRun.of(Cell(estimator, objective), how, seed).record()


@dataclass(frozen=True)
class Moody(Estimator):
    """Fails until a file exists, whose path is in the environment."""

    def __call__(self, f, q, generator=None, state=None):
        if not Path(os.environ["MOODY"]).exists():
            raise RuntimeError("out of luck")
        return ScoreFunction()(f, q, generator)
