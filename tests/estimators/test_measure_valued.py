import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Chi2,
    Exponential,
    Gamma,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
    Weibull,
)

from bench.conformance import CASES, Case, Conformance
from estimators import Enumeration, InvalidParameter, MeasureValued, Refusal, UnsupportedFamily, parameters, rows
from tests.problems import FAMILIES, leaf, moments, row_gradients, seeded, t, weighted_outcomes
from tests.problems import curved_on_pairs as f
from tests.tolerances import z_limit


def legendre(low, high, count=200):
    z, w = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((z + 1) / 2 * (high - low) + low), torch.from_numpy(w * (high - low) / 2)


def grid(x, weight, q):
    """Return the product of two coordinates' nodes, with q's density in the weights."""
    x = torch.cartesian_prod(x, x)
    return x, torch.cartesian_prod(weight, weight).prod(-1) * q.log_prob(x).exp()


def counts(q):
    return grid(torch.arange(60.0, dtype=torch.float64), torch.ones(60, dtype=torch.float64), q)


def positive(q):
    return grid(*legendre(1e-12, 30.0, 300), q)


POISSON = Case("Poisson", (t(1.5, 0.6),), lambda r: Independent(Poisson(r, False), 1, False), f, counts, steady=False)
EXPONENTIAL = Case("Exponential", (t(1.5, 2.6),), lambda r: Independent(Exponential(r, False), 1, False), f, positive)
GAMMA = Case(
    "Gamma rate", (t(1.5, 2.6),), lambda r: Independent(Gamma(t(2.3, 1.4).to(r), r, False), 1, False), f, positive
)
WEIBULL = Case(
    "Weibull scale", (t(1.5, 0.8),), lambda s: Independent(Weibull(s, t(2.3, 1.4).to(s), False), 1, False), f, positive
)


class TestCoupled(Conformance):
    estimator = MeasureValued(n=2)
    cases = (*CASES, EXPONENTIAL, GAMMA, WEIBULL)


class TestPoisson(Conformance):
    estimator = MeasureValued()
    cases = (POISSON,)


class TestIndependent(Conformance):
    estimator = MeasureValued(coupled=False)
    cases = (CASES[0], EXPONENTIAL, GAMMA, WEIBULL)


def test_normal_is_its_formula():
    loc, scale = t(0.5, -0.8), t(0.9, 0.6)
    q = Independent(Normal(loc.requires_grad_(), scale.requires_grad_()), 1)
    loss = MeasureValued(n=3)(f, q, seeded())
    got = torch.autograd.grad(loss, [loc, scale])
    g, shape = seeded(), (3, 2)
    step = 2.0**-53
    w2 = -2 * (torch.rand(shape, generator=g, dtype=torch.float64) + step / 2).log()
    z = torch.randn(shape, generator=g, dtype=torch.float64)
    m = z.sign() * (w2 + z**2).sqrt()
    u = torch.rand(shape, generator=g, dtype=torch.float64) + step / 2
    loc, scale = loc.detach(), scale.detach()
    x = loc + scale * u * m
    expected = torch.zeros(2, 2, dtype=torch.float64)
    for i in range(2):
        a, b, c = x.clone(), x.clone(), x.clone()
        a[:, i] = loc[i] + scale[i] * w2[:, i].sqrt()
        b[:, i] = loc[i] - scale[i] * w2[:, i].sqrt()
        c[:, i] = loc[i] + scale[i] * m[:, i]
        expected[0, i] = ((f(a) - f(b)) / (scale[i] * math.sqrt(2 * math.pi))).mean()
        expected[1, i] = ((f(c) - f(x)) / scale[i]).mean()
    torch.testing.assert_close(loss, f(x).mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.stack(got), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("family", "theta", "c", "move"),
    [
        (Poisson, (t(1.5, 0.6),), lambda r: 1, lambda x, e, r: (x + 1, x)),
        (Exponential, (t(1.5, 0.6),), lambda r: 1 / r, lambda x, e, r: (x, x + e / r)),
        (Gamma, (t(2.3, 0.4), t(1.5, 0.6)), lambda a, b: a / b, lambda x, e, a, b: (x, x + e / b)),
        (
            Weibull,
            (t(2.3, 0.4), t(1.5, 0.6)),
            lambda s, k: k / s,
            lambda x, e, s, k: (s * ((x / s) ** k + e) ** (1 / k), x),
        ),
    ],
)
def test_positive_families_are_their_formula(family, theta, c, move):
    which = 0 if family is Weibull else -1
    theta[which].requires_grad_()
    q = Independent(family(*theta), 1)
    generator, again = seeded(), seeded()
    (got,) = torch.autograd.grad(MeasureValued(n=3)(f, q, generator), [theta[which]])
    theta[which].requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=again)))
        x = q.sample((3,))
    if family is Exponential:
        assert (x > 0).all()
    e = -(torch.rand(3, 2, generator=again, dtype=torch.float64) + 2.0**-54).log()
    expected = torch.zeros(2, dtype=torch.float64)
    for i in range(2):
        plus, minus = x.clone(), x.clone()
        a, b = move(x, e, *theta)
        plus[:, i], minus[:, i] = a[:, i], b[:, i]
        expected[i] = (c(*theta) * torch.ones(2, dtype=torch.float64))[i] * (f(plus) - f(minus)).mean()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli-logits", "bernoulli-probs"])
def test_bits_are_their_formula(name):
    (theta,), build, _ = FAMILIES[name]
    q = build(theta.requires_grad_())
    (got,) = torch.autograd.grad(MeasureValued(n=3)(f, q, seeded()).sum(), [theta])
    x = (torch.rand(3, *theta.shape, generator=seeded(), dtype=torch.float64) < q.mean).double()
    on, off = x.clone(), x.clone()
    expected = torch.zeros_like(theta)
    for i in range(2):
        on, off = x.clone(), x.clone()
        on[..., i], off[..., i] = 1, 0
        expected[..., i] = (f(on) - f(off)).mean(0)
    p = q.mean.detach()
    torch.testing.assert_close(got, expected * (p * (1 - p) if "logits" in name else 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["categorical-logits", "categorical-probs", "one-hot-logits", "one-hot-probs"])
def test_one_variable_is_exact_but_for_the_others(name):
    (theta,), build, _ = FAMILIES[name]
    values = t(0.3, -1.2, 2.5)
    q = build(theta.requires_grad_())

    def each(x):
        hot = torch.nn.functional.one_hot(x, 3).double() if "one-hot" not in name else x
        v = (hot * values).sum(-1)
        return v.sum(-1) if v.dim() > x.dim() - len(q.event_shape) else v  # separable: the others do not matter

    (got,) = torch.autograd.grad(MeasureValued()(each, q, seeded()).sum(), [theta])
    (exact,) = torch.autograd.grad(Enumeration()(each, build(theta)).sum(), [theta])
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-12)


def normal_sample(k, count, coupled):
    """Return row gradients of (x - k)^2 at N(1.5, 0.7^2)."""
    q = Normal(t(1.5).squeeze().requires_grad_(), t(0.7).squeeze().requires_grad_())
    return row_gradients(MeasureValued(coupled=coupled), lambda x: (x - k) ** 2, q, count)


def variance_score(samples, variance):
    """Return the z-score of the sample variance."""
    d = (samples - samples.mean()).square()
    return ((d.mean() - variance) / (d.std() / math.sqrt(len(d)))).item()


@pytest.mark.parametrize("a", [-3.0, 0.0, 1.0])
def test_normal_variances(a):
    torch.manual_seed(0)
    s2, count = 0.7**2, 2**18
    g = normal_sample(1.5 - a, count, coupled=True)
    apart = normal_sample(1.5 - a, count, coupled=False)
    expected = [
        (g["scale"], 2 * 0.7, 4 * a**2 + 4 * s2),
        (apart["loc"], 2 * a, (2 * a**2 * (4 - math.pi) + 4 * s2) / math.pi),
        (apart["scale"], 2 * 0.7, 16 * a**2 + 8 * s2),
    ]
    if a:
        expected.append((g["loc"], 2 * a, 4 * a**2 * (4 - math.pi) / math.pi))
    else:
        assert g["loc"].abs().max() < 1e-12  # no variance at the mode of a symmetric f
    for samples, mean, variance in expected:
        assert abs(samples.mean() - mean) / math.sqrt(variance / count) < z_limit(24)
        assert abs(variance_score(samples, variance)) < z_limit(24)


def test_poisson_variances():
    torch.manual_seed(0)
    q = Poisson(t(3.0).squeeze().requires_grad_())
    assert (row_gradients(MeasureValued(), lambda x: x, q, 100)["rate"] == 1).all()
    g = row_gradients(MeasureValued(), torch.square, q, 2**16)["rate"]
    assert abs(g.mean() - 7) / math.sqrt(12 / 2**16) < z_limit(2)
    assert abs(variance_score(g, 12.0)) < z_limit(2)


def test_two_bits_have_the_variance_of_the_other_bit():
    p = 0.3
    x, weights = weighted_outcomes(p, 2)
    q = Independent(Bernoulli(torch.full((2,), p, dtype=torch.float64).requires_grad_()), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("estimators._measures.draw", lambda q, n, generator: x[None])
        g = row_gradients(MeasureValued(), lambda x: (x[..., 0] + 2 * x[..., 1] - 1) ** 2, q, 4)["probs"]
    # f(1, y) - f(0, y) = 4 y - 1
    assert moments(g[:, 0], weights) == pytest.approx((4 * p - 1, 16 * p * (1 - p)), rel=1e-12)


def test_a_uniform_times_a_maxwell_variable_is_normal():
    zeros, seen = torch.zeros(2**16, dtype=torch.float64), []
    q = Normal(zeros.requires_grad_(), torch.ones_like(zeros).requires_grad_())
    MeasureValued()(lambda x: seen.append(x) or torch.zeros_like(x), q, seeded())
    x, (w, _), m = seen[0], seen[1].flatten(0, 1), seen[2].flatten(0, 1)
    checks = [(x**2, 1, 2), (x**4, 3, 96), (x, 0, 1), (w**2, 2, 4), (w, math.sqrt(math.pi / 2), (4 - math.pi) / 2)]
    checks += [(m, 0, 3), (m**2, 3, 6)]
    for sample, mean, variance in checks:
        assert abs(sample.mean() - mean) / math.sqrt(variance / 2**16) < z_limit(len(checks))


@pytest.mark.parametrize("case", [trial.case for trial in TestCoupled().trials()] + [POISSON], ids=lambda c: c.name)
def test_a_constant_in_f_changes_nothing(case):
    estimator = MeasureValued()

    def gradient(c):
        theta = tuple(p.clone().requires_grad_() for p in case.theta)
        loss = estimator(lambda x: case.f(x) + c, case.q(theta), seeded())
        return torch.autograd.grad(loss.sum(), theta)

    for a, b in zip(gradient(0.0), gradient(1e6), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_saturated_logits():
    logits = t(-50.0, 50.0).requires_grad_()
    q = Independent(Bernoulli(logits=logits), 1)
    (g,) = torch.autograd.grad(MeasureValued()(f, q, seeded()), [logits])
    assert g.isfinite().all()
    assert (g.abs() < 1e-20).all()


def test_many_coordinates_go_in_several_calls(monkeypatch):
    whole = FAMILIES["normal"].theta[0].requires_grad_()
    q = Independent(Normal(whole, t(0.9, 0.6)), 1)
    (expected,) = torch.autograd.grad(MeasureValued()(f, q, seeded()), [whole])
    monkeypatch.setattr("estimators._coordinates.AT_ONCE", 1)
    (got,) = torch.autograd.grad(MeasureValued()(f, q, seeded()), [whole])
    assert torch.equal(got, expected)


def test_evaluations():
    points = []

    def counted(x):
        points.append(x.shape[:-1].numel())
        return f(x)

    def count(q):
        points.clear()
        MeasureValued(n=3)(counted, q, seeded())
        return sum(points)

    assert count(Independent(Normal(leaf(0.0, 1.0), leaf(1.0, 1.0)), 1)) == 3 * (1 + 3 * 2)
    assert count(Independent(Normal(leaf(0.0, 1.0), t(1.0, 1.0)), 1)) == 3 * (1 + 2 * 2)
    assert count(Independent(Poisson(leaf(1.0, 2.0)), 1)) == 3 * (1 + 2)
    assert count(Independent(Categorical(leaf([0.2, 0.3, 0.5], [0.2, 0.3, 0.5])), 1)) == 3 * (1 + 2 * 2)
    assert max(points) == MeasureValued(n=3).points(Independent(Categorical(torch.ones(2, 3)), 1))


def test_one_category_has_no_gradient():
    q = OneHotCategorical(logits=torch.zeros(1, dtype=torch.float64, requires_grad=True))
    loss = MeasureValued()(lambda x: x.sum(-1), q, seeded())
    assert loss.item() == 1
    (g,) = torch.autograd.grad(loss, list(parameters(rows(q, 1)).values()), allow_unused=True)
    assert g is None


@pytest.mark.parametrize(
    ("q", "name"),
    [
        (Gamma(t(2.0).requires_grad_(), t(1.0).requires_grad_()), "concentration of Gamma"),
        (Weibull(t(2.0).requires_grad_(), t(1.0).requires_grad_()), "concentration of Weibull"),
        (Chi2(t(2.0).requires_grad_()), "df of Chi2"),
    ],
)
def test_shapes_are_refused(q, name):
    with pytest.raises(Refusal, match=f"no pair of samplers for the {name}. Use ScoreFunction, RLOO, or"):
        MeasureValued()(lambda x: x, q)


def test_other_families_are_refused():
    from torch.distributions import Beta

    with pytest.raises(UnsupportedFamily, match=r"and q is Beta\. Use Reparameterization"):
        MeasureValued()(lambda x: x, Beta(t(1.0), t(1.0)))
    with pytest.raises(InvalidParameter, match="n >= 1"):
        MeasureValued(n=0)
