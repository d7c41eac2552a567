"""Forward gradients: the formula on the same noise, the average over all signs, closed-form variances."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Gamma, Independent, Normal

from bench.measurement.counting import Counter, counted
from estimators import (
    GO,
    RLOO,
    BitFlip,
    ForwardGradient,
    InvalidParameter,
    LocalExpectation,
    MeasureValued,
    NotDifferentiable,
    Reparameterization,
    SelfCritical,
    StochasticAD,
    UnsupportedFamily,
)
from estimators import forward_gradient as module
from tests.problems import curve, curve_slope, gradients, mean_scores, seeded, t, variance_scores
from tests.tolerances import z_limit


def leaves():
    return t([0.5, -0.8], [0.1, 0.2]).requires_grad_(), t([0.9, 0.6], [1.1, 0.7]).requires_grad_()


@pytest.mark.parametrize("tangent", ["normal", "sign"])
def test_is_its_formula(tangent):
    loc, scale = leaves()
    loss = ForwardGradient(3, tangent)(curve, Independent(Normal(loc, scale), 1), seeded())
    got = torch.autograd.grad(loss.sum(), [loc, scale])
    g = seeded()
    if tangent == "sign":
        u, v = (torch.where(torch.rand(3, 2, 2, generator=g, dtype=loc.dtype) < 0.5, -1.0, 1.0) for _ in range(2))
    else:
        u, v = (torch.randn(3, 2, 2, generator=g, dtype=loc.dtype) for _ in range(2))
    z = torch.randn(3, 2, 2, generator=g, dtype=loc.dtype)
    x = (loc + scale * z).detach()
    along = (curve_slope(x) * (u + v * z)).sum(-1, keepdim=True)
    torch.testing.assert_close(loss, curve(x).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], (along * u).mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (along * v).mean(0), rtol=1e-12, atol=1e-12)


def test_averaged_over_all_signs_it_is_reparameterization(monkeypatch):
    (loc, scale), z = leaves(), torch.randn(1, 2, 2, generator=seeded(), dtype=torch.float64)
    signs = t(*itertools.product((-1.0, 1.0), repeat=4)).reshape(16, 1, 4).expand(16, 2, 4)
    parts = iter(signs.split(2, -1))
    monkeypatch.setattr(ForwardGradient, "_tangent", lambda self, shape, like, generator: next(parts))
    monkeypatch.setattr(module, "normal", lambda shape, like, generator: z.expand(shape))
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: z)
    q = Independent(Normal(loc, scale), 1)
    got, expected = (
        torch.autograd.grad(e(curve, q).sum(), [loc, scale])
        for e in (ForwardGradient(16, "sign"), Reparameterization())
    )
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("tangent", "sign"), [("normal", 1), ("sign", -1)])
def test_variance_on_a_linear_function(tangent, sign):
    """Of c . x the gradient at the mean is c and at the scale c z: in all ``2 |c|^2 +- c_i^2`` at the mean."""
    c = t(1.0, -2.0, 0.5)
    q = Independent(Normal(t(0.3, 0.1, 0.0).requires_grad_(), t(1.0, 0.5, 2.0)), 1)
    g = gradients(ForwardGradient(tangent=tangent), lambda x: x @ c, q, 2**16)
    assert mean_scores(g, c).abs().max() < z_limit(3)
    assert variance_scores(g, 2 * (c @ c) + sign * c**2).abs().max() < z_limit(3)


def test_evaluations_are_counted():
    loc, scale = leaves()
    counter = Counter(event_dims=1)
    ForwardGradient(3)(counted(curve, counter), Independent(Normal(loc, scale), 1), seeded()).sum().backward()
    assert (counter.f, counter.df) == (6, 6)


@pytest.mark.parametrize("field", [{"n": 0}, {"tangent": "uniform"}])
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"ForwardGradient .*Use ForwardGradient\("):
        ForwardGradient(**field)


def test_families_without_a_location_and_a_scale_are_refused():
    for q in (Bernoulli(t(0.5)), Gamma(t(1.0), t(1.0))):
        with pytest.raises(UnsupportedFamily, match="Use "):
            ForwardGradient()(torch.square, q)


@pytest.mark.parametrize("f", [lambda x: (x > 0).double(), lambda x: x.detach()])
def test_an_f_without_a_gradient_in_x_is_refused(f):
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        ForwardGradient()(f, Normal(t(0.0).requires_grad_(), t(1.0)))


@pytest.mark.parametrize(
    "outer", [BitFlip(), GO(), LocalExpectation(), StochasticAD(), SelfCritical(), MeasureValued(), RLOO()]
)
def test_inside_the_integrand_of_another_estimator_its_value_is_used(outer):
    """The inner value, at a scale of almost 0, is x^2 + x; the outer estimator differentiates in its own way."""
    found = []
    for f in (lambda x: ForwardGradient()(lambda y: y.square() + y, Normal(x, 1e-9)), lambda x: x.square() + x):
        logits = t(0.4, -1.2, 0.0).requires_grad_()
        outer(f, Bernoulli(logits=logits), seeded()).sum().backward()
        found.append(logits.grad)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)
