"""The self-critical baseline: its formula on the same samples, exact moments on a bit, certainty."""

import pytest
import torch
from torch.distributions import Bernoulli, Poisson

from bench.measurement.counting import Counter, counted
from estimators import InvalidParameter, SelfCritical, UnsupportedFamily, draw, spread
from tests.problems import FAMILIES, gradients, moments, row_gradients, seeded, weighted_outcomes

MODES = {
    "normal": lambda loc, scale: loc,
    "bernoulli-logits": lambda logits: (logits > 0).double(),
    "bernoulli-probs": lambda p: (p > 0.5).double(),
    "categorical-logits": lambda logits: logits.argmax(-1),
    "one-hot-logits": lambda logits: torch.nn.functional.one_hot(logits.argmax(-1), 3).double(),
    "one-hot-probs": lambda p: torch.nn.functional.one_hot(p.argmax(-1), 3).double(),
}


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name", MODES)
def test_the_formula_on_the_same_samples(name, n):
    family = FAMILIES[name]
    theta = [p.clone().requires_grad_() for p in family.theta]
    q = family.build(*theta)

    def f(x):
        u = x.double().flatten(x.dim() - len(q.event_shape)) if q.event_shape else x.double().unsqueeze(-1)
        return (u * torch.arange(1.0, u.shape[-1] + 1, dtype=torch.float64)).sum(-1).sin() * 3

    got = torch.autograd.grad(SelfCritical(n)(f, q, seeded()).sum(), theta)
    x = draw(q, n, seeded())
    weight = (f(x) - f(MODES[name](*family.theta))) / n
    for g, s in zip(got, family.score(x, *family.theta), strict=True):
        expected = (spread(weight, s) * s).sum(0)
        torch.testing.assert_close(g, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.4, 0.8])
def test_the_exact_moments_on_a_bit(monkeypatch, p):
    """Only the less probable value m of the two gives anything: Delta (1 - m), so the variance is Delta^2 m (1-m)^3."""
    x, weights = weighted_outcomes(p, 1)
    monkeypatch.setattr("estimators.self_critical.draw", lambda q, n, generator: x.T.clone())
    q = Bernoulli(logits=torch.tensor(p, dtype=torch.float64).logit().requires_grad_())
    g = row_gradients(SelfCritical(), lambda b: (b - 0.45) ** 2, q, 2)["logits"]
    m = min(p, 1 - p)
    assert moments(g, weights) == pytest.approx((p * (1 - p) * 0.1, 0.01 * m * (1 - m) ** 3), rel=1e-10)


def test_where_q_is_certain_there_is_nothing():
    q = Bernoulli(logits=torch.tensor([50.0, -50.0, 800.0], requires_grad=True))
    g = gradients(SelfCritical(), lambda b: b + 1e6, q, 64)
    assert torch.equal(g, torch.zeros_like(g))


def test_the_cost():
    counter = Counter(event_dims=0)
    q = Bernoulli(logits=torch.zeros((), requires_grad=True))
    SelfCritical(n=3)(counted(torch.square, counter), q, seeded())
    assert (counter.f, counter.df) == (4, 0)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"SelfCritical needs n >= 1 \(got n=0\)"):
        SelfCritical(n=0)
    with pytest.raises(UnsupportedFamily, match=r"and q is Poisson\. Use ScoreFunction or RLOO"):
        SelfCritical()(torch.square, Poisson(torch.ones(2)))
