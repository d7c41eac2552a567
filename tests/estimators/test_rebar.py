"""REBAR: the paper's three terms on the same noise, the coupling, unbiasedness, what learns and what does not."""

import math

import pytest
import torch
from torch import Size
from torch.distributions import Bernoulli, Categorical, Independent, OneHotCategorical

from bench.conformance import support
from bench.measurement.counting import Counter, counted
from estimators import (
    REBAR,
    RLOO,
    Bound,
    InvalidParameter,
    NotDifferentiable,
    Refusal,
    ScoreFunction,
    UnsupportedFamily,
    adapt,
    parameters,
    rows,
    score,
    uniform,
)
from estimators import rebar as module
from tests.problems import bits, curved, curved_on_hot, exact_gradient, hot, seeded
from tests.tolerances import z_limit

BITS = torch.tensor([[0.4, -1.2, 0.9], [1.7, 0.2, -0.5]], dtype=torch.float64)
HOT = torch.tensor([[0.4, -1.2, 0.9], [1.3, 0.2, -0.5]], dtype=torch.float64)
SETTINGS = [(0.1, 1.0), (0.5, 1.0), (0.5, -0.7), (2.0, 1.6)]
over_settings = pytest.mark.parametrize(("temperature", "coefficient"), SETTINGS)


PROBLEMS = [(bits, curved, BITS), (hot, curved_on_hot, HOT)]
over_problems = pytest.mark.parametrize(("make", "f", "logits"), PROBLEMS, ids=["bits", "one-hot"])


def gradient(estimator, f, make, logits, seed=0, state=None):
    theta = logits.clone().requires_grad_()
    loss = estimator(f, make(theta), seeded(seed), state)
    return loss.detach(), torch.autograd.grad(loss.sum(), theta)[0]


def many(estimator, f, make, logits, count=2**16, seed=1, state=None):
    """Return the gradients of many calls, ``[count, *logits.shape]``."""
    _, each = gradient(estimator, f, make, logits.expand(count, *logits.shape), seed, state)
    return each


def check_unbiased(estimator, f, make, logits, state=None):
    each = many(estimator, f, make, logits, state=state)
    error = each.std(0) / math.sqrt(len(each))
    z = (each.mean(0) - exact_gradient(f, make, logits)) / error
    assert z.abs().max() < z_limit(z.numel() * 2 * len(SETTINGS))


# The paper's formula, with three evaluations of f and autograd through the conditional noise ------------------------


def literal_bits(f, logits, u, temperature, coefficient):
    phi = logits.clone().requires_grad_()
    p = phi.sigmoid()
    z = phi + u.logit()
    b = (z > 0).double()
    v = torch.where(b > 0, (u - 1 + p) / p, u / (1 - p)).detach()
    conditional = phi + torch.where(b > 0, v * p + 1 - p, v * (1 - p)).logit()
    return three_terms(f, phi, b, b - p.detach(), z, conditional, lambda z: (z / temperature).sigmoid(), coefficient)


def literal_hot(f, logits, u, temperature, coefficient):
    theta = logits.clone().requires_grad_()
    p = theta.softmax(-1)
    z = p.log() - (-u.log()).log()
    chosen = z.argmax(-1, keepdim=True)
    x = torch.zeros_like(z).scatter_(-1, chosen, 1.0)
    first = (-z.gather(-1, chosen)).exp().detach()  # -log v of the chosen category
    others = ((-z).exp() - first) * p  # -log v of the others
    waited = torch.where(x > 0, first, others.detach() / p + first)
    return three_terms(
        f, theta, x, x - p.detach(), z, -waited.log(), lambda z: (z / temperature).softmax(-1), coefficient
    )


def three_terms(f, theta, x, score, z, conditional, squash, coefficient):
    torch.testing.assert_close(conditional, z, rtol=0, atol=1e-9)  # the noise is shared
    axes = (...,) + (None,) * (theta.dim() - f(x).dim())
    weight = (f(x) - coefficient * f(squash(conditional))).detach()
    (relaxed,) = torch.autograd.grad(f(squash(z)).sum(), theta, retain_graph=True)
    (conditional_relaxed,) = torch.autograd.grad(f(squash(conditional)).sum(), theta)
    return weight[axes] * score + coefficient * (relaxed - conditional_relaxed)


@over_settings
@pytest.mark.parametrize(
    ("make", "f", "logits", "literal"),
    [(bits, curved, BITS, literal_bits), (hot, curved_on_hot, HOT, literal_hot)],
    ids=["bits", "one-hot"],
)
def test_the_three_terms_of_the_paper_on_the_same_noise(make, f, logits, literal, temperature, coefficient):
    estimator = REBAR(n=3, temperature=temperature, coefficient=coefficient)
    wide = logits.expand(20, *logits.shape)
    _, got = gradient(estimator, f, make, wide, seed=4)
    u = uniform(Size((3, *wide.shape)), wide, seeded(4))
    expected = torch.stack([literal(f, wide, each, temperature, coefficient) for each in u]).mean(0)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@over_problems
def test_coefficient_zero_is_the_score_function(make, f, logits):
    seen = []
    value, got = gradient(REBAR(n=4, coefficient=0.0), lambda x: f(seen.append(x.detach()) or x), make, logits)
    x = seen[0]
    theta = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(score(make(theta), x, f(x) / 4).sum(), theta)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(value, f(x).mean(0), rtol=0, atol=0)


@over_problems
def test_by_probability_the_gradient_is_the_same(make, f, logits):
    def by_probability(theta):
        if make is bits:
            return Independent(Bernoulli(probs=theta.sigmoid(), validate_args=False), 1)
        return Independent(OneHotCategorical(probs=theta.softmax(-1), validate_args=False), 1)

    _, plain = gradient(REBAR(n=2), f, make, logits.expand(20, 2, 3))
    _, other = gradient(REBAR(n=2), f, by_probability, logits.expand(20, 2, 3))
    torch.testing.assert_close(other, plain, rtol=1e-10, atol=1e-12)


# The coupling, which no test of the mean can see ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.5, 1e3])
@pytest.mark.parametrize("make", [bits, hot])
def test_the_relaxed_sample_always_has_the_discrete_outcome(make, temperature, dtype):
    rest = [[50.0, -50.0, 0.0], [0.3, 0.3, 0.3], [1e-4, -1e-4, 0.0], [8.0, -8.0, 3.0]]
    logits, seen = torch.tensor(rest, dtype=dtype).expand(5_000, 4, 3), []
    q = make(logits.clone().requires_grad_())

    def f(x):
        seen.append(x.detach())
        return x.square().flatten(x.dim() - len(q.event_shape)).sum(-1)

    REBAR(temperature=temperature)(f, q, seeded())
    x, y = seen
    assert y.isfinite().all()
    if make is bits:
        assert ((y - 0.5) * (x - 0.5) >= 0).all()
    else:
        assert torch.equal((y * x).sum(-1), y.amax(-1))
    if temperature == 1e-6 and dtype == torch.float64:
        assert ((y - x).abs() < 1e-6).double().mean() > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1e3])
def test_extreme_logits_give_finite_gradients(dtype, temperature):
    phi = torch.tensor([50.0, -50.0, 800.0], dtype=dtype).expand(64, 3)
    _, got = gradient(REBAR(temperature=temperature), curved, bits, phi)
    assert got.abs().max() < 1e-5
    theta = torch.tensor([[50.0, -50.0, 0.0], [0.0, -math.inf, 1.0]], dtype=dtype).expand(64, 2, 3)
    _, got = gradient(REBAR(temperature=temperature), curved_on_hot, hot, theta)
    assert got.isfinite().all()
    assert (got[:, 1, 1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_bits_by_probability(dtype):
    probs = torch.tensor([0.0, 1.0, 0.5], dtype=dtype).expand(64, 3)
    _, got = gradient(REBAR(), curved, lambda p: Independent(Bernoulli(probs=p, validate_args=False), 1), probs)
    assert got.isfinite().all()
    assert (got[:, 2] != 0).all()


# Unbiased ------------------------------------------------------------------------------------------------------------


@over_settings
@over_problems
def test_it_is_unbiased(make, f, logits, temperature, coefficient):
    check_unbiased(REBAR(temperature=temperature, coefficient=coefficient), f, make, logits)


@over_problems
@pytest.mark.parametrize("part", [lambda slope: slope, lambda slope: 0 * slope], ids=["no conditional", "no v'(phi)"])
def test_without_the_conditional_gradient_or_its_noise_it_would_be_biased(make, f, logits, part, monkeypatch):
    monkeypatch.setattr(module, "path_difference", lambda *args: part(args[-1]))
    with pytest.raises(AssertionError):
        check_unbiased(REBAR(), f, make, logits)


@over_problems
def test_it_is_unbiased_on_a_bound(make, f, logits):
    """log q off the support is that of the relaxed point: a step in c would make it biased."""
    theta = logits.clone().requires_grad_()
    q = make(theta)
    x, mass = support(q)
    (exact,) = torch.autograd.grad((mass * Bound(f, q)(x)).sum(), theta)
    wide = logits.expand(2**16, *logits.shape).clone().requires_grad_()
    q = make(wide)
    (each,) = torch.autograd.grad(REBAR()(Bound(f, q), q, seeded(1)).sum(), wide)
    z = (each.mean(0) - exact) / (each.std(0) / math.sqrt(len(each)))
    assert z.abs().max() < z_limit(2 * z.numel())


def test_a_bound_is_linear_between_one_hot_points():
    q = hot(HOT)
    bound, (x, _) = Bound(lambda x: 0 * x.sum((-1, -2)), q), support(q)
    torch.testing.assert_close(bound(x), -q.log_prob(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(
        bound(0.3 * x[1] + 0.7 * x[5]), 0.3 * bound(x[1]) + 0.7 * bound(x[5]), rtol=0, atol=1e-14
    )


# Learning ------------------------------------------------------------------------------------------------------------


def adapted(f, make, logits, steps=200, lr=5e-2):
    estimator = REBAR()
    q = make(logits.clone().requires_grad_())
    state = estimator.init(q)
    optimizer = torch.optim.Adam(state.parameters(), lr=lr)
    for step in range(steps):
        adapt(estimator, f, rows(q, 64), state, optimizer, seeded(1000 + step))
    return state.requires_grad_(False)


def variance(estimator, f, make, logits, state=None):
    return many(estimator, f, make, logits, count=2**15, state=state).var(0).sum().item()


def test_adapt_reduces_the_variance_well_below_the_score_function_and_leave_one_out():
    logits = torch.tensor([-1.0], dtype=torch.float64)

    def f(x):
        return (x + 1).square().sum(-1)

    state = adapted(f, bits, logits)
    learned = variance(REBAR(), f, bits, logits, state)
    assert learned < variance(REBAR(), f, bits, logits) / 50
    assert learned < variance(RLOO(n=2), f, bits, logits) / 50
    check_unbiased_with(state, f, logits)


def check_unbiased_with(state, f, logits):
    theta = logits.clone().requires_grad_()
    p = theta.sigmoid()
    (exact,) = torch.autograd.grad((p * 4 + (1 - p)).sum(), theta)
    each = many(REBAR(), f, bits, logits, state=state)
    z = (each.mean(0) - exact) / (each.std(0) / math.sqrt(len(each)))
    assert z.abs().max() < z_limit(2)


def test_where_the_relaxation_is_no_control_variate_adapt_switches_it_off():
    """(b - t)^2 with t near 1/2 is the same at both values and 0 between them: c has nothing to take away."""
    logits = torch.zeros(1, dtype=torch.float64)

    def f(x):
        return (x - 0.499).square().sum(-1)

    state = adapted(f, bits, logits)
    plain = variance(ScoreFunction(), f, bits, logits)
    assert variance(REBAR(), f, bits, logits) > 1.4 * plain
    assert variance(REBAR(), f, bits, logits, state) < 1.05 * plain
    assert abs(state.coefficient.item()) < 0.2


@over_problems
def test_a_fresh_state_is_the_fields(make, f, logits):
    estimator = REBAR(n=2, temperature=0.3, coefficient=1.4)
    state = estimator.init(make(logits))
    assert state.log_temperature.exp().item() == pytest.approx(0.3, rel=1e-12)
    assert state.coefficient.item() == 1.4
    assert state.coefficient.dtype == torch.float64
    assert all(p.requires_grad for p in state.parameters())
    plain, other = gradient(estimator, f, make, logits), gradient(estimator, f, make, logits, state=state)
    torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-14)


@over_problems
def test_weights_stay_attached_only_while_the_state_learns(make, f, logits, monkeypatch):
    attached, real = [], module.inject_at
    monkeypatch.setattr(
        module, "inject_at", lambda shape, pairs, *_: attached.append(pairs[0][0].requires_grad) or real(shape, pairs)
    )
    state = REBAR().init(make(logits))
    gradient(REBAR(), f, make, logits)
    gradient(REBAR(), f, make, logits, state=state)
    gradient(REBAR(), f, make, logits, state=state.requires_grad_(False))
    assert attached == [False, True, False]


# What f closes over --------------------------------------------------------------------------------------------------


@over_problems
@pytest.mark.parametrize("learning", [False, True])
def test_what_f_closes_over_gets_the_gradient_of_the_value_alone(make, f, logits, learning):
    w, seen = torch.full((), 0.7, dtype=torch.float64, requires_grad=True), []
    theta = logits.clone().requires_grad_()
    q = make(theta)
    state = REBAR().init(q).requires_grad_(learning)
    loss = REBAR(n=3)(lambda x: w * f(seen.append(x.detach()) or x) + w.square(), q, seeded(), state)
    loss.sum().backward()
    x = seen[0]
    expected = f(x).mean(0).sum() + 2 * w.detach() * loss.numel()
    torch.testing.assert_close(w.grad, expected, rtol=1e-12, atol=0)
    assert all(p.grad is None for p in state.parameters())
    assert theta.grad.count_nonzero() > 0


@over_problems
def test_adapt_touches_the_state_alone(make, f, logits):
    w = torch.full((), 0.7, dtype=torch.float64, requires_grad=True)
    theta = logits.clone().requires_grad_()
    q = make(theta)
    state = REBAR().init(q)
    r = rows(q, 16)
    adapt(REBAR(), lambda x: w * f(x), r, state, torch.optim.SGD(state.parameters(), lr=0.1), seeded())
    assert w.grad is None
    assert theta.grad is None
    assert all(t.grad is None for t in parameters(r).values())
    assert state.coefficient.item() != 1.0
    assert state.log_temperature.exp().item() != pytest.approx(0.5, rel=1e-9)


@over_problems
def test_adapt_follows_the_derivative_of_the_second_moment(make, f, logits):
    """The slope that adapt leaves on the state, against a central difference on the same noise."""
    q = make(logits.clone().requires_grad_())
    state = REBAR().init(q)

    def moment():
        loss, each = gradient(REBAR(), f, make, logits.expand(8, *logits.shape), seed=3, state=state)
        return each.square().sum().item() / loss.numel()

    r = make(logits.expand(8, *logits.shape).clone().requires_grad_())
    value = adapt(REBAR(), f, r, state, torch.optim.SGD(state.parameters(), lr=0.0), seeded(3))
    assert value.item() == pytest.approx(moment(), rel=1e-12)
    for p in (state.log_temperature, state.coefficient):
        sides = []
        for sign in (1, -1):
            before = p.detach().clone()
            p.data += sign * 1e-5
            sides.append(moment())
            p.data = before
        slope = p.grad.item() * state.unit.item() ** 2  # adapt divides f by its unit
        assert slope == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_evaluations():
    counter = Counter(event_dims=1)
    q = rows(bits(BITS.clone().requires_grad_()), 5)
    loss = REBAR(n=3)(counted(curved, counter), q, seeded())
    torch.autograd.grad(loss.sum(), list(parameters(q).values()))
    assert (counter.f, counter.df) == (2 * 3 * 10, 3 * 10)


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        {"n": 0},
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"coefficient": math.inf},
        {"coefficient": "1"},
        {"coefficient": True},
    ],
)
def test_bad_parameters(field):
    with pytest.raises(InvalidParameter, match=r"REBAR needs .*Use REBAR\("):
        REBAR(**field)


def test_integer_categories_are_refused_with_the_one_hot_form():
    with pytest.raises(UnsupportedFamily, match="Use OneHotCategorical"):
        REBAR()(lambda x: x, Categorical(logits=torch.zeros(3)))


def test_a_black_box_is_refused():
    with pytest.raises(NotDifferentiable, match="needs df/dx"):
        REBAR()(lambda x: curved(x.detach()), bits(BITS), seeded())


def test_f_must_sum_over_the_event():
    with pytest.raises(Refusal, match="one value per sample and batch element"):
        REBAR()(lambda x: x, bits(BITS), seeded())


def test_an_impossible_category_leaves_the_state_finite():
    logits = torch.tensor([0.0, 1.0, -torch.inf], dtype=torch.float64, requires_grad=True)
    q = OneHotCategorical(logits=logits, validate_args=False)
    state = REBAR().init(q)
    optimizer = torch.optim.Adam(state.parameters())
    for _ in range(3):
        adapt(
            REBAR(),
            lambda x: (x * torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)).sum(-1) ** 2,
            rows(q, 8),
            state,
            optimizer,
        )
    assert all(p.isfinite() for p in state.parameters())
