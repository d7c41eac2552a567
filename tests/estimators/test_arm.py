"""ARM and ARMS: their formulas on the same noise, exact moments on one bit, their relation to DisARM, their hazards."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from estimators import ARM, ARMS, DisARM, InvalidParameter, Refusal, UnsupportedFamily, rows, uniform
from tests.problems import gradients, mean_scores, moments, row_gradients, seeded, variance_scores
from tests.tolerances import z_limit

P = torch.tensor([0.3, 0.8, 0.5, 1e-3], dtype=torch.float64)
BITS = [(p, target) for p in (0.1, 0.5, 0.8) for target in (0.45, 0.499, 0.0)]


def f(x):
    """Neither affine nor separable."""
    return torch.sin(2 * x[..., 0] + x[..., 1]) + x[..., 1] * x[..., 2] - 0.3 * x[..., 0] * x[..., 3]


def bits(p):
    return Independent(Bernoulli(logits=torch.as_tensor(p, dtype=torch.float64).logit().requires_grad_()), 1)


def one_bit(p):
    return Bernoulli(logits=torch.tensor(p, dtype=torch.float64).logit().requires_grad_())


@pytest.mark.parametrize("n", [2, 6])
def test_arm_is_its_formula_on_the_same_noise(n):
    got = gradients(ARM(n), f, bits(P), 5, seed=3)
    u = uniform(Size((n // 2, 5, 4)), P, seeded(3))
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for v in 1 - u:  # the paper's noise
        expected += (f((v > 1 - P).double()) - f((v < P).double())).unsqueeze(-1) * (v - 0.5) / (n // 2)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("p", "target"), BITS)
def test_the_exact_moments_of_arm_on_a_bit(monkeypatch, p, target):
    """Between 0, m, 1 - m and 1 it is linear in u, so two nodes in each piece make it exact."""
    m, pq, delta = min(p, 1 - p), p * (1 - p), (1 - target) ** 2 - target**2
    z, w = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(2))
    cuts = [0, m, 1 - m, 1]
    u = torch.cat([a + (b - a) * (z + 1) / 2 for a, b in itertools.pairwise(cuts)])
    weights = torch.cat([(b - a) * w / 2 for a, b in itertools.pairwise(cuts)])
    monkeypatch.setattr("estimators._couplings.uniform", lambda shape, like, generator: u.reshape(shape).clone())
    g = row_gradients(ARM(), lambda b: (b - target) ** 2, one_bit(p), len(u))["logits"]
    variance = 2 * delta**2 / 3 * (1 / 8 - (0.5 - m) ** 3) - (pq * delta) ** 2
    assert moments(g, weights) == pytest.approx((pq * delta, variance), rel=1e-10)


def test_published_variances_of_arm():
    def variance(p, target):
        m, pq, delta = min(p, 1 - p), p * (1 - p), (1 - target) ** 2 - target**2
        return 2 * delta**2 / 3 * (1 / 8 - (0.5 - m) ** 3) - (pq * delta) ** 2

    assert variance(0.5, 0.45) == pytest.approx(2.08333e-4, rel=1e-5)
    assert variance(0.1, 0.45) == pytest.approx(3.25667e-4, rel=1e-5)
    assert variance(0.5, 0.499) == pytest.approx(8.3333e-8, rel=1e-5)


def test_disarm_is_the_conditional_expectation_of_arm():
    """Same noise: the difference has no covariance with DisARM, so the variances differ by its own."""
    arm, disarm = (gradients(e, f, bits(P), 2**15) for e in (ARM(), DisARM()))
    product = (arm - disarm) * disarm
    assert mean_scores(product, 0.0).abs().max() < z_limit(4)
    assert (arm.var(0) > disarm.var(0)).all()


# Groups of n ----------------------------------------------------------------------------------------------------------


def both_low(m, n):
    return max(2 * m ** (1 / (n - 1)) - 1, 0.0) ** (n - 1)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_arms_is_its_formula_on_the_same_noise(n):
    """Dividing by p - P11 with anything added to it, as the authors' code does, is off by more than rounding."""
    got = gradients(ARMS(n), f, bits(P), 5, seed=3)
    e = -uniform(Size((n, 5, 4)), P, seeded(3)).log()
    d = e / e.sum(0)
    u = (1 - d) ** (n - 1)
    b = torch.where(P < 0.5, u < P, 1 - u < P).double()
    fx = f(b)
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for i, p in enumerate(P.tolist()):
        both = both_low(p, n) if p < 0.5 else 2 * p - 1 + both_low(1 - p, n)
        for k in range(n):
            expected[:, i] += (fx[k] - fx.mean(0)) * (b[k, :, i] - p) * p * (1 - p) / (p - both) / (n - 1)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_a_pair_is_disarm(monkeypatch):
    """Below 1/2 it is so sample by sample; from 1/2 on ARMS exchanges the two samples of a pair."""
    p = torch.tensor([0.3, 0.1, 0.49, 1e-3], dtype=torch.float64)
    u = torch.rand(64, 4, generator=seeded(), dtype=torch.float64)
    monkeypatch.setattr("estimators._couplings.uniform", lambda shape, like, generator: u.reshape(shape).clone())
    noise = torch.stack([(-(1 - u)).exp(), (-u).exp()])  # exponentials 1 - u and u, whose sum is 1
    monkeypatch.setattr("estimators.arms.uniform", lambda shape, like, generator: noise.reshape(shape).clone())
    pair = [row_gradients(e, f, bits(p), 64)["logits"] for e in (ARMS(n=2), DisARM())]
    torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-14)


def ones(m, n):
    """Return P(so many of n bits are 1), from P(j given ones are 1) = max(1 - j (1 - m^(1/(n-1))), 0)^(n-1)."""
    c = 1 - m ** (1 / (n - 1))
    factorial = [math.comb(n, j) * max(1 - j * c, 0.0) ** (n - 1) for j in range(n + 1)]
    return [sum((-1) ** (j - s) * math.comb(j, s) * factorial[j] for j in range(s, n + 1)) for s in range(n + 1)]


@pytest.mark.parametrize("n", [2, 3, 4, 10])
@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.8])
def test_moments_of_arms_on_a_bit(n, p):
    """There sum_k (b_k - mean b)(b_k - p) is s - s^2 / n, s the number of ones."""
    delta, m = 0.02, min(p, 1 - p)
    w = p * (1 - p) / (m - both_low(m, n)) / (n - 1)
    values = [delta * w * (s - s * s / n) for s in range(n + 1)]
    mean = sum(q * v for q, v in zip(ones(m, n), values, strict=True))
    variance = sum(q * (v - mean) ** 2 for q, v in zip(ones(m, n), values, strict=True))
    assert mean == pytest.approx(p * (1 - p) * delta, rel=1e-9)
    g = gradients(ARMS(n), lambda b: (b - 0.49) ** 2, one_bit(p), 2**14)
    assert mean_scores(g, mean).abs() < z_limit(32)
    assert variance_scores(g, variance).abs() < z_limit(32) or variance < 1e-30


@pytest.mark.parametrize("estimator", [ARM(4), ARMS(2), ARMS(4), ARMS(64)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parameter", [{"logits": [50.0, -50.0, 800.0, -800.0]}, {"probs": [0.0, 1.0, 1.0, 0.0]}])
def test_certain_bits_have_no_gradient(estimator, dtype, parameter):
    ((name, values),) = parameter.items()
    q = Independent(Bernoulli(**{name: torch.tensor(values, dtype=dtype, requires_grad=True)}, validate_args=False), 1)
    assert gradients(estimator, f, q, 64).abs().max() < 1e-20


@pytest.mark.parametrize("estimator", [ARM(4), ARMS(4)], ids=repr)
def test_a_constant_in_f_changes_the_gradient_by_no_more_than_rounding(estimator):
    plain, raised = (gradients(estimator, lambda x, c=c: f(x) + c, bits(P), 64) for c in (0.0, 1e6))
    torch.testing.assert_close(raised, plain, rtol=0, atol=1e-8)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"ARM needs an even n: its samples are pairs \(got n=3\). Use ARM\(n=4"):
        ARM(n=3)
    with pytest.raises(InvalidParameter, match=r"ARMS needs n >= 2 \(got n=1\). Use ARMS\(n=2\)"):
        ARMS(n=1)
    for estimator in (ARM(), ARMS()):
        with pytest.raises(UnsupportedFamily, match=r"serves Bernoulli, and q is OneHotCategorical.*RLOO"):
            estimator(f, OneHotCategorical(logits=torch.zeros(3)))
        with pytest.raises(Refusal, match="one value per sample and batch element"):
            estimator(lambda x: x, rows(bits(P), 4), seeded())
