"""Every estimator and every objective of the catalogue takes part in training."""

import pytest
import torch

import estimators
from bench import objectives
from bench.measurement.engine import DTYPES
from bench.objectives import BernoulliVAE, CategoricalVAE, GaussianVAE, catalogue
from bench.planning.cells import Cell, mismatch
from bench.training.settings import Training
from bench.training.train import TrainingRun
from estimators import RLOO
from tests.training.runs import record_of

NETWORKS = [
    GaussianVAE(dim=2, hidden=3, batch=2),
    BernoulliVAE(dim=2, hidden=3, batch=2),
    CategoricalVAE(dim=2, classes=2, hidden=3, batch=2),
    GaussianVAE(dim=2, hidden=3, batch=2, particles=2),
]
OTHERS = [cls() for cls in objectives.catalogue().values() if cls not in map(type, NETWORKS)]
HOW = Training(steps=3, measure_every=3, replicates=64)


@pytest.mark.parametrize(
    "estimator", [cls() for cls in estimators.catalogue().values()], ids=lambda e: type(e).__name__
)
def test_every_estimator_can_train(estimator):
    fits = [o for o in [*NETWORKS, *OTHERS] if mismatch(estimator, o) is None][:2]
    assert fits
    for objective in fits:
        record = TrainingRun.of(Cell(estimator, objective), HOW, 0).record()
        assert record["outcome"] == "measured", record["reason"]
        assert record["curves"]["value"][0] != record["curves"]["value"][-1]
        assert record["f_evals"] > 0


def test_every_objective_can_be_trained():
    how = Training(steps=2, measure_every=2, replicates=0)
    for name, cls in catalogue().items():
        record = record_of(RLOO(), cls(), how)
        assert record["outcome"] == "measured", (name, record["reason"])
        assert DTYPES[record["dtype"]] == torch.float32
