"""Which derivatives work for which estimator: the whole catalogue through each, and ``docs/derivatives.md``."""

import re
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad
from torch.distributions import Bernoulli, Categorical, Gamma, Independent, Normal, OneHotCategorical, Poisson

from bench.conformance import CASES, Case
from bench.conformance.cases import leaves
from estimators import (
    RLOO,
    Bound,
    Enumeration,
    ForwardGradient,
    GumbelSoftmax,
    Nested,
    Refusal,
    ReinMax,
    Reparameterization,
    ReparameterizedMixture,
    ReparameterizedVonMises,
    ScoreFunction,
    SetFunction,
    TokenSequence,
    carry,
    catalogue,
    inner,
)
from tests.problems import bits, leaf, seeded, t

PAGE = Path(__file__).parents[2] / "docs" / "derivatives.md"
WHOLE = (Categorical, TokenSequence)
"""Families whose samples are whole numbers."""
SMOOTH = {"Enumeration", "ExponentialArrival", "GumbelSoftmax", "Reparameterization"}
"""Estimators whose loss is a smooth function of q's parameters and of the noise."""
CONTROLLED = {"HessianControlVariate", "QuadraticControlVariate"}
"""Estimators that add a control variate of mean 0 to Reparameterization."""
PATH = {
    "DARN",
    "GappedStraightThrough",
    "GumbelRao",
    "ReinMax",
    "SIMPLE",
    "StraightThrough",
    "StraightThroughGumbelSoftmax",
}
"""Estimators whose only gradient is f's along a path, so that mixed derivatives in q and f are like first ones."""
ESTIMATORS = [
    *(cls() for cls in catalogue().values() if cls is not Nested),  # no case here has layers
    ScoreFunction(n=3, baseline="optimal"),
    ScoreFunction(n=2),
    Reparameterization(n=2, noise="antithetic"),
    Reparameterization(n=2, noise="sobol"),
]
GAMMA = Case(
    "Gamma",
    (t(1.3, 2.2), t(0.7, 1.6)),
    lambda a, rate: Independent(Gamma(a, rate, validate_args=False), 1),
    lambda x: x.sin().sum(-1) + x.prod(-1),
    None,
)
PAIRS = [(e, case) for e in ESTIMATORS for case in (*CASES, GAMMA)]


def serves(estimator, case):
    if estimator.refuses(type(inner(case.q()))) is not None or (
        case is GAMMA and (estimator.needs_bound or "Measure" in repr(estimator))
    ):
        return False
    if estimator.needs_set != (case.combine is not None):
        return False
    return not estimator.needs_bound or not estimator.refuses_particles(case.particles)


PAIRS = [(e, case) for e, case in PAIRS if serves(e, case)]
each_pair = pytest.mark.parametrize(("estimator", "case"), PAIRS, ids=[f"{e!r}, {c.name}" for e, c in PAIRS])


def loss_of(estimator, case, theta, f=None, generator=None):
    q, f = case.build(*theta), f or case.f
    f = Bound(f, q, case.particles) if estimator.needs_bound or case.particles else f
    f = SetFunction(f, case.combine) if case.combine else f
    state = estimator.init(q, seeded(1)) if estimator.needs_state else None
    return estimator(f, q, generator, state)


def reverse(estimator, case, theta=None, f=None, generator=None):
    """Return the summed loss and its gradient, by a plain backward pass."""
    theta = leaves(case.theta) if theta is None else theta
    loss = loss_of(estimator, case, theta, f, generator).sum()
    return loss.detach(), torch.autograd.grad(loss, theta, materialize_grads=True)


def close(got, expected):
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def named(estimator):
    """Return the beginning of the message that refuses a second derivative."""
    return rf"^{re.escape(repr(estimator))} has no second derivatives: "


def fit(estimator):
    """Return the first problem that an estimator serves."""
    return next(case for e, case in PAIRS if e == estimator)


# Second derivatives -----------------------------------------------------------------------------------------------


def second(estimator, case, seed=2):
    """Return theta, the gradient of a loss that has theta also in f and beside it, and this loss as a function."""

    def total(theta):
        factor = 2 + theta[0].sum().cos()
        return loss_of(estimator, case, theta, lambda x: factor * case.f(x), seeded(seed)).sum() + theta[0].pow(3).sum()

    theta = leaves(case.theta)
    return theta, torch.autograd.grad(total(theta), theta, create_graph=True, materialize_grads=True), total


@each_pair
def test_second_derivatives_are_right_or_refused(estimator, case):
    name, (theta, g, total) = type(estimator).__name__, second(estimator, case)
    close(g, torch.autograd.grad(total(theta), theta, materialize_grads=True))
    weights = [torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).reshape(t.shape) for t in theta]
    along = sum((a * w).sum() for a, w in zip(g, weights, strict=True))
    if name not in SMOOTH | CONTROLLED:
        with pytest.raises(Refusal, match=named(estimator)):
            torch.autograd.grad(along, theta)
        return
    if case is GAMMA:
        with pytest.raises(RuntimeError, match="derivative for '_standard_gamma_grad' is not implemented"):
            torch.autograd.grad(along, theta)
        return
    got = torch.autograd.grad(along, theta, materialize_grads=True)
    if name in CONTROLLED:  # the control variate has mean 0 everywhere, and its derivative is left out
        theta, g, _ = second(Reparameterization(estimator.n), case)
        along = sum((a * w).sum() for a, w in zip(g, weights, strict=True))
        close(got, torch.autograd.grad(along, theta, materialize_grads=True))
        return
    step, sides = 1e-6, []
    for way in (1, -1):
        moved = leaves(tuple(t.detach() + way * step * w for t, w in zip(theta, weights, strict=True)))
        sides.append(torch.autograd.grad(total(moved), moved, materialize_grads=True))
    for a, there, back in zip(got, *sides, strict=True):
        torch.testing.assert_close(a, (there - back) / (2 * step), rtol=1e-5, atol=1e-5)


@each_pair
def test_mixed_derivatives_in_q_and_in_what_f_closes_over_are_refused_too(estimator, case):
    """Neither gradient knows of the other's tensor; another loss that holds both would hide it."""
    if type(estimator).__name__ in SMOOTH | CONTROLLED | PATH:
        return
    theta, phi = leaves(case.theta), leaf(1.5).sum().detach().requires_grad_()
    loss = loss_of(estimator, case, theta, lambda x: phi.square() * case.f(x), seeded()).sum() + phi * theta[0].sum()
    of_theta, of_phi = (torch.autograd.grad(loss, s, create_graph=True)[0] for s in (theta[0], phi))
    for gradient, source in ((of_theta.sum(), phi), (of_phi, theta[0])):
        with pytest.raises(Refusal, match=named(estimator)):
            torch.autograd.grad(gradient, source, retain_graph=True)


def test_a_second_derivative_in_what_f_closes_over_alone_is_right():
    phi = leaf(1.5)
    loss = RLOO(n=4)(lambda x: phi.square() * x, Normal(leaf(0.3), t(1.0)), seeded()).sum()
    (g,) = torch.autograd.grad(loss, phi, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(g, phi)[0], 2 * loss.detach() / phi.detach() ** 2)


def test_hessians_of_torch_are_right_or_refused():
    def total(estimator):
        def loss(theta):
            q = Independent(Normal(theta, 1.0), 1)
            return estimator(lambda x: x.sin().sum(-1), q, seeded()) + theta.pow(3).sum()

        return loss

    def forward(f):  # torch.func.hessian leaves no choice of randomness
        return torch.func.jacfwd(f, randomness="same")

    expected = -Reparameterization()(lambda x: x.sin(), Normal(t(0.5), 1.0), seeded()) + 6 * 0.5
    for outer in (forward, torch.func.jacrev):
        for within in (forward, torch.func.jacrev):
            torch.testing.assert_close(outer(within(total(Reparameterization())))(t(0.5)).reshape(1), expected)
            with pytest.raises(Refusal, match=r"^RLOO\(n=2.*\) has no second derivatives"):
                outer(within(total(RLOO())))(t(0.5))
    torch.testing.assert_close(
        torch.autograd.functional.hessian(total(Reparameterization()), t(0.5)).reshape(1), expected
    )
    with pytest.raises(Refusal, match=r"^RLOO\(n=2.*\) has no second derivatives"):
        torch.autograd.functional.hessian(total(RLOO()), t(0.5))
    theta, along = t(0.5).requires_grad_(), t(1.0)
    with forward_ad.dual_level():  # forward over reverse
        dual = forward_ad.make_dual(theta, along)
        loss = total(RLOO())(dual)
        with pytest.raises(Refusal, match="no second derivatives"):
            torch.autograd.grad(loss, dual)


SECOND = {
    "states of categories": (Enumeration(), lambda a: OneHotCategorical(logits=a)),
    "states of bits": (Enumeration(), lambda a: Independent(Bernoulli(logits=a), 1)),
    "relaxed categories": (GumbelSoftmax(n=2), lambda a: OneHotCategorical(logits=a)),
    "cooler categories": (GumbelSoftmax(n=2, temperature=0.5), lambda a: OneHotCategorical(logits=a)),
    "relaxed bits": (GumbelSoftmax(n=2), lambda a: Independent(Bernoulli(logits=a), 1)),
    "a path": (Reparameterization(n=2), lambda a: Independent(Normal(a, a.exp()), 1)),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", SECOND)
def test_every_nesting_of_modes_gives_one_hessian(name):
    estimator, law = SECOND[name]
    theta, weight = t(0.4, 0.0, -0.3), t(1.0, 2.0, 5.0)

    def loss(a):
        return estimator(lambda x: (x * weight).sum(-1) ** 3, law(a), seeded())

    def forward(f):
        return torch.func.jacfwd(f, randomness="same")

    def along(f, direction):
        return lambda a: torch.func.jvp(f, (a,), (direction,))[1]

    expected = torch.func.jacrev(torch.func.jacrev(loss))(theta)
    for outer in (forward, torch.func.jacrev):
        torch.testing.assert_close(outer(forward(loss))(theta), expected)
    for row, axis in zip(expected, torch.eye(3).to(theta), strict=True):
        torch.testing.assert_close(torch.func.jacrev(along(loss, axis))(theta), row)
        columns = [along(along(loss, axis), other)(theta) for other in torch.eye(3).to(theta)]
        torch.testing.assert_close(torch.stack(columns), row)


@pytest.mark.parametrize("name", SECOND)
def test_a_hessian_in_every_row_of_vmap(name):
    estimator, law = SECOND[name]
    rows = torch.stack([t(0.4, 0.0, -0.3), t(0.1, 0.7, -0.2)])

    def hessian(a):
        loss = lambda a: estimator(lambda x: x[..., 0] ** 3 + x.square().sum(-1), law(a), seeded())  # noqa: E731
        return torch.func.jacrev(torch.func.jacrev(loss))(a)

    got = torch.func.vmap(hessian, randomness="same")(rows)
    torch.testing.assert_close(got, torch.stack([hessian(row) for row in rows]))


@pytest.mark.parametrize("outer", ["grad", "jvp"])
def test_nested_forward_mode_of_reinmax_is_refused_in_one_sentence(outer):
    def loss(a):
        return ReinMax()(lambda x: x[..., 0], OneHotCategorical(logits=a))

    def first(a):
        return torch.func.grad(loss)(a) if outer == "grad" else torch.func.jvp(loss, (a,), (a,))[1]

    with pytest.raises(Refusal, match=named(ReinMax())):
        torch.func.jvp(first, (t(0.4, 0.0, -0.3),), (t(1.0, 0.0, 0.0),))


@pytest.mark.parametrize("q", ["ReparameterizedVonMises", "ReparameterizedMixture"])
def test_samplers_that_are_differentiable_once_say_so(q):
    a = leaf(0.4, 1.2)
    if q == "ReparameterizedVonMises":
        made = ReparameterizedVonMises(t(0.1, 0.2), a)
    else:
        made = ReparameterizedMixture(torch.distributions.Categorical(logits=t(0.1, 0.4)), Normal(a, 1.0))
    (g,) = torch.autograd.grad(Reparameterization()(lambda x: x.sin(), made, seeded()).sum(), a, create_graph=True)
    with pytest.raises(Refusal, match=f"^{q} has no second derivatives"):
        torch.autograd.grad(g.sum(), a)


# Transforms -------------------------------------------------------------------------------------------------------


@each_pair
def test_torch_func_grad(estimator, case):
    value, expected = reverse(estimator, case, generator=seeded(3))
    places = tuple(range(len(case.theta)))
    if "baseline='optimal'" in repr(estimator) and case.name not in CATEGORICAL:
        with pytest.raises(Refusal, match=OPTIMAL):
            torch.func.grad(lambda *theta: loss_of(estimator, case, theta).sum(), places)(*case.theta)
        return
    f = torch.func.grad_and_value(lambda *theta: loss_of(estimator, case, theta, generator=seeded(3)).sum(), places)
    got, loss = f(*case.theta)
    close((loss, *got), (value, *expected))


OPTIMAL = "^ScoreFunction with baseline='optimal' does not run under"
CATEGORICAL = {case.name for case in CASES if "ategorical" in case.name}
LOOKS = {"ExponentialArrival"}
"""Estimators that look at the values of parameters, which vmap hides."""


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@each_pair
def test_vmap_of_grad(estimator, case):
    rows = [tuple(t * factor for t in case.theta) for factor in (1.0, 0.9, 0.8)]
    stacked = tuple(torch.stack(each) for each in zip(*rows, strict=True))
    places = tuple(range(len(case.theta)))
    f = (
        (lambda x: (1.3 * x.double()).sin().sum(-1))
        if isinstance(inner(case.q()), Categorical | TokenSequence)
        else None
    )
    row = torch.func.grad(lambda *theta: loss_of(estimator, case, theta, f).sum(), places)
    optimal = "baseline='optimal'" in repr(estimator) and case.name not in CATEGORICAL
    if optimal or "sobol" in repr(estimator) or type(estimator).__name__ in LOOKS:
        with pytest.raises(Refusal, match=rf"looks at values|Sobol points|{OPTIMAL}"):
            torch.func.vmap(row, randomness="different")(*stacked)
        return
    torch.manual_seed(5)
    each = torch.func.vmap(row, randomness="different")(*(t[:1].expand(64, *t.shape[1:]) for t in stacked))
    assert all(t.isfinite().all() for t in each)
    if "scale=" not in repr(estimator):  # black-box differences of discrete samples are mostly 0
        assert estimator.deterministic == all((t == t[0]).all() for t in each)
    if isinstance(inner(case.q()), Gamma | Poisson):  # the samplers of torch
        with pytest.raises(RuntimeError, match="Vmap does not currently support same randomness"):
            torch.func.vmap(row, randomness="same")(*stacked)
        return
    torch.manual_seed(5)
    got = torch.func.vmap(row, randomness="same")(*stacked)
    for i, theta in enumerate(rows):
        torch.manual_seed(5)
        close([g[i] for g in got], reverse(estimator, case, leaves(theta), f)[1])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@each_pair
def test_grad_and_jvp_of_vmap(estimator, case):
    rows = [tuple(t * factor for t in case.theta) for factor in (1.0, 0.9)]
    stacked = tuple(torch.stack(each) for each in zip(*rows, strict=True))
    f = (
        (lambda x: (1.3 * x.double()).sin().sum(-1))
        if isinstance(inner(case.q()), Categorical | TokenSequence)
        else None
    )

    def total(*theta):
        return torch.func.vmap(lambda *row: loss_of(estimator, case, row, f), randomness="same")(*theta).sum()

    torch.manual_seed(5)
    try:
        got = torch.func.grad(total, tuple(range(len(stacked))))(*stacked)
    except (Refusal, RuntimeError) as error:  # as in the test before this one
        assert re.search(rf"looks at values|Sobol points|{OPTIMAL}|support same randomness|inside of grad", str(error))  # noqa: PT017
        return
    for i, theta in enumerate(rows):
        torch.manual_seed(5)
        close([g[i] for g in got], reverse(estimator, case, leaves(theta), f)[1])
    if case is GAMMA or type(estimator).__name__ == "DoublyReparameterized":  # see the test of forward mode
        return
    tangents = tuple(torch.linspace(-1.0, 1.0, t.numel(), dtype=t.dtype).reshape(t.shape) for t in stacked)
    torch.manual_seed(5)
    along = torch.func.jvp(total, stacked, tangents)[1]
    close([along], [sum((g * v).sum() for g, v in zip(got, tangents, strict=True))])


def test_sobol_points_may_be_first_made_inside_of_torch_func():
    """No other test has seven coordinates, so that these points were not made before."""

    def loss(a):
        return Reparameterization(n=4, noise="sobol")(lambda x: x.sum(-1), Independent(Normal(a, 1.0), 1), seeded())

    torch.testing.assert_close(torch.func.grad(loss)(torch.zeros(7)), torch.ones(7))


def test_a_generator_under_vmap_is_refused():
    def loss(theta):
        return RLOO()(lambda x: x, Normal(theta, 1.0), seeded())

    with pytest.raises(Refusal, match=r"^RLOO\(n=2.*\) got a generator, .* torch\.manual_seed\.$"):
        torch.func.vmap(loss, randomness="different")(t(0.1, 0.2))
    same = torch.func.vmap(lambda p: Enumeration()(lambda x: x.sum(-1), bits(p), seeded()))(t([0.1, 0.2], [0.3, 0.4]))
    torch.testing.assert_close(same, t([0.1, 0.2], [0.3, 0.4]).sigmoid().sum(-1))


def test_an_estimator_without_noise_may_have_a_generator_under_vmap():
    def call(logits):
        return Enumeration()(lambda x: x, Bernoulli(logits=logits, validate_args=False), seeded())

    logits = torch.tensor([0.3, -0.4])
    assert torch.equal(torch.func.vmap(call, randomness="different")(logits), call(logits))


@each_pair
def test_forward_mode(estimator, case):
    value, gradient = reverse(estimator, case, generator=seeded(4))
    tangents = tuple(torch.linspace(-1, 1, t.numel(), dtype=t.dtype).reshape(t.shape) for t in case.theta)
    expected = sum((g * v).sum() for g, v in zip(gradient, tangents, strict=True))

    def transformed():
        return torch.func.jvp(
            lambda *theta: loss_of(estimator, case, theta, generator=seeded(4)).sum(), case.theta, tangents
        )

    def plain():
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, v) for t, v in zip(case.theta, tangents, strict=True)]
            return forward_ad.unpack_dual(loss_of(estimator, case, duals, generator=seeded(4)).sum())

    for way in (transformed, plain):
        if message := no_forward_mode(estimator, case, way is plain):
            with pytest.raises((Refusal, NotImplementedError), match=message):
                way()
        else:
            close(way(), (value, expected))


SHARED = {
    "bits": (lambda a: bits(a.expand(5, 2)), lambda x: (x.sum(-1) + 0.3) ** 2),
    "one-hot": (
        lambda a: Independent(OneHotCategorical(logits=a.expand(5, 2, 3)), 1),
        lambda x: (x[..., 0].sum(-1) + 0.3) ** 2,
    ),
    "Normal": (lambda a: Independent(Normal(a.expand(5, 2), a.exp().expand(5, 2)), 1), lambda x: (x**2).sum(-1)),
}
"""A q whose parameters are views of one number, and f."""
SHARING = [
    (e, name)
    for e in (cls() for cls in catalogue().values())
    for name, (law, _) in SHARED.items()
    if e.refuses(type(inner(law(t(0.4))))) is None and not (e.needs_bound and e.refuses_particles(None))
]


@pytest.mark.parametrize(("estimator", "name"), SHARING, ids=[f"{e!r}, {name}" for e, name in SHARING])
def test_one_number_for_all_parameters_in_forward_mode(estimator, name):
    law, f = SHARED[name]

    def loss(a):
        q = law(a)
        state = estimator.init(q, seeded(1)) if estimator.needs_state else None
        return estimator(Bound(lambda x: -f(x), q) if estimator.needs_bound else f, q, seeded(2), state).mean()

    one, along = torch.tensor(0.4, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    gradient = torch.func.grad(loss)
    if type(estimator).__name__ == "DoublyReparameterized":
        with pytest.raises(Refusal, match="has no forward mode"):
            torch.func.jvp(loss, (one,), (along,))
    else:
        close(torch.func.jvp(loss, (one,), (along,)), (loss(one), gradient(one)))
    if type(estimator).__name__ in SMOOTH | CONTROLLED:
        second = torch.func.grad(gradient)(one)
        assert second.isfinite()
        if type(estimator).__name__ in SMOOTH:
            close([torch.func.jvp(gradient, (one,), (along,))[1]], [second])
    elif type(estimator).__name__ != "ReinMax":
        with pytest.raises(Refusal, match=r"has no second derivatives|no forward mode"):
            torch.func.jvp(gradient, (one,), (along,))


def no_forward_mode(estimator, case, plain):
    """Return the message of an exception that forward mode meets, or None."""
    name = type(estimator).__name__
    if name == "DoublyReparameterized":
        return "has no forward mode"
    if "baseline='optimal'" in repr(estimator) and case.name not in CATEGORICAL:
        return OPTIMAL
    if name == "ForwardGradient" and plain:
        return "works in no other forward mode"
    return "forward AD with _standard_gamma" if case is GAMMA and name == "Reparameterization" else None


@each_pair
def test_inference_mode_gives_the_value_without_a_gradient(estimator, case):
    value, _ = reverse(estimator, case, generator=seeded(6))
    with torch.inference_mode():
        loss = loss_of(estimator, case, case.theta, generator=seeded(6)).sum()
        of_leaves = loss_of(estimator, case, leaves(case.theta), generator=seeded(6)).sum()
    assert not loss.requires_grad
    assert not of_leaves.requires_grad
    close((loss, of_leaves), (value, value))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [RLOO(n=2), ScoreFunction(), Reparameterization(), Enumeration()], ids=repr)
def test_torch_compile_of_two_numbers_of_samples_in_one_process(estimator):
    case = fit(estimator)
    torch.compiler.reset()
    other = type(estimator)(n=estimator.n + 3) if hasattr(estimator, "n") else estimator
    for e in (estimator, other):
        compiled = torch.compile(lambda *theta, e=e: loss_of(e, case, theta).sum(), backend="eager")
        theta = leaves(case.theta)
        torch.manual_seed(7)
        value, expected = reverse(e, case)
        torch.manual_seed(7)
        loss = compiled(*theta)
        close((loss, *torch.autograd.grad(loss, theta)), (value, *expected))


@pytest.mark.filterwarnings("ignore")
def test_forward_gradient_inside_torch_compile_is_refused():
    case = fit(ForwardGradient())
    torch.compiler.reset()
    with pytest.raises(Refusal, match=r"does not run inside torch\.compile"):
        torch.compile(lambda *theta: loss_of(ForwardGradient(), case, theta).sum(), backend="eager")(*case.theta)


@pytest.mark.filterwarnings("ignore")
def test_one_graph_is_refused_in_one_sentence_by_every_estimator():
    q = Normal(torch.zeros(2, requires_grad=True), 1.0)
    for estimator in {type(each): each for each in ESTIMATORS}.values():
        torch.compiler.reset()
        whole = torch.compile(lambda t, e=estimator: t + e(torch.exp, q).sum(), backend="eager", fullgraph=True)
        with pytest.raises(RuntimeError, match=r"Message: torch cannot make an estimator part of a graph\. Leave out"):
            whole(torch.zeros(()))


# One estimator inside the f of another ----------------------------------------------------------------------------


@pytest.mark.parametrize("within", ESTIMATORS, ids=repr)
def test_an_outer_estimator_takes_the_gradient_of_an_inner_one(within):
    """Reparameterization takes it by a backward pass, ForwardGradient by a tangent; both are exact for given noise."""
    case = fit(within)
    if "optimal" in repr(within) or type(within).__name__ in ("ForwardGradient", "DoublyReparameterized"):
        return  # the named exceptions of forward mode
    shape = case.theta[0].shape

    def f(x):
        each = [loss_of(within, case, (row, *case.theta[1:]), generator=seeded(8)).sum() for row in x.unbind()]
        return torch.stack(each)

    loc, scale = leaf(*case.theta[0].tolist()), torch.full(shape, 1e-3, dtype=torch.float64)
    q = Independent(Normal(loc, scale), len(shape))
    noise = torch.randn(1, *shape, generator=seeded(9), dtype=torch.float64)
    x = (loc.detach() + scale * noise).requires_grad_()
    (slope,) = torch.autograd.grad(f(x).sum(), x)
    (got,) = torch.autograd.grad(Reparameterization()(f, q, seeded(9)), loc)
    close((got,), (slope[0],))
    (got,) = torch.autograd.grad(ForwardGradient()(f, q, seeded(9)), loc)
    generator = seeded(9)
    v, w, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    x = (loc.detach() + scale * noise).unsqueeze(0).requires_grad_()
    (slope,) = torch.autograd.grad(f(x).sum(), x)
    close((got,), ((slope[0] * (v + w * noise)).sum() * v,))


# Surrogates -------------------------------------------------------------------------------------------------------


def test_carry_has_its_tangent_in_forward_mode():
    matrix, tangent = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3), t(1.0, 2.0, -1.0)
    _, got = torch.func.jvp(
        lambda x: carry(x, torch.Size((4, 3)), lambda h: h.sum(0) @ matrix), (t(0.1, 0.2, 0.3),), (tangent,)
    )
    torch.testing.assert_close(got, (matrix @ tangent).expand(4, 3))


# The page ---------------------------------------------------------------------------------------------------------


def test_the_page_names_every_estimator_and_what_it_gives():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "| `" in line]
    known = {type(e).__name__ for e in ESTIMATORS}
    found = {name: second for names, second, *_ in rows for name in re.findall(r"`(\w+)`", names) if name in known}
    assert {name for name, second in found.items() if second == "right"} == SMOOTH | CONTROLLED
    assert {name for name, second in found.items() if second != "refused"} == SMOOTH | CONTROLLED
