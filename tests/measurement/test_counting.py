"""Evaluations of f and of df/dx, counted."""

import pytest
import torch

from bench import objectives
from bench.measurement.counting import Counter, count_evaluations, counted
from bench.measurement.engine import Engine
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import RLOO, Enumeration, GumbelSoftmax, Reparameterization, ScoreFunction, StraightThrough
from tests.measurement.objectives import Network

SHARP = Settings(replicates=256, dtype="float64")


@pytest.mark.parametrize(
    ("estimator", "objective", "counts"),
    [
        (ScoreFunction(), objectives.GaussianQuadratic(dim=3), (1, 0)),
        (ScoreFunction(n=5), objectives.LogisticRegression(), (5, 0)),
        (RLOO(n=4), Network(), (4, 0)),
        (Reparameterization(n=3), objectives.GaussianQuadratic(dim=3), (3, 3)),
        (Reparameterization(), objectives.LogisticRegression(), (1, 1)),
        (GumbelSoftmax(n=2), objectives.CategoricalPolynomial(dim=4), (2, 2)),
        (StraightThrough(), Network(), (1, 1)),
        (Enumeration(), objectives.BernoulliQuadratic(dim=5), (32, 0)),
        (Enumeration(), Network(), (8, 0)),
    ],
)
def test_evaluations_are_counted_from_the_objectives_side(estimator, objective, counts):
    assert count_evaluations(Engine(Cell(estimator, objective), SHARP)) == counts


def test_forward_mode_and_pass_through_are_counted_right():
    weight = torch.ones(3, requires_grad=True)
    counter = Counter(event_dims=1)
    f = counted(lambda x: (weight * x).sum(-1), counter)
    f(torch.ones(2, 3)).sum().backward()
    assert (counter.f, counter.df) == (2, 0), "the gradient of a weight inside f is not df/dx"
    with torch.autograd.forward_ad.dual_level():
        f(torch.autograd.forward_ad.make_dual(torch.ones(4, 3), torch.ones(4, 3)))
    assert (counter.f, counter.df) == (6, 4)
