"""NVIL: its formula on the same samples, what it is at the start, that each batch element has a baseline of its own."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical, Poisson

from bench.conformance import CASES, checks, suite
from estimators import NVIL, InvalidParameter, ScoreFunction, UnsupportedFamily, adapt, draw, rows
from tests.problems import gradients, seeded

LOC = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)


def q(loc=LOC):
    return Normal(loc.clone().requires_grad_(), torch.full_like(loc, 0.7))


def far(x):
    """Another level for each batch element."""
    return 10 * x + x.square()


def trained(steps, n=1):
    state = NVIL(n).init(q(), seeded(3))
    optimizer = torch.optim.Adam(state.parameters(), lr=0.1)
    for step in range(steps):
        adapt(NVIL(n), far, rows(q(), 32), state, optimizer, seeded(1000 + step))
    return state.requires_grad_(False)


@pytest.mark.parametrize("n", [1, 3])
def test_the_formula_on_the_same_samples(n):
    state = trained(5)
    got = gradients(NVIL(n), far, q(), 6, seed=3, state=state)
    x = draw(rows(q(), 6), n, seeded(3))
    context = torch.stack([LOC, torch.full_like(LOC, 0.7)], -1)
    b = state.mean + torch.tanh(context @ state.inner + state.bias) @ state.outer
    expected = ((far(x) - b) * (x - LOC) / 0.49).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert len(set(b.tolist())) == 3


def test_the_running_deviation_divides_the_gradient():
    state = trained(5)
    assert state.deviation > 2
    plain, divided = (gradients(NVIL(2, normalise), far, q(), 6, seed=3, state=state) for normalise in (False, True))
    torch.testing.assert_close(divided, plain / state.deviation, rtol=1e-12, atol=1e-12)
    state.deviation.fill_(0.9)  # it never makes a gradient longer
    assert torch.equal(gradients(NVIL(2, True), far, q(), 6, seed=3, state=state), plain)
    assert torch.equal(gradients(NVIL(2, True), far, q(), 6, seed=3), gradients(NVIL(2), far, q(), 6, seed=3))


LARGE = tuple(replace(case, f=lambda x, f=case.f: 10 * f(x)) for case in CASES if case.particles is None)


@pytest.mark.parametrize("check", checks())
def test_with_the_division_it_conforms_on_large_values(check):
    """On values with a deviation above 1, by which the gradient is divided."""
    case = type("Large", (suite(NVIL(normalise=True)),), {"cases": LARGE})
    getattr(case(), check)()


def test_at_the_start_it_is_the_score_function():
    plain = gradients(ScoreFunction(2), far, q(), 20)
    for state in (None, NVIL(2).init(q(), seeded())):
        assert torch.equal(gradients(NVIL(2), far, q(), 20, state=state), plain)


def test_what_it_learns_is_worth_more_than_one_moving_average_for_all():
    learned = gradients(NVIL(), far, q(), 2**12, state=trained(150)).var(0)
    average = ScoreFunction(baseline="moving-average")
    state = average.init(q())
    for step in range(150):
        adapt(average, far, rows(q(), 32), state, None, seeded(1000 + step))
    shared = gradients(average, far, q(), 2**12, state=state).var(0)
    assert learned.sum() < shared.sum() / 2


def test_the_baseline_never_contains_its_own_sample():
    """An update with the loss of a call changes the next call, not that one."""
    state = NVIL().init(q(), seeded())
    loss = NVIL()(far, q(), seeded(1), state)
    assert state.mean == 0
    state.update(loss)
    assert state.mean == loss.mean()


def test_an_impossible_category_is_context_too():
    hot = OneHotCategorical(logits=torch.tensor([0.3, -torch.inf, 1.0], requires_grad=True), validate_args=False)
    state = NVIL().init(hot, seeded())
    torch.nn.init.ones_(state.outer)
    assert gradients(NVIL(), lambda x: x.square().sum(-1), hot, 16, state=state).isfinite().all()


def test_the_network_is_seeded():
    hot = Independent(Bernoulli(logits=torch.zeros(4)), 1)
    a, b, c = (NVIL().init(hot, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(a.inner, b.inner)
    assert not torch.equal(a.inner, c.inner)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"NVIL needs n >= 1 \(got n=0\)"):
        NVIL(n=0)
    with pytest.raises(UnsupportedFamily, match=r"and q is Poisson\. Use ScoreFunction or RLOO"):
        NVIL()(torch.square, Poisson(torch.ones(2)))


def test_parameters_that_an_event_shares_are_all_context():
    """A first axis of stride 0 is the rows' where there is a batch, and the event's own where there is none."""
    loc = torch.tensor([0.3, -0.2], requires_grad=True)
    shared = Independent(Normal(loc.expand(4, 2), torch.ones(4, 2)), 2)
    state = NVIL().init(shared, seeded())
    assert state.inner.shape[0] == 16
    loss = NVIL()(lambda x: x.square().sum((-1, -2)), rows(shared, 3), seeded(1), state)
    assert loss.shape == (3,)
