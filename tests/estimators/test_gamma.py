import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.distributions import Chi2, Gamma, Independent, Normal

from bench.conformance import Case, Conformance
from estimators import (
    GeneralizedReparameterization,
    InvalidParameter,
    NotDifferentiable,
    Refusal,
    RejectionReparameterization,
    Reparameterization,
    UnsupportedFamily,
    parameters,
)
from tests.problems import curved_on_pairs as f
from tests.problems import gradients, mean_scores, moments, row_gradients, seeded, t, variance_scores
from tests.tolerances import z_limit

ESTIMATORS = [
    GeneralizedReparameterization(),
    RejectionReparameterization(),
    RejectionReparameterization(augmentation=3),
]


def exponential_legendre(count, low=-40.0, high=6.0):
    """Return nodes exp(u) and their weights: for densities of positive numbers."""
    z, w = np.polynomial.legendre.leggauss(count)
    x = np.exp((z + 1) / 2 * (high - low) + low)
    return torch.from_numpy(x), torch.from_numpy(w * (high - low) / 2 * x)


def grid(q):
    x, w = exponential_legendre(120, -30.0, 4.0)
    x, w = torch.cartesian_prod(x, x), torch.cartesian_prod(w, w).prod(-1)
    return x, w * q.log_prob(x).exp()


CASE = Case(
    "Gamma, 2 variables",
    (t(2.3, 0.8), t(1.5, 2.6)),
    lambda a, b: Independent(Gamma(a, b, False), 1, False),
    f,
    grid,
    steady=False,
)


class TestGeneralized(Conformance):
    estimator = GeneralizedReparameterization(n=2)
    cases = (CASE,)


class TestRejection(Conformance):
    estimator = RejectionReparameterization()
    cases = (CASE,)


class TestRejectionAugmentedThrice(Conformance):
    estimator = RejectionReparameterization(n=2, augmentation=3)
    cases = (CASE,)


def torchs(sample, generator):
    """Return what torch draws where the library hands it a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return sample()


def test_generalized_is_its_formula():
    a, rate = t(2.3, 0.8), t(1.5, 2.6)
    own = [a.clone().requires_grad_(), rate.clone().requires_grad_()]
    loss = GeneralizedReparameterization(n=3)(f, Independent(Gamma(*own), 1), seeded())
    got = torch.autograd.grad(loss, own)
    z = torchs(lambda: Gamma(a, rate).sample((3,)), seeded()).requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), [z])
    z = z.detach()
    x = (z * rate).numpy()
    p0, p1, p2 = (special.polygamma(k, a.numpy()) for k in range(3))
    e = (np.log(x) - p0) / np.sqrt(p1)
    h = x * (e * p2 / (2 * np.sqrt(p1)) + p1)
    u = h / x + p2 / (2 * p1)
    score = (np.log(x) - p0) + h * ((a.numpy() - 1) / x - 1) + u
    expected = slope * torch.from_numpy(h) / rate + f(z).unsqueeze(-1) * torch.from_numpy(score)
    torch.testing.assert_close(loss, f(z).mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], expected.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (-slope * z / rate).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_rejection_is_its_formula(steps):
    """The derivatives by autograd, of the sampler and of both densities at a fixed accepted normal."""
    a, rate = t(2.3, 1.2), t(1.5, 2.6)
    own = [a.clone().requires_grad_(), rate.clone().requires_grad_()]
    got = torch.autograd.grad(RejectionReparameterization(3, steps)(f, Independent(Gamma(*own), 1), seeded()), own)
    generator, n = seeded(), 3
    y = torchs(lambda: Gamma(a + steps, torch.ones_like(a)).sample((n,)), generator)
    u = [torch.rand(n, 2, generator=generator, dtype=torch.float64) + 2.0**-54 for _ in range(steps)]
    a, rate = a.requires_grad_(), rate.requires_grad_()

    def normal(s):
        return ((y / (s - 1 / 3)) ** (1 / 3) - 1) * (9 * s - 3).sqrt()

    e = normal(a + steps).detach()
    s = a + steps
    y = (s - 1 / 3) * (1 + e / (9 * s - 3).sqrt()) ** 3
    z = y / rate
    for i, each in enumerate(u, start=1):
        z = z * each ** (1 / (a + i - 1))
    log_r = -(e**2) / 2 - (3 * (s - 1 / 3) * (1 + e / (9 * s - 3).sqrt()) ** 2 / (9 * s - 3).sqrt()).log()
    log_ratio = Gamma(s, torch.ones_like(s)).log_prob(y) - log_r
    surrogate = f(z) + (f(z).detach().unsqueeze(-1) * log_ratio).sum(-1)
    expected = torch.autograd.grad(surrogate.mean(0), [a, rate])
    for g, exact in zip(got, expected, strict=True):
        torch.testing.assert_close(g, exact, rtol=1e-10, atol=1e-12)


def generalized(x, a=2.3):
    """Return the gradient of x^2 in the concentration, in numpy."""
    p0, p1, p2 = (special.polygamma(k, a) for k in range(3))
    e = (np.log(x) - p0) / np.sqrt(p1)
    h = x * (e * p2 / (2 * np.sqrt(p1)) + p1)
    return 2 * x * h + x**2 * (np.log(x) - p0 + h * ((a - 1) / x - 1) + h / x + p2 / (2 * p1))


def rejection(x, a=2.3):
    b = a - 1 / 3
    c = (9 * b) ** -0.5
    e = ((x / b) ** (1 / 3) - 1) / c
    h = (1 + c * e) ** 3 - 13.5 * e * b * (1 + c * e) ** 2 * c**3
    score = np.log(x) + (a - 1) * h / x - h - special.digamma(a) + 0.5 / b - 9 * e * c**3 / (1 + c * e)
    return 2 * x * h + x**2 * score


@pytest.mark.parametrize(
    ("estimator", "formula", "variance"),
    [
        (GeneralizedReparameterization(), generalized, 60.178),
        (RejectionReparameterization(augmentation=0), rejection, 32.22),
    ],
)
def test_variance_of_the_square(monkeypatch, estimator, formula, variance):
    def moment(power):
        value, _ = integrate.quad(lambda x: formula(x) ** power * stats.gamma(2.3).pdf(x), 0, np.inf, limit=200)
        return value

    x, w = exponential_legendre(2000)
    weights = w * Gamma(t(2.3), t(1.0)).log_prob(x).exp()
    monkeypatch.setattr(f"{type(estimator).__module__}.draw", lambda q, n, generator: x[None])
    q = Gamma(t(2.3).squeeze().requires_grad_(), t(1.0).squeeze().requires_grad_())
    g = row_gradients(estimator, torch.square, q, len(x))
    mean, got = moments(g["concentration"], weights)
    assert mean == pytest.approx(5.6, rel=1e-9)
    assert got == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-6)
    assert got == pytest.approx(variance, rel=1e-3)
    assert moments(g["rate"], weights)[0] == pytest.approx(-2 * 2.3 * 3.3, rel=1e-9)


def test_variance_of_the_implicit_gradient():
    q = Gamma(t(2.3).squeeze().requires_grad_(), t(1.0).squeeze())
    g = gradients(Reparameterization(), torch.square, q, 2**17)
    assert abs(mean_scores(g, 5.6)) < z_limit(2)
    assert abs(variance_scores(g, 30.278)) < z_limit(2)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_concentrations(estimator, dtype):
    a = torch.tensor([1e-2, 1e-1, 1.0, 1e3, 1e5], dtype=dtype).requires_grad_()
    q = Independent(Gamma(a, torch.ones_like(a), validate_args=False), 1)
    g = gradients(estimator, lambda x: x.sum(-1).sin(), q, 200)
    assert g.isfinite().all()


def test_augmentation_takes_the_correction_away():
    """f = 1: all that is left is the correction, whose variance falls."""
    q = Gamma(t(2.3).squeeze().requires_grad_(), t(1.0).squeeze())
    variances = [
        gradients(RejectionReparameterization(augmentation=b), lambda x: x * 0 + 1, q, 2000).var() for b in (0, 1, 4)
    ]
    assert variances[0] > 2 * variances[1] > 4 * variances[2]


def test_refusals():
    with pytest.raises(Refusal, match=r"of at least 1 \(got 0.7\)\. Use RejectionReparameterization\(augmentation=1\)"):
        RejectionReparameterization(augmentation=0)(f, Independent(Gamma(t(1.2, 0.7), t(1.0, 1.0)), 1))
    for bad in (-1, 0.5, True):
        with pytest.raises(InvalidParameter, match=rf"needs .*augmentation.* \(got augmentation={bad}\b.*\)\. Use"):
            RejectionReparameterization(augmentation=bad)
    for estimator in ESTIMATORS:
        with pytest.raises(UnsupportedFamily, match=r"serves Gamma, and q is Chi2\. Use Gamma\(df / 2, 1 / 2\)"):
            estimator(f, Independent(Chi2(t(1.0, 2.0)), 1))
        with pytest.raises(UnsupportedFamily, match=r"serves Gamma, and q is Normal\. Use Reparameterization"):
            estimator(f, Independent(Normal(t(1.0, 2.0), t(1.0, 1.0)), 1))
        q = Independent(Gamma(t(1.2, 2.7).requires_grad_(), t(1.0, 1.0)), 1)
        with pytest.raises(NotDifferentiable):
            estimator(lambda x: x.detach().sum(-1), q)
        assert list(parameters(q)) == ["concentration", "rate"]
    with pytest.raises(InvalidParameter, match="n >= 1"):
        GeneralizedReparameterization(n=0)
