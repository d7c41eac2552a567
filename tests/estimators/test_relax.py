"""RELAX: the paper's three terms on the same noise, unbiasedness, what it is at the start, what it learns."""

import math

import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Categorical, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import (
    REBAR,
    RELAX,
    RLOO,
    InvalidParameter,
    NotDifferentiable,
    ScoreFunction,
    UnsupportedFamily,
    adapt,
    rows,
    uniform,
)
from estimators import relax as module
from estimators.relax import LearnedRelaxation
from tests.problems import bits, centred, curved, curved_on_hot, exact_gradient, gradients, hot, mean_scores, seeded
from tests.tolerances import z_limit

BITS = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)
HOT = torch.tensor([[0.4, -1.2, 0.9], [1.3, 0.2, -0.5]], dtype=torch.float64)


def leaf(logits):
    return logits.clone().requires_grad_()


PROBLEMS = pytest.mark.parametrize(
    ("make", "f", "logits"), [(bits, curved, BITS), (hot, curved_on_hot, HOT)], ids=["bits", "one-hot"]
)


def trained(estimator, q):
    """Return a state as far from its beginning as any that learns."""
    state = estimator.init(q, seeded())
    with torch.no_grad():
        state.outer.copy_(torch.linspace(-1.5, 2.0, state.hidden))
        state.bias.copy_(torch.linspace(0.5, -0.3, state.hidden))
        state.offset.fill_(0.7)
        state.mean.fill_(-0.4)
        state.log_temperature.fill_(math.log(0.3))
    return state.requires_grad_(False)


def literal(f, c, logits, u, binary):
    """Return the paper's three terms, with autograd through the noise of z' ("v tilde" in its appendix)."""
    theta = logits.clone().requires_grad_()
    if binary:
        p = theta.sigmoid()
        z = theta + u.logit()
        x = (z > 0).double()
        v = torch.where(x > 0, (u - 1 + p) / p, u / (1 - p)).detach()
        conditional = theta + torch.where(x > 0, v * p + 1 - p, v * (1 - p)).logit()
    else:
        p = theta.softmax(-1)
        z = p.log() - (-u.log()).log()
        chosen = z.argmax(-1, keepdim=True)
        x = torch.zeros_like(z).scatter_(-1, chosen, 1.0)
        first = (-z.gather(-1, chosen)).exp().detach()
        others = (((-z).exp() - first) * p).detach()
        conditional = -torch.where(x > 0, first, others / p + first).log()
    weight = f(x) - c(conditional).detach()
    (relaxed,) = torch.autograd.grad(c(z).sum(), theta, retain_graph=True)
    (again,) = torch.autograd.grad(c(conditional).sum(), theta, retain_graph=True)
    (expected_score,) = torch.autograd.grad(
        (weight.detach() * (Bernoulli(logits=theta) if binary else OneHotCategorical(logits=theta)).log_prob(x)
         .sum(-1)).sum(), theta
    )  # fmt: skip
    return expected_score + relaxed - again


@PROBLEMS
@pytest.mark.parametrize("relaxed", [False, True])
def test_the_three_terms_of_the_paper_on_the_same_noise(make, f, logits, relaxed):
    estimator, binary = RELAX(n=3, relaxed=relaxed), make is bits
    state = trained(estimator, make(leaf(logits)))
    got = gradients(estimator, f, make(leaf(logits)), 20, seed=4, state=state)
    axes = 1 if binary else 2

    def c(z):
        y = (z / 0.3).sigmoid() if binary else (z / 0.3).softmax(-1)
        hidden = torch.tanh((2 * y - 1).flatten(y.dim() - axes) @ state.inner + state.bias)
        return (hidden * state.outer).sum(-1) + 0.7 + (f(y) if relaxed else -0.4)

    wide = logits.expand(20, *logits.shape)
    noise = uniform(Size((3, *wide.shape)), wide, seeded(4))
    expected = torch.stack([literal(f, c, wide, u, binary) for u in noise]).mean(0)
    if not binary:
        got, expected = (centred(g, logits.softmax(-1)) for g in (got, expected))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def scores(estimator, make, f, logits, state):
    g = gradients(estimator, f, make(leaf(logits)), 2**15, state=state)
    g = g if make is bits else centred(g, logits.softmax(-1))
    return mean_scores(g, exact_gradient(f, make, logits)).abs().max()


@PROBLEMS
@pytest.mark.parametrize("relaxed", [False, True])
def test_it_is_unbiased_whatever_the_network(make, f, logits, relaxed):
    estimator = RELAX(relaxed=relaxed)
    assert scores(estimator, make, f, logits, trained(estimator, make(leaf(logits)))) < z_limit(4 * 6)


@PROBLEMS
@pytest.mark.parametrize("part", [lambda slope: slope, lambda slope: 0 * slope], ids=["no conditional", "no v'(phi)"])
def test_without_the_gradient_through_the_conditional_sample_it_would_be_biased(make, f, logits, part, monkeypatch):
    monkeypatch.setattr(module, "path_difference", lambda *args: part(args[-1]))
    assert scores(RELAX(), make, f, logits, trained(RELAX(), make(leaf(logits)))) > z_limit(4 * 6)


@PROBLEMS
def test_at_the_start_it_is_the_score_function_or_rebar(make, f, logits):
    for estimator, other in (
        (RELAX(n=2), REBAR(n=2, coefficient=0.0)),  # which is ScoreFunction on the noise of a relaxation
        (RELAX(n=2, relaxed=True), REBAR(n=2)),
    ):
        expected = gradients(other, f, make(leaf(logits)), 20)
        for state in (None, estimator.init(make(leaf(logits)), seeded())):
            torch.testing.assert_close(
                gradients(estimator, f, make(leaf(logits)), 20, state=state), expected, rtol=0, atol=1e-12
            )


def test_what_it_learns_lowers_the_variance_of_a_black_box():
    """The toy problem of the paper: RLOO with two samples leaves 2.5e-7 per call there, ScoreFunction 1.6e-2."""
    q = bits(torch.zeros(1, dtype=torch.float64).requires_grad_())

    def f(x):
        return (x.detach() - 0.499).square().sum(-1)

    state = RELAX().init(q, seeded(3))
    optimizer = torch.optim.Adam(state.parameters(), lr=0.03)
    for step in range(200):
        adapt(RELAX(), f, rows(q, 32), state, optimizer, seeded(1000 + step))
    learned = gradients(RELAX(), f, q, 2**12, state=state.requires_grad_(False)).var()
    assert learned < gradients(ScoreFunction(), f, q, 2**12).var() / 20


def test_relaxed_it_learns_more_than_leave_one_out_knows():
    q = bits(leaf(BITS))
    state = RELAX(relaxed=True).init(q, seeded(3))
    optimizer = torch.optim.Adam(state.parameters(), lr=0.02)
    for step in range(150):
        adapt(RELAX(relaxed=True), curved, rows(q, 32), state, optimizer, seeded(1000 + step))
    learned = gradients(RELAX(relaxed=True), curved, q, 2**12, state=state.requires_grad_(False)).var(0).sum()
    assert learned < gradients(RLOO(), curved, q, 2**12).var(0).sum() * 0.7


def test_the_level_follows_the_loss_and_never_contains_its_own_sample():
    state = RELAX().init(bits(leaf(BITS)), seeded())
    loss = RELAX()(curved, bits(leaf(BITS)), seeded(1), state)
    assert state.mean == 0
    state.update(loss)
    assert state.mean == loss.mean()
    again, fresh = (RELAX()(curved, bits(leaf(BITS)), seeded(1), s) for s in (state, None))
    assert torch.equal(again, fresh)  # it shapes the gradient, not the value


@pytest.mark.parametrize("relaxed", [False, True])
def test_an_impossible_category_does_not_stop_it_from_learning(relaxed):
    q = OneHotCategorical(logits=torch.tensor([0.3, -torch.inf, 50.0], requires_grad=True), validate_args=False)
    estimator = RELAX(relaxed=relaxed)
    state = estimator.init(q, seeded())
    optimizer = torch.optim.Adam(state.parameters())
    for step in range(3):
        adapt(estimator, lambda x: (x * x).sum(-1), rows(q, 8), state, optimizer, seeded(step))
    assert all(p.isfinite().all() for p in state.parameters())


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures(temperature):
    q = bits(torch.tensor([50.0, -50.0, 0.3]).requires_grad_())
    state = RELAX().init(q, seeded())
    with torch.no_grad():
        state.outer.fill_(1.0)
        state.log_temperature.fill_(math.log(temperature))
    g = gradients(RELAX(), curved, q, 64, state=state)
    assert g.isfinite().all()
    assert g[:, :2].abs().max() < 1e-6


@pytest.mark.parametrize(("relaxed", "cost"), [(False, (3, 0)), (True, (6, 3))])
def test_the_cost(relaxed, cost):
    counter, estimator = Counter(event_dims=1), RELAX(n=3, relaxed=relaxed)
    estimator(counted(curved, counter), bits(leaf(BITS)), seeded(), estimator.init(bits(leaf(BITS)), seeded()))
    assert (counter.f, counter.df) == cost


def test_the_network_is_seeded():
    a, b, c = (RELAX().init(hot(leaf(HOT)), seeded(s)) for s in (1, 1, 2))
    assert isinstance(a, LearnedRelaxation)
    assert torch.equal(a.inner, b.inner)
    assert not torch.equal(a.inner, c.inner)
    assert a.inner.shape == (6, 10)


def test_refusals():
    with pytest.raises(InvalidParameter, match="RELAX needs temperature > 0 and finite"):
        RELAX(temperature=0.0)
    with pytest.raises(UnsupportedFamily, match="OneHotCategorical with the same logits"):
        RELAX()(torch.square, Categorical(logits=BITS))
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        RELAX(relaxed=True)(lambda x: (x > 0.5).double().sum(-1), bits(leaf(BITS)))
