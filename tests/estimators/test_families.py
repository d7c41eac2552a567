import itertools

import pytest
import torch
from torch import Size
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    Gamma,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
)

import estimators
from bench.conformance import support
from estimators import (
    RLOO,
    Drawable,
    Enumeration,
    GumbelSoftmax,
    Refusal,
    Reparameterization,
    ScoreFunction,
    UnsupportedFamily,
    draw,
    gumbel,
    inner,
    logistic,
    logits,
    parameters,
    perturbed,
    probs,
    rdraw,
    rows,
    score,
    squash,
)
from tests.problems import FAMILIES, seeded, t
from tests.tolerances import z_limit

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


# Noise


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", ["uniform", "gumbel", "logistic"])
def test_noise_is_finite_at_both_ends(monkeypatch, noise, dtype):
    """torch.rand may return 0, and the number before 1."""
    last = 1 - torch.finfo(dtype).eps / 2
    ends = torch.tensor([0.0, last], dtype=dtype)
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: ends.clone())
    values = getattr(estimators, noise)(Size((2,)), ends, None)
    assert values.isfinite().all()
    assert values[0] < values[1]
    assert noise != "uniform" or (values[0] > 0 and values[1] < 1)


@pytest.mark.parametrize("noise", ["uniform", "normal", "gumbel", "logistic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_has_the_dtype_asked_for_and_comes_from_the_generator(noise, dtype):
    like = torch.zeros((), dtype=dtype)
    a, b = (getattr(estimators, noise)(Size((3, 2)), like, seeded()) for _ in range(2))
    assert a.dtype == dtype
    assert a.shape == (3, 2)
    assert torch.equal(a, b)


def test_gumbel_and_logistic_are_their_formulas():
    u = torch.rand(5, generator=seeded(), dtype=torch.float64) + 2.0**-54
    like = t(0.0)
    torch.testing.assert_close(gumbel(Size((5,)), like, seeded()), -(-u.log()).log(), rtol=1e-12, atol=1e-12)
    expected = u.log() - (1 - u).log()
    torch.testing.assert_close(logistic(Size((5,)), like, seeded()), expected, rtol=1e-12, atol=1e-12)


# Draws


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_have_samples_first_and_lie_in_the_support(name):
    family = FAMILIES[name]
    q = family.build(*family.theta)
    x = draw(q, 6, seeded())
    assert x.shape == (6, *q.batch_shape, *q.event_shape)
    assert q.support.check(x).all()
    assert not x.requires_grad
    assert torch.equal(x, draw(q, 6, seeded()))


def test_normal_draws_are_their_formula():
    z = torch.randn(4, 3, 2, generator=seeded(), dtype=torch.float64)
    q = Normal(t(0.5, -0.8), t(0.9, 0.6))
    torch.testing.assert_close(draw(rows(q, 3), 4, seeded()), q.loc + q.scale * z, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(rdraw(rows(q, 3), 4, seeded()), q.loc + q.scale * z, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_draws_are_the_same_numbers_with_and_without_a_graph(dtype, n):
    q = rows(Normal(t(0.3, -0.8).to(dtype).requires_grad_(), t(0.9, 0.7).to(dtype).requires_grad_()), 50)
    assert torch.equal(draw(q, n, seeded()), rdraw(q, n, seeded()))


@pytest.mark.parametrize("name", [n for n in FAMILIES if "normal" not in n])
def test_discrete_draws_are_as_frequent_as_they_are_probable(name):
    count = 20_000
    family = FAMILIES[name]
    q = family.build(*family.theta)
    x = draw(rows(q, count), 1, seeded()).squeeze(0)
    p = probs(q)
    if isinstance(inner(q), Categorical):
        x = torch.nn.functional.one_hot(x, p.shape[-1])
    z = (x.double().mean(0) - p) / (p * (1 - p) / count).sqrt()
    assert z.abs().max() < z_limit(z.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_certain_is_always_drawn(dtype):
    """Even where torch.rand is 0 or as near to 1 as it comes."""
    bits = Bernoulli(torch.tensor([0.0, 1.0, 1e-30], dtype=dtype))
    hot = OneHotCategorical(torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=dtype))
    saturated = OneHotCategorical(logits=torch.tensor([[-50.0, 50.0, -50.0], [50.0, -50.0, -50.0]], dtype=dtype))
    for end in (0.0, 1 - torch.finfo(dtype).eps / 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "rand", lambda *shape, end=end, **kwargs: torch.full(shape, end, dtype=dtype))
            assert draw(bits, 1, None).tolist() == [[0, 1, 0]]
            assert draw(hot, 1, None).tolist() == [[[0, 1, 0], [1, 0, 0], [0, 0, 1]]]
            assert draw(saturated, 1, None).tolist() == [[[0, 1, 0], [1, 0, 0]]]


def test_fallback_draws_from_the_generator_and_leaves_the_global_one():
    q = Gamma(t(1.5, 2.0).requires_grad_(), t(0.7, 3.0))
    before = torch.get_rng_state()
    a, b, other = draw(q, 3, seeded()), draw(q, 3, seeded()), draw(q, 3, seeded(1))
    c, e = rdraw(q, 3, seeded()), rdraw(q, 3, seeded())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b)
    assert torch.equal(c, e)
    assert c.requires_grad
    assert not torch.equal(a, other)
    generator = seeded()
    assert not torch.equal(draw(q, 3, generator), draw(q, 3, generator))


def test_fallback_without_a_generator_uses_the_global_one():
    q = Poisson(t(3.0, 50.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        a = draw(q, 3, None)
        torch.manual_seed(5)
        assert torch.equal(a, q.sample((3,)))


# Densities


@pytest.mark.parametrize("name", FAMILIES)
def test_closed_scores_are_torchs(name):
    family = FAMILIES[name]
    theta = [p.clone().requires_grad_() for p in family.theta]
    q = family.build(*theta)
    x = draw(q, 4, seeded())
    weight = torch.randn(4, *q.batch_shape, generator=seeded(1), dtype=torch.float64)
    closed = torch.autograd.grad(score(q, x, weight).sum(), theta)
    general = torch.autograd.grad((weight * family.build(*theta).log_prob(x)).sum(), theta)
    for a, b in zip(closed, general, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_score_of_a_normal_leaves_its_arguments_alone_and_stays_attached_to_the_weight(n, batch):
    loc, scale = t(0.5, -1.0).expand(*batch, 2).clone(), t(0.4, 2.0).expand(*batch, 2).clone()
    theta = [loc.requires_grad_(), scale.requires_grad_()]
    q = Independent(Normal(*theta), 1)
    x = draw(q, n, seeded())
    weight = torch.randn(n, *batch, generator=seeded(1), dtype=torch.float64).requires_grad_()
    kept = x.clone(), weight.detach().clone()
    closed = torch.autograd.grad(score(q, x, weight).sum(), theta, create_graph=True)
    assert torch.equal(x, kept[0])
    assert torch.equal(weight, kept[1])
    general = torch.autograd.grad((weight * q.log_prob(x)).sum(), theta, create_graph=True)
    slopes = [torch.autograd.grad(sum((g**3).sum() for g in both), [weight])[0] for both in (closed, general)]
    for a, b in zip((*closed, slopes[0]), (*general, slopes[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_bits_are_uniforms_below_their_probability():
    p = t([0.3, 0.8], [0.05, 0.5])
    u = torch.rand(7, 2, 2, generator=seeded(), dtype=torch.float64)
    assert torch.equal(draw(Bernoulli(p), 7, seeded()), (u < p).double())


@pytest.mark.parametrize(
    ("family", "slope_of_log_q"), [(Poisson, lambda x, rate: x / rate - 1), (Exponential, lambda x, rate: 1 / rate - x)]
)
def test_score_of_another_family_is_torchs_and_passes_the_weight_nothing(family, slope_of_log_q):
    rate, w = t(1.5, 2.0).requires_grad_(), t(0.3).requires_grad_()
    q = family(rate)
    x = draw(q, 4, seeded())
    of_each = slope_of_log_q(x, rate.detach())
    value = score(q, x, w * torch.ones(4, 2, dtype=torch.float64))
    assert torch.equal(value, torch.zeros(2, dtype=torch.float64))
    (g,) = torch.autograd.grad(value.sum(), [rate], create_graph=True)
    torch.testing.assert_close(g, 0.3 * of_each.sum(0), rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(g.sum(), [w])
    torch.testing.assert_close(slope, of_each.sum().reshape(1), rtol=1e-12, atol=1e-12)
    score(q, x, w * torch.ones(4, 2, dtype=torch.float64)).sum().backward()
    assert w.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_score_of_counts_has_the_bits_of_autograd(dtype):
    q = rows(Independent(Poisson(torch.tensor([0.02, 1.5, 40.0], dtype=dtype, requires_grad=True)), 1), 2**10)
    x, weight = draw(q, 5, seeded()), torch.randn((5, 2**10), generator=seeded(1), dtype=dtype)
    (rate,) = parameters(q).values()
    (closed,) = torch.autograd.grad(score(q, x, weight).sum(), rate)
    assert torch.equal(closed, torch.autograd.grad((weight * q.log_prob(x)).sum(), rate)[0])


@pytest.mark.parametrize("name", [n for n in FAMILIES if "normal" not in n])
def test_mass_logits_and_probs_are_torchs(name):
    family = FAMILIES[name]
    q = family.build(*family.theta)
    base, (x, mass) = inner(q), support(q)
    c = torch.randn(*q.batch_shape, *q.event_shape, generator=seeded(), dtype=torch.float64)

    def f(x):
        return (x * c).flatten(1 + len(q.batch_shape)).sum(-1).exp() if q.event_shape else (x * c).exp()

    torch.testing.assert_close(Enumeration()(f, q), (mass * f(x)).sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(probs(q), base.probs, rtol=1e-12, atol=0)
    torch.testing.assert_close(logits(q), base.logits, rtol=1e-12, atol=1e-12)


def through_normalisation(g, logits):
    """Return what ``logits - logsumexp(logits)`` hands back of a gradient at normalised logits."""
    return g - logits.softmax(-1) * g.sum(-1, keepdim=True)


@pytest.mark.parametrize("name", ["bernoulli-logits", "categorical-logits", "one-hot-logits"])
def test_probs_of_rows_have_the_derivative_of_the_link_at_what_made_q(name):
    family = FAMILIES[name]
    r = rows(family.build(family.theta[0].clone().requires_grad_()), 3)
    (leaf,) = parameters(r).values()
    c = torch.randn(leaf.shape, generator=seeded(), dtype=torch.float64)
    link = torch.sigmoid if "bernoulli" in name else lambda x: torch.softmax(x, -1)
    ours, torchs = probs(r), link(leaf)
    torch.testing.assert_close(ours, torchs, rtol=1e-14, atol=0)
    got, expected = (torch.autograd.grad((y**2 * c).sum(), [leaf])[0] for y in (ours, torchs))
    if "bernoulli" not in name:
        torch.testing.assert_close(
            got, 2 * c * torchs.square(), rtol=1e-12, atol=1e-12
        )  # diag(p), at normalised logits
        got = through_normalisation(got, leaf)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli-logits", "categorical-logits", "one-hot-logits"])
def test_probs_have_first_and_second_derivatives_in_a_leaf_behind_torchs_normalisation(name):
    family = FAMILIES[name]
    theta = (family.theta[0] + 1.5).requires_grad_()  # not normalised
    c = torch.randn(theta.shape, generator=seeded(), dtype=torch.float64)
    link = torch.sigmoid if "bernoulli" in name else lambda x: torch.softmax(x, -1)
    both = probs(family.build(theta)), link(theta)
    first, expected = (torch.autograd.grad((y**2 * c).sum(), [theta], create_graph=True)[0] for y in both)
    torch.testing.assert_close(first, expected, rtol=1e-12, atol=1e-12)
    second, expected = (torch.autograd.grad((g**2).sum(), [theta])[0] for g in (first, expected))
    torch.testing.assert_close(second, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 8, 9])
def test_scores_of_few_and_of_many_one_hot_samples_carry_the_gradient_of_the_weights(n):
    r = rows(OneHotCategorical(logits=t(0.4, -1.2, 0.9, 0.1).requires_grad_()), 3)
    x, (own,) = draw(r, n, seeded()), parameters(r).values()
    weight = torch.randn(n, 3, generator=seeded(1), dtype=torch.float64).requires_grad_()
    (got,) = torch.autograd.grad(score(r, x, weight).sum(), [own], create_graph=True)
    expected = torch.einsum("kr,krc->rc", weight, x)  # the logits are normalised: log q(x) = x . logits
    torch.testing.assert_close(got, expected, rtol=1e-14, atol=1e-14)
    got, expected = (torch.autograd.grad(y.sin().sum(), [weight])[0] for y in (got, expected))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["one-hot-logits", "one-hot-probs"])
def test_one_hot_draws_are_the_categories_of_the_same_uniforms(name):
    family = FAMILIES[name]
    r = rows(family.build(*family.theta), 500)
    p = probs(family.build(*family.theta))
    u = torch.rand(3, 500, 2, generator=seeded(), dtype=torch.float64) + 2.0**-54
    index = (u.unsqueeze(-1) >= p.cumsum(-1)[..., :-1]).sum(-1)
    assert torch.equal(draw(r, 3, seeded()), torch.nn.functional.one_hot(index, 3).double())


def test_two_categories_score_as_a_bit():
    logit = t(0.7).squeeze().requires_grad_()
    weight, b = t(0.3, -1.1, 2.0), t(1.0, 0.0, 1.0)
    hot = OneHotCategorical(logits=torch.stack([torch.zeros_like(logit), logit]))
    values = (
        score(Bernoulli(logits=logit), b, weight),
        score(hot, torch.stack([1 - b, b], -1), weight),
        score(Categorical(logits=hot.logits), b.long(), weight),
    )
    a, *others = (torch.autograd.grad(v, [logit], retain_graph=True)[0] for v in values)
    for other in others:
        torch.testing.assert_close(a, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [RLOO(), ScoreFunction()], ids=repr)
def test_an_f_that_does_not_sum_over_the_event_is_refused(estimator):
    q = Independent(Normal(t(0.5, -0.8).requires_grad_(), t(0.9, 0.6)), 1)
    n = estimator.n
    with pytest.raises(Refusal, match=rf"f returned shape \[{n}, 2\] .*expected \[{n}\].* Sum over the event axes\."):
        estimator(torch.square, q)


# A distribution of one's own


class Exponential(Drawable):
    """By inverse transform."""

    has_rsample = True

    def __init__(self, rate):
        self.rate = rate
        super().__init__(rate.shape, validate_args=False)

    def draw(self, sample_shape, generator):
        return self.rdraw(sample_shape, generator).detach()

    def rdraw(self, sample_shape, generator):
        u = torch.rand(*sample_shape, *self.batch_shape, generator=generator, dtype=self.rate.dtype)
        return -torch.log1p(-u) / self.rate

    def log_prob(self, x):
        return self.rate.log() - self.rate * x


class ClosedExponential(Exponential):
    def score(self, x, weight):
        return {"rate": (weight * (1 / self.rate.detach() - x)).sum(0)}


class OnlyDraws(Exponential):
    has_rsample = False


@pytest.mark.parametrize("family", [Exponential, ClosedExponential])
@pytest.mark.parametrize("count", [None, 3])
def test_a_family_of_ones_own(family, count):
    rate = t(0.5, 2.0).requires_grad_()
    q = family(rate) if count is None else rows(family(rate), count)
    loss = RLOO(n=4)(torch.square, q, seeded())
    (g,) = torch.autograd.grad(loss.sum(), [q.rate])
    x = q.draw(Size((4,)), seeded())
    fx = x**2
    expected = ((fx - fx.mean(0)) * (1 / q.rate - x)).sum(0) / 3
    torch.testing.assert_close(g, expected.detach(), rtol=1e-12, atol=1e-12)
    (g,) = torch.autograd.grad(Reparameterization(n=4)(torch.square, q, seeded()).sum(), [q.rate])
    torch.testing.assert_close(g, (-2 * fx / q.rate).mean(0).detach(), rtol=1e-12, atol=1e-12)


def test_a_family_of_ones_own_samples_as_torchs_do():
    q = Exponential(t(0.5, 2.0).requires_grad_())
    assert q.sample((3,)).shape == (3, 2)
    assert q.sample().shape == (2,)
    assert q.rsample((3,)).requires_grad
    assert not q.sample().requires_grad


def test_a_family_of_ones_own_without_rdraw_is_refused():
    with pytest.raises(UnsupportedFamily, match="OnlyDraws has none"):
        Reparameterization()(torch.square, OnlyDraws(t(0.5)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_relaxed_categories_are_finite_up_to_the_largest_logit_of_a_dtype(dtype):
    """A half-precision exponential overflows at 11: what is large for a dtype is subtracted before."""
    largest = torch.finfo(dtype).max / 4
    for size in (5.0, 12.0, 50.0, 90.0, 800.0, largest):
        z = torch.tensor([[size, size, -size], [-size, -size, -size]], dtype=torch.float64).clamp(-largest, largest)
        q = OneHotCategorical(logits=torch.zeros(2, 3))
        y = squash(q, z.to(dtype), 1.0).double()
        expected = torch.softmax(z.to(dtype).double(), -1)
        torch.testing.assert_close(y, expected, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


# Relaxations


def relaxed(q, n, temperature, generator):
    """Return the samples that GumbelSoftmax gives to f, with their graph."""
    seen = []
    event = len(q.event_shape)
    GumbelSoftmax(n, temperature)(lambda y: seen.append(y) or y.flatten(y.dim() - event).sum(-1), q, generator)
    return seen[0]


def by_hand(theta, noise, temperature, binary):
    z = (theta + noise) / temperature
    return z.sigmoid() if binary else z.softmax(-1)


def made(kind, q, n, temperature):
    if kind == "relaxed":
        return relaxed(q, n, temperature, seeded())
    z, own = perturbed(q, n, seeded()), logits(q)
    return squash(q, z + own - own.detach(), temperature)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("kind", "name", "temperature"),
    [
        *itertools.product(("relaxed", "squash"), ("bernoulli-logits", "one-hot-logits"), (0.4, 1.0, 3.0)),
        ("relaxed", "one-hot-logits", 20.0),
    ],
)
def test_relaxed_samples_are_their_formula_with_first_and_second_derivatives(kind, name, temperature, n, batched):
    """Also where all gradients are asked for at once, as batched cotangents."""
    family, binary = FAMILIES[name], name.startswith("bernoulli")
    theta = (family.theta[0] + 1.5).requires_grad_()
    u = torch.rand(n, *theta.shape, generator=seeded(), dtype=torch.float64) + 2.0**-54
    expected = by_hand(theta, u.logit() if binary else -(-u.log()).log(), temperature, binary)
    got = made(kind, family.build(theta), n, temperature)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    c = torch.randn(4, *got.shape, generator=seeded(1), dtype=torch.float64)
    if batched:
        got = torch.autograd.grad(got, theta, c, is_grads_batched=True)[0]
        torch.testing.assert_close(
            got, torch.stack([torch.autograd.grad(expected, theta, each, retain_graph=True)[0] for each in c])
        )
        return
    first, expected = (torch.autograd.grad((y**2 * c[0]).sum(), theta, create_graph=True)[0] for y in (got, expected))
    torch.testing.assert_close(first, expected, rtol=1e-12, atol=1e-12)
    second, expected = (torch.autograd.grad((g**2).sum(), theta)[0] for g in (first, expected))
    torch.testing.assert_close(second, expected, rtol=1e-11, atol=1e-12)


def test_squash_has_derivatives_in_a_temperature_that_learns():
    q, z = OneHotCategorical(logits=t(0.0, 0.0, 0.0)), t([0.4, -1.2, 0.3], [2.0, 0.1, -0.5]).requires_grad_()
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    both = squash(q, z, temperature), torch.softmax(z / temperature, -1)
    got, expected = (torch.autograd.grad((y**3).sum(), [z, temperature]) for y in both)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("family", [Bernoulli, OneHotCategorical])
def test_squash_leaves_its_logits_as_they_are(family, temperature):
    z = t([0.4, -1.2])
    squash(family(logits=t(0.3, -0.2)), z, temperature)
    assert torch.equal(z, t([0.4, -1.2]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_races_are_finite_and_add_up_to_one_at_both_ends_of_the_uniforms(monkeypatch, dtype):
    def rand(*args, dtype, **kwargs):
        ends = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
        return torch.cartesian_prod(ends, ends, ends).unsqueeze(0)

    monkeypatch.setattr(torch, "rand", rand)
    for row in ([0.0, 0.0, 0.0], [30.0, -30.0, 0.0], [5.0, float("-inf"), float("-inf")]):
        own = torch.tensor(row, dtype=dtype).expand(8, 3).clone().requires_grad_()
        y = relaxed(OneHotCategorical(logits=own, validate_args=False), 1, 1.0, None)
        (g,) = torch.autograd.grad((y**2).sum(), [own])
        assert y.isfinite().all()
        assert g.isfinite().all()
        torch.testing.assert_close(
            y.double().sum(-1), torch.ones(1, 8).double(), rtol=0, atol=3 * torch.finfo(dtype).eps
        )
