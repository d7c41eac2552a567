import pytest
import torch
from torch.distributions import Independent, Laplace, Normal

from bench.measurement.counting import Counter, counted
from estimators import (
    DeltaMethod,
    HessianControlVariate,
    InvalidParameter,
    NotDifferentiable,
    Reparameterization,
    ScoreFunction,
    UnsupportedFamily,
    parameters,
    rows,
)
from tests.problems import hermite, moments, row_gradients, seeded, t

BOTH = [HessianControlVariate, DeltaMethod]


def f(x):
    return (x[..., 0] * 0.7 + x[..., 1] ** 2).sin() + x[..., 0] ** 3 * x[..., 1]


def slope(x):
    a, b = x[..., 0], x[..., 1]
    c = (a * 0.7 + b**2).cos()
    return torch.stack([0.7 * c + 3 * a**2 * b, 2 * b * c + a**3], -1)


def hessian(x):
    a, b = x[..., 0], x[..., 1]
    s, c = (a * 0.7 + b**2).sin(), (a * 0.7 + b**2).cos()
    cross = -0.7 * 2 * b * s + 3 * a**2
    return torch.stack([-0.49 * s + 6 * a * b, cross, cross, 2 * c - 4 * b**2 * s], -1).reshape(*a.shape, 2, 2)


def normal_2d():
    return Independent(Normal(t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()), 1)


@pytest.mark.parametrize("n", [1, 3])
def test_hessian_control_variate_is_its_formula(n):
    q = normal_2d()
    loss = HessianControlVariate(n)(f, q, seeded())
    got = torch.autograd.grad(loss, list(parameters(q).values()))
    m, s = t(0.5, -0.8), t(0.9, 0.6)
    e = torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    x = m + s * e
    model = slope(m) + (s * e) @ hessian(m)
    torch.testing.assert_close(loss, f(x).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], (slope(x) - model).mean(0) + slope(m), rtol=1e-12, atol=1e-12)
    expected = ((slope(x) - model) * e).mean(0) + hessian(m).diagonal() * s
    torch.testing.assert_close(got[1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_delta_method_is_its_formula(n):
    q = normal_2d()
    loss = DeltaMethod(n)(f, q, seeded())
    got = torch.autograd.grad(loss, list(parameters(q).values()))
    m, s = t(0.5, -0.8), t(0.9, 0.6)
    e = torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    d = s * e
    h = f(m) + d @ slope(m) + (d @ hessian(m) * d).sum(-1) / 2
    rest = (f(m + d) - h).unsqueeze(-1)
    torch.testing.assert_close(loss, f(m + d).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], (rest * e / s).mean(0) + slope(m), rtol=1e-12, atol=1e-12)
    expected = (rest * (e**2 - 1) / s).mean(0) + hessian(m).diagonal() * s
    torch.testing.assert_close(got[1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cls", BOTH)
def test_no_variance_for_a_quadratic(cls):
    loc, scale = t(0.5, -0.8, 2.0).requires_grad_(), t(0.9, 0.6, 1e-3).requires_grad_()
    b, h = t(0.3, 1.0, -2.0), t([2.0, -1.0, 0.5], [-1.0, -3.0, 0.2], [0.5, 0.2, 1.0])
    g = row_gradients(cls(), lambda x: 7 + x @ b + ((x @ h) * x).sum(-1) / 2, Independent(Normal(loc, scale), 1), 50)
    torch.testing.assert_close(g["loc"], (b + h @ loc).expand(50, 3), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(g["scale"], (h.diagonal() * scale).expand(50, 3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cls", BOTH)
def test_no_variance_for_a_linear_f(cls):
    q = Independent(Normal(t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()), 1)
    g = row_gradients(cls(), lambda x: x @ t(2.0, -3.0), q, 20)
    torch.testing.assert_close(g["loc"], t(2.0, -3.0).expand(20, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(g["scale"], torch.zeros(20, 2, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("s", [0.5, 2.0])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("cls", "loc", "scale"), [(HessianControlVariate, 18, 135), (DeltaMethod, 96, 750)])
def test_variance_of_a_cubic(monkeypatch, cls, loc, scale, n, s):
    """Of x^3 the rest is (scale e)^3, and 3 (scale e)^2 in its slope: the moments of a normal give the numbers."""
    z, weights = hermite(8, n)
    q = Normal(t(1.3).squeeze().requires_grad_(), t(s).squeeze().requires_grad_())
    for module in ("_draws", "hessian_control_variate"):
        monkeypatch.setattr(f"estimators.{module}.normal", lambda shape, like, generator: z.T.clone())
    g = row_gradients(cls(n), lambda x: x**3, q, len(z))
    assert moments(g["loc"], weights) == pytest.approx((3 * (1.3**2 + s**2), loc * s**4 / n), rel=1e-9)
    assert moments(g["scale"], weights) == pytest.approx((6 * 1.3 * s, scale * s**4 / n), rel=1e-9)


@pytest.mark.parametrize(("cls", "gradients"), [(HessianControlVariate, 3 + 1 + 2), (DeltaMethod, 1 + 2)])
def test_evaluations(cls, gradients):
    counter, q = Counter(event_dims=1), rows(normal_2d(), 5)
    loss = cls(n=3)(counted(f, counter), q, seeded())
    torch.autograd.grad(loss.sum(), list(parameters(q).values()))
    assert (counter.f, counter.df) == (5 * 4, 5 * gradients)


def test_event_shapes():
    loc = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(2, 3, 2).requires_grad_()
    scale = torch.linspace(0.5, 1, 12, dtype=torch.float64).reshape(2, 3, 2).requires_grad_()

    def g(x):
        return (x.flatten(-2) * torch.arange(6)).sum(-1).sin()

    for cls in BOTH:
        loss = cls(n=2)(g, Independent(Normal(loc, scale), 2), seeded())
        flat = cls(n=2)(
            lambda x: (x * torch.arange(6)).sum(-1).sin(),
            Independent(Normal(loc.flatten(1), scale.flatten(1)), 1),
            seeded(),
        )
        for a, b in zip(*(torch.autograd.grad(v.sum(), [loc, scale]) for v in (loss, flat)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("cls", "plain"), [(HessianControlVariate, Reparameterization), (DeltaMethod, ScoreFunction)])
def test_a_narrow_q_has_hardly_any_variance(cls, plain):
    q = Independent(Normal(t(0.5, -0.8).requires_grad_(), t(1e-3, 1e-3).requires_grad_()), 1)
    ratio = [row_gradients(e, f, q, 200)["scale"].var(0).sum() for e in (cls(), plain())]
    assert ratio[0] < 1e-5 * ratio[1]


@pytest.mark.parametrize("cls", BOTH)
def test_refusals(cls):
    with pytest.raises(UnsupportedFamily, match="serves Normal, and q is Laplace"):
        cls()(f, Independent(Laplace(t(0.5, -0.8), t(0.9, 0.6)), 1))
    with pytest.raises(NotDifferentiable, match="needs df/dx"):
        cls()(lambda x: x.detach().sum(-1), normal_2d())
    with pytest.raises(InvalidParameter, match="n >= 1"):
        cls(n=0)
