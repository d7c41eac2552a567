"""Evolution strategies and SPSA: their formula on the same noise, closed-form moments, the coupling of both sides."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Gamma, Independent, Normal, OneHotCategorical, Poisson

from estimators import SPSA, EvolutionStrategies, InvalidParameter, Refusal, UnsupportedFamily
from estimators import evolution_strategies as module
from tests.problems import (
    centred,
    curve,
    gradients,
    hermite,
    mean_scores,
    moments,
    row_gradients,
    seeded,
    t,
    uniforms,
    variance_scores,
)
from tests.tolerances import z_limit

BOTH = [EvolutionStrategies, SPSA]
LOGITS = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5])


def steps(cls, generator, *shape):
    if cls is SPSA:
        return torch.where(uniforms(generator, *shape) > 0.5, 1.0, -1.0).double()
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def run(cls, q, own, f=curve):
    loss = cls(6, 0.2)(f, q, seeded())
    return loss, torch.autograd.grad(loss.sum(), own)


@pytest.mark.parametrize("cls", BOTH)
def test_is_its_formula_on_a_normal(cls):
    loc, scale = t([0.5, -0.8], [0.1, 0.2]).requires_grad_(), t([0.9, 0.6], [1.1, 0.7]).requires_grad_()
    loss, got = run(cls, Independent(Normal(loc, scale), 1), [loc, scale])
    g = seeded()
    e, d = steps(cls, g, 3, 2, 2), steps(cls, g, 3, 2, 2)
    z = torch.randn(3, 2, 2, generator=g, dtype=torch.float64)
    m, s = loc.detach(), scale.detach()
    there, back = (curve(m + k * e + s * torch.exp(k * d) * z) for k in (0.2, -0.2))
    slope = ((there - back) / 0.4).unsqueeze(-1)
    torch.testing.assert_close(loss, (there + back).mean(0) / 2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[0], (slope * e).mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (slope * d / s).mean(0), rtol=1e-12, atol=1e-12)  # from log scale to scale


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("by", ["logits", "probs"])
def test_is_its_formula_on_bits(cls, by):
    theta = (LOGITS if by == "logits" else torch.sigmoid(LOGITS)).clone().requires_grad_()
    loss, (got,) = run(cls, Independent(Bernoulli(**{by: theta}), 1), [theta])
    g = seeded()
    e, u = steps(cls, g, 3, 2, 3), uniforms(g, 3, 2, 3)
    there, back = (curve((u > 1 - torch.sigmoid(LOGITS + k * e)).double()) for k in (0.2, -0.2))
    expected = (((there - back) / 0.4).unsqueeze(-1) * e).mean(0)
    if by == "probs":
        expected = expected / (torch.sigmoid(LOGITS) * torch.sigmoid(-LOGITS))
    torch.testing.assert_close(loss, (there + back).mean(0) / 2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("family", [OneHotCategorical, Categorical])
def test_is_its_formula_on_categories(cls, family):
    theta, values = LOGITS.clone().requires_grad_(), t(1.0, -2.0, 4.0)
    f = (lambda x: (x @ values).sin()) if family is OneHotCategorical else lambda x: values[x].sin()
    _, (got,) = run(cls, family(logits=theta), [theta], f)
    g = seeded()
    e, u = steps(cls, g, 3, 2, 3), uniforms(g, 3, 2, 3)
    there, back = (values[(LOGITS + k * e - (-u.log()).log()).argmax(-1)].sin() for k in (0.2, -0.2))
    expected = (((there - back) / 0.4).unsqueeze(-1) * e).mean(0)
    torch.testing.assert_close(got, centred(expected, torch.softmax(LOGITS, -1)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("a", [(1.0, -2.0, 0.5), (0.0, 3.0, 1.0)])
@pytest.mark.parametrize("cls", BOTH)
def test_variance_on_a_quadratic_where_q_is_narrow(monkeypatch, cls, a):
    """``4 (|a|^2 + a_i^2)`` for normal steps, ``4 (|a|^2 - a_i^2)`` for signs."""
    if cls is SPSA:
        nodes = torch.cartesian_prod(*[t(-1.0, 1.0)] * 3)
        weights = torch.full((8,), 1 / 8, dtype=torch.float64)
        monkeypatch.setattr(module, "uniform", lambda shape, like, generator: 0.5 + nodes.expand(shape) / 4)
        monkeypatch.setattr(module, "normal", lambda shape, like, generator: torch.zeros(shape, dtype=like.dtype))
    else:
        nodes, weights = hermite(4, 3)
        draws = iter([nodes.unsqueeze(0), torch.zeros_like(nodes.unsqueeze(0)), torch.zeros_like(nodes.unsqueeze(0))])
        monkeypatch.setattr(module, "normal", lambda shape, like, generator: next(draws))
    q = Independent(Normal(t(*a).requires_grad_(), torch.full((3,), 1e-12, dtype=torch.float64)), 1)
    g = row_gradients(cls(), lambda x: x.square().sum(-1), q, len(nodes))["loc"]
    norm, sign = sum(x * x for x in a), -1 if cls is SPSA else 1
    for i, x in enumerate(a):
        expected = (2 * x, 4 * (norm + sign * x * x))
        assert moments(g[:, i], weights) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_the_bias_on_a_quadratic_comes_from_the_smoothed_scale(monkeypatch, scale):
    """E f = (mean - k)^2 + exp(2 log s): quadratic in the mean, smoothed to ``exp(2 log s + 2 scale^2)`` in log s."""
    nodes, weights = hermite(12, 3)
    e, d, z = (x.reshape(1, -1) for x in nodes.unbind(-1))
    draws = iter([e, d, z])
    monkeypatch.setattr(module, "normal", lambda shape, like, generator: next(draws))
    q = Normal(t(1.3).squeeze().requires_grad_(), t(0.7).squeeze().requires_grad_())
    g = row_gradients(EvolutionStrategies(scale=scale), lambda x: (x - 0.4) ** 2, q, len(nodes))
    assert moments(g["loc"], weights)[0] == pytest.approx(2 * 0.9, rel=1e-9)
    assert moments(g["scale"], weights)[0] == pytest.approx(2 * 0.7 * math.exp(2 * scale**2), rel=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_moments_of_spsa_on_a_bit(scale):
    """Both sides differ with probability P = p(logit + scale) - p(logit - scale): mean ``delta P / (2 scale)``, and
    second moment ``delta^2 P / (2 scale)^2``."""
    q = Bernoulli(logits=t(0.4).squeeze().requires_grad_())
    g = gradients(SPSA(scale=scale), lambda b: (b - 0.45) ** 2, q, 2**16).unsqueeze(-1)
    p = [1 / (1 + math.exp(-0.4 - k * scale)) for k in (1, -1)]
    mean, second = (0.1**m * (p[0] - p[1]) / (2 * scale) ** m for m in (1, 2))
    assert mean_scores(g, mean).abs().max() < z_limit(2)
    assert variance_scores(g, second - mean**2).abs().max() < z_limit(2)


def test_with_small_steps_it_is_the_directional_derivative():
    """On the same noise, to O(scale^2): what ForwardGradient computes exactly."""
    loc, scale = t(0.5, -0.8).requires_grad_(), t(0.9, 0.6)
    loss = EvolutionStrategies(2, 1e-5)(curve, Independent(Normal(loc, scale), 1), seeded())
    g = seeded()
    e, d, z = (torch.randn(1, 2, generator=g, dtype=torch.float64) for _ in range(3))
    x = (loc + scale * z).detach()
    slope = ((x**3).sum(-1, keepdim=True).cos() * 3 * x**2 * (e + scale * z * d)).sum(-1, keepdim=True)
    torch.testing.assert_close(torch.autograd.grad(loss, [loc])[0], (slope * e).mean(0), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("cls", BOTH)
def test_both_sides_share_their_noise(cls):
    """Steps too small to matter leave every sample where it is."""
    for q in (Bernoulli(logits=LOGITS), OneHotCategorical(logits=LOGITS), Categorical(logits=LOGITS)):
        seen = []

        def f(x, seen=seen, q=q):
            seen.append(x)
            return x.new_zeros(x.shape[: x.dim() - len(q.event_shape)], dtype=torch.float64)

        cls(8, 1e-12)(f, q, seeded())
        there, back = seen[0].chunk(2)
        assert torch.equal(there, back)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("field", [{"n": 0}, {"n": 3}, {"n": 2.0}, {"scale": 0.0}, {"scale": math.inf}])
def test_bad_parameters(cls, field):
    with pytest.raises(InvalidParameter, match=rf"{cls.__name__} needs .*Use {cls.__name__}\("):
        cls(**field)


@pytest.mark.parametrize("cls", BOTH)
def test_other_families_are_refused(cls):
    for q in (Poisson(t(1.0)), Gamma(t(1.0), t(1.0))):
        with pytest.raises(UnsupportedFamily, match="Use "):
            cls()(torch.square, q)
    with pytest.raises(Refusal, match="Sum over the event axes"):
        cls()(torch.square, Independent(Normal(t(0.0, 1.0), t(1.0, 1.0)), 1))
