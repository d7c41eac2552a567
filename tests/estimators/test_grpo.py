"""GRPO: its formula, and its expected gradient over all groups."""

import itertools

import pytest
import torch
from torch.distributions import Categorical, Normal

from estimators import GRPO, RLOO, InvalidParameter, draw, rows
from tests.problems import gradients, seeded
from tests.tolerances import z_limit

LOGITS = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64)
BINARY, REAL = torch.tensor([0.0, 1.0, 1.0]).double(), torch.tensor([0.0, 0.2, 1.0]).double()


def expected(values, n, weights):
    """Return the expected gradient at the logits, summed over all groups; ``weights`` maps the values of a group."""
    p, total = LOGITS.softmax(0), torch.zeros(3, dtype=torch.float64)
    for group in itertools.product(range(3), repeat=n):
        fx = values[list(group)]
        scores = torch.eye(3, dtype=torch.float64)[list(group)] - p
        total += p[list(group)].prod() * (weights(fx).unsqueeze(1) * scores).mean(0)
    return total


def exact(values):
    p = LOGITS.softmax(0)
    return p * (values - p @ values)


def advantages(fx):
    return (fx - fx.mean()) / (fx.std() + 1e-4)


def angle(a, b):
    return float(torch.rad2deg(torch.arccos((a @ b / a.norm() / b.norm()).clamp(-1, 1))))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("n", [2, 5])
def test_the_formula_on_the_same_samples(n, normalise):
    loc = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    got = gradients(GRPO(n, normalise), torch.exp, Normal(loc.clone().requires_grad_(), 0.7), 6, seed=3)
    x = draw(rows(Normal(loc.clone().requires_grad_(), 0.7), 6), n, seeded(3)).detach()
    away = x.exp() - x.exp().mean(0)
    weight = away / (x.exp().std(0) + 1e-4) if normalise else away
    torch.testing.assert_close(got, (weight * (x - loc) / 0.49).mean(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_mean_of_the_group_scales_by_the_declared_factor(n):
    estimator = GRPO(n, normalise=False)
    assert estimator.gradient_scale == (n - 1) / n
    found = expected(REAL, n, lambda fx: fx - fx.mean())
    torch.testing.assert_close(found, estimator.gradient_scale * exact(REAL), rtol=1e-12, atol=1e-15)
    assert GRPO(n).gradient_scale is None


def test_the_deviation_turns_the_gradient_unless_f_has_two_values():
    for n in (2, 3):
        assert angle(expected(BINARY, n, advantages), exact(BINARY)) < 1e-4
        assert angle(expected(REAL, n, advantages), exact(REAL)) > 2


@pytest.mark.parametrize("values", [BINARY, REAL])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_mean_gradient_is_the_sum_over_all_groups(values, normalise):
    q = Categorical(logits=LOGITS.clone().requires_grad_())
    g = gradients(GRPO(3, normalise), lambda x: values[x], q, 200_000)
    found = expected(values, 3, advantages if normalise else lambda fx: fx - fx.mean())
    assert ((g.mean(0) - found).abs() <= z_limit(12) * g.std(0) / len(g) ** 0.5).all()


def test_equal_values_have_no_gradient_and_one_sample_makes_no_group():
    q = Categorical(logits=LOGITS.clone().requires_grad_())
    assert gradients(GRPO(4), lambda x: torch.ones_like(x).double(), q, 5).abs().max() == 0
    with pytest.raises(InvalidParameter, match="a group has at least two samples"):
        GRPO(1)
    with pytest.raises(InvalidParameter, match="normalise"):
        GRPO(normalise=2)
    with pytest.raises(InvalidParameter, match="epsilon > 0"):
        GRPO(epsilon=0.0)


def test_rloo_divides_by_the_factor():
    def q():
        return Categorical(logits=LOGITS.clone().requires_grad_())

    plain = gradients(GRPO(4, normalise=False), lambda x: REAL[x], q(), 50, seed=1)
    torch.testing.assert_close(plain / 0.75, gradients(RLOO(4), lambda x: REAL[x], q(), 50, seed=1))
