"""Evaluations of f and of df/dx, counted."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from bench import objectives
from bench.measurement.counting import Counter, count_evaluations, counted
from bench.measurement.engine import Engine
from bench.measurement.lines import safely
from bench.measurement.moments import measure_moments
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import Outcome
from estimators import (
    RLOO,
    VIMCO,
    Bound,
    Enumeration,
    GumbelSoftmax,
    InvalidIntegrand,
    PolicyGradient,
    Reparameterization,
    ScoreFunction,
    StraightThrough,
)
from tests.measurement.objectives import Answers, Network

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
        (PolicyGradient(n=3), Answers(), (3, 0)),
        (PolicyGradient(n=3, baseline="greedy"), Answers(), (4, 0)),
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


def evaluated(transform):
    """Return the numbers of evaluations of f and of df/dx by a transform of f at the points x, ``[5, 3]``."""
    counter = Counter(event_dims=1)
    transform(counted(lambda x: x.square().sum(-1), counter), torch.ones(5, 3))
    return counter.f, counter.df


@pytest.mark.parametrize(
    ("transform", "counts"),
    [
        (lambda f, x: torch.func.vmap(f)(x), (5, 0)),
        (lambda f, x: torch.func.vmap(f, 1)(x.T), (5, 0)),
        (lambda f, x: torch.func.grad(lambda x: f(x).sum())(x), (5, 5)),
        (lambda f, x: torch.func.vmap(torch.func.grad(f))(x), (5, 5)),
        (lambda f, x: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum())(x), (5, 5)),
        (lambda f, x: torch.func.jvp(f, (x,), (x,)), (5, 5)),
        (lambda f, x: torch.func.vmap(lambda x: torch.func.jvp(f, (x,), (x,)))(x), (5, 5)),
        (lambda f, x: torch.func.vmap(lambda w: f(w * x))(torch.ones(2)), (10, 0)),
        (lambda f, x: torch.func.vmap(lambda w: w * f(x))(torch.ones(2)), (5, 0)),
    ],
)
def test_an_estimator_may_transform_f_by_torch_func(transform, counts):
    assert evaluated(transform) == counts


def through_numpy(x):
    a = x.detach().numpy()
    np.clip(a, 0, 1, out=a)
    return a.sum(-1)


def through_data(x):
    x.data.clamp_(0, 1)
    return x.sum(-1)


def through_a_shared_array(x):
    torch.from_numpy(x.detach().numpy()).clamp_(0, 1)
    return x.sum(-1)


SLIPS = {
    "in numpy": (through_numpy, "f changes its argument x in place"),
    "in x.data": (through_data, "f changes its argument x in place"),
    "in an array that shares memory": (through_a_shared_array, "f changes its argument x in place"),
    "in torch": (lambda x: x.clamp_(0, 1).sum(-1), "f changes its argument x in place"),
    "no result": (lambda x: None, "f returned None: expected one value per sample. Add a `return`."),
    "no sum": (lambda x: x, "Sum over the event axes."),
}


@dataclass(frozen=True)
class Slip(objectives.GaussianQuadratic):
    """An objective whose f is wrong in a way that ``way`` names."""

    dim: int = 3
    way: str = "in numpy"

    def build(self, dtype=torch.float32, device="cpu"):
        return replace(super().build(dtype, device), integrand=lambda q: SLIPS[self.way][0])


@pytest.mark.parametrize("way", SLIPS)
def test_an_f_at_fault_fails_the_cell_in_one_sentence(way):
    engine = Engine(Cell(RLOO(n=4), Slip(way=way)), SHARP)
    record = safely(lambda: measure_moments(engine), {})
    assert record["outcome"] == Outcome.FAILED
    assert SLIPS[way][1] in record["reason"]
    assert ".py, line" not in record["reason"]


def test_a_log_joint_that_changes_its_argument_is_found():
    objective = objectives.ImportanceWeighted()
    engine = Engine(Cell(VIMCO(), objective), SHARP)
    count_evaluations(engine)
    problem = engine.problem

    def integrand(q):
        bound = problem.integrand(q)
        return Bound(lambda x: bound.log_joint(torch.from_numpy(x.numpy()).mul_(2)), q, bound.particles)

    engine.problem = replace(problem, integrand=integrand)
    with pytest.raises(InvalidIntegrand, match="f changes its argument x in place"):
        count_evaluations(engine)


def test_black_boxes_are_counted():
    for f in (lambda x: (x.numpy() > 0).sum(-1), lambda x: (x > 0).sum(-1), lambda x: (x > 0).sum(-1).tolist()):
        engine = Engine(Cell(RLOO(n=4), objectives.GaussianQuadratic(dim=3)), SHARP)
        engine.problem = replace(engine.problem, integrand=lambda q, f=f: f)
        assert count_evaluations(engine) == (4, 0)
