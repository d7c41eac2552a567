"""DisARM: its formula on the same noise, its exact mean over all pairs, its variance, its hazards."""

import itertools
import math

import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from estimators import DisARM, InvalidParameter, Refusal, UnsupportedFamily, aliases, rows, uniform
from tests.problems import bits, curved, exact_gradient, seeded
from tests.tolerances import z_limit

LOGITS = torch.tensor([0.4, -1.2, 2.1], dtype=torch.float64)


def gradient(estimator, logits, f=curved, seed=0, make=bits):
    theta = logits.clone().requires_grad_()
    loss = estimator(f, make(theta), seeded(seed))
    return loss.detach(), torch.autograd.grad(loss.sum(), theta)[0]


# Exact ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 6])
def test_the_formula_on_the_same_noise(n):
    logits = LOGITS.expand(5, 2, 3)
    value, got = gradient(DisARM(n=n), logits, seed=3)
    u = uniform(Size((n // 2, 5, 2, 3)), logits, seeded(3))
    expected, values = torch.zeros_like(logits), torch.zeros(5, 2, dtype=torch.float64)
    for pair in u:
        b, other = (pair < LOGITS.sigmoid()).double(), (1 - pair < LOGITS.sigmoid()).double()
        factor = (-1) ** other * (b != other) * LOGITS.abs().sigmoid()
        expected += (curved(b) - curved(other)).unsqueeze(-1) / 2 * factor / (n // 2)
        values += (curved(b) + curved(other)) / n
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(value, values, rtol=0, atol=1e-12)


def test_the_mean_over_all_pairs_is_the_exact_gradient(monkeypatch):
    """A pair of bits depends only on whether u < m, u > 1 - m or neither, m = min(p, 1 - p): three cases a bit."""
    m = torch.minimum(LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    cases = [[(m_i / 2, m_i), (0.5, 1 - 2 * m_i), (1 - m_i / 2, m_i)] for m_i in m]
    combined = list(itertools.product(*cases))
    u = torch.tensor([[float(u) for u, _ in row] for row in combined], dtype=torch.float64)
    weight = torch.tensor([math.prod(float(w) for _, w in row) for row in combined], dtype=torch.float64)
    monkeypatch.setattr("estimators._couplings.uniform", lambda shape, like, generator: u.reshape(shape).clone())
    _, each = gradient(DisARM(), LOGITS.expand(27, 3))
    torch.testing.assert_close(weight @ each, exact_gradient(curved, bits, LOGITS), rtol=0, atol=1e-14)


def test_one_even_bit_has_no_variance():
    _, each = gradient(DisARM(), torch.zeros(100, 1, dtype=torch.float64), lambda x: (x[..., 0] - 0.45).square())
    assert (each - 0.025).abs().max() < 1e-15


@pytest.mark.parametrize(("p", "variance"), [(0.1, 3.24e-4), (0.5, 0.0), (0.8, None)])
def test_one_bit_takes_two_values_whose_variance_is_the_closed_form(p, variance):
    """Delta^2 m (1-m)^2 (1/2 - m): the value is (1-m) Delta / 2 with probability 2m, else 0."""
    delta, m = 0.1, min(p, 1 - p)
    closed = delta**2 * m * (1 - m) ** 2 * (0.5 - m)
    if variance is not None:
        assert closed == pytest.approx(variance, abs=1e-18)
    count = 2**16
    logits = torch.full((count, 1), math.log(p / (1 - p)), dtype=torch.float64)
    _, each = gradient(DisARM(), logits, lambda x: (x[..., 0] - 0.45).square())
    value = (1 - m) * delta / 2
    hit = (each - value).abs() < 1e-15
    assert (hit | (each == 0)).all()
    assert 2 * m * value**2 - (2 * m * value) ** 2 == pytest.approx(closed, abs=1e-18)
    spread = math.sqrt(2 * m * (1 - 2 * m) * count)
    assert abs(hit.sum().item() - 2 * m * count) <= z_limit(3) * spread


def test_bits_by_probability_have_the_same_gradient():
    logits = LOGITS.expand(50, 3)

    def by_probability(theta):
        return Independent(Bernoulli(probs=theta.sigmoid(), validate_args=False), 1)

    value, plain = gradient(DisARM(n=4), logits)
    other_value, other = gradient(DisARM(n=4), logits, make=by_probability)
    torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-14)
    assert torch.equal(value, other_value)


def test_a_constant_in_f_changes_the_gradient_by_no_more_than_rounding():
    _, plain = gradient(DisARM(n=4), LOGITS.expand(50, 3))
    _, raised = gradient(DisARM(n=4), LOGITS.expand(50, 3), lambda x: curved(x) + 1e6)
    torch.testing.assert_close(raised, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parameter", [{"logits": [50.0, -50.0, 800.0]}, {"probs": [0.0, 1.0, 1e-30]}])
def test_certain_bits_have_no_gradient(dtype, parameter):
    ((name, values),) = parameter.items()
    theta = torch.tensor(values, dtype=dtype).expand(64, 3).clone().requires_grad_()
    q = Independent(Bernoulli(**{name: theta}, validate_args=False), 1)
    DisARM(n=4)(curved, q, seeded()).sum().backward()
    assert torch.equal(theta.grad, torch.zeros_like(theta))


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 0, -2, 2.0, True, 3, 7])
def test_only_pairs(n):
    with pytest.raises(InvalidParameter, match=rf"DisARM needs .*got n={n}.*Use DisARM\(n=\d\)"):
        DisARM(n=n)


def test_only_bits():
    with pytest.raises(UnsupportedFamily, match=r"serves Bernoulli, and q is OneHotCategorical.*RLOO"):
        DisARM()(curved, OneHotCategorical(logits=torch.zeros(3)))


def test_f_must_sum_over_the_event():
    with pytest.raises(Refusal, match="one value per sample and batch element"):
        DisARM()(lambda x: x, rows(bits(LOGITS), 4), seeded())


def test_its_other_names():
    assert aliases()["u2g"] == "disarm"
