"""SIMPLE: its formula with marginals summed over all subsets, its mean, its relation to straight-through."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Normal, OneHotCategorical

from estimators import SIMPLE, InvalidParameter, NotDifferentiable, StraightThrough, Subset, UnsupportedFamily, draw
from tests.problems import seeded, t

LOGITS = t([0.4, -1.2, 0.3, 2.0], [0.0, 0.7, 0.0, -0.4])


def curve(x):
    return (x**3 * t(1.0, -2.0, 0.5, 0.3)).sum(-1).sin() + x[..., 0] * x[..., 1]


def slope(x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(curve(x).sum(), x)[0]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_is_its_formula(k):
    """The Jacobian of the marginals is the covariance of the bits."""
    theta = LOGITS.clone().requires_grad_()
    q = Subset(theta, k)
    loss = SIMPLE(4)(curve, q, seeded())
    (got,) = torch.autograd.grad(loss.sum(), [theta])
    x = draw(q, 4, seeded())
    states = t(*[s for s in itertools.product((0.0, 1.0), repeat=4) if sum(s) == k])
    p = torch.softmax(LOGITS @ states.T, -1)
    away = states - (p @ states).unsqueeze(1)
    covariance = torch.einsum("bs,bsi,bsj->bij", p, away, away)
    torch.testing.assert_close(loss, curve(x).mean(0), rtol=1e-12, atol=1e-14)
    expected = torch.einsum("bij,bj->bi", covariance, slope(x).mean(0))
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


def test_linear_functions_are_exact():
    theta, c = LOGITS[0].clone().requires_grad_(), t(1.0, -2.0, 0.5, 0.3)
    q = Subset(theta, 2)
    (got,) = torch.autograd.grad(SIMPLE()(lambda x: x @ c, q, seeded()), [theta])
    x = q.enumerate_support()
    (exact,) = torch.autograd.grad(q.log_prob(x).exp() @ (x @ c), [theta])
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-14)


def test_for_one_element_it_is_straight_through(monkeypatch):
    theta = LOGITS.clone().requires_grad_()
    x = torch.eye(4, dtype=torch.float64)[torch.tensor([[0, 3], [1, 1], [2, 0]])]
    grads = []
    for name, estimator, q in (
        ("simple", SIMPLE(3), Subset(theta, 1)),
        ("straight_through", StraightThrough(3), OneHotCategorical(logits=theta)),
    ):
        monkeypatch.setattr(f"estimators.{name}.draw", lambda q, n, generator: x)
        grads.append(torch.autograd.grad(estimator(curve, q).sum(), [theta])[0])
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("level", [50.0, 500.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_logits(level, dtype):
    theta = torch.tensor([level, -level, level, -level], dtype=dtype, requires_grad=True)
    loss = SIMPLE()(lambda x: x.square().sum(-1), Subset(theta, 2), seeded())
    (g,) = torch.autograd.grad(loss, [theta])
    assert loss == 2
    assert g.abs().max() < 1e-6


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"Use SIMPLE\(n=1\)"):
        SIMPLE(0)
    for q in (Normal(t(0.0), t(1.0)), Bernoulli(t(0.5))):
        with pytest.raises(UnsupportedFamily, match=r"SIMPLE\(n=1\) serves Subset, and q is \w+\. Use "):
            SIMPLE()(torch.square, q)
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        SIMPLE()(lambda x: x.detach().sum(-1), Subset(LOGITS.clone().requires_grad_(), 2))
