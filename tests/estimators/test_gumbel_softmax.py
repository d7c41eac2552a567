import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from estimators import GumbelSoftmax, StraightThroughGumbelSoftmax
from tests.problems import curve, curve_slope, moments, row_gradients, seeded, t, uniforms


def binary(estimator, n=4):
    theta = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]).requires_grad_()
    loss = estimator(curve, Independent(Bernoulli(logits=theta), 1), seeded())
    (got,) = torch.autograd.grad(loss.sum(), [theta])
    u = uniforms(seeded(), n, 2, 3)
    return loss, got, theta.detach() + u.log() - (1 - u).log()


def categorical(estimator, n=4):
    theta = t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]).requires_grad_()
    loss = estimator(curve, OneHotCategorical(logits=theta), seeded())
    (got,) = torch.autograd.grad(loss.sum(), [theta])
    return loss, got, theta.detach() - (-uniforms(seeded(), n, 2, 3).log()).log()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_is_its_formula_on_bits(temperature):
    loss, got, z = binary(GumbelSoftmax(4, temperature))
    y = 1 / (1 + torch.exp(-z / temperature))
    torch.testing.assert_close(loss, curve(y).mean(0), rtol=1e-12, atol=1e-12)
    expected = (curve_slope(y) * y * (1 - y) / temperature).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_is_its_formula_on_categories(temperature):
    loss, got, z = categorical(GumbelSoftmax(4, temperature))
    y = torch.softmax(z / temperature, -1)
    torch.testing.assert_close(loss, curve(y).mean(0), rtol=1e-12, atol=1e-12)
    g = curve_slope(y)
    expected = ((y * g - y * (y * g).sum(-1, keepdim=True)) / temperature).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_straight_through_is_its_formula_on_bits(temperature):
    loss, got, z = binary(StraightThroughGumbelSoftmax(4, temperature))
    x, y = (z > 0).double(), 1 / (1 + torch.exp(-z / temperature))
    torch.testing.assert_close(loss, curve(x).mean(0), rtol=1e-12, atol=1e-12)
    expected = (curve_slope(x) * y * (1 - y) / temperature).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_straight_through_is_its_formula_on_categories(temperature):
    loss, got, z = categorical(StraightThroughGumbelSoftmax(4, temperature))
    x = torch.nn.functional.one_hot(z.argmax(-1), 3).double()
    y, g = torch.softmax(z / temperature, -1), curve_slope(x)
    torch.testing.assert_close(loss, curve(x).mean(0), rtol=1e-12, atol=1e-12)
    expected = ((y * g - y * (y * g).sum(-1, keepdim=True)) / temperature).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("run", [binary, categorical])
def test_the_relaxed_value_becomes_the_hard_one_as_the_temperature_goes_to_zero(run):
    hard, _, z = run(StraightThroughGumbelSoftmax(4))
    gap = z.abs().min() if run is binary else (z.topk(2).values @ t(1.0, -1.0)).min()
    assert gap > 1e-3  # no tie in these draws
    soft, _, _ = run(GumbelSoftmax(4, 1e-5))
    torch.testing.assert_close(soft, hard, rtol=0, atol=1e-12)


def over_logistic_noise(monkeypatch, estimator):
    """Return mean and variance at logit 0 of f = (b - 0.45)^2, by the trapezoidal rule, exact for such a decay."""
    noise = torch.arange(-60, 60, 0.02, dtype=torch.float64)
    weights = 0.02 * torch.sigmoid(noise) * torch.sigmoid(-noise)
    monkeypatch.setattr("estimators._relaxations.logistic", lambda shape, like, generator: noise.unsqueeze(0).clone())
    q = Bernoulli(logits=torch.zeros((), dtype=torch.float64, requires_grad=True))
    g = row_gradients(estimator, lambda b: (b - 0.45) ** 2, q, len(noise))["logits"]
    return moments(g, weights)


@pytest.mark.parametrize(
    ("temperature", "ratio", "variance"),
    [
        (2.0, 0.4292, 0.001037),
        (1.0, 0.6667, 0.004817),
        (0.5, 0.8584, 0.014244),
        (0.25, 0.9545, 0.03279),
        (0.1, 0.992, 0.08619),
    ],
)
def test_bias_and_variance_on_a_bit(monkeypatch, temperature, ratio, variance):
    mean, var = over_logistic_noise(monkeypatch, GumbelSoftmax(temperature=temperature))
    assert round(mean / 0.025, 4 if temperature > 0.1 else 3) == ratio
    assert var == pytest.approx(variance, rel=5e-4)  # as printed


def test_ratio_of_the_gradients_at_temperature_one_is_two_thirds(monkeypatch):
    mean, _ = over_logistic_noise(monkeypatch, GumbelSoftmax())
    assert mean / 0.025 == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize("cls", [GumbelSoftmax, StraightThroughGumbelSoftmax])
def test_two_categories_are_a_bit(monkeypatch, cls):
    """A difference of Gumbels is logistic."""
    gumbels = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    monkeypatch.setattr("estimators._relaxations.gumbel", lambda shape, like, generator: gumbels.clone())
    monkeypatch.setattr(
        "estimators._relaxations.logistic", lambda shape, like, generator: gumbels[:, 1] - gumbels[:, 0]
    )
    logit = t(0.7).squeeze().requires_grad_()
    hot = OneHotCategorical(logits=torch.stack([torch.zeros_like(logit), logit]))
    a = cls(5, 0.7)(lambda x: (x[..., 1] - 0.3) ** 2, hot)
    b = cls(5, 0.7)(lambda x: (x - 0.3) ** 2, Bernoulli(logits=logit))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, [logit])[0] for loss in (a, b)), rtol=1e-12, atol=1e-12)


def test_tied_logits_still_make_one_category(monkeypatch):
    monkeypatch.setattr(
        "estimators._relaxations.gumbel", lambda shape, like, generator: torch.zeros(shape, dtype=like.dtype)
    )
    seen = []
    StraightThroughGumbelSoftmax()(
        lambda x: seen.append(x) or x.sum(-1), OneHotCategorical(logits=t(0.0, 0.0, 0.0).requires_grad_())
    )
    assert torch.equal(seen[0].sum(-1), t(1.0))
    assert torch.equal(seen[0].max(-1).values, t(1.0))
