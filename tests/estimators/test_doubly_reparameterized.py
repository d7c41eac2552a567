"""Doubly reparameterized gradients: the formula on the same noise, the exact mean by quadrature, its relatives."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Gamma, Independent, Normal

from bench.measurement.counting import Counter, counted
from estimators import (
    Bound,
    DoublyReparameterized,
    InvalidParameter,
    Refusal,
    Reparameterization,
    StickingTheLanding,
    parameters,
    rows,
)
from tests.problems import hermite, seeded, t

LOC, SCALE = t([0.5, -0.8], [0.2, 0.3], [0.1, 0.4]), t([0.9, 0.6], [1.1, 0.7], [0.8, 1.2])


def log_joint(x):
    """Return one value for each particle, ``[..., K]`` from ``[..., K, 2]``."""
    return (x.sum(-1) * 0.7).sin() - (x**2).sum(-1) / 3


def slope(x):
    return (x.sum(-1, keepdim=True) * 0.7).cos() * 0.7 - 2 * x / 3


def leaves(loc=LOC, scale=SCALE):
    return loc.clone().requires_grad_(), scale.clone().requires_grad_()


def gradient(estimator, f, q, own, seed=0):
    return torch.autograd.grad(estimator(f, q, seeded(seed)).sum(), own)


@pytest.mark.parametrize("n", [1, 4])
def test_is_its_formula(n):
    own = leaves()
    q = Independent(Normal(*own), 2)
    loss = DoublyReparameterized(n)(Bound(log_joint, q, 3), q, seeded())
    got = torch.autograd.grad(loss, own)
    z = torch.randn(n, 3, 2, generator=seeded(), dtype=torch.float64)
    x = LOC + SCALE * z
    log_w = log_joint(x) + (z**2 / 2 + SCALE.log() + math.log(2 * math.pi) / 2).sum(-1)
    w = torch.softmax(log_w, -1).unsqueeze(-1)
    along = slope(x) + z / SCALE
    torch.testing.assert_close(loss, log_w.exp().mean(-1).log().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], (w**2 * along).mean(0), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(got[1], (w**2 * along * z).mean(0), rtol=1e-11, atol=1e-12)


def test_with_one_particle_it_is_the_path_derivative():
    own = leaves(LOC[:1], SCALE[:1])
    q = Independent(Normal(*own), 2)
    one = gradient(DoublyReparameterized(3), Bound(log_joint, q, 1), q, own)
    none = gradient(DoublyReparameterized(3), Bound(lambda x: log_joint(x).sum(-1), q), q, own)
    landing = gradient(StickingTheLanding(3), Bound(lambda x: log_joint(x).sum(-1), q), q, own)
    for a, b, c in zip(one, none, landing, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(a, c, rtol=1e-12, atol=1e-13)


def means(monkeypatch, weight_power=2):
    """Return the estimator's mean gradient for two particles and that of the bound, by Gauss-Hermite quadrature."""
    nodes, weights = hermite(60, 2)
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: nodes.reshape(shape))
    theta = [a[:, 0].clone().requires_grad_() for a in (LOC[:2], SCALE[:2])]
    q = Independent(Normal(*theta), 1)
    r = rows(q, len(nodes))

    def joint(x):
        return log_joint(x.unsqueeze(-1))

    loss = DoublyReparameterized()(Bound(joint, r, 2), r)
    each = torch.autograd.grad(loss.sum(), list(parameters(r).values()))
    got = [(weights.unsqueeze(-1) * g).sum(0) for g in each]
    value = (weights * Bound(joint, q, 2)(theta[0] + theta[1] * nodes)).sum()
    return got, torch.autograd.grad(value, theta)


def test_its_mean_is_exact(monkeypatch):
    for got, exact in zip(*means(monkeypatch), strict=True):
        torch.testing.assert_close(got, exact, rtol=0, atol=1e-8)  # of the quadrature


def test_weights_that_are_not_squared_would_be_biased(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "register_hook", lambda self, hook: None)
    got, exact = means(monkeypatch)
    assert max((a - b).abs().max() for a, b in zip(got, exact, strict=True)) > 1e-2


def test_no_variance_at_the_posterior():
    own = leaves()
    q = Independent(Normal(*own), 2)
    posterior = Independent(Normal(LOC, SCALE), 1)
    for g in gradient(DoublyReparameterized(5), Bound(lambda x: posterior.log_prob(x) + 3, q, 3), q, own):
        assert g.abs().max() < 1e-12


def test_signal_does_not_drown_with_more_particles():
    """The variance at q's parameters, relative to the squared mean, falls with K; of Reparameterization it grows."""
    ratios = {}
    for k in (2, 32):
        q = Independent(Normal(torch.full((k,), 0.5, dtype=torch.float64).requires_grad_(), torch.ones(k).double()), 1)
        r = rows(q, 2**12)
        f = Bound(lambda x: -(x**2), r, k)
        for e in (DoublyReparameterized(), Reparameterization()):
            (g,) = torch.autograd.grad(e(f, r, seeded()).sum(), [parameters(r)["loc"]])
            shared = g.sum(-1)
            ratios[type(e), k] = shared.var() / shared.mean() ** 2
    assert ratios[DoublyReparameterized, 32] < ratios[DoublyReparameterized, 2]
    assert ratios[Reparameterization, 32] > 2 * ratios[Reparameterization, 2]


def test_the_decoder_gets_the_gradient_of_the_value():
    w = t(0.3).requires_grad_()
    q = Independent(Normal(*leaves()), 2)
    bound = Bound(lambda x: w * log_joint(x), q, 3)
    (got,) = torch.autograd.grad(DoublyReparameterized(4)(bound, q, seeded()), [w])
    x = LOC + SCALE * torch.randn(4, 3, 2, generator=seeded(), dtype=torch.float64)
    (expected,) = torch.autograd.grad(bound(x).mean(0), [w])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


def test_serves_other_families():
    concentration = t(2.3, 1.7).requires_grad_()
    q = rows(Independent(Gamma(concentration, t(0.7, 1.2)), 1), 1)
    p = Gamma(concentration.detach(), t(0.7, 1.2))
    (g,) = gradient(DoublyReparameterized(5), Bound(p.log_prob, q, 2), q, [parameters(q)["concentration"]])
    assert g.abs().max() < 1e-10  # the posterior


def test_evaluations_count_log_joints():
    q, counter = Independent(Normal(*leaves()), 2), Counter(event_dims=2)
    DoublyReparameterized(4)(counted(Bound(log_joint, q, 3), counter), q, seeded()).backward()
    assert (counter.f, counter.df) == (12, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_weights_stay_finite(dtype):
    loc = torch.zeros(3, dtype=dtype, requires_grad=True)
    q = Independent(Normal(loc, torch.ones(3, dtype=dtype)), 1)
    for scale in (1e-6, 1e4):
        (g,) = gradient(DoublyReparameterized(3), Bound(lambda x, s=scale: -s * x**2, q, 3), q, [loc])
        assert g.isfinite().all()


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"Use DoublyReparameterized\(n=1\)"):
        DoublyReparameterized(0)
    bits = Independent(Bernoulli(t(0.5, 0.5)), 1)
    with pytest.raises(Refusal, match="Use ScoreFunction, RLOO"):
        DoublyReparameterized()(Bound(lambda x: x, bits, 2), bits)
    q = Independent(Normal(*leaves()), 2)
    with pytest.raises(Refusal, match=r"needs a Bound over the q .* \(got a plain function\)\. Use Bound"):
        DoublyReparameterized()(log_joint, q)
