"""Stochastic derivatives: exact means and variances for each family and side, their relatives, their edges."""

import pytest
import torch
from torch.distributions import Bernoulli, Binomial, Categorical, Geometric, Independent, Poisson

from bench.conformance import Case, Conformance
from bench.measurement.counting import Counter, counted
from estimators import InvalidParameter, MeasureValued, StochasticAD, UnsupportedFamily, rows
from tests.problems import gradients, mean_scores, moments, row_gradients, seeded, t
from tests.tolerances import z_limit

SIDES = pytest.mark.parametrize("side", ["right", "left", "both"])


FAMILIES = {
    "bernoulli": (lambda p: Bernoulli(probs=p), "probs", 0.3, 2),
    "bernoulli-logits": (lambda a: Bernoulli(logits=a), "logits", -0.4, 2),
    "binomial": (lambda p: Binomial(5, probs=p), "probs", 0.3, 6),
    "binomial-logits": (lambda a: Binomial(5, logits=a), "logits", -0.4, 6),
    "geometric": (lambda p: Geometric(probs=p), "probs", 0.4, 120),
    "geometric-logits": (lambda a: Geometric(logits=a), "logits", -0.4, 120),
    "poisson": (lambda rate: Poisson(rate), "rate", 3.0, 60),
}


def exactly(monkeypatch, estimator, f, name):
    """Return mean and variance by the sum over the support, and the exact gradient."""
    build, parameter, value, count = FAMILIES[name]
    x = torch.arange(count, dtype=torch.float64)
    theta = t(value).squeeze().requires_grad_()
    weights = build(theta).log_prob(x).exp()
    (exact,) = torch.autograd.grad((weights * f(x)).sum(), theta)
    monkeypatch.setattr("estimators.stochastic_ad.draw", lambda q, n, generator: x.clone().unsqueeze(0))
    g = row_gradients(estimator, f, build(t(value).squeeze().requires_grad_()), count)[parameter]
    return *moments(g, weights.detach()), exact.item()


@SIDES
@pytest.mark.parametrize("name", FAMILIES)
def test_the_mean_is_exact(monkeypatch, name, side):
    mean, _, exact = exactly(monkeypatch, StochasticAD(side=side), lambda x: (x + 0.3).sin() + x / (1 + x), name)
    assert mean == pytest.approx(exact, rel=1e-9)


def test_published_variances(monkeypatch):
    """Poisson of rate 3: on x none from the right; on x^2 4 rate from the right, 64.333 from the left."""
    right, left = StochasticAD(), StochasticAD(side="left")
    assert exactly(monkeypatch, right, lambda x: x, "poisson")[:2] == pytest.approx((1, 0), abs=1e-9)
    assert exactly(monkeypatch, right, lambda x: x**2, "poisson")[:2] == pytest.approx((7, 12), rel=1e-9)
    assert exactly(monkeypatch, left, lambda x: x**2, "poisson")[:2] == pytest.approx((7, 64 + 1 / 3), rel=1e-9)


def test_both_sides_are_the_mean_of_the_two():
    q = Independent(Poisson(t(1.5, 4.0).requires_grad_()), 1)

    def f(x):
        return x[..., 0] * x[..., 1].sqrt()

    right, left, both = (gradients(StochasticAD(2, side), f, q, 20) for side in ("right", "left", "both"))
    torch.testing.assert_close(both, (right + left) / 2, rtol=1e-12, atol=1e-13)


def test_the_right_side_of_poisson_is_the_measure_valued_derivative():
    q = Independent(Poisson(t(1.5, 4.0).requires_grad_()), 1)
    pair = (gradients(e, lambda x: x.prod(-1).sin(), q, 20) for e in (StochasticAD(2), MeasureValued(2)))
    torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-13)


def grid(count):
    """Nodes of two independent counts, each below ``count``."""

    def nodes(q):
        x = torch.cartesian_prod(*[torch.arange(count, dtype=torch.float64)] * 2)
        x = x.reshape(-1, *(1 for _ in q.batch_shape), 2)
        return x, q.log_prob(x).exp()

    return nodes


def curve(x):
    """Neither affine nor separable."""
    return (x[..., 0] + 0.4).sin() * (1 + x[..., 1]).log() + x[..., 1] / (1 + x[..., 0])


CASES = (
    Case("Poisson", (t(1.5, 4.0),), lambda r: Independent(Poisson(r, validate_args=False), 1), curve, grid(40)),
    Case("Geometric", (t(0.4, 0.7),), lambda p: Independent(Geometric(p, validate_args=False), 1), curve, grid(80)),
    Case(
        "Binomial by logits",
        (t(0.4, -0.7),),
        lambda a: Independent(Binomial(4, logits=a, validate_args=False), 1),
        curve,
        grid(5),
    ),
)


class TestOnCounts(Conformance):
    """Not on Poisson: torch draws it by rejection, so that rows share a stream, and only their laws are separate."""

    estimator = StochasticAD(side="both")
    cases = CASES[1:2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@SIDES
def test_it_is_unbiased_on_several_counts(case, side):
    q = case.q()
    g = gradients(StochasticAD(side=side), case.f, q, 2**13)
    _, exact = case.exact(lambda q: case.f)
    assert mean_scores(g, exact).abs().max() < z_limit(18)


@SIDES
def test_f_never_leaves_the_support(side):
    seen = []

    def f(x):
        seen.append(x)
        return x.sum(-1)

    StochasticAD(2, side)(f, rows(Independent(Binomial(3, probs=t(0.1, 0.9).requires_grad_()), 1), 200), seeded())
    points = torch.cat([x.flatten() for x in seen])
    assert points.min() == 0
    assert points.max() == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_edges_one_side_has_the_derivative(dtype):
    for p, side in ((0.0, "right"), (1.0, "left")):
        q = Bernoulli(probs=torch.tensor(p, dtype=dtype, requires_grad=True), validate_args=False)
        g = gradients(StochasticAD(side=side), lambda b: 1 + 2 * b, q, 10)
        assert torch.equal(g, torch.full_like(g, 2.0))
    saturated = Bernoulli(logits=torch.tensor([50.0, -50.0, 800.0], dtype=dtype, requires_grad=True))
    for side in ("right", "left", "both"):
        g = gradients(StochasticAD(side=side), lambda b: b, saturated, 64)
        assert g.isfinite().all()
        assert g.abs().max() < 1e-6


@pytest.mark.parametrize(("side", "cost"), [("right", 4), ("left", 4), ("both", 7)])
def test_the_cost(side, cost):
    counter = Counter(event_dims=1)
    q = Independent(Poisson(torch.ones(3, requires_grad=True)), 1)
    StochasticAD(2, side)(counted(lambda x: x.sum(-1), counter), q, seeded())
    assert (counter.f, counter.df) == (2 * cost, 0)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"needs side='right', 'left' or 'both' \(got side='up'\). Use Stoch"):
        StochasticAD(side="up")
    with pytest.raises(InvalidParameter, match=r"StochasticAD needs n >= 1 \(got n=0\)"):
        StochasticAD(n=0)
    with pytest.raises(UnsupportedFamily, match="serves Bernoulli or Binomial or Geometric or Poisson, and q is Categ"):
        StochasticAD()(torch.square, Categorical(logits=t(0.1, 0.2)))
