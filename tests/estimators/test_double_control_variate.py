"""The double control variate: its formula on the same samples, its exact mean, what it is at 0 and for affine f."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from bench.measurement.counting import Counter, counted
from estimators import (
    RLOO,
    DoubleControlVariate,
    InvalidParameter,
    NotDifferentiable,
    UnsupportedFamily,
    adapt,
    draw,
    rows,
)
from tests.problems import centred, curved, gradients, outcomes, row_gradients, seeded, slope

LOGITS = torch.tensor([0.4, -1.2, 0.9], dtype=torch.float64)


def problem(hot):
    logits = LOGITS.clone().requires_grad_()
    return OneHotCategorical(logits=logits) if hot else Independent(Bernoulli(logits=logits), 1)


@pytest.mark.parametrize(("n", "a"), [(2, 1.0), (2, -0.7), (4, 0.6)])
@pytest.mark.parametrize("hot", [False, True])
def test_the_formula_on_the_same_samples(n, a, hot):
    got = gradients(DoubleControlVariate(n, a), curved, problem(hot), 6, seed=3)
    p = LOGITS.softmax(-1) if hot else LOGITS.sigmoid()
    jacobian = p.diag() - torch.outer(p, p) if hot else (p * (1 - p)).diag()
    x = draw(rows(problem(hot), 6), n, seeded(3))
    c = []
    for k in range(n):
        others = torch.stack([slope(curved, x[j]) for j in range(n) if j != k]).mean(0)
        c.append(-a * ((x[k] - p) * others).sum(-1))  # the paper's alpha is -a
    expected = a * torch.stack([slope(curved, x[k]) for k in range(n)]).mean(0) @ jacobian
    for k in range(n):
        others = torch.stack([curved(x[j]) + c[j] for j in range(n) if j != k]).mean(0)
        expected += (curved(x[k]) + c[k] - others).unsqueeze(-1) * (x[k] - p) / n
    got = centred(got, p) if hot else got
    torch.testing.assert_close(got, centred(expected, p) if hot else expected, rtol=0, atol=1e-12)


def test_what_learns_looks_at_the_gradient_in_the_logits_themselves():
    """At q's own logits the gradient is the one at theta: nothing of it is left to their normalisation."""
    q = problem(hot=True)
    (own,) = torch.autograd.grad(DoubleControlVariate(4, 0.6)(curved, q, seeded(3)), [q.logits])
    torch.testing.assert_close(own, centred(own, LOGITS.softmax(-1)), rtol=0, atol=1e-12)
    assert own.abs().max() > 0.1


@pytest.mark.parametrize("n", [2, 3])
def test_the_exact_mean_over_all_samples(monkeypatch, n):
    states = outcomes(3)
    p = LOGITS.sigmoid()
    mass = torch.where(states > 0, p, 1 - p).prod(-1)
    grid = torch.cartesian_prod(*[torch.arange(8)] * n)
    monkeypatch.setattr("estimators.double_control_variate.draw", lambda q, n, generator: states[grid.T].clone())
    g = row_gradients(DoubleControlVariate(n, 1.3), curved, problem(False), len(grid))["logits"]
    exact = ((states - p) * (mass * curved(states)).unsqueeze(-1)).sum(0)
    torch.testing.assert_close(mass[grid].prod(-1) @ g, exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("hot", [False, True])
def test_with_coefficient_0_it_is_leave_one_out(hot):
    pair = (gradients(e, curved, problem(hot), 20) for e in (DoubleControlVariate(4, 0.0), RLOO(4)))
    p = LOGITS.softmax(-1) if hot else LOGITS.sigmoid()
    a, b = (centred(g, p) if hot else g for g in pair)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [2, 5])
def test_an_affine_f_with_coefficient_1_leaves_nothing(n):
    values = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)
    g = gradients(DoubleControlVariate(n, 1.0), lambda x: x @ values + 3, problem(False), 50)
    p = LOGITS.sigmoid()
    torch.testing.assert_close(g, (p * (1 - p) * values).expand(50, 3), rtol=0, atol=1e-13)


def test_what_it_learns_lowers_the_variance():
    q = Independent(Bernoulli(logits=torch.zeros(20, dtype=torch.float64).requires_grad_()), 1)

    def curved(x):
        return (x - 0.45).square().sum(-1) + x[..., 0] * x[..., 1]

    estimator = DoubleControlVariate()
    state = estimator.init(q)
    optimizer = torch.optim.Adam(state.parameters(), lr=0.05)
    for step in range(60):
        adapt(estimator, curved, rows(q, 32), state, optimizer, seeded(1000 + step))
    learned = gradients(estimator, curved, q, 2**12, state=state.requires_grad_(False)).var(0).sum()
    assert learned < gradients(RLOO(), curved, q, 2**12).var(0).sum() * 0.7
    assert state.coefficient > 0.3


def test_the_cost():
    counter = Counter(event_dims=1)
    DoubleControlVariate(n=5)(counted(curved, counter), problem(False), seeded())
    assert (counter.f, counter.df) == (5, 5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), True, "1"])
def test_refused_coefficients(bad):
    with pytest.raises(InvalidParameter, match=r"finite number as coefficient .* Use DoubleControlVariate\(coeff"):
        DoubleControlVariate(coefficient=bad)


def test_refusals():
    with pytest.raises(InvalidParameter, match=r"needs n >= 2 \(got n=1\): its slopes .* Use ScoreFunction\(n=1\) or"):
        DoubleControlVariate(n=1)
    with pytest.raises(UnsupportedFamily, match="serves Bernoulli or OneHotCategorical, and q is Normal"):
        DoubleControlVariate()(torch.square, torch.distributions.Normal(0.0, 1.0))
    with pytest.raises(NotDifferentiable, match="Use ScoreFunction or RLOO"):
        DoubleControlVariate()(lambda x: (x > 0.5).double().sum(-1), problem(False))
