"""The score function on antithetic pairs: its exact moments on a normal and on a bit, its pairs, its refusals."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MultivariateNormal, Normal

from estimators import AntitheticScoreFunction, InvalidParameter, UnsupportedFamily, rows
from tests.problems import gradients, hermite, mean_scores, moments, row_gradients, seeded, t
from tests.tolerances import z_limit


@pytest.mark.parametrize(("a", "s"), [(-3.0, 0.5), (0.0, 1.0), (0.5, 2.0), (4.0, 1.0)])
def test_the_exact_moments_on_a_normal(monkeypatch, a, s):
    """In the mean 8 a^2; in the scale E[(a^2 + s^2 z^2)^2 (z^2 - 1)^2] / s^2 - 4 s^2."""
    z, weights = hermite(8)
    monkeypatch.setattr("estimators._couplings.normal", lambda shape, like, generator: z.T.clone())
    q = Normal(t(1.3).squeeze().requires_grad_(), t(s).squeeze().requires_grad_())
    g = row_gradients(AntitheticScoreFunction(), lambda x: (x - (1.3 - a)) ** 2, q, len(z))
    assert moments(g["loc"], weights) == pytest.approx((2 * a, 8 * a**2), rel=1e-10, abs=1e-10)
    variance = 2 * a**4 / s**2 + 20 * a**2 + 74 * s**2
    assert moments(g["scale"], weights) == pytest.approx((2 * s, variance), rel=1e-10)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.7])
def test_the_exact_moments_on_a_bit(monkeypatch, p):
    """A pair is (1, 0), (0, 1), or two equal bits, with probabilities m, m and 1 - 2 m."""
    m = min(p, 1 - p)
    u, weights = t(m / 2, 0.5, 1 - m / 2), t(m, 1 - 2 * m, m)
    monkeypatch.setattr("estimators._couplings.uniform", lambda shape, like, generator: u.reshape(shape).clone())
    q = Bernoulli(logits=t(p).squeeze().logit().requires_grad_())
    f0, f1 = 0.2, 1.1
    got = row_gradients(AntitheticScoreFunction(), lambda b: f0 + (f1 - f0) * b, q, 3)["logits"]
    unequal = (f1 * (1 - p) - f0 * p) / 2
    equal = f1 * (1 - p) if p > 0.5 else -f0 * p
    mean = p * (1 - p) * (f1 - f0)
    variance = 2 * m * unequal**2 + (1 - 2 * m) * equal**2 - mean**2
    assert moments(got, weights) == pytest.approx((mean, variance), rel=1e-10)


def test_a_constant_in_f_does_not_touch_the_gradient_in_the_mean():
    q = Independent(Normal(t(0.5, -1.0).requires_grad_(), t(1.0, 2.0)), 1)
    plain, raised = (gradients(AntitheticScoreFunction(4), lambda x, c=c: x.sin().sum(-1) + c, q, 64) for c in (0, 1e6))
    torch.testing.assert_close(raised, plain, rtol=0, atol=1e-9)


def test_samples_come_in_pairs():
    seen = []
    q = rows(Independent(Normal(t(0.5, -1.0).requires_grad_(), t(1.0, 2.0)), 1), 5)
    AntitheticScoreFunction(4)(lambda x: seen.append(x) or x.sum(-1), q, seeded())
    (x,) = seen
    torch.testing.assert_close((x[:2] + x[2:]) / 2, t(0.5, -1.0).expand(2, 5, 2), rtol=0, atol=1e-14)


def test_a_dense_normal():
    loc, covariance = t(0.5, -1.0), t([1.0, 0.4], [0.4, 0.8])
    q = MultivariateNormal(loc.clone().requires_grad_(), covariance)
    g = gradients(AntitheticScoreFunction(), lambda x: (x**2).sum(-1), q, 2**14)
    assert mean_scores(g, 2 * loc).abs().max() < z_limit(2)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"even n.*got n=3.*Use AntitheticScoreFunction\(n=4\) or ScoreFunct"):
        AntitheticScoreFunction(n=3)
    with pytest.raises(UnsupportedFamily, match="serves Normal or MultivariateNormal or Bernoulli, and q is Categ"):
        AntitheticScoreFunction()(torch.sin, Categorical(logits=t(0.1, 0.2)))
