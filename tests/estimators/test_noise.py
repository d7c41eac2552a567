import math

import pytest
import torch
from torch.distributions import Gamma, Independent, LogNormal, MultivariateNormal, Normal, VonMises

from bench.conformance import Conformance
from estimators import InvalidParameter, Refusal, Reparameterization, UnsupportedFamily, rows
from tests.problems import hermite, moments, row_gradients, seeded, t
from tests.tolerances import z_limit

ANTITHETIC, SOBOL = Reparameterization(n=2, noise="antithetic"), Reparameterization(n=4, noise="sobol")


class TestAntithetic(Conformance):
    estimator = ANTITHETIC


class TestSobol(Conformance):
    estimator = SOBOL


def test_antithetic_is_its_formula():
    loc, scale = t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()
    q = Independent(Normal(loc, scale), 1)
    loss = Reparameterization(4, "antithetic")(lambda x: (x**3).sum(-1).sin(), q, seeded())
    got = torch.autograd.grad(loss, [loc, scale])
    z = torch.randn(2, 2, generator=seeded(), dtype=torch.float64)
    z = torch.cat([z, -z])
    x = (loc + scale * z).detach()
    slope = (x**3).sum(-1, keepdim=True).cos() * 3 * x**2
    torch.testing.assert_close(loss, (x**3).sum(-1).sin().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(got[0], slope.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (slope * z).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("a", "s"), [(-3.0, 0.5), (0.0, 1.0), (2.0, 1.5)])
def test_antithetic_variance_of_a_quadratic(monkeypatch, a, s):
    z, weights = hermite(4)
    q = Normal(t(1.3).squeeze().requires_grad_(), t(s).squeeze().requires_grad_())
    monkeypatch.setattr("estimators._couplings.normal", lambda shape, like, generator: z.T.clone())
    g = row_gradients(ANTITHETIC, lambda x: (x - (1.3 - a)) ** 2, q, len(z))
    assert moments(g["loc"], weights) == pytest.approx((2 * a, 0), rel=1e-10, abs=1e-10)
    assert moments(g["scale"], weights) == pytest.approx((2 * s, 8 * s**2), rel=1e-10)


def noise_of(estimator, dim, count, dtype=torch.float64):
    """Return the samples of a standard normal, ``[n, count, dim]``."""
    q = Independent(Normal(torch.zeros(count, dim, dtype=dtype), torch.ones(count, dim, dtype=dtype)), 1)
    seen = []
    estimator(lambda x: seen.append(x) or x.sum(-1), q, seeded())
    return seen[0]


def sobol_noise(n, dim, count, dtype=torch.float64):
    return noise_of(Reparameterization(n, "sobol"), dim, count, dtype)


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_each_interval_of_1_over_n_holds_one_sobol_point(n):
    u = torch.special.ndtr(sobol_noise(n, 3, 100))
    cells = (u * n).floor().sort(0).values
    assert torch.equal(cells, torch.arange(n, dtype=torch.float64)[:, None, None].expand(n, 100, 3))


def test_sobol_points_of_a_pair_of_coordinates_fill_a_grid():
    u = torch.special.ndtr(sobol_noise(16, 2, 50))
    cells = (u * 4).floor()
    assert all(len(set(map(tuple, cells[:, k].tolist()))) == 16 for k in range(50))


def test_every_sobol_sample_is_a_standard_normal():
    z = sobol_noise(4, 2, 2**16)
    for power, moment, square in ((1, 0, 1), (2, 1, 3), (4, 3, 105)):
        score = (z**power).mean(1).sub(moment) / math.sqrt((square - moment**2) / 2**16)
        assert score.abs().max() < z_limit(3 * score.numel())


def test_the_shift_is_an_exclusive_or_of_digits():
    z = sobol_noise(8, 2, 5)
    digits = (torch.special.ndtr(z) * 2**30).floor().long()
    difference = digits ^ digits[0]
    assert (difference == difference[:, :1]).all()


def test_sobol_is_better_than_independent_noise():
    q = Independent(Normal(torch.zeros(1, 2, dtype=torch.float64).requires_grad_(), torch.ones(1, 2).double()), 1)

    def f(x):
        return (x.sum(-1) + 0.5).sin()

    variance = []
    for noise in ("iid", "sobol"):
        r = rows(q, 2000)
        loss = Reparameterization(64, noise)(f, r, seeded())
        variance.append(torch.autograd.grad(loss.sum(), r.base_dist.loc)[0].var(0).sum())
    assert variance[1] < variance[0] / 10  # 18 times


@pytest.mark.parametrize("n", [4, 16, 64, 256])
def test_of_a_linear_f_the_error_of_sobol_noise_is_below_one_over_n(n):
    """The gradient in the scale is the mean noise: of variance 1/n if independent, here below 1/n^2."""
    q = Normal(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64).requires_grad_())
    r = rows(q, 4000)
    loss = Reparameterization(n, "sobol")(lambda x: x, r, seeded())
    assert torch.autograd.grad(loss.sum(), r.scale)[0].var() < 0.5 / n**2


def test_sobol_noise_is_finite_in_float32():
    shift = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", lambda high, shape, generator, device: shift)
        first = (torch.special.ndtr(sobol_noise(4, 1, 1)[0]) * 2**30).long()  # a point without its shift
    for corner in (0, 2**29 - 1, 2**29, 2**30 - 1):
        shift = first ^ corner  # the first point becomes this corner
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randint", lambda high, shape, generator, device, shift=shift: shift)
            z = sobol_noise(4, 1, 1, torch.float32)
        assert z.dtype == torch.float32
        assert z.isfinite().all()
        assert bool(z[0] < 0) == (corner < 2**29 - 1)
        assert (z[0] < -5.9) == (corner == 0)


@pytest.mark.parametrize("noise", ["antithetic", "sobol"])
def test_a_full_covariance_is_served(noise):
    tril = torch.tensor([[1.0, 0.0], [-0.7, 0.5]], dtype=torch.float64).requires_grad_()
    loc = t(0.3, -0.2).requires_grad_()
    estimator = Reparameterization(4, noise)
    loss = estimator(lambda x: (x**2).prod(-1), MultivariateNormal(loc, scale_tril=tril), seeded())
    got = torch.autograd.grad(loss, [loc, tril])
    z = noise_of(estimator, 2, 1).squeeze(1)
    x = (loc + z @ tril.T).detach().requires_grad_()
    (slope,) = torch.autograd.grad((x**2).prod(-1).sum(), x)
    torch.testing.assert_close(got[0], slope.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], (slope[:, :, None] * z[:, None, :]).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"noise": "halton"}, "needs noise='iid', 'antithetic' or 'sobol' \\(got noise='halton'\\)"),
        ({"n": 3, "noise": "antithetic"}, "pairs \\(got n=3\\). Use Reparameterization\\(n=4, noise='antithetic'\\)"),
        ({"n": 6, "noise": "sobol"}, "power of two \\(got n=6\\). Use Reparameterization\\(n=8, noise='sobol'\\)"),
        ({"n": 0, "noise": "sobol"}, "n >= 1"),
    ],
)
def test_fields_are_checked(fields, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        Reparameterization(**fields)


@pytest.mark.parametrize("q", [Gamma(t(1.0), t(1.0)), LogNormal(t(1.0), t(1.0)), VonMises(t(1.0), t(1.0))])
@pytest.mark.parametrize("estimator", [ANTITHETIC, SOBOL])
def test_other_families_are_refused(estimator, q):
    with pytest.raises(UnsupportedFamily, match=r"Use .*RLOO"):
        estimator(lambda x: x, q)


def test_more_coordinates_than_sobol_directions_are_refused():
    q = Independent(Normal(torch.zeros(21_202), torch.ones(21_202)), 1)
    with pytest.raises(Refusal, match=r"at most 21,201 coordinates \(got 21,202 in one event\)"):
        SOBOL(lambda x: x.sum(-1), q)
