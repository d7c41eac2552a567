import pytest
import torch
from torch.distributions import Independent, Laplace, Normal

from estimators import (
    InvalidParameter,
    NotDifferentiable,
    QuadraticControlVariate,
    Reparameterization,
    UnsupportedFamily,
    adapt,
    parameters,
    rows,
)
from tests.problems import seeded, t

B, H = t(0.3, 1.0, -2.0), t([2.0, -1.0, 0.5], [-1.0, -3.0, 0.2], [0.5, 0.2, 1.0])


def quadratic(x):
    return 7 + x @ B + ((x @ H) * x).sum(-1) / 2


def normal():
    return Independent(Normal(t(0.5, -0.8, 2.0).requires_grad_(), t(0.9, 0.6, 0.3).requires_grad_()), 1)


def row_gradients(estimator, f, q, count, state, seed=3):
    r = rows(q, count)
    return torch.autograd.grad(estimator(f, r, seeded(seed), state).sum(), list(parameters(r).values()))


def randomised(q, rank=2):
    state = QuadraticControlVariate(rank=rank).init(q, seeded())
    with torch.no_grad():
        for p in state.parameters():
            p.copy_(torch.randn(p.shape, generator=seeded(), dtype=p.dtype))
    return state


@pytest.mark.parametrize("n", [1, 3])
def test_is_its_formula(n):
    q = normal()
    state = randomised(q)
    curvature = torch.diag(state.diagonal) + state.factors @ torch.diag(state.weights) @ state.factors.T
    curvature, b = curvature.detach(), state.slope.detach()
    got = torch.autograd.grad(
        QuadraticControlVariate(n, 2)(lambda x: (x**3).sum(-1), q, seeded(), state), list(parameters(q).values())
    )
    m, s = t(0.5, -0.8, 2.0), t(0.9, 0.6, 0.3)
    e = torch.randn(n, 3, generator=seeded(), dtype=torch.float64)
    slope, model = 3 * (m + s * e) ** 2, b + (s * e) @ curvature
    torch.testing.assert_close(got[0], (slope - model).mean(0) + b, rtol=1e-12, atol=1e-12)
    expected = ((slope - model) * e).mean(0) + curvature.diagonal() * s
    torch.testing.assert_close(got[1], expected, rtol=1e-12, atol=1e-12)


def test_no_variance_for_the_quadratic_that_f_is():
    q = normal()
    state = QuadraticControlVariate(rank=3).init(q, seeded())
    values, vectors = torch.linalg.eigh(H - torch.diag(t(1.0, 2.0, 3.0)))
    with torch.no_grad():
        state.slope.copy_(B + H @ q.mean)
        state.diagonal.copy_(t(1.0, 2.0, 3.0))
        state.factors.copy_(vectors)
        state.weights.copy_(values)
    loc, scale = row_gradients(QuadraticControlVariate(rank=3), quadratic, q, 50, state)
    torch.testing.assert_close(loc, (B + H @ q.mean).detach().expand(50, 3), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(scale, (H.diagonal() * q.stddev).detach().expand(50, 3), rtol=1e-10, atol=1e-10)


def test_without_a_state_and_with_a_fresh_one_it_is_reparameterization():
    q = normal()
    plain = row_gradients(Reparameterization(), quadratic, q, 5, None)
    for state in (None, QuadraticControlVariate().init(q)):
        for a, b in zip(row_gradients(QuadraticControlVariate(), quadratic, q, 5, state), plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_it_learns():
    q, estimator = normal(), QuadraticControlVariate(rank=3)
    state = estimator.init(q, seeded())
    optimizer = torch.optim.Adam(state.parameters(), lr=0.05)
    for step in range(400):
        adapt(estimator, quadratic, rows(q, 32), state, optimizer, seeded(100 + step))
    before, after = (sum(g.var(0).sum() for g in row_gradients(estimator, quadratic, q, 500, s)) for s in (None, state))
    assert after < before / 100


def test_a_batch_shares_one_quadratic():
    loc = t([0.5, -0.8], [0.1, 0.2]).requires_grad_()
    q = Independent(Normal(loc, torch.ones(2, 2, dtype=torch.float64)), 1)
    state = randomised(q)
    assert state.slope.shape == (2,)
    loss = QuadraticControlVariate(rank=2)(lambda x: (x**3).sum(-1), q, seeded(), state)
    assert loss.shape == (2,)


def test_float32():
    q = Independent(Normal(torch.zeros(3, requires_grad=True), torch.ones(3)), 1)
    state = QuadraticControlVariate().init(q, seeded())
    assert all(p.dtype == torch.float32 for p in state.parameters())
    assert QuadraticControlVariate()(lambda x: (x**3).sum(-1), q, seeded(), state).dtype == torch.float32


def test_refusals():
    for bad in (0, 2.5, True):
        with pytest.raises(InvalidParameter, match=rf"needs .*rank.* \(got rank={bad}\b.*\)\. Use"):
            QuadraticControlVariate(rank=bad)
    with pytest.raises(InvalidParameter, match="n >= 1"):
        QuadraticControlVariate(n=0)
    with pytest.raises(UnsupportedFamily, match="serves Normal, and q is Laplace"):
        QuadraticControlVariate()(quadratic, Independent(Laplace(t(0.5, -0.8, 1.0), t(0.9, 0.6, 1.0)), 1))
    with pytest.raises(NotDifferentiable, match="needs df/dx"):
        QuadraticControlVariate()(lambda x: x.detach().sum(-1), normal())
