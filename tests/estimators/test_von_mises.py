import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.distributions import Independent, VonMises

from bench.conformance import Case, Conformance
from estimators import RLOO, Reparameterization, ReparameterizedVonMises, UnsupportedFamily, parameters, rows
from estimators.von_mises import speed
from tests.problems import seeded, t
from tests.tolerances import z_limit


def f(x):
    a, b = x[..., 0], x[..., 1]
    return (a.sin() + 0.3).exp() * b.cos() + (a - 2 * b).sin()


def trapezoid(q):
    """Return the product of two periodic trapezoid rules: exact to rounding for smooth periodic f."""
    x = torch.arange(-64, 64, dtype=torch.float64) * math.pi / 64
    points = torch.cartesian_prod(x, x)
    return points, q.log_prob(points).exp() * (math.pi / 64) ** 2


CASE = Case(
    "von Mises, 2 angles",
    (t(0.5, -2.8), t(1.7, 0.4)),
    lambda loc, k: Independent(ReparameterizedVonMises(loc, k, False), 1, False),
    f,
    trapezoid,
)


class TestReparameterizationOfVonMises(Conformance):
    estimator = Reparameterization()
    cases = (CASE,)


class TestScoreOfVonMises(Conformance):
    estimator = RLOO()
    cases = (CASE,)


@pytest.mark.parametrize("k", [1e-3, 0.5, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("z", [1e-3, 0.3, 1.0, 2.0, 4.0])
def test_speed_is_the_implicit_derivative(k, z):
    x = min(z / math.sqrt(max(k, 1)), 3.1)
    mean = special.ive(1, k) / special.ive(0, k)
    value, _ = integrate.quad(
        lambda u: (math.cos(u) - mean) * math.exp(k * (math.cos(u) - math.cos(x))), 0, x, epsabs=0, epsrel=1e-9
    )
    got = speed(t(x, -x), t(k, k))
    assert got[0].item() == pytest.approx(-value, rel=1e-6, abs=1e-12)  # the integral cancels in the tail
    assert got[1] == -got[0]


@pytest.mark.parametrize("k", [0.5, 4.0, 30.0])
def test_speed_is_the_slope_of_the_quantile(k):
    def integral(x, k):
        return integrate.quad(lambda u: math.exp(k * (math.cos(u) - 1)), 0, x, epsabs=1e-14)[0] / special.ive(0, k)

    x, h = 0.8 / math.sqrt(k), 1e-4
    slope = (integral(x, k + h) - integral(x, k - h)) / (2 * h) / (math.exp(k * (math.cos(x) - 1)) / special.ive(0, k))
    assert speed(t(x), t(k)).item() == pytest.approx(-slope, rel=1e-6)


def test_speed_at_the_ends():
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([0.0, math.pi, -math.pi, 1e-20], dtype=dtype)
        for k in (1e-6, 1.0, 1e4, 1e8):
            got = speed(x, torch.full_like(x, k))
            assert got.dtype == dtype
            assert got.isfinite().all()
            assert got[0] == 0
        assert speed(x, torch.ones_like(x))[1:3].abs().max() < 1e-6  # nothing crosses the cut


@pytest.mark.parametrize("k", [1e-8, 0.3, 3.0, 100.0, 1e6])
def test_samples(k):
    q = ReparameterizedVonMises(t(3.0), t(k))
    x = q.draw(torch.Size((2**14,)), seeded()).squeeze(-1)
    assert ((x >= -math.pi) & (x < math.pi)).all()
    turn = ((x - 3.0 + math.pi) % (2 * math.pi) - math.pi).numpy()
    law = stats.vonmises(k).cdf if k < 1e5 else stats.norm(scale=k**-0.5).cdf
    distance = stats.kstest(turn, law).statistic
    assert distance * 2**7 < math.sqrt(math.log(2 / 1e-6) / 2)  # Dvoretzky, Kiefer & Wolfowitz, at the failure rate


def test_log_prob():
    k = np.array([1e-8, 0.3, 3.0, 100.0])
    got = ReparameterizedVonMises(t(0.4).expand(4), torch.from_numpy(k)).log_prob(t(1.0))
    np.testing.assert_allclose(got, stats.vonmises(k).logpdf(0.6), rtol=1e-12, atol=1e-12)
    far = ReparameterizedVonMises(t(0.4), t(1e9)).log_prob(t(0.4 + 1e-5)).item()
    assert far == pytest.approx(stats.norm(scale=1e9**-0.5).logpdf(1e-5), abs=1e-6)


def test_gradient_is_implicit_on_the_same_noise():
    loc, k = t(0.5, -2.8).requires_grad_(), t(1.7, 0.4).requires_grad_()
    q = Independent(ReparameterizedVonMises(loc, k), 1)
    got = torch.autograd.grad(Reparameterization(n=3)(f, q, seeded()), [loc, k])
    x = ReparameterizedVonMises(loc, k).draw(torch.Size((3,)), seeded()).requires_grad_()
    (slope,) = torch.autograd.grad(f(x).mean(0), [x])
    turn = (x.detach() - loc.detach() + math.pi) % (2 * math.pi) - math.pi
    torch.testing.assert_close(got[0], slope.sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (slope * speed(turn, k.detach())).sum(0), rtol=1e-9, atol=1e-12)


def test_the_mean_of_the_cosine():
    """E cos(x - loc) = I1/I0, and its derivative is the variance of the cosine."""
    k = 1.7
    q = rows(ReparameterizedVonMises(t(2.9).requires_grad_(), t(k).requires_grad_()), 2**15)
    loss = Reparameterization()(lambda x: (x - 2.9).cos(), q, seeded())
    loc, got = torch.autograd.grad(loss.sum(), list(parameters(q).values()))
    mean = special.ive(1, k) / special.ive(0, k)
    for g, exact in ((got, 1 - mean**2 - mean / k), (loc, 0.0)):
        assert abs(g.mean() - exact) / (g.std() / 2**7.5) < z_limit(2)


def test_torchs_von_mises_is_refused_with_the_way_out():
    with pytest.raises(UnsupportedFamily, match=r"has no reparameterization\. Use estimators\.ReparameterizedVonMises"):
        Reparameterization()(f, Independent(VonMises(t(0.5, 1.0), t(1.0, 1.0)), 1))


def test_the_global_generator_and_expand():
    q = ReparameterizedVonMises(t(0.5), t(2.0).requires_grad_()).expand((3,))
    assert isinstance(q, ReparameterizedVonMises)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = q.rsample((4,))
        torch.manual_seed(0)
        assert torch.equal(x.detach(), q.sample((4,)))
    assert x.shape == (4, 3)
    assert x.requires_grad
