"""RODEO: its formula on the same samples, the operator's mean of 0, its exact mean, what it learns."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import (
    RLOO,
    RODEO,
    InvalidParameter,
    NotDifferentiable,
    UnsupportedFamily,
    adapt,
    draw,
    parameters,
    rows,
)
from tests.problems import curved, gradients, outcomes, seeded, slope

LOGITS = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)
P = LOGITS.sigmoid()


def bits(logits=LOGITS):
    return Independent(Bernoulli(logits=logits.clone().requires_grad_()), 1)


def trained(a=0.8, b=-1.3):
    state = RODEO().init(bits(), seeded())
    with torch.no_grad():
        state.a.fill_(a)
        state.b.fill_(b)
    return state.requires_grad_(False)


def network(state, value, tangent):
    inside = torch.stack([value, tangent]) @ state.inner
    return torch.where(inside > 0, inside, 0.3 * inside) @ state.outer


def flipped(x, i):
    return torch.cat([x[:i], 1 - x[i : i + 1], x[i + 1 :]])


def operator(h, x):
    """Return A h at x, for h of numbers or vectors."""
    total = 0.0
    for i in range(3):
        total += (P[i] if x[i] == 0 else 1 - P[i]) * (h(flipped(x, i)) - h(x))
    return total / 3


def by_hand(state, x):
    """Return the estimate from samples ``[n, 3]``."""
    n, expected = len(x), torch.zeros(3, dtype=torch.float64)

    def h(k, which):
        def inside(y):
            each = [network(state, curved(x[j]), slope(curved, x[j]) @ (y - x[j]))[which] for j in range(n) if j != k]
            return torch.stack(each).mean()

        return inside

    for k in range(n):
        others = [curved(x[j]) + state.a * operator(h(j, 0), x[j]) for j in range(n) if j != k]
        beside = operator(lambda y, k=k: h(k, 1)(y) * (y - P), x[k])
        expected += ((curved(x[k]) - torch.stack(others).mean()) * (x[k] - P) + state.b * beside) / n
    return expected


@pytest.mark.parametrize("n", [2, 3])
def test_the_formula_on_the_same_samples(n):
    state = trained()
    got = gradients(RODEO(n), curved, bits(), 3, seed=3, state=state)
    x = draw(rows(bits(), 3), n, seeded(3))
    expected = torch.stack([by_hand(state, x[:, r]) for r in range(3)])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3])
def test_the_exact_mean_over_all_samples(monkeypatch, n):
    states = outcomes(3)
    mass = torch.where(states > 0, P, 1 - P).prod(-1)
    grid = torch.cartesian_prod(*[torch.arange(8)] * n)
    monkeypatch.setattr("estimators.rodeo.draw", lambda q, n, generator: states[grid.T].clone())
    r = rows(bits(), len(grid))
    (g,) = torch.autograd.grad(RODEO(n)(curved, r, state=trained()).sum(), [parameters(r)["logits"]])
    exact = ((states - P) * (mass * curved(states)).unsqueeze(-1)).sum(0)
    torch.testing.assert_close(mass[grid].prod(-1) @ g, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("state", [None, "fresh"])
def test_at_the_start_it_is_leave_one_out(state):
    state = state and RODEO(3).init(bits(), seeded())
    pair = gradients(RODEO(3), curved, bits(), 20, state=state), gradients(RLOO(3), curved, bits(), 20)
    torch.testing.assert_close(*pair, rtol=0, atol=1e-14)


def test_what_it_learns_lowers_the_variance():
    q = bits(torch.linspace(-1.0, 1.0, 10, dtype=torch.float64))
    couplings = torch.randn(10, 10, generator=seeded(5), dtype=torch.float64)

    def curved(x):
        return ((x @ couplings) * x).sum(-1)

    state = RODEO().init(q, seeded(2))
    optimizer = torch.optim.Adam(state.parameters(), lr=0.02)
    for step in range(100):
        adapt(RODEO(), curved, rows(q, 16), state, optimizer, seeded(1000 + step))
    learned = gradients(RODEO(), curved, q, 2**12, state=state.requires_grad_(False)).var(0).sum()
    assert learned < gradients(RLOO(), curved, q, 2**12).var(0).sum() / 2


def test_certain_bits_have_no_gradient():
    q = bits(torch.tensor([50.0, -50.0, 800.0]))
    state = RODEO().init(q, seeded())
    torch.nn.init.ones_(state.a)
    torch.nn.init.ones_(state.b)
    assert gradients(RODEO(), curved, q, 64, state=state).abs().max() < 1e-15


def test_the_cost():
    counter = Counter(event_dims=1)
    RODEO(n=5)(counted(curved, counter), bits(), seeded(), RODEO(n=5).init(bits(), seeded()))
    assert (counter.f, counter.df) == (5, 5)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"needs n >= 2 \(got n=1\): .* Use ScoreFunction\(n=1\) or RODEO\(n=2"):
        RODEO(n=1)
    with pytest.raises(UnsupportedFamily, match=r"serves Bernoulli, and q is OneHotCategorical. Use"):
        RODEO()(curved, OneHotCategorical(logits=LOGITS))
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        RODEO()(lambda x: (x > 0.5).double().sum(-1), bits())
