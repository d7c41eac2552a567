"""The same gradients by others: Pyro's, the ReinMax authors', torch's relaxations, JAX's implicit derivative.

Where noise can be shared the two agree row by row, and so in mean and variance; where it cannot, means and variances
are compared. Packages that are not installed (extra ``peers``, and ``jax``) skip their tests.
"""

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Gamma,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from torch.nn.functional import gumbel_softmax

from estimators import (
    NVIL,
    RLOO,
    Bound,
    Enumeration,
    GumbelSoftmax,
    ReinMax,
    RejectionReparameterization,
    Reparameterization,
    ReparameterizedMixture,
    ScoreFunction,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)
from tests.problems import seeded, t
from tests.tolerances import z_limit

R = 2**15
LOGITS = t(0.4, -1.2, 0.3)
HOT = t([0.4, -1.2, 0.9], [1.3, 0.2, -0.5])


def wave(x):
    """Neither affine nor separable, over one event axis."""
    k = torch.arange(1.0, x.shape[-1] + 1, dtype=x.dtype)
    return (x * k).sum(-1).sin() + (x / k).sum(-1) ** 2


def tame(x):
    """Bounded: what is known of a variance depends on the tails."""
    return wave(x).sin()


def on_hot(x):
    return wave(x.flatten(-2))


def leaf(value, count):
    return value.expand(count, *value.shape).clone().requires_grad_()


def ours(estimator, f, q, *theta):
    """Return the gradient of each row at the tensors that q was made of."""
    return torch.autograd.grad(estimator(f, q, seeded()).sum(), theta)


def assert_same_moments(a, b):
    """Compare means and variances of two independent sets of rows, ``[R, ...]`` each."""
    a, b = a.flatten(1), b.flatten(1)
    squares = [(x - x.mean(0)).square() for x in (a, b)]
    for x, y in ((a, b), squares):
        error = (x.var(0) / len(x) + y.var(0) / len(y)).sqrt()
        assert ((x.mean(0) - y.mean(0)) / error).abs().max() < z_limit(2 * a.shape[1])


# Pyro -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pyro():
    package = pytest.importorskip("pyro")
    package.clear_param_store()
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the zeros and ones that Pyro makes
    with package.validation_enabled(False):
        yield package
    torch.set_default_dtype(before)
    package.clear_param_store()


def pyros(pyro, elbo, family, theta, log_joint, event=1, **infer):
    """Return the gradients of Pyro's bound, by name, with one row of theta per row of a plate; and the samples."""
    seen = []
    shape = next(iter(theta.values())).shape
    rows = pyro.plate("rows", shape[0], dim=-1)

    def guide():
        own = {name: pyro.param(name, value) for name, value in theta.items()}
        with rows:
            pyro.sample("x", family(**own).to_event(event), infer=infer)

    def model():
        with rows:
            own = {name: value.detach() for name, value in theta.items()}
            x = pyro.sample("x", family(**own).to_event(event).mask(False))
            seen.append(x.detach())
            pyro.factor("f", log_joint(x))

    elbo.loss_and_grads(model, guide)
    from pyro.ops.provenance import detach_provenance

    gradients = {name: -pyro.param(name).unconstrained().grad for name in theta}
    for name in theta:
        pyro.param(name).unconstrained().grad = None
    return gradients, detach_provenance(seen[-1])


FAMILIES = {
    "bits": ({"logits": LOGITS}, Bernoulli, "Bernoulli"),
    "normal": ({"loc": t(0.5, -0.8), "scale": t(0.9, 0.6)}, Normal, "testing.fakes.NonreparameterizedNormal"),
    "counts": ({"rate": t(1.4, 0.7)}, Poisson, "Poisson"),
    "gamma": ({"concentration": t(1.3, 2.3), "rate": t(1.0, 0.7)}, Gamma, "testing.fakes.NonreparameterizedGamma"),
}


def distribution(pyro, name):
    __import__("pyro.distributions.testing.fakes")
    found = pyro.distributions
    for part in name.split("."):
        found = getattr(found, part)
    return found


def shared(monkeypatch, module, x):
    """Give an estimator's call these samples."""
    monkeypatch.setattr(f"estimators.{module}.draw", lambda q, n, generator: x.unsqueeze(0))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("elbo", ["Trace_ELBO", "TraceGraph_ELBO"])
def test_the_score_function_is_pyros_on_the_same_samples(pyro, monkeypatch, elbo, name):
    """Pyro leaves the score of q itself out of the bound's gradient, which is a baseline of -1."""
    values, family, theirs = FAMILIES[name]
    theta = {key: leaf(value, 500) for key, value in values.items()}
    expected, x = pyros(pyro, getattr(pyro.infer, elbo)(), distribution(pyro, theirs), theta, wave)
    shared(monkeypatch, "score_function", x)
    q = Independent(family(**theta), 1)
    got = ours(ScoreFunction(baseline=-1.0), Bound(wave, q), q, *theta.values())
    assert expected[next(iter(theta))].std() > 0.1
    for g, key in zip(got, theta, strict=True):
        torch.testing.assert_close(g, expected[key], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_score_function_has_pyros_mean_and_variance(pyro, name):
    values, family, theirs = FAMILIES[name]
    theta = {key: leaf(value, R) for key, value in values.items()}
    expected, _ = pyros(pyro, pyro.infer.Trace_ELBO(), distribution(pyro, theirs), theta, tame)
    q = Independent(family(**theta), 1)
    got = ours(ScoreFunction(baseline=-1.0), Bound(tame, q), q, *theta.values())
    for g, key in zip(got, theta, strict=True):
        assert_same_moments(g, expected[key])


def test_the_moving_average_is_pyros_over_many_steps(pyro, monkeypatch):
    """Both use the average of the steps before. Pyro's begins at 0 and stays biased towards it for a while."""
    theta, elbo = {"logits": leaf(LOGITS, 1)}, pyro.infer.TraceGraph_ELBO()
    estimator = ScoreFunction(baseline="moving-average")
    state = estimator.init(Bernoulli(logits=LOGITS))
    state.updates += 1000  # past the steps in which ours is the plain mean
    state.mean -= 1.0  # the score that Pyro leaves out
    options = {"use_decaying_avg_baseline": True, "baseline_beta": 1 - (1 - state.decay)}
    for _ in range(40):
        expected, x = pyros(pyro, elbo, pyro.distributions.Bernoulli, theta, wave, baseline=options)
        shared(monkeypatch, "score_function", x)
        q = Independent(Bernoulli(logits=theta["logits"]), 1)
        loss = estimator(Bound(wave, q), q, None, state)
        (got,) = torch.autograd.grad(loss.sum(), theta["logits"])
        torch.testing.assert_close(got, expected["logits"], rtol=1e-9, atol=1e-11)
        state.update(loss - 1.0)


def test_nvil_is_pyros_with_the_same_network(pyro, monkeypatch):
    theta = {"logits": torch.randn(200, 3, generator=seeded(), dtype=torch.float64).requires_grad_()}
    q = Independent(Bernoulli(logits=theta["logits"]), 1)
    state = NVIL().init(q, seeded())
    torch.nn.init.normal_(state.outer, generator=seeded(1))
    state.mean += 0.7
    state.requires_grad_(False)
    options = {"nn_baseline": lambda u: state(u) + 1, "nn_baseline_input": theta["logits"]}  # 1: the score left out
    elbo = pyro.infer.TraceGraph_ELBO()
    expected, x = pyros(pyro, elbo, pyro.distributions.Bernoulli, theta, wave, baseline=options)
    shared(monkeypatch, "nvil", x)
    (got,) = torch.autograd.grad(NVIL()(Bound(wave, q), q, None, state).sum(), theta["logits"])
    torch.testing.assert_close(got, expected["logits"], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("elbo", ["Trace_ELBO", "TraceGraph_ELBO"])
def test_reparameterization_is_pyros_on_the_same_noise(pyro, monkeypatch, elbo):
    theta = {"loc": leaf(t(0.5, -0.8), 500), "scale": leaf(t(0.9, 0.6), 500)}
    expected, x = pyros(pyro, getattr(pyro.infer, elbo)(), pyro.distributions.Normal, theta, wave)
    z = ((x - theta["loc"]) / theta["scale"]).detach()
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: z.reshape(shape).clone())
    q = Independent(Normal(**theta), 1)
    got = ours(Reparameterization(), Bound(wave, q), q, *theta.values())
    for g, key in zip(got, theta, strict=True):
        torch.testing.assert_close(g, expected[key], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["normal", "gamma"])
def test_reparameterization_has_pyros_mean_and_variance(pyro, name):
    values, family, _ = FAMILIES[name]
    theta = {key: leaf(value, R) for key, value in values.items()}
    expected, _ = pyros(pyro, pyro.infer.Trace_ELBO(), getattr(pyro.distributions, family.__name__), theta, tame)
    q = Independent(family(**theta), 1)
    for g, key in zip(ours(Reparameterization(), Bound(tame, q), q, *theta.values()), theta, strict=True):
        assert_same_moments(g, expected[key])


def test_an_importance_weighted_bound_is_pyros_on_the_same_noise(pyro, monkeypatch):
    """Pyro's Renyi bound of order 0: value and gradient of one call, of 5 particles."""
    loc, scale = t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()
    seen = []

    def guide():
        own = pyro.param("loc", loc), pyro.param("scale", scale)
        seen.append(pyro.sample("x", pyro.distributions.Normal(*own).to_event(1)).detach())

    def model():
        x = pyro.sample("x", pyro.distributions.Normal(loc.detach(), scale.detach()).to_event(1).mask(False))
        pyro.factor("f", wave(x))

    value = -pyro.infer.RenyiELBO(alpha=0, num_particles=5).loss_and_grads(model, guide)
    z = ((torch.stack(seen) - loc) / scale).detach()
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: z.reshape(shape).clone())
    q = Independent(Normal(loc.expand(5, 2), scale.expand(5, 2)), 2)
    bound = Bound(wave, q, particles=5)
    loss = Reparameterization()(bound, q)
    assert loss.item() == pytest.approx(value, rel=1e-10)
    for g, name in zip(torch.autograd.grad(loss, [loc, scale]), ("loc", "scale"), strict=True):
        torch.testing.assert_close(g, -pyro.param(name).unconstrained().grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("family", "value", "f"), [(Bernoulli, LOGITS, wave), (OneHotCategorical, HOT, on_hot)])
def test_enumeration_is_pyros(pyro, family, value, f):
    theta = value.clone().requires_grad_()
    theirs = getattr(pyro.distributions, family.__name__)
    names = [f"x{i}" for i in range(len(theta))]

    def guide():
        for name, part in zip(names, pyro.param("logits", theta), strict=True):
            pyro.sample(name, theirs(logits=part), infer={"enumerate": "parallel"})

    def model():
        x = [
            pyro.sample(name, theirs(logits=part.detach()).mask(False)) for name, part in zip(names, theta, strict=True)
        ]
        if family is Bernoulli:
            pyro.factor("f", f(torch.stack(torch.broadcast_tensors(*x), -1)))
        else:
            pyro.factor("f", f(torch.stack(torch.broadcast_tensors(*x), -2)))

    value = -pyro.infer.TraceEnum_ELBO(max_plate_nesting=0).loss_and_grads(model, guide)
    q = Independent(family(logits=theta), 1)
    loss = Enumeration()(Bound(f, q), q)
    assert loss.item() == pytest.approx(value, rel=1e-10)
    (got,) = torch.autograd.grad(loss, theta)
    torch.testing.assert_close(got, -pyro.param("logits").unconstrained().grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_rejection_reparameterization_has_pyros_mean_and_variance(pyro, steps):
    from pyro.distributions.testing.rejection_gamma import RejectionGamma, ShapeAugmentedGamma

    theta = {"concentration": leaf(t(2.3, 1.4), R), "rate": leaf(t(1.0, 0.7), R)}

    def f(x):
        return x.square().sum(-1).sin() + x.prod(-1).cos()

    def boosted(concentration, rate):
        if steps == 0:
            return RejectionGamma(concentration, rate)
        return ShapeAugmentedGamma(concentration, rate, boost=steps)

    expected, _ = pyros(pyro, pyro.infer.Trace_ELBO(), boosted, theta, f)
    q = Independent(Gamma(**theta), 1)
    got = ours(RejectionReparameterization(augmentation=steps), Bound(f, q), q, *theta.values())
    assert_same_moments(got[0], expected["concentration"])


def test_the_mean_gradients_of_a_mixture_are_pyros_and_the_score_functions(pyro):
    """Of several coordinates the paths differ, and with them the variances; the means do not.

    Pyro 1.9's gradient at the weights has another mean than the score function's; ours there is held against that.
    """
    values = t([0.5, -0.8], [-1.2, 0.4], [1.5, 1.0]), t([0.9, 0.6], [0.5, 1.1], [0.7, 0.4]), LOGITS

    def mixture(theta):
        loc, scale, logits = theta
        return ReparameterizedMixture(Categorical(logits=logits), Independent(Normal(loc, scale), 1))

    theirs, own, by_score = ([leaf(value, R) for value in values] for _ in range(3))
    x = pyro.distributions.MixtureOfDiagNormals(*theirs).rsample()
    expected = [*torch.autograd.grad(wave(x).sum(), theirs[:2]), ours(RLOO(8), wave, mixture(by_score), *by_score)[2]]
    for g, e in zip(ours(Reparameterization(), wave, mixture(own), *own), expected, strict=True):
        error = ((g.var(0) + e.var(0)) / R).sqrt()
        assert ((g.mean(0) - e.mean(0)) / error).abs().max() < z_limit(3 * g[0].numel())


# The authors' ReinMax -------------------------------------------------------------------------------------------------


@pytest.fixture
def reinmax():
    package = pytest.importorskip("reinmax")
    torch.manual_seed(0)
    return package.reinmax


def hot(theta):
    return Independent(OneHotCategorical(logits=theta), 1)


@pytest.mark.parametrize("temperature", [1.0, 1.3, 4.0])
def test_reinmax_is_the_authors_on_the_same_samples(reinmax, monkeypatch, temperature):
    theta = leaf(HOT, 500)
    x, _ = reinmax(theta, temperature)
    (expected,) = torch.autograd.grad(on_hot(x).sum(), theta)
    shared(monkeypatch, "reinmax", x.detach())
    (got,) = ours(ReinMax(temperature=temperature), on_hot, hot(theta), theta)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 1.3])
def test_reinmax_has_the_authors_mean_and_variance(reinmax, temperature):
    theta = leaf(HOT, R)
    (expected,) = torch.autograd.grad(on_hot(reinmax(theta, temperature)[0]).sum(), theta)
    assert_same_moments(ours(ReinMax(temperature=temperature), on_hot, hot(theta), theta)[0], expected)


def test_straight_through_equals_the_reinmax_packages(reinmax, monkeypatch):
    theta = leaf(HOT, 500)
    x, p = reinmax(theta, 1.0)
    (expected,) = torch.autograd.grad(on_hot(x.detach() + p - p.detach()).sum(), theta)
    shared(monkeypatch, "straight_through", x.detach())
    (got,) = ours(StraightThrough(), on_hot, hot(theta), theta)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_the_authors_reinmax_takes_no_strided_logits_and_ours_does(reinmax):
    theta = HOT.T.contiguous().T.expand(4, 2, 3)
    with pytest.raises(RuntimeError, match="view"):
        reinmax(theta, 1.0)
    strided, dense = (x.requires_grad_() for x in (theta.detach(), theta.contiguous()))
    a, b = (ours(ReinMax(), on_hot, hot(x), x)[0] for x in (strided, dense))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


# torch's relaxations, and Pyro's straight-through forms of them -------------------------------------------------------


RELAXED = {Bernoulli: RelaxedBernoulli, OneHotCategorical: RelaxedOneHotCategorical}


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("family", "value", "f"), [(Bernoulli, LOGITS, wave), (OneHotCategorical, HOT, on_hot)])
def test_gumbel_softmax_is_torchs_on_the_same_noise(family, value, f, temperature):
    theta = leaf(value, 500)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        y = RELAXED[family](torch.tensor(temperature, dtype=theta.dtype), logits=theta).rsample()
        torch.manual_seed(3)
        loss = GumbelSoftmax(temperature=temperature)(f, Independent(family(logits=theta), 1))
    (expected,) = torch.autograd.grad(f(y.reshape(theta.shape)).sum(), theta)
    (got,) = torch.autograd.grad(loss.sum(), theta)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)  # our uniforms are half a step larger


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("family", "value", "f"), [(Bernoulli, LOGITS, wave), (OneHotCategorical, HOT, on_hot)])
def test_straight_through_gumbel_softmax_is_pyros_on_the_same_noise(pyro, family, value, f, temperature):
    theta = leaf(value, 500)
    torch.manual_seed(3)
    y = getattr(pyro.distributions, f"{RELAXED[family].__name__}StraightThrough")(
        torch.tensor(temperature, dtype=theta.dtype), logits=theta
    ).rsample()
    (expected,) = torch.autograd.grad(f(y.reshape(theta.shape)).sum(), theta)
    torch.manual_seed(3)
    loss = StraightThroughGumbelSoftmax(temperature=temperature)(f, Independent(family(logits=theta), 1))
    (got,) = torch.autograd.grad(loss.sum(), theta)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("cls", "hard"), [(GumbelSoftmax, False), (StraightThroughGumbelSoftmax, True)])
def test_gumbel_softmax_has_the_mean_and_variance_of_torchs_function(cls, hard):
    theta = leaf(HOT, R)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = gumbel_softmax(theta, tau=0.7, hard=hard)
    (expected,) = torch.autograd.grad(on_hot(y).sum(), theta)
    assert_same_moments(ours(cls(temperature=0.7), on_hot, hot(theta), theta)[0], expected)


# JAX ------------------------------------------------------------------------------------------------------------------


def test_the_implicit_derivative_of_gamma_equals_jaxs():
    """On the same samples, up to the error of torch's approximation."""
    jax = pytest.importorskip("jax")
    a = t(0.3, 1.0, 2.3, 11.0)
    with jax.enable_x64(True):
        theta = leaf(a, 2000)
        x = Reparameterization()(lambda x: x, Gamma(theta, torch.ones_like(theta)), seeded())
        (got,) = torch.autograd.grad(x.sum(), theta)
        expected = jax.lax.random_gamma_grad(a.expand_as(theta).numpy(), x.detach().numpy())
    ratio = got / torch.tensor(expected.tolist(), dtype=torch.float64)
    assert (ratio - 1).abs().max() < 0.01
    assert ratio.mean().item() == pytest.approx(1, abs=1e-3)
