import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Gamma, Independent, Normal, Poisson, Wishart

from estimators import NotDifferentiable, Reparameterization, UnsupportedFamily
from tests.problems import hermite, moments, row_gradients, seeded, t


@pytest.mark.parametrize("n", [1, 4])
def test_is_its_formula(n):
    loc, scale = t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()
    loss = Reparameterization(n)(lambda x: (x**3).sum(-1).sin(), Independent(Normal(loc, scale), 1), seeded())
    got = torch.autograd.grad(loss, [loc, scale])
    z = torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    x = (loc + scale * z).detach()
    slope = (x**3).sum(-1, keepdim=True).cos() * 3 * x**2
    torch.testing.assert_close(loss, (x**3).sum(-1).sin().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], slope.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (slope * z).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("a", [-3.0, 0.0, 0.5, 4.0])
@pytest.mark.parametrize("s", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n", [1, 3])
def test_variance(monkeypatch, a, s, n):
    z, weights = hermite(4, n)
    q = Normal(t(1.3).squeeze().requires_grad_(), t(s).squeeze().requires_grad_())
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: z.T.clone())
    g = row_gradients(Reparameterization(n), lambda x: (x - (1.3 - a)) ** 2, q, len(z))
    assert moments(g["loc"], weights) == pytest.approx((2 * a, 4 * s**2 / n), rel=1e-10, abs=1e-10)
    assert moments(g["scale"], weights) == pytest.approx((2 * s, (4 * a**2 + 8 * s**2) / n), rel=1e-10)
    log_scale = moments(g["scale"] * s, weights)
    assert log_scale == pytest.approx((2 * s**2, s**2 * (4 * a**2 + 8 * s**2) / n), rel=1e-10)


def test_torchs_own_gradient_through_the_fallback():
    concentration = t(2.3, 0.7).requires_grad_()
    q = Gamma(concentration, t(1.0, 2.0))
    (got,) = torch.autograd.grad(Reparameterization(n=5)(torch.sin, q, seeded()).sum(), [concentration])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=seeded())))
        x = q.rsample((5,))
    (expected,) = torch.autograd.grad(x.sin().mean(0).sum(), [concentration])
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("q", "sentence"),
    [
        (Bernoulli(t(0.5)), "Bernoulli has none \\(torch's has_rsample is False\\). Use ScoreFunction, RLOO or"),
        (Categorical(t(0.5, 0.5)), "Categorical has none"),
        (Poisson(t(0.5)), "Poisson has none"),
        (Wishart(t(3.0).squeeze(), torch.eye(2).double()), "torch's Wishart samples cannot be differentiated"),
    ],
)
def test_families_without_it_are_refused(q, sentence):
    with pytest.raises(UnsupportedFamily, match=sentence):
        Reparameterization()(lambda x: x, q)


@pytest.mark.parametrize(
    "f", [lambda x: (x > 0).double(), lambda x: x.detach(), lambda x: x.detach() * torch.ones(1).requires_grad_()]
)
def test_an_f_without_a_gradient_in_x_is_refused(f):
    q = Normal(t(0.0).requires_grad_(), t(1.0))
    sentence = (
        r"Reparameterization\(.*\) needs df/dx, and f\(x\) does not depend on x differentiably\. Use ScoreFunction"
    )
    with pytest.raises(NotDifferentiable, match=sentence):
        Reparameterization()(f, q)


def test_a_step_beside_a_smooth_part_is_measured_not_refused():
    q = Normal(t(0.0).requires_grad_(), t(1.0))
    loss = Reparameterization()(lambda x: (x > 0).double() + x, q)
    (g,) = torch.autograd.grad(loss.sum(), [q.loc])
    assert g.item() == 1.0
