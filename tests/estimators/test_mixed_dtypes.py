"""Parameters of q and values of f in different dtypes: exact gradients in each mixture."""

import itertools

import pytest
import torch
from torch.distributions import Independent, Normal

from estimators import (
    NVIL,
    RLOO,
    Bound,
    DoublyReparameterized,
    HessianControlVariate,
    QuadraticControlVariate,
    ScoreFunction,
)
from tests.problems import seeded

WIDE = (torch.float32, torch.float64)
MIXTURES = list(itertools.product(WIDE, WIDE, WIDE))
"""Dtypes of loc, of scale and of f's values."""


def normal(loc, scale):
    """Return a q over two coordinates with parameters of the given dtypes, and these parameters."""
    own = torch.tensor([0.5, -0.25], dtype=loc, requires_grad=True), torch.tensor([0.75, 1.5], dtype=scale)
    return Independent(Normal(own[0], own[1].requires_grad_()), 1), own


def gradient(estimator, f, q, own, state=None):
    got = torch.autograd.grad(estimator(f, q, seeded(), state), own)
    assert [g.dtype for g in got] == [each.dtype for each in own]
    return [g.double() for g in got]


@pytest.mark.parametrize(("loc", "scale", "f"), MIXTURES)
def test_control_variates_of_a_quadratic_leave_no_noise(loc, scale, f):
    q, own = normal(loc, scale)
    learned = QuadraticControlVariate(n=2)
    state = learned.init(q, seeded())
    with torch.no_grad():
        state.slope.copy_(2 * own[0])
        state.diagonal.fill_(2)
    for estimator, given in ((HessianControlVariate(n=2), None), (learned, state)):
        got = gradient(estimator, lambda x: x.square().sum(-1).to(f), q, own, given)
        torch.testing.assert_close(got, [2 * each.detach().double() for each in own], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("loc", "scale", "f"), MIXTURES)
def test_the_optimal_baseline_of_two_samples_is_the_other_value(loc, scale, f):
    q, own = normal(loc, scale)
    got, expected = (
        gradient(estimator, lambda x: (x**3).sum(-1).to(f), q, own)
        for estimator in (ScoreFunction(n=2, baseline="optimal"), RLOO(n=2))
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("loc", "scale", "f"), MIXTURES)
def test_doubly_reparameterized_with_a_log_joint_in_its_own_dtype(loc, scale, f):
    q, own = normal(loc, scale)
    got, expected = (
        gradient(DoublyReparameterized(n=2), Bound(lambda x, to=to: -(x**2).sum(-1).to(to), q), q, own)
        for to in (f, torch.promote_types(loc, scale))
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("loc", "scale", "f"), MIXTURES)
def test_the_state_that_nvil_makes_for_a_q_fits_it(loc, scale, f):
    q, own = normal(loc, scale)
    state = NVIL().init(q, seeded())
    assert state.mean.dtype == loc
    gradient(NVIL(), lambda x: x.square().sum(-1).to(f), q, own, state)
