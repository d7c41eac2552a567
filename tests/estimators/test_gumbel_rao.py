"""Gumbel-Rao: its formula on the same noise, the coupling of noise and outcome, its mean and its limits."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from estimators import (
    GumbelRao,
    InvalidParameter,
    ReinMax,
    StraightThroughGumbelSoftmax,
    UnsupportedFamily,
    draw,
    harden,
    logits,
    perturbed,
    rows,
)
from estimators import gumbel_rao as module
from tests.problems import curve, curve_slope, gradients, mean_scores, moments, seeded, t, uniforms, weighted_outcomes
from tests.tolerances import z_limit

LOGITS = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_is_its_formula_on_bits(temperature):
    theta = LOGITS.clone().requires_grad_()
    q, generator = Independent(Bernoulli(logits=theta), 1), seeded()
    (got,) = torch.autograd.grad(GumbelRao(4, temperature, 5)(curve, q, seeded()).sum(), [theta])
    x, p = draw(q, 4, generator), torch.sigmoid(LOGITS)
    v = uniforms(generator, 5, 4, 2, 3)
    u = torch.where(x > 0, 1 - p + v * p, 1 - p - (1 - p) * (1 - v))  # uniform above 1 - p, or below
    y = torch.sigmoid((LOGITS + (u / (1 - u)).log()) / temperature)
    expected = (curve_slope(x) * (y * (1 - y)).mean(0) / temperature).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_is_its_formula_on_categories(temperature):
    """As in the paper: exponentials E, the outcome's at E_i / Z and the others' at E_j / exp(logits_j) + E_i / Z."""
    theta = LOGITS.clone().requires_grad_()
    q, generator = OneHotCategorical(logits=theta), seeded()
    (got,) = torch.autograd.grad(GumbelRao(4, temperature, 5)(curve, q, seeded()).sum(), [theta])
    x = draw(q, 4, generator)
    e = -uniforms(generator, 5, 4, 2, 3).log()
    first = (x * e).sum(-1, keepdim=True) / LOGITS.exp().sum(-1, keepdim=True)
    z = -(first + (1 - x) * e / LOGITS.exp()).log()
    assert torch.equal(torch.nn.functional.one_hot(z.argmax(-1), 3).double(), x.expand_as(z))
    y, g = torch.softmax(z / temperature, -1), curve_slope(x)
    expected = ((y * g - y * (y * g).sum(-1, keepdim=True)) / temperature).mean((0, 1))
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


def test_noise_given_the_outcome_always_makes_that_outcome():
    for q in (Independent(Bernoulli(logits=LOGITS * 20), 1), OneHotCategorical(logits=LOGITS * 20)):
        r = rows(q, 500)
        x = draw(r, 2, seeded())
        z = module.perturbed_given(x, r, logits(r).detach(), 6, seeded(1))
        assert torch.equal(harden(q, z), x.expand_as(z))


def test_noise_averaged_over_outcomes_is_the_noise_of_the_gumbel_softmax():
    """The distribution of the perturbed logits, by their first two moments and those of their sigmoids."""
    for q in (Bernoulli(logits=t(0.7, -1.5)), OneHotCategorical(logits=LOGITS)):
        r = rows(q, 2**15)
        z = module.perturbed_given(draw(r, 1, seeded()), r, logits(r).detach(), 1, seeded(1)).flatten(0, 2)
        free = perturbed(r, 1, seeded(2)).flatten(0, 1).detach()
        features = [torch.cat([a, a**2, a.sigmoid()], -1).flatten(1) for a in (z, free)]
        scores = mean_scores(features[0] - features[1], 0.0)
        assert scores.abs().max() < z_limit(scores.numel())


def over_noise(monkeypatch, p, temperature):
    """Return moments on a bit, for either outcome exactly: inner covers the logistic noise by the trapezoidal rule."""
    noise = torch.arange(-40, 40, 0.02, dtype=torch.float64)
    weights = 0.02 * torch.sigmoid(noise) * torch.sigmoid(-noise)
    x, mass = weighted_outcomes(p, 1)
    theta = torch.full((2,), math.log(p / (1 - p)), dtype=torch.float64)
    monkeypatch.setattr(module, "logistic", lambda shape, like, generator: noise.reshape(-1, 1, 1).expand(shape))
    z = module.perturbed_given(x.T, Bernoulli(logits=theta), theta, len(noise), None)
    y = torch.sigmoid(z / temperature)
    each = (weights.reshape(-1, 1, 1) * y * (1 - y)).sum((0, 1)) / temperature
    return x[:, 0], each, mass


@pytest.mark.parametrize("p", [0.5, 0.2])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_mean_on_a_bit_equals_straight_through_gumbel_softmaxs_and_the_variance_is_smaller(monkeypatch, p, temperature):
    x, each, mass = over_noise(monkeypatch, p, temperature)
    g = 2 * (x - 0.45) * each
    mean, variance = moments(g, mass)
    z = torch.arange(-59.99, 60, 0.02, dtype=torch.float64)  # the outcome's step lies midway between two nodes
    noise = z - math.log(p / (1 - p))
    y, weights = torch.sigmoid(z / temperature), 0.02 * torch.sigmoid(noise) * torch.sigmoid(-noise)
    straight = moments(2 * ((z > 0).double() - 0.45) * y * (1 - y) / temperature, weights)
    assert mean == pytest.approx(straight[0], rel=1e-4)  # the error of the midpoint rule at the step
    assert variance < 0.99 * straight[1]


def test_limit_of_low_temperature_is_reinmax(monkeypatch):
    """On a bit ReinMax gives q/2 at 1 and p/2 at 0."""
    _, each, _ = over_noise(monkeypatch, 0.2, 0.02)
    torch.testing.assert_close(each, t(0.1, 0.4), rtol=2e-2, atol=0)
    logit = torch.full((2,), math.log(0.25), dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr("estimators.reinmax.draw", lambda q, n, generator: t([0.0, 1.0]))
    (limit,) = torch.autograd.grad(ReinMax()(lambda b: b, Bernoulli(logits=logit)).sum(), [logit])
    torch.testing.assert_close(limit, t(0.1, 0.4), rtol=1e-12, atol=0)


def test_mean_on_categories_equals_straight_through_gumbel_softmaxs():
    q, a = OneHotCategorical(logits=LOGITS[0].clone().requires_grad_()), t(1.0, -2.0, 0.5)
    means = []
    for estimator in (
        GumbelRao(temperature=0.5, inner=1),
        GumbelRao(temperature=0.5),
        StraightThroughGumbelSoftmax(1, 0.5),
    ):
        g = gradients(estimator, lambda x: (x @ a).exp(), q, 2**15, seed=len(means))
        means.append((g.mean(0), g.var(0) / len(g), g.var(0).sum()))
    for mean, error, _ in means[:2]:
        scores = (mean - means[2][0]) / (error + means[2][1]).sqrt()
        assert scores.abs().max() < z_limit(6)
    assert means[1][2] < 0.95 * means[0][2]


@pytest.mark.parametrize("field", [{"n": 0}, {"inner": 0}, {"inner": 2.5}, {"temperature": 0.0}])
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"GumbelRao needs .*Use GumbelRao\("):
        GumbelRao(**field)


def test_integer_categories_are_refused_with_the_one_hot_form():
    with pytest.raises(UnsupportedFamily, match="Use OneHotCategorical"):
        GumbelRao()(lambda x: x, Categorical(logits=torch.zeros(3)))


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(temperature, dtype):
    theta = torch.tensor([[50.0, -50.0, 0.0], [0.0, -math.inf, 1.0]], dtype=dtype).requires_grad_()
    for build in (lambda x: OneHotCategorical(logits=x), lambda x: Independent(Bernoulli(logits=x), 1)):
        (g,) = torch.autograd.grad(GumbelRao(3, temperature)(curve, build(theta), seeded()).sum(), [theta])
        assert g.isfinite().all()
