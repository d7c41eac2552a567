"""ReinMax: closed forms on the same noise, exact means over the support, hazards."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, OneHotCategorical

from estimators import InvalidParameter, NotDifferentiable, ReinMax, UnsupportedFamily, draw
from estimators import reinmax as module
from tests.problems import bits, hot, seeded, slope

LOGITS = torch.tensor([[0.4, -1.2, 0.9], [1.3, 0.2, -0.5]], dtype=torch.float64)
SLOPES = torch.tensor([[0.3, -0.7, 1.1], [0.9, 0.4, -0.2]], dtype=torch.float64)


def curved(x):
    """Neither affine nor separable nor quadratic; one value for the last two axes of one-hot variables."""
    a = (SLOPES * x).sum((-1, -2))
    return a.sin() + a.pow(3) / 3 + x[..., 0, 0] * x[..., 1, 2]


def gradient(estimator, f, q, theta, seed=0):
    loss = estimator(f, q, seeded(seed))
    return torch.autograd.grad(loss.sum(), theta)[0]


def jacobian(m, g):
    return m * g - m * (m * g).sum(-1, keepdim=True)


def on_support(monkeypatch, estimator, f, q_of, logits, points):
    """Return the estimator's exact mean: its gradient at every point, weighted by the point's probability."""
    monkeypatch.setattr(module, "draw", lambda q, n, generator: points.unsqueeze(0))
    theta = logits.expand(len(points), *logits.shape).clone().requires_grad_()
    q = q_of(theta)
    weight = q.log_prob(points).detach().exp()
    each = gradient(estimator, f, q, theta)
    mean = (weight.reshape(-1, *(1 for _ in logits.shape)) * each).sum(0)
    exact_theta = logits.clone().requires_grad_()
    value = (q_of(exact_theta.expand(len(points), *logits.shape)).log_prob(points).exp() * f(points)).sum()
    second = (weight.reshape(-1, *(1 for _ in logits.shape)) * each.square()).sum(0)
    return mean, torch.autograd.grad(value, exact_theta)[0], second - mean.square()


def pairs_of_three():
    eye = torch.eye(3, dtype=torch.float64)
    return torch.stack([torch.stack([a, b]) for a in eye for b in eye])


# Exact ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3, 4.0])
def test_the_formula_on_the_same_noise(temperature):
    theta = LOGITS.expand(6, 2, 3).clone().requires_grad_()
    got = gradient(ReinMax(n=3, temperature=temperature), curved, hot(theta), theta, seed=5)
    z = draw(hot(theta), 3, seeded(5))
    g, p = slope(curved, z), LOGITS.softmax(-1)
    m = ((LOGITS / temperature).softmax(-1) + z) / 2
    expected = (2 * jacobian(m, g) - jacobian(p, g) / 2).mean(0)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_bit_is_one_of_two_categories(temperature, monkeypatch):
    phi = torch.tensor([0.7, -1.9, 0.1], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)

    def f(x):
        return (x[..., 0] * 2 + x[..., 1]).sin() + x[..., 2].pow(3) * x[..., 0]

    theta = phi.expand(3, 3).clone().requires_grad_()
    monkeypatch.setattr(module, "draw", lambda q, n, generator: b.unsqueeze(0))
    by_bits = gradient(ReinMax(temperature=temperature), f, bits(theta), theta)
    two = torch.stack([theta, torch.zeros_like(theta)], -1).detach().requires_grad_()
    monkeypatch.setattr(module, "draw", lambda q, n, generator: torch.stack([b, 1 - b], -1).unsqueeze(0))
    by_pairs = gradient(ReinMax(temperature=temperature), lambda x: f(x[..., 0]), hot(two), two)
    torch.testing.assert_close(by_bits, by_pairs[..., 0], rtol=0, atol=1e-14)


def test_at_temperature_one_it_is_zgr():
    theta = LOGITS.expand(40, 2, 3).clone().requires_grad_()
    got = gradient(ReinMax(), curved, hot(theta), theta, seed=2)
    z = draw(hot(theta), 1, seeded(2))[0]
    g, p = slope(curved, z), LOGITS.softmax(-1)
    chosen, mean = (z * g).sum(-1, keepdim=True), (p * g).sum(-1, keepdim=True)
    expected = (z * (chosen - mean) + p * (g - chosen)) / 2
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_at_temperature_one_quadratics_are_exact(monkeypatch):
    A = torch.randn(6, 6, generator=seeded(7), dtype=torch.float64)

    def quadratic(x):
        u = x.flatten(-2)
        return ((u @ A) * u).sum(-1) + u[..., 1]

    mean, exact, _ = on_support(monkeypatch, ReinMax(), quadratic, hot, LOGITS, pairs_of_three())
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-14)
    for temperature in (0.5, 1.5):
        mean, exact, _ = on_support(
            monkeypatch, ReinMax(temperature=temperature), quadratic, hot, LOGITS, pairs_of_three()
        )
        assert (mean - exact).abs().max() > 1e-2
    mean, exact, _ = on_support(monkeypatch, ReinMax(), curved, hot, LOGITS, pairs_of_three())
    assert (mean - exact).abs().max() > 1e-2


@pytest.mark.parametrize(("t", "p"), [(0.45, 0.5), (0.45, 0.1), (0.2, 0.9)])
def test_on_a_bit_the_mean_is_the_trapezoid_rule(t, p, monkeypatch):
    q, phi = 1 - p, torch.tensor([math.log(p / (1 - p))], dtype=torch.float64)
    support = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    mean, _, _ = on_support(monkeypatch, ReinMax(), lambda x: x[..., 0].exp(), bits, phi, support)
    assert mean.item() == pytest.approx(p * q * (1 + math.e) / 2, abs=1e-14)
    mean, exact, variance = on_support(monkeypatch, ReinMax(), lambda x: (x[..., 0] - t).square(), bits, phi, support)
    assert mean.item() == pytest.approx(exact.item(), abs=1e-15)
    assert variance.item() == pytest.approx(p * q * ((1 - t) * q + t * p) ** 2, abs=1e-15)


def test_by_probability_the_gradient_is_the_same():
    theta = LOGITS.expand(20, 2, 3).clone().requires_grad_()
    plain = gradient(ReinMax(n=2), curved, hot(theta), theta)
    q = Independent(OneHotCategorical(probs=theta.softmax(-1), validate_args=False), 1)
    torch.testing.assert_close(gradient(ReinMax(n=2), curved, q, theta), plain, rtol=0, atol=1e-12)


def test_the_value_is_f_at_points_of_the_support():
    q, seen = hot(LOGITS.clone().requires_grad_()), []
    value = ReinMax(n=4, temperature=2.0)(lambda x: curved(seen.append(x.detach()) or x), q, seeded())
    (x,) = seen
    assert ((x == 0) | (x == 1)).all()
    assert torch.equal(x, draw(q, 4, seeded()))
    assert torch.equal(value, curved(x).mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
def test_extreme_logits_give_finite_gradients(dtype, temperature):
    theta = torch.tensor([[50.0, -50.0, 0.0], [0.0, -math.inf, 1.0]], dtype=dtype).expand(64, 2, 3).clone()
    theta.requires_grad_()
    got = gradient(ReinMax(temperature=temperature), lambda x: curved(x.double()).to(dtype), hot(theta), theta)
    assert got.isfinite().all()
    assert (got[:, 1, 1] == 0).all()
    phi = torch.tensor([50.0, -50.0, 800.0], dtype=dtype).expand(64, 3).clone().requires_grad_()
    got = gradient(ReinMax(temperature=temperature), lambda x: x.sin().sum(-1), bits(phi), phi)
    assert got.isfinite().all()
    assert temperature > 1 or got.abs().max() < 1e-15


def test_all_gradients_at_once_are_those_one_after_the_other():
    theta = torch.randn(4, 2, 3, generator=seeded(), dtype=torch.float64).requires_grad_()
    loss, each = ReinMax(n=2)(curved, hot(theta), seeded()), torch.eye(4, dtype=torch.float64)
    (got,) = torch.autograd.grad(loss, theta, each, retain_graph=True, is_grads_batched=True)
    expected = [torch.autograd.grad(loss, theta, one, retain_graph=True)[0] for one in each]
    torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-14)
    assert got.abs().max() > 0.01


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [{"n": 0}, {"temperature": 0.0}, {"temperature": -1.0}, {"temperature": math.inf}])
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"ReinMax needs .*Use ReinMax\("):
        ReinMax(**field)


def test_integer_categories_are_refused_with_the_one_hot_form():
    with pytest.raises(UnsupportedFamily, match="Use OneHotCategorical"):
        ReinMax()(lambda x: x, Categorical(logits=torch.zeros(3)))


def test_a_black_box_is_refused():
    with pytest.raises(NotDifferentiable, match="needs df/dx"):
        ReinMax()(lambda x: curved(x.detach()), hot(LOGITS.clone().requires_grad_()), seeded())
