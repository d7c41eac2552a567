"""The optimal baseline of each coordinate: its formula, its exact mean, what it is worth, its hazards."""

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Beta, Independent, MultivariateNormal, Normal, OneHotCategorical, Poisson

from estimators import RLOO, ScoreFunction, draw, parameters, rows
from tests.problems import FAMILIES, black_box, centred, gradients, moments, row_gradients, seeded, t, weighted_outcomes


def optimal(n):
    return ScoreFunction(n=n, baseline="optimal")


def by_hand(fx, s):
    """Return the estimate from f ``[n, ...]`` and scores ``[n, ..., size]``, one coordinate and sample at a time."""
    n, g = len(fx), torch.zeros_like(s[0])
    for k, i in itertools.product(range(n), range(s.shape[-1])):
        others = [j for j in range(n) if j != k]
        b = sum(fx[j] * s[j, ..., i] ** 2 for j in others) / sum(s[j, ..., i] ** 2 for j in others)
        g[..., i] += (fx[k] - b) * s[k, ..., i] / n
    return g


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("name", ["normal", "bernoulli-logits", "bernoulli-probs", "one-hot-logits"])
def test_the_formula_on_the_same_noise(name, n):
    family = FAMILIES[name]
    theta = [p.clone().requires_grad_() for p in family.theta]
    q = family.build(*theta)
    f = black_box(q)
    got = torch.autograd.grad(optimal(n)(f, q, seeded()).sum(), theta)
    x = draw(q, n, seeded())
    for g, s in zip(got, family.score(x, *family.theta), strict=True):
        expected = by_hand(f(x), s)
        if name == "one-hot-logits":  # torch's normalisation of logits
            expected = centred(expected, family.theta[0].softmax(-1))
        torch.testing.assert_close(g, expected, rtol=1e-12, atol=1e-12)


def test_two_samples_are_leave_one_out():
    q = Normal(t(0.5, 2.0).requires_grad_(), t(1.0, 0.3).requires_grad_())
    pair = (torch.autograd.grad(e(torch.exp, q, seeded()).sum(), [q.loc, q.scale]) for e in (optimal(2), RLOO(2)))
    for a, b in zip(*pair, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_exact_mean_on_a_bit(monkeypatch, n):
    x, weights = weighted_outcomes(0.3, n)
    monkeypatch.setattr("estimators.score_function.draw", lambda q, n, generator: x.T.clone())
    q = Bernoulli(logits=torch.logit(t(0.3).squeeze()).requires_grad_())
    g = row_gradients(optimal(n), lambda b: (b - 0.9) ** 2, q, len(x))["logits"]
    torch.testing.assert_close(weights @ g, t(0.3 * 0.7 * (0.01 - 0.81)).squeeze(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("parameter", ["logits", "probs"])
def test_the_exact_mean_with_categories(monkeypatch, parameter):
    """Scores that are not of mean 0, such as x in place of x - p, would be biased by their baselines."""
    p, values = t(0.2, 0.5, 0.3), t(1.0, -2.0, 5.0)
    grid = torch.cartesian_prod(*[torch.arange(3)] * 3)
    x = torch.nn.functional.one_hot(grid.T, 3).double()
    monkeypatch.setattr("estimators.score_function.draw", lambda q, n, generator: x)
    q = OneHotCategorical(**{parameter: (p.log() if parameter == "logits" else p).requires_grad_()})
    g = row_gradients(optimal(3), lambda x: x @ values, q, len(grid))[parameter]
    mean = p[grid].prod(-1) @ g
    exact = p * (values - p @ values) if parameter == "logits" else values - p @ values
    got = centred(mean, p) if parameter == "logits" else mean - p @ mean
    torch.testing.assert_close(got, exact.detach(), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("q", "f"),
    [
        (lambda a: Poisson(a), lambda x: x**2),
        (lambda a: Beta(a, t(1.5).squeeze()), lambda x: x.exp()),
        (lambda a: MultivariateNormal(torch.stack([a, a]), torch.eye(2).double() + 0.3), lambda x: x.sum(-1) ** 2),
    ],
    ids=["Poisson", "Beta", "MultivariateNormal"],
)
def test_families_through_torch(q, f):
    q = q(t(2.0).squeeze().requires_grad_())
    r = rows(q, 6)
    loss = optimal(4)(f, r, seeded())
    name, leaf = next(iter(parameters(r).items()))
    (got,) = torch.autograd.grad(loss.sum(), [leaf])
    x = draw(r, 4, seeded())
    wide = rows(q, 4 * 6)
    log_q = wide.log_prob(x.flatten(0, 1))
    (s,) = torch.autograd.grad(log_q.sum(), [parameters(wide)[name]])
    expected = by_hand(f(x), s.reshape(4, 6, -1)).reshape(got.shape)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_it_is_worth_more_than_leave_one_out(monkeypatch):
    """On a bit the best constant leaves no variance, and so does its estimate if both values were seen often enough."""
    p = 0.3
    x, weights = weighted_outcomes(p, 10)
    variances = []
    for e, module in ((optimal(10), "score_function"), (RLOO(10), "rloo")):
        monkeypatch.setattr(f"estimators.{module}.draw", lambda q, n, generator: x.T.clone())
        q = Bernoulli(logits=torch.logit(t(p).squeeze()).requires_grad_())
        mean, variance = moments(row_gradients(e, lambda b: b, q, len(x))["logits"], weights)
        assert mean == pytest.approx(p * (1 - p), rel=1e-12)
        variances.append(variance)
    assert variances[0] < variances[1] / 2


def test_it_does_not_feel_a_constant():
    logits = t(0.4, -1.2).requires_grad_()
    q = Independent(Bernoulli(logits=logits), 1)
    plain = gradients(optimal(4), lambda x: x[..., 0] * x[..., 1], q, 64)
    raised = gradients(optimal(4), lambda x: x[..., 0] * x[..., 1] + 1e6, q, 64)
    torch.testing.assert_close(raised, plain, rtol=0, atol=1e-9)


def test_one_dominant_score_does_not_cancel():
    """A rare bit's score is 1e6 times the others': the sums over those must not be differences of sums over all."""
    p = 1e-6
    q = Bernoulli(probs=torch.tensor(p, dtype=torch.float32, requires_grad=True))
    x = torch.tensor([[1.0], [0.0], [0.0]])
    values = {1.0: 3.0, 0.0: 2.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("estimators.score_function.draw", lambda q, n, generator: x)
        r = rows(q, 1)
        loss = optimal(3)(lambda b: torch.where(b > 0, values[1.0], values[0.0]), r)
        (g,) = torch.autograd.grad(loss.sum(), [r.probs])
    # the rare sample: baseline 2; each of the others: that of the rare sample and another one, 3 up to 1e-12
    expected = ((3 - 2) / p - 2 * (2 - 3) / (1 - p)) / 3
    assert g.item() == pytest.approx(expected, rel=1e-5)
