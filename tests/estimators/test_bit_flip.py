"""BitFlip: its formula on the same noise, its exact mean, its variance, one bit."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Independent

from estimators import BitFlip, InvalidParameter, draw
from tests.problems import curved, gradients, outcomes, row_gradients, seeded, variance_scores
from tests.tolerances import z_limit

P = torch.tensor([0.3, 0.8, 0.02], dtype=torch.float64)


def bits(p=P):
    return Independent(Bernoulli(logits=p.logit().requires_grad_()), 1)


def with_bit(x, i, value):
    return torch.cat([x[..., :i], torch.full_like(x[..., :1], value), x[..., i + 1 :]], -1)


@pytest.mark.parametrize("n", [1, 4])
def test_the_formula_on_the_same_noise(n):
    got = gradients(BitFlip(n), curved, bits(), 6, seed=3)
    generator = seeded(3)
    x = draw(bits(P.expand(6, 3)), n, generator)
    chosen = torch.randint(3, (n, 6, 1), generator=generator)[..., 0]
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for k, r in itertools.product(range(n), range(6)):
        i = int(chosen[k, r])
        slope = curved(with_bit(x[k, r], i, 1.0)) - curved(with_bit(x[k, r], i, 0.0))
        expected[r, i] += 3 * P[i] * (1 - P[i]) * slope / n
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)


def test_its_mean_over_the_coordinate_is_the_local_expectation(monkeypatch):
    x = outcomes(3)
    slopes = [curved(with_bit(x, i, 1.0)) - curved(with_bit(x, i, 0.0)) for i in range(3)]
    local = torch.stack(slopes, -1) * P * (1 - P)
    monkeypatch.setattr("estimators.bit_flip.draw", lambda q, n, generator: x.repeat_interleave(3, 0).unsqueeze(0))
    index = torch.arange(3).repeat(8).reshape(1, 24, 1)
    monkeypatch.setattr("torch.randint", lambda *args, **kwargs: index)
    each = row_gradients(BitFlip(), curved, bits(), 24)["logits"]
    torch.testing.assert_close(each.reshape(8, 3, 3).mean(1), local, rtol=0, atol=1e-14)


def test_one_bit_is_exact():
    q = Bernoulli(logits=torch.tensor(0.3, dtype=torch.float64).logit().requires_grad_())
    g = gradients(BitFlip(), lambda b: (b - 0.45) ** 2, q, 50)
    torch.testing.assert_close(g, torch.full_like(g, 0.021), rtol=1e-12, atol=0)


def test_the_variance_on_a_separable_f():
    """There the slope is fixed: D times it with probability 1/D, so the variance is (D - 1) times the squared mean."""
    slopes = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)
    g = gradients(BitFlip(), lambda b: b @ slopes, bits(), 2**15)
    exact = P * (1 - P) * slopes
    assert variance_scores(g, 2 * exact**2).abs().max() < z_limit(3)


def test_certain_bits_have_no_gradient():
    q = Independent(Bernoulli(logits=torch.tensor([50.0, -50.0, 800.0], requires_grad=True)), 1)
    assert gradients(BitFlip(n=4), curved, q, 64).abs().max() < 1e-20


def test_refusal():
    with pytest.raises(InvalidParameter, match=r"BitFlip needs n >= 1 \(got n=0\)"):
        BitFlip(n=0)
