"""Distributions whose law is not the one that their class suggests, and distributions of one's own."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as d
from torch import nn
from torch.distributions import constraints

from estimators import (
    RLOO,
    VIMCO,
    Bound,
    DoublyReparameterized,
    Refusal,
    Reparameterization,
    ReparameterizedMixture,
    ScoreFunction,
    StickingTheLanding,
    UnsupportedFamily,
    catalogue,
    draw,
    log_prob,
    parameters,
    rows,
    score,
)
from tests.problems import leaf, mean_scores, seeded, t
from tests.tolerances import z_limit

MANY = 2**14
SCORES = [RLOO(), ScoreFunction(n=2), ScoreFunction(n=3, baseline="optimal")]


# A subclass with its own law


class Truncated(d.Normal):
    """A normal cut off at -1 and 1."""

    def _mass(self):
        return self.cdf(torch.ones_like(self.loc)) - self.cdf(-torch.ones_like(self.loc))

    def sample(self, sample_shape=()):
        with torch.no_grad():
            low = self.cdf(-torch.ones_like(self.loc))
            return self.icdf(low + torch.rand(self._extended_shape(sample_shape)).to(low) * self._mass())

    def log_prob(self, value):
        return super().log_prob(value) - self._mass().log()


class SampledTruncated(Truncated):
    """The sampler alone: leave-one-out weights add up to 0, so the missing constant of the density does not matter."""

    log_prob = d.Normal.log_prob


class SmoothTruncated(Truncated):
    def rsample(self, sample_shape=()):
        low = self.cdf(-torch.ones_like(self.loc))
        return self.icdf(low + torch.rand(self._extended_shape(sample_shape)).to(low) * self._mass())


def of_truncated(cls, estimator):
    """Return losses and gradients in loc of E[x]."""
    loc = torch.full((MANY,), 0.5, dtype=torch.float64, requires_grad=True)
    q = cls(loc, torch.ones_like(loc), validate_args=False)
    loss = estimator(lambda x: x, q, seeded(3))
    return loss.detach(), torch.autograd.grad(loss.sum(), loc)[0]


def exact_of_truncated():
    """Return the mean of a normal of scale 1 around 0.5, cut off at -1 and 1, and its variance: d mean / d loc."""
    a, b, normal = -1.5, 0.5, d.Normal(t(0.0), t(1.0))
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (a, b)]
    mass = float(normal.cdf(t(b)) - normal.cdf(t(a)))
    shift = (density[0] - density[1]) / mass
    return 0.5 + shift, 1 + (a * density[0] - b * density[1]) / mass - shift**2


@pytest.mark.parametrize(
    ("cls", "estimator"),
    [(Truncated, e) for e in SCORES]
    + [(SampledTruncated, RLOO()), (SmoothTruncated, RLOO()), (SmoothTruncated, Reparameterization())],
)
def test_a_subclass_with_its_own_law_is_sampled_and_scored_by_it(cls, estimator):
    value, slope = exact_of_truncated()
    assert (value, slope) == pytest.approx((0.1437, 0.2802), abs=1e-4)
    for got, exact in zip(of_truncated(cls, estimator), (value, slope), strict=True):
        assert abs(mean_scores(got, exact)) < z_limit(12)


@pytest.mark.parametrize("estimator", [cls() for cls in catalogue().values() if cls().families], ids=repr)
def test_closed_forms_of_a_parent_are_refused_for_a_subclass_with_its_own_law(estimator):
    for family in estimator.families:
        for name in ("sample", "log_prob", "draw", "rsample", "probs"):
            own = type("Own", (family,), {name: lambda self, *args: None})
            assert family in estimator.families
            assert "Own" in estimator.refuses(own) or estimator.refuses(family)
        assert estimator.refuses(type("Plain", (family,), {"entropy": lambda self: 0})) == estimator.refuses(family)


def test_a_path_of_the_parent_is_refused_beside_a_sampler_of_ones_own():
    for estimator in (Reparameterization(), Reparameterization(n=2, noise="sobol"), StickingTheLanding()):
        assert "has its own sampler, but the rsample of its parent" in estimator.refuses(Truncated)
    assert Reparameterization().refuses(SmoothTruncated) is None
    with pytest.raises(UnsupportedFamily, match="components that are Normal"):
        ReparameterizedMixture(d.Categorical(t(0.5, 0.5)), Truncated(t(0.0, 1.0), t(1.0, 1.0)))


class ByLevel(d.Bernoulli):
    """The law of its parent, from other arguments."""

    def __init__(self, level):
        super().__init__(logits=3 * level)


def test_a_subclass_that_keeps_the_law_of_its_parent_keeps_its_closed_forms():
    level = leaf(0.3, -0.2)
    for estimator in (cls() for cls in catalogue().values()):
        if not estimator.needs_bound and not estimator.refuses(d.Bernoulli):
            q, parent = ByLevel(level), d.Bernoulli(logits=3 * level)
            mine, its = (
                estimator(lambda x: x + x * level, p, seeded(), estimator.init(p, seeded())) for p in (q, parent)
            )
            assert torch.equal(mine, its)
            mine, its = (torch.autograd.grad(loss.sum(), level)[0] for loss in (mine, its))
            assert torch.equal(mine, its)
    assert list(parameters(q)) == ["logits"]
    assert torch.equal(rows(q, 4).logits, rows(parent, 4).logits)


# A distribution of one's own


class Policy(d.Distribution):
    """Bits whose logits come from whatever holds them."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, held):
        self.held = held
        super().__init__(torch.Size([2]), validate_args=False)

    def logits(self):
        held = next(iter(self.held.values())) if isinstance(self.held, dict) else self.held
        held = held[0] if isinstance(held, list) else held
        if isinstance(held, d.Distribution):
            return held.logits
        return held(torch.ones(2, 1, dtype=torch.float64)).squeeze(-1) if isinstance(held, nn.Module) else held

    def sample(self, sample_shape=()):
        p = self.logits().sigmoid().detach()
        return torch.bernoulli(p.expand(*sample_shape, 2))

    def log_prob(self, x):
        return d.Bernoulli(logits=self.logits()).log_prob(x)


def held(kind):
    """Return what a Policy holds, and the tensor that is trained."""
    if kind == "module":
        net = nn.Linear(1, 1).double()
        return net, net.bias
    logits = leaf(0.4, -0.9)
    return {"list": [logits], "dict": {"a": logits}, "distribution": d.Bernoulli(logits=logits)}[kind], logits


@pytest.mark.parametrize("kind", ["module", "list", "dict", "distribution"])
@pytest.mark.parametrize("estimator", [*SCORES[:2], ScoreFunction(baseline="moving-average")], ids=repr)
@pytest.mark.parametrize("generator", [None, seeded(5)], ids=["global", "given"])
def test_a_distribution_of_ones_own_may_hold_its_parameters_in_anything(kind, estimator, generator):
    torch.manual_seed(0)
    holder, trained = held(kind)
    q = Policy(holder)
    state = estimator.init(q)
    found = []
    for _ in range(300):
        loss = estimator(lambda x: (x - 0.3) ** 2, q, generator, state)
        found.append(torch.autograd.grad(loss.sum(), trained)[0])
    p = q.logits().sigmoid()
    (exact,) = torch.autograd.grad((p * 0.7**2 + (1 - p) * 0.3**2).sum(), trained)
    assert mean_scores(torch.stack(found), exact).abs().max() < z_limit(48)


def test_a_distribution_that_holds_a_network_has_no_rows():
    with pytest.raises(Refusal, match=r"Policy cannot be split into rows: .* holds a network"):
        rows(Policy(held("module")[0]), 3)


# A support that moves with a parameter


class Ending(d.Distribution):
    """Uniform between 0 and a number, as its support alone says."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, end):
        self.end = end
        super().__init__(end.shape, validate_args=False)

    @property
    def support(self):
        return constraints.interval(0.0, self.end)

    def sample(self, sample_shape=()):
        return torch.rand(*sample_shape, *self.batch_shape).to(self.end) * self.end.detach()

    def log_prob(self, x):
        return -self.end.log().expand_as(x)


def ended(end):
    """Return a subclass of Uniform whose support is an attribute of the class."""
    return type("Ended", (d.Uniform,), {"support": constraints.interval(0.0, end)})


def affine(base, loc, scale):
    return d.TransformedDistribution(base, [d.AffineTransform(loc, scale)])


def zeros():
    return torch.zeros(MANY, dtype=torch.float64)


MOVING = {
    "Uniform, high": lambda s: d.Uniform(zeros(), s),
    "Uniform, low": lambda s: d.Uniform(s, zeros() + 9),
    "Pareto, scale": lambda s: d.Pareto(s, zeros() + 5),
    "shifted Exponential": lambda s: affine(d.Exponential(zeros() + 1), s, 1.0),
    "shifted Exponential, an event": lambda s: d.Independent(
        affine(d.Exponential(zeros().unsqueeze(-1) + 1), s.unsqueeze(-1), 1.0), 1
    ),
    "shifted HalfNormal": lambda s: affine(d.HalfNormal(zeros() + 1), s, 1.0),
    "scaled Uniform": lambda s: affine(d.Uniform(zeros(), zeros() + 1), 0.0, s),
    "power of a Uniform": lambda s: d.TransformedDistribution(d.Uniform(zeros(), s), [d.PowerTransform(t(2.0))]),
    "mixture of Uniforms": lambda s: d.MixtureSameFamily(
        d.Categorical(zeros().expand(2, MANY).T + 1), d.Uniform(zeros().expand(2, MANY).T, s.expand(2, MANY).T)
    ),
    "one's own": lambda s: Ending(s),
    "one's own, as its class says": lambda s: ended(s)(zeros(), s.detach()),
}


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("estimator", SCORES[:2], ids=repr)
def test_scores_are_refused_where_the_support_moves(name, estimator):
    q = MOVING[name](torch.full((MANY,), 1.5, dtype=torch.float64, requires_grad=True))
    with pytest.raises(UnsupportedFamily, match=r"support of .* moves with a parameter .* Use Reparameterization"):
        estimator(lambda x: x.reshape(len(x), MANY) ** 2, q, seeded())
    still = MOVING[name](torch.full((MANY,), 1.5, dtype=torch.float64))
    assert estimator(lambda x: x.reshape(len(x), MANY) ** 2, still, seeded()).isfinite().all()


TORCHS = [cls for cls in map(vars(d).get, d.__all__) if isinstance(cls, type) and issubclass(cls, d.Distribution)]


@pytest.mark.parametrize("family", [cls for cls in TORCHS if not isinstance(cls.support, property)])
def test_no_parameter_moves_the_ends_of_a_support_that_belongs_to_the_class(family):
    support = family.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    ends = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    assert not any(isinstance(end, torch.Tensor) for end in ends)


def test_moving_supports_are_refused_under_transforms():
    def loss(end):
        return RLOO()(lambda x: x, d.Uniform(torch.zeros_like(end), end, validate_args=False)).sum()

    for call in (torch.func.grad(loss), torch.func.vmap(torch.func.grad(loss), randomness="different")):
        with pytest.raises(UnsupportedFamily, match="support of Uniform moves"):
            call(torch.ones(4, 3))


def test_bounds_are_refused_where_the_support_moves():
    end = torch.full((5, 3), 1.5, dtype=torch.float64, requires_grad=True)
    q = d.Independent(d.Uniform(torch.zeros_like(end), end), 1)
    bound = Bound(lambda x: -(x**2), q, particles=3)
    for estimator in (RLOO(), VIMCO(), DoublyReparameterized()):
        with pytest.raises(UnsupportedFamily, match="support of Uniform moves"):
            estimator(bound, q, seeded())
    assert torch.autograd.grad(Reparameterization()(bound, q, seeded()).sum(), end)[0].isfinite().all()


STILL = {
    "scaled Exponential": (lambda s: affine(d.Exponential(zeros() + 1), 0.0, s), lambda s: 2 * s**2),
    "scaled Exponential from 2 on": (
        lambda s: affine(d.Exponential(zeros() + 1), 2.0, s),
        lambda s: 4 + 4 * s + 2 * s**2,
    ),
    "logistic": (  # torch's own example of a TransformedDistribution
        lambda s: d.TransformedDistribution(
            d.Uniform(zeros(), zeros() + 1), [d.SigmoidTransform().inv, d.AffineTransform(s, 1.0)]
        ),
        lambda s: s**2 + math.pi**2 / 3,
    ),
    "shifted LogNormal": (
        lambda s: affine(d.LogNormal(zeros(), zeros() + 0.5), s, 1.0),
        lambda s: s**2 + 2 * s * math.exp(0.125) + math.exp(0.5),
    ),
    "Weibull": (lambda s: d.Weibull(s, zeros() + 2), lambda s: s**2),
    "Gumbel": (
        lambda s: d.Gumbel(s, zeros() + 1),
        lambda s: s**2 + 2 * s * np.euler_gamma + np.euler_gamma**2 + math.pi**2 / 6,
    ),
}


@pytest.mark.parametrize("name", STILL)
def test_scores_are_right_where_the_ends_stay(name):
    build, mean = STILL[name]
    at = leaf(1.5)
    s = at.expand(MANY).clone()
    loss = RLOO(n=4)(lambda x: x**2, build(s), seeded(7))
    (g,) = torch.autograd.grad(loss.sum(), s)
    (exact,) = torch.autograd.grad(mean(at), at)
    assert abs(mean_scores(g, exact)) < z_limit(len(STILL))


# A bounded transform


def squashed(loc, transform=None, scale=2.0):
    transform = d.transforms.TanhTransform(cache_size=1) if transform is None else transform
    return d.TransformedDistribution(d.Normal(loc, torch.full_like(loc, scale)), [transform])


def hermite(function, loc, scale):
    """Return E f(loc + scale z) by 200 nodes of Gauss-Hermite."""
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(200))
    return (w / w.sum() * function(loc + scale * z)).sum()


@pytest.mark.parametrize("estimator", SCORES, ids=repr)
@pytest.mark.parametrize("transform", [d.transforms.TanhTransform, d.SigmoidTransform])
def test_scores_below_a_saturated_transform_with_a_cache_are_exact(estimator, transform):
    loc = torch.full((MANY,), 4.0, requires_grad=True)  # float32: every hundredth tanh is 1
    loss = estimator(lambda x: x, squashed(loc, transform(cache_size=1)), seeded(2))
    (g,) = torch.autograd.grad(loss.sum(), loc)
    assert g.isfinite().all()
    at = leaf(4.0)
    (exact,) = torch.autograd.grad(hermite(transform(), at, 2.0), at)
    assert transform is d.SigmoidTransform or abs(exact - 0.0686) < 1e-4
    assert abs(mean_scores(g, exact)) < z_limit(6)


@pytest.mark.parametrize("estimator", [RLOO(n=4), ScoreFunction()], ids=repr)
@pytest.mark.parametrize("transform", [d.transforms.TanhTransform, d.SigmoidTransform])
def test_scores_of_a_trained_transform_below_a_saturated_one(estimator, transform):
    """``loc + scale z`` is trained: exact with caches, refused without."""
    loc = torch.full((MANY,), 4.0 if transform is d.transforms.TanhTransform else 12.0, requires_grad=True)

    def q(cache):
        transforms = [d.AffineTransform(loc, torch.tensor(2.0), cache_size=cache), transform(cache_size=cache)]
        return d.TransformedDistribution(d.Normal(torch.zeros(MANY), torch.ones(MANY)), transforms)

    (g,) = torch.autograd.grad(estimator(lambda x: x, q(1), seeded(2)).sum(), loc)
    at = loc[0].detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(hermite(transform(), at, 2.0), at)
    assert g.isfinite().all()
    assert abs(mean_scores(g, exact)) < z_limit(4)
    with pytest.raises(Refusal, match="rounded to an end of its support"):
        estimator(lambda x: x, q(0), seeded(2))


@pytest.mark.parametrize("particles", [None, 3])
@pytest.mark.parametrize("estimator", [RLOO(n=4), VIMCO(), StickingTheLanding(), DoublyReparameterized()], ids=repr)
def test_bounds_below_a_saturated_transform_with_a_cache_are_finite(estimator, particles):
    if estimator.refuses_particles(particles):
        pytest.skip("not served")
    loc = torch.full((MANY, 3), 4.0, requires_grad=True)
    q = d.Independent(squashed(loc), 1)
    bound = Bound(lambda x: -(x**2) if particles else -(x**2).sum(-1), q, particles=particles)
    loss = estimator(bound, q, seeded())
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), loc)[0].isfinite().all()


def test_scores_below_several_transforms_and_in_an_event_are_torchs():
    loc, scale = leaf([0.3, -0.2], [0.1, 0.5]), leaf([0.8, 0.6], [1.0, 0.3])
    transforms = [d.StickBreakingTransform(cache_size=1), d.AffineTransform(1.0, t(2.0), cache_size=1)]
    q = d.TransformedDistribution(d.Normal(loc, scale), transforms)
    x, weight = draw(q, 5, seeded()), torch.rand(5, 2, dtype=torch.float64)
    got = torch.autograd.grad(score(q, x, weight).sum(), [loc, scale])
    expected = torch.autograd.grad((weight * q.log_prob(x.clone())).sum(), [loc, scale])
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cache", [0, 1])
def test_scores_through_trained_transforms_do_not_use_the_cache(cache):
    loc, shift, scale = leaf(0.3), leaf(0.2), leaf(1.4)
    q = d.TransformedDistribution(
        d.Normal(loc, t(0.8)), [d.AffineTransform(shift, scale, cache_size=cache), d.ExpTransform(cache_size=cache)]
    )
    for weights in (lambda x, w: score(q, x, w), lambda x, w: (w * log_prob(q, x)).sum(0)):
        x, w = draw(q, 5, seeded()), torch.rand(5, 1, dtype=torch.float64)
        got = torch.autograd.grad(weights(x, w).sum(), [loc, shift, scale])
        z = x.log()
        exact = d.Normal(shift + scale * loc, scale * 0.8).log_prob(z)
        for a, b in zip(got, torch.autograd.grad((w * exact).sum(), [loc, shift, scale]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


ROUNDED = {
    "sigmoid": lambda a: d.TransformedDistribution(d.Normal(a + 20, 3.0), [d.SigmoidTransform()]),
    "sigmoids of an event": lambda a: d.TransformedDistribution(
        d.Normal(a + 20, 3.0), [d.transforms.IndependentTransform(d.SigmoidTransform(), 1)]
    ),
    "relaxed bits": lambda a: d.RelaxedBernoulli(torch.tensor(0.1, dtype=a.dtype), logits=a),
    "sticks": lambda a: d.LogisticNormal(a, torch.full_like(a, 10.0)),
    "gammas": lambda a: d.Gamma(a / 25, torch.ones_like(a)),
    "betas": lambda a: d.Beta(a / 25, torch.ones_like(a)),
    "shares": lambda a: d.Dirichlet(a / 25),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_a_sample_at_the_end_where_an_inverse_is_clamped_is_refused(name):
    q = ROUNDED[name](torch.full((500, 2), 0.5, requires_grad=True))
    for estimator in (RLOO(), ScoreFunction(), ScoreFunction(n=2, baseline="optimal")):
        with pytest.raises(Refusal, match=r"rounded to an end of its support.* Reparameterization\.$"):
            estimator(lambda x: x.sum(-1) if q.event_shape else x, q, seeded())


def test_scores_of_a_transformed_whole_number_are_those_of_the_number():
    rate = leaf(1.5, 2.5)
    q = d.TransformedDistribution(d.Categorical(logits=torch.stack([rate, -rate])), [d.AffineTransform(1, 2)])
    x = draw(q, 5, seeded())
    (g,) = torch.autograd.grad(score(q, x, torch.ones(5, 2, dtype=torch.float64)).sum(), rate)
    assert g.isfinite().all()


def test_an_infinite_density_of_trained_transforms_is_refused():
    a = torch.ones(5000, requires_grad=True)
    with pytest.raises(Refusal, match="samples of Kumaraswamy were rounded to an end of its support"):
        RLOO(n=4)(lambda x: x**2, d.Kumaraswamy(a, torch.tensor(0.3)), seeded())


def test_a_sample_that_is_rounded_to_an_end_is_refused_without_a_cache():
    for build in (
        lambda dtype: squashed(
            torch.full((500,), 9.0, dtype=dtype, requires_grad=True), d.transforms.TanhTransform(), 1
        ),
        lambda dtype: d.RelaxedOneHotCategorical(
            torch.tensor(0.05, dtype=dtype), logits=torch.zeros(500, 3, dtype=dtype, requires_grad=True)
        ),
    ):
        q = build(torch.float32)
        with pytest.raises(Refusal, match=r"rounded to an end of its support.* Use .*a q in float64"):
            RLOO()(lambda x, q=q: x.sum(-1) if q.event_shape else x, q, seeded())
        q = build(torch.float64)
        RLOO()(lambda x, q=q: x.sum(-1) if q.event_shape else x, q, seeded()).sum().backward()


def test_relaxed_categories_may_be_scored():
    """torch validates its own relaxed samples, whose sum is not 1 to the last digit; the score lies below them."""
    logits = t(0.3, -0.5, 1.0).expand(MANY, 3).float().clone().requires_grad_()
    weights = torch.tensor([1.0, 2.0, -1.0])
    found = []
    for estimator in (RLOO(n=4), Reparameterization(n=4)):
        q = d.RelaxedOneHotCategorical(torch.tensor(0.5), logits=logits)
        found.append(torch.autograd.grad(estimator(lambda x: (x @ weights) ** 2, q, seeded()).sum(), logits)[0])
    error = sum(g.var(0) for g in found).sqrt() / MANY**0.5
    assert ((found[0].mean(0) - found[1].mean(0)) / error).abs().max() < z_limit(3)


def test_a_few_clamped_samples_are_let_pass_as_torch_does():
    """A sparse Gamma has one sample in some thousands at torch's smallest number."""
    concentration = torch.full((2_000,), 0.1, requires_grad=True)
    loss = RLOO(n=4)(lambda x: x, torch.distributions.Gamma(concentration, torch.ones(2_000)))
    loss.sum().backward()
    assert concentration.grad.isfinite().all()


def test_no_sample_is_looked_at_where_there_is_none():
    empty = torch.ones(0, 3, dtype=torch.float64, requires_grad=True)
    assert RLOO()(torch.square, d.Gamma(empty, empty), seeded()).shape == (0, 3)
    hidden = torch.ones(3, device="meta", requires_grad=True)
    found = score(d.Gamma(hidden, hidden, validate_args=False), torch.ones(2, 3, device="meta"), hidden.expand(2, 3))
    assert found.shape == (3,)
