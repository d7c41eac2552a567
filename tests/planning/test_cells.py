"""Which pairs fit, why others do not, and what a cell is known by."""

from dataclasses import dataclass

import pytest
from torch.distributions import Normal

from bench import objectives
from bench.planning.cells import Cell, mismatch, plan
from estimators import (
    RLOO,
    VIMCO,
    DoublyReparameterized,
    GumbelSoftmax,
    Nested,
    Reparameterization,
    ScoreFunction,
    StickingTheLanding,
)


def test_incompatible_pairs_are_skips_with_a_reason():
    cells, skips = plan(
        [ScoreFunction(), Reparameterization(), GumbelSoftmax()],
        [objectives.GaussianQuadratic(), objectives.BernoulliQuadratic()],
    )
    assert [(type(c.estimator), type(c.objective).__name__) for c in cells] == [
        (ScoreFunction, "GaussianQuadratic"),
        (Reparameterization, "GaussianQuadratic"),
        (ScoreFunction, "BernoulliQuadratic"),
        (GumbelSoftmax, "BernoulliQuadratic"),
    ]
    assert [s.reason.split()[0] for s in skips] == ["GumbelSoftmax(n=1,", "Reparameterization"]
    assert "Use ScoreFunction, RLOO" in skips[1].reason


@dataclass(frozen=True)
class Step(objectives.Objective):
    dim: int = 1
    family = Normal
    differentiable = False
    relaxable = False

    def build(self, dtype=None, device="cpu"):
        raise AssertionError("planning computes nothing")


def test_facts_decide_without_computing():
    assert (
        mismatch(Reparameterization(), Step())
        == "Reparameterization(n=1, noise='iid') needs df/dx, and step has none. Use ScoreFunction or RLOO."
    )
    assert mismatch(ScoreFunction(), Step()) is None


@pytest.mark.parametrize(
    ("estimator", "instead"),
    [(VIMCO(), RLOO()), (StickingTheLanding(), Reparameterization()), (DoublyReparameterized(), Reparameterization())],
)
def test_an_estimator_of_bounds_is_refused_elsewhere_with_one_that_fits(estimator, instead):
    objective = objectives.GaussianQuadratic()
    reason = mismatch(estimator, objective)
    assert reason.endswith(f"gaussian-quadratic is not one. Use {type(instead).__name__}.")
    assert mismatch(instead, objective) is None


def test_layers_that_an_estimator_does_not_serve_and_costs_that_f_lacks_are_skips():
    cells, skips = plan(
        [Nested("reparameterization", "rloo"), Nested("rloo", "disarm"), RLOO(credit="downstream")],
        [objectives.GaussianThenCategorical()],
    )
    assert [cell.estimator.outer for cell in cells] == ["reparameterization"]
    layer, costs = (skip.reason for skip in skips)
    assert layer.startswith("Layer 2 of Nested: DisARM")
    assert costs.startswith("RLOO(n=2, credit='downstream') needs a Return")
    assert mismatch(RLOO(credit="downstream"), objectives.Corridor()) is None


def test_identity_leaves_defaults_out():
    cells = [
        Cell(ScoreFunction(), objectives.GaussianQuadratic()),
        Cell(ScoreFunction(), objectives.GaussianQuadratic(dim=2)),
        Cell(RLOO(), objectives.GaussianQuadratic(dim=2)),
    ]
    assert len({cell.id for cell in cells}) == 3
    assert cells[0].id == Cell(ScoreFunction(n=1), objectives.GaussianQuadratic(dim=10)).id
