"""Edges of q: nothing possible but one outcome, no rate, no batch, one parameter for all coordinates."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical, Poisson

from estimators import (
    DARN,
    GO,
    NVIL,
    RLOO,
    VIMCO,
    BitFlip,
    Bound,
    DoublyReparameterized,
    Enumeration,
    ExponentialArrival,
    LocalExpectation,
    MeasureValued,
    Refusal,
    ScoreFunction,
    StochasticAD,
    Subset,
    SumAndSample,
    UnorderedSet,
    UnsupportedFamily,
    adapt,
    catalogue,
    log_prob,
)
from tests.problems import leaf, mean_scores, seeded, t
from tests.tolerances import z_limit

ESTIMATORS = [e for e in (cls() for cls in catalogue().values()) if not e.needs_bound]


def gradient(estimator, f, q, theta, generator=None):
    return torch.autograd.grad(estimator(f, q, generator or seeded(), estimator.init(q, seeded())).sum(), theta)[0]


# Probabilities of exactly 0 and 1


def bilinear(x):
    return 2 * x[..., 0] - x[..., 1] + x[..., 0] * x[..., 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [(1.0, 0.3), (0.0, 0.3), (1.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize(
    "estimator",
    [Enumeration(), UnorderedSet(n=4), SumAndSample(n=4), MeasureValued(), LocalExpectation(), BitFlip()],
    ids=repr,
)
def test_the_derivative_in_a_probability_of_0_or_1_is_exact(estimator, p, dtype):
    """``E f = 2 p_0 - p_1 + p_0 p_1``."""
    probs = torch.tensor(p, dtype=dtype).repeat(200, 1).requires_grad_()
    found = gradient(estimator, bilinear, Independent(Bernoulli(probs), 1), probs)
    exact = torch.tensor([2 + p[1], p[0] - 1], dtype=dtype)
    if estimator in (MeasureValued(), LocalExpectation(), BitFlip()):  # the other bit is drawn
        assert mean_scores(found.double(), exact.double()).abs().max() < z_limit(32) or torch.equal(
            found.mean(0), exact
        )
    else:
        torch.testing.assert_close(found, exact.expand_as(found), rtol=1e-5, atol=1e-5)


WHOLE = {"Enumeration", "LocalExpectation", "MeasureValued", "BitFlip"}
"""Estimators that have the whole derivative in a probability of exactly 0 or 1, as the page of estimators says."""


def test_the_page_names_the_estimators_that_have_the_derivative_in_a_certain_bit():
    """``E f`` is ``4 p_0 p_1 + 3``. Drawn samples show f at (1, 1) alone, where both bits are certain."""

    def f(x):
        return 4 * x[..., 0] * x[..., 1] + 3

    page = (Path(__file__).parents[2] / "docs" / "estimators.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"miss a part of its derivative\. (.*) have all of it\.", page)
    assert set(re.findall(r"`(\w+)`", said)) == WHOLE
    found = set()
    for estimator in ESTIMATORS:
        if estimator.refuses(Bernoulli) is None and estimator.unbiased:
            probs = torch.ones(2, dtype=torch.float64, requires_grad=True)
            q = Independent(Bernoulli(probs), 1)
            g = torch.stack([gradient(estimator, f, q, probs, seeded(i)) for i in range(64)])
            if torch.allclose(g.mean(0), torch.full((2,), 4.0, dtype=torch.float64), atol=1.5):
                found.add(type(estimator).__name__)
    by_chance = {"MuProp", "SumAndSample", "UnorderedSet"}  # for this f; for fewer possible states than samples
    assert found - by_chance == WHOLE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", [UnorderedSet(n=9), SumAndSample(n=9)], ids=repr)
def test_the_derivative_in_an_impossible_category_is_exact(estimator, dtype):
    probs = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.5, 0.5]], dtype=dtype, requires_grad=True)

    def of(e):
        q = Independent(OneHotCategorical(probs), 1)
        return gradient(e, lambda x: x[..., 0, 0] + 3 * x[..., 1, 2] * x[..., 0, 2], q, probs)

    torch.testing.assert_close(of(estimator), of(Enumeration()))


@pytest.mark.parametrize("estimator", [UnorderedSet(n=3), SumAndSample(n=3)], ids=repr)
def test_sampling_without_replacement_is_unbiased_where_states_are_impossible(estimator):
    probs = torch.tensor([1.0, 0.3]).repeat(2000, 1).requires_grad_()
    found = gradient(estimator, bilinear, Independent(Bernoulli(probs), 1), probs)[:, 0]
    assert abs(mean_scores(found, 2.3)) < z_limit(2)


# Infinite logits


@pytest.mark.parametrize("centre", ["uniform", "mean"])
def test_darn_of_a_certain_bit_is_exact(centre):
    logits = leaf(math.inf, -math.inf)
    loss = DARN(4, centre)(lambda x: 2 + x[..., 0] + 4 * x[..., 1], Independent(Bernoulli(logits=logits), 1), seeded())
    assert loss == 3
    assert torch.equal(torch.autograd.grad(loss, logits)[0], t(0.0, 0.0))


@pytest.mark.parametrize("logits", [(0.1, math.inf, -0.3, 0.5), (0.1, -math.inf, -math.inf, -math.inf)])
def test_a_subset_with_a_certain_element_or_too_few_possible_ones_is_refused(logits):
    for theta in (leaf(*logits), torch.stack([torch.zeros(4), torch.tensor(logits)])):
        with pytest.raises(Refusal, match=r"^Subset needs logits below \+inf, and at least k=2 of them above -inf\."):
            Subset(theta, 2, validate_args=True)  # torch.compile switches torch's default off for the whole process


def test_an_impossible_element_leaves_the_law_of_the_others():
    theta = leaf(0.1, -0.3, 0.5, -math.inf)
    torch.testing.assert_close(Subset(theta, 2).mean, torch.cat([Subset(theta[:3], 2).mean, t(0.0)]))
    found = gradient(RLOO(n=64), lambda x: (x * t(1.0, 3.0, 7.0, 9.0)).sum(-1) ** 2, Subset(theta, 2), theta)
    assert found.isfinite().all()
    assert found[3] == 0


# A single category


@pytest.mark.parametrize("name", ["logits", "probs"])
@pytest.mark.parametrize("family", [OneHotCategorical, Categorical])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_a_single_category_has_the_gradient_0(estimator, family, name):
    if estimator.refuses(family):
        pytest.skip("not served")
    theta = torch.ones(2, 1, requires_grad=True)
    q = Independent(family(**{name: theta}), 1)

    def f(x):
        return (2.0 + x.reshape(*x.shape[: x.dim() - len(q.event_shape)], 2)).sum(-1)

    loss = estimator(f, q, seeded(), estimator.init(q, seeded()))
    assert loss == (6 if family is OneHotCategorical else 4)
    assert torch.equal(torch.autograd.grad(loss, theta)[0], torch.zeros(2, 1))


# A rate of 0


@pytest.mark.parametrize(
    "estimator",
    [RLOO(n=4), ScoreFunction(n=2), ScoreFunction(n=3, baseline="optimal"), ExponentialArrival()],
    ids=repr,
)
def test_a_rate_of_0_with_a_derivative_is_refused_by_an_estimator_that_sees_no_count_above_0(estimator):
    rate = leaf(0.0, 2.0)
    weight = t([1.0, 1.0], [0.0, 1.0])
    made = (rate, rate.expand(3, 2), rate.view(-1), 2 * rate, rate[torch.tensor([1, 0])], rate.clone(), rate @ weight)
    for q in (*map(Poisson, made), Poisson(rate.clamp_min(0)), Independent(Poisson(rate), 1)):
        with pytest.raises(UnsupportedFamily, match=r"never sees a count above 0\. Use MeasureValued or GO"):
            estimator(lambda x, q=q: x.sum(-1) if q.event_shape else x, q, seeded())


@pytest.mark.parametrize("estimator", [GO(), MeasureValued(), StochasticAD()], ids=repr)
def test_differences_serve_a_rate_of_0(estimator):
    rate = leaf(0.0, 2.0)
    torch.testing.assert_close(gradient(estimator, lambda x: x, Poisson(rate), rate), t(1.0, 1.0))


@pytest.mark.parametrize("rate", [torch.relu, torch.nn.functional.softplus, torch.exp, torch.square])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", [RLOO(n=4), GO(), MeasureValued(), ExponentialArrival()], ids=repr)
def test_one_dead_unit_leaves_the_step_finite(estimator, dtype, rate):
    """A rate of 0 by a function whose derivative is 0, too."""
    level = torch.tensor([0.0 if rate is torch.square else -2000.0, 1.5], dtype=dtype, requires_grad=True)
    (g,) = torch.autograd.grad(estimator(lambda x: x**2, Poisson(rate(level)), seeded()).sum(), level)
    assert g.isfinite().all()
    assert g[0] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential_arrivals_of_tiny_rates_are_finite(dtype):
    rate = torch.tensor([1e-30, 1e-18, 1e-16, 1e-12, 2.0], dtype=dtype, requires_grad=True)
    loss = ExponentialArrival()(lambda x: x, Poisson(rate), seeded())
    assert torch.equal(loss[:4], torch.zeros(4, dtype=dtype))
    (g,) = torch.autograd.grad(loss.sum(), rate)
    assert torch.equal(g[:4], torch.zeros(4, dtype=dtype))
    assert g[4] > 0


def test_the_density_of_a_count_of_0_has_a_derivative_at_a_rate_of_0():
    """``log q(0) = -rate``; torch's own derivative is 0/0."""
    rate = leaf(0.0, 2.0)
    (g,) = torch.autograd.grad(log_prob(Poisson(rate), t(0.0, 3.0)).sum(), rate)
    torch.testing.assert_close(g, t(-1.0, 0.5))


# Impossible particles


@pytest.mark.parametrize(
    "estimator", [VIMCO(), VIMCO(mean="arithmetic"), VIMCO(n=2), RLOO(), ScoreFunction()], ids=repr
)
def test_impossible_particles_make_no_bound_nan(estimator):
    logits = torch.zeros(4000, 4, dtype=torch.float64, requires_grad=True)
    q, seen = Independent(Bernoulli(logits=logits), 1), []

    def log_joint(x):
        seen.append(x)
        return torch.where(x > 0, 0.0, -torch.inf)

    loss = estimator(Bound(log_joint, q, particles=4), q, seeded())
    (x,) = seen
    possible = x.sum(-1)  # log (1/4) sum_k 1[x_k = 1] / (1/2)
    exact = (possible / 2).log().mean(0)
    torch.testing.assert_close(loss.detach(), exact)
    assert not loss.isnan().any()
    (g,) = torch.autograd.grad(loss.sum(), logits)
    assert g[exact.isfinite()].isfinite().all()


def test_vimco_is_unbiased_where_particles_may_be_impossible():
    """The third particle is always possible; the weight of particle k is 1 / p_k where its bit is 1."""
    logits = leaf(0.3, -0.4)
    p = logits.sigmoid()
    x = t([0, 0], [0, 1], [1, 0], [1, 1])
    (exact,) = torch.autograd.grad(
        ((p * x + (1 - p) * (1 - x)).prod(-1) * (((x / p).sum(-1) + 1) / 3).log()).sum(), logits
    )
    many = torch.tensor([0.3, -0.4, 80.0], dtype=torch.float64).repeat(20_000, 1).requires_grad_()
    q = Independent(Bernoulli(logits=many), 1)
    bound = Bound(lambda x: torch.where(x > 0, 0.0, -torch.inf), q, particles=3)
    (g,) = torch.autograd.grad(VIMCO()(bound, q, seeded()).sum(), many)
    assert mean_scores(g[:, :2], exact).abs().max() < z_limit(2)


def test_dreg_of_impossible_particles_is_finite():
    loc = torch.full((500, 3), 1.0, dtype=torch.float64, requires_grad=True)
    q = Independent(Normal(loc, 0.5), 1)
    bound = Bound(lambda x: torch.where(x > 0.5, -(x**2), -torch.inf), q, particles=3)
    loss = DoublyReparameterized(n=2)(bound, q, seeded())
    assert not loss.isnan().any()
    (g,) = torch.autograd.grad(loss.sum(), loc)
    assert g[loss.isfinite()].isfinite().all()


LAWS = {
    "bits": lambda t: Independent(Bernoulli(logits=t.unsqueeze(1).expand(-1, 3, -1)), 2),
    "normals": lambda t: Independent(Normal(t.unsqueeze(1).expand(-1, 3, -1), 1.0), 2),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("particles", [None, 3])
def test_rows_that_the_loss_leaves_out_have_no_gradient_where_their_bound_is_infinite(law, particles):
    """A product with the cotangent 0 of such a row would be NaN, and reach every parameter that the rows share."""
    found = 0
    for estimator in (cls() for cls in catalogue().values()):
        theta = torch.zeros(60, 1, dtype=torch.float64, requires_grad=True)
        q = LAWS[law](theta)
        bound = Bound(lambda x: torch.where(x > 0, 0.0, -torch.inf).sum((-1, -2)[: 2 - (particles == 3)]), q, particles)
        try:
            value = estimator(bound, q, seeded(), estimator.init(q, seeded()))
        except Refusal:
            continue
        possible = value.isfinite()
        assert not value.isnan().any(), estimator
        if possible.any() and not possible.all():  # the sum over all states is infinite in every row
            (g,) = torch.autograd.grad(value[possible].sum(), theta)
            assert torch.equal(g[~possible], torch.zeros_like(g[~possible])), estimator
            found += 1
    assert found > 10


@pytest.mark.parametrize("estimator", [ScoreFunction(), RLOO(), MeasureValued()], ids=repr)
def test_an_infinite_value_that_the_loss_leaves_out_has_no_gradient_without_a_batch_too(estimator):
    loc = torch.tensor(0.5, requires_grad=True)
    value = estimator(lambda x: torch.full_like(x, -torch.inf), Normal(loc, 1.0), seeded())
    torch.where(value.isfinite(), value, 0).backward()
    assert loc.grad == 0


# No batch, an empty batch, a shared parameter


FAMILIES = {  # torch makes no OneHotCategorical of an empty batch
    "bits": lambda shape: Independent(Bernoulli(logits=torch.zeros(*shape, 3, requires_grad=True)), 1),
    "integers": lambda shape: Categorical(logits=torch.zeros(*shape, 3, requires_grad=True), validate_args=False),
    "normals": lambda shape: Independent(Normal(torch.zeros(*shape, 3, requires_grad=True), 1.0), 1),
    "counts": lambda shape: Poisson(torch.ones(shape, requires_grad=True)),
    "subsets": lambda shape: Subset(torch.zeros(*shape, 3, requires_grad=True), 2, validate_args=False),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)], ids=str)
def test_an_empty_batch_has_an_empty_loss(estimator, name, shape):
    q = FAMILIES[name](shape)
    if estimator.refuses(type(q.base_dist if isinstance(q, Independent) else q)):
        pytest.skip("not served")
    state = estimator.init(FAMILIES[name]((2,)), seeded())
    loss = estimator(lambda x: x.sum(-1) if q.event_shape else 1.0 * x, q, seeded(), state)
    assert loss.shape == shape
    loss.sum().backward()


@pytest.mark.parametrize("build", [lambda m: Normal(m, 1.0), lambda m: Independent(Normal(m.unsqueeze(-1), 1.0), 1)])
def test_a_baseline_is_learned_where_one_parameter_is_shared_by_the_batch(build):
    mean = leaf(0.5, -0.4, 0.1)
    q, estimator = build(mean), NVIL()

    def f(x):
        return (x**2).sum(-1) if q.event_shape else x**2

    state = estimator.init(q, seeded())
    optimizer = torch.optim.Adam(state.parameters(), lr=1e-2)
    for seed in range(3):
        adapt(estimator, f, build(mean), state, optimizer, seeded(seed))
    assert estimator(f, q, seeded(), state).shape == (3,)


def test_one_logit_for_all_elements_of_a_subset():
    logit = leaf(0.4)
    q = Subset(logit.expand(4), 1)
    x = q.sample((1000,))
    assert torch.equal(x.sum(-1), torch.ones_like(x.sum(-1)))
    torch.testing.assert_close(q.log_prob(x), torch.full_like(x[:, 0], math.log(1 / 4)))
    assert gradient(RLOO(n=4), lambda x: x[..., 0], q, logit).abs() < 1e-12
