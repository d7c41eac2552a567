"""DARN: its formula on the same noise, exact means over the support, its relation to ReinMax."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from estimators import DARN, InvalidParameter, ReinMax, StraightThrough, UnsupportedFamily, draw
from estimators import darn as module
from tests.problems import curve, curve_slope, moments, outcomes, row_gradients, seeded, t, weighted_outcomes

LOGITS = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5])
CENTRES = ["uniform", "mean"]


@pytest.mark.parametrize("centre", CENTRES)
def test_is_its_formula_on_bits(centre):
    theta = LOGITS.clone().requires_grad_()
    q = Independent(Bernoulli(logits=theta), 1)
    (got,) = torch.autograd.grad(DARN(4, centre)(curve, q, seeded()).sum(), [theta])
    x, p = draw(q, 4, seeded()), torch.sigmoid(LOGITS)
    expected = ((x - p) * curve_slope(x) * (x - (0.5 if centre == "uniform" else p))).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centre", CENTRES)
def test_is_its_formula_on_categories(centre):
    theta = LOGITS.clone().requires_grad_()
    q = OneHotCategorical(logits=theta)
    (got,) = torch.autograd.grad(DARN(4, centre)(curve, q, seeded()).sum(), [theta])
    x, p = draw(q, 4, seeded()), torch.softmax(LOGITS, -1)
    away = x - (1 / 3 if centre == "uniform" else p)
    expected = ((x - p) * (curve_slope(x) * away).sum(-1, keepdim=True)).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "build", [lambda x: OneHotCategorical(logits=x), lambda x: Independent(Bernoulli(logits=x), 1)]
)
def test_half_the_sum_with_straight_through_is_reinmax(build):
    theta = LOGITS.clone().requires_grad_()

    def gradient(estimator):
        return torch.autograd.grad(estimator(curve, build(theta), seeded()).sum(), [theta])[0]

    half = (gradient(DARN(4, "mean")) + gradient(StraightThrough(4))) / 2
    torch.testing.assert_close(half, gradient(ReinMax(4)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("centre", CENTRES)
def test_moments_on_a_bit(monkeypatch, p, centre):
    """Of (b - t)^2: a value (1 - p)(1 - c) 2(1 - t) at 1 and p c 2(-t) at 0."""
    x, mass = weighted_outcomes(p, 1)
    c, target = 0.5 if centre == "uniform" else p, 0.45
    logit = torch.tensor(math.log(p / (1 - p)), dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(module, "draw", lambda q, n, generator: x.T.clone())
    g = row_gradients(DARN(centre=centre), lambda b: (b - target) ** 2, Bernoulli(logits=logit), 2)["logits"]
    torch.testing.assert_close(g, t(-2 * p * c * target, 2 * (1 - p) * (1 - c) * (1 - target)), rtol=1e-12, atol=1e-14)
    exact = p * (1 - p) * (1 - 2 * target)
    assert (moments(g, mass)[0] == pytest.approx(exact, abs=1e-14)) == (centre == "uniform" or p == 0.5)


@pytest.mark.parametrize(("centre", "unbiased"), [("uniform", True), ("mean", False)])
def test_quadratics_in_bits_are_exact_with_the_uniform_centre(monkeypatch, centre, unbiased):
    a = torch.randn(3, 3, generator=seeded(), dtype=torch.float64)
    x = outcomes(3)
    theta = LOGITS[0].expand(8, 3).clone().requires_grad_()
    q = Independent(Bernoulli(logits=theta), 1)
    monkeypatch.setattr(module, "draw", lambda q, n, generator: x.unsqueeze(0))

    def quadratic(x):
        return ((x @ a) * x).sum(-1) + x[..., 1]

    mass = q.log_prob(x).exp()
    (each,) = torch.autograd.grad(DARN(centre=centre)(quadratic, q).sum(), [theta], retain_graph=True)
    (exact,) = torch.autograd.grad((mass * quadratic(x)).sum(), [theta])
    difference = (mass.detach().unsqueeze(-1) * each).sum(0) - exact.sum(0)
    assert (difference.abs().max() < 1e-13) == unbiased


@pytest.mark.parametrize("centre", CENTRES)
def test_linear_functions_of_categories_are_exact(monkeypatch, centre):
    x, c = torch.eye(3, dtype=torch.float64), t(1.0, -2.0, 0.5)
    theta = LOGITS[0].expand(3, 3).clone().requires_grad_()
    q = OneHotCategorical(logits=theta)
    monkeypatch.setattr(module, "draw", lambda q, n, generator: x.unsqueeze(0))
    (each,) = torch.autograd.grad(DARN(centre=centre)(lambda x: x @ c, q).sum(), [theta])
    p = torch.softmax(LOGITS[0], -1)
    torch.testing.assert_close(p @ each, p * (c - p @ c), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("field", [{"n": 0}, {"centre": "half"}])
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"DARN .*Use DARN\("):
        DARN(**field)


def test_integer_categories_are_refused_with_the_one_hot_form():
    with pytest.raises(UnsupportedFamily, match="Use OneHotCategorical"):
        DARN()(lambda x: x, Categorical(logits=torch.zeros(3)))
