import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from estimators import StraightThrough, draw
from tests.problems import moments, row_gradients, seeded, t, weighted_outcomes


def test_is_its_formula_on_bits():
    theta = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]).requires_grad_()
    q = Independent(Bernoulli(logits=theta), 1)
    (got,) = torch.autograd.grad(StraightThrough(n=4)(lambda x: (x**3).sum(-1).sin(), q, seeded()).sum(), [theta])
    x, p = draw(q, 4, seeded()), torch.sigmoid(theta.detach())
    slope = (x**3).sum(-1, keepdim=True).cos() * 3 * x**2
    torch.testing.assert_close(got, slope.mean(0) * p * (1 - p), rtol=1e-12, atol=1e-12)


def test_is_its_formula_on_probs():
    theta = t(0.3, 0.8).requires_grad_()
    q = Independent(Bernoulli(theta), 1)
    (got,) = torch.autograd.grad(StraightThrough()(lambda x: (x + 2).sum(-1) ** 2, q, seeded()), [theta])
    x = draw(q, 1, seeded())
    torch.testing.assert_close(got, (2 * (x + 2).sum(-1)).expand(2), rtol=1e-12, atol=1e-12)


def test_is_its_formula_on_categories():
    theta = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]).requires_grad_()
    c = t(1.0, -2.0, 4.0)
    (got,) = torch.autograd.grad(
        StraightThrough(n=4)(lambda x: (x @ c).exp(), OneHotCategorical(logits=theta), seeded()).sum(), [theta]
    )
    p = torch.softmax(theta.detach(), -1)
    slope = ((draw(OneHotCategorical(logits=theta), 4, seeded()) @ c).exp().unsqueeze(-1) * c).mean(0)
    torch.testing.assert_close(got, p * slope - p * (p * slope).sum(-1, keepdim=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("target", [0.45, 0.8, 0.0])
def test_mean_and_variance_on_a_bit(monkeypatch, p, target):
    x, weights = weighted_outcomes(p, 1)
    logit = torch.logit(torch.tensor(p, dtype=torch.float64)).requires_grad_()
    monkeypatch.setattr("estimators.straight_through.draw", lambda q, n, generator: x.T.clone())
    g = row_gradients(StraightThrough(), lambda b: (b - target) ** 2, Bernoulli(logits=logit), 2)["logits"]
    pq = p * (1 - p)
    assert moments(g, weights) == pytest.approx((2 * pq * (p - target), 4 * pq**3), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("p", "target", "right"), [(0.47, 0.45, True), (0.43, 0.45, False), (0.57, 0.55, False)])
def test_sign_is_wrong_where_the_target_is_nearer_to_one_half(monkeypatch, p, target, right):
    x, weights = weighted_outcomes(p, 1)
    logit = torch.logit(torch.tensor(p, dtype=torch.float64)).requires_grad_()
    monkeypatch.setattr("estimators.straight_through.draw", lambda q, n, generator: x.T.clone())
    g = row_gradients(StraightThrough(), lambda b: (b - target) ** 2, Bernoulli(logits=logit), 2)["logits"]
    exact = p * (1 - p) * ((1 - target) ** 2 - target**2)
    assert (moments(g, weights)[0] * exact > 0) == right
