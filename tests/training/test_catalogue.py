"""Every estimator of the catalogue trains what it fits."""

import pytest

import estimators
from bench import objectives
from bench.objectives import BernoulliVAE, CategoricalVAE, GaussianVAE
from bench.planning.cells import Cell, mismatch
from bench.training.settings import Training
from bench.training.train import TrainingRun

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
def test_an_estimator_trains_networks_or_else_what_there_is(estimator):
    fits = [o for o in [*NETWORKS, *OTHERS] if mismatch(estimator, o) is None][:2]
    assert fits
    for objective in fits:
        record = TrainingRun.of(Cell(estimator, objective), HOW, 0).record()
        assert record["outcome"] == "measured", record["reason"]
        assert record["curves"]["value"][0] != record["curves"]["value"][-1]
        assert record["f_evals"] > 0
