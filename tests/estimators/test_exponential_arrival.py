"""Exponential arrivals: the formula on the same noise, Campbell's closed forms, the limit of low temperature."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Poisson

from estimators import ExponentialArrival, InvalidParameter, NotDifferentiable, Refusal, UnsupportedFamily
from tests.problems import gradients, mean_scores, seeded, t, variance_scores
from tests.tolerances import z_limit

RATE = t([0.4, 2.3], [1.7, 6.0])


def curve(x):
    return (x.sum(-1) / 3).sin()


def test_is_its_formula():
    rate = RATE.clone().requires_grad_()
    loss = ExponentialArrival(4, 0.3, 20)(curve, Independent(Poisson(rate), 1), seeded())
    (got,) = torch.autograd.grad(loss.sum(), [rate])
    u = torch.rand(4, 20, 2, 2, generator=seeded(), dtype=torch.float64) + 2.0**-54
    y, slope = torch.zeros(4, 2, 2, dtype=torch.float64), torch.zeros(4, 2, 2, dtype=torch.float64)
    time = torch.zeros(4, 2, 2, dtype=torch.float64)
    for i in range(20):
        time = time - u[:, i].log() / RATE
        soft = 1 / (1 + torch.exp((time - 1) / 0.3))
        y = y + soft
        slope = slope + soft * (1 - soft) * time / (0.3 * RATE)
    torch.testing.assert_close(loss, curve(y).mean(0), rtol=1e-12, atol=1e-13)
    expected = ((y.sum(-1, keepdim=True) / 3).cos() / 3 * slope).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
def test_moments_on_the_identity(temperature):
    """By Campbell's theorem, of a sum of h over all arrivals: mean ``rate int h`` and variance ``rate int h^2``."""
    rate = 2.3
    q = Poisson(t(rate).requires_grad_())
    g = gradients(ExponentialArrival(1, temperature, 100), lambda y: y, q, 2**14)
    time = torch.arange(0.0, 60.0, 1e-3, dtype=torch.float64)
    soft = torch.sigmoid((1 - time) / temperature)
    h = soft * (1 - soft) * time / (temperature * rate)
    assert mean_scores(g, temperature * math.log1p(math.exp(1 / temperature))).abs().max() < z_limit(6)
    assert variance_scores(g, rate * (h**2).sum().item() * 1e-3).abs().max() < z_limit(6)


def test_limit_of_low_temperature_is_a_poisson_count():
    rate = 2.3
    q = Poisson(torch.full((2**14,), rate, dtype=torch.float64))
    y = ExponentialArrival(temperature=1e-9)(lambda y: y, q, seeded())
    assert (y - y.round()).abs().mean() < 1e-6
    p = Poisson(t(rate)).log_prob(torch.arange(8.0).unsqueeze(-1)).exp().squeeze(-1)
    z = ((y.round() == torch.arange(8.0).unsqueeze(-1)).double().mean(-1) - p) / (p * (1 - p) / len(y)).sqrt()
    assert z.abs().max() < z_limit(8)


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(temperature, dtype):
    rate = torch.tensor([1e-6, 1.0, 10.0], dtype=dtype, requires_grad=True)
    loss = ExponentialArrival(3, temperature)(curve, Independent(Poisson(rate), 1), seeded())
    (g,) = torch.autograd.grad(loss, [rate])
    assert loss.isfinite()
    assert g.isfinite().all()


def test_rates_with_more_arrivals_than_are_drawn_are_refused():
    with pytest.raises(Refusal, match=r"rate of 30\. Use ExponentialArrival\(arrivals=62\), MeasureValued or RLOO"):
        ExponentialArrival()(lambda x: x, Poisson(t(1.0, 30.0).requires_grad_()))
    assert ExponentialArrival(arrivals=62)(lambda x: x, Poisson(t(1.0, 30.0).requires_grad_()), seeded()).shape == (2,)


@pytest.mark.parametrize("field", [{"n": 0}, {"arrivals": 0}, {"temperature": 0.0}])
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"ExponentialArrival needs .*Use ExponentialArrival\("):
        ExponentialArrival(**field)


def test_refusals():
    with pytest.raises(UnsupportedFamily, match="serves Poisson, and q is Bernoulli"):
        ExponentialArrival()(lambda x: x, Bernoulli(t(0.5)))
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        ExponentialArrival()(lambda x: x.detach(), Poisson(t(1.0).requires_grad_()))


def test_rows_do_not_touch():
    """Its noise is its own: another rate in the first row leaves the others as they are, to the last bit."""
    worlds = []
    for first in (1.0, 7.0):
        rate = torch.full((5, 2), 2.0, dtype=torch.float64)
        rate[0] = first
        rate.requires_grad_()
        loss = ExponentialArrival(3)(curve, Independent(Poisson(rate), 1), seeded())
        worlds.append((loss[1:], torch.autograd.grad(loss.sum(), [rate])[0][1:]))
    assert all(torch.equal(a, b) for a, b in zip(*worlds, strict=True))
