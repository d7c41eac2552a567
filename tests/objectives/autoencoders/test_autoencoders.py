"""Gaussian and categorical autoencoders: exact bounds, pull-back, decoders, agreement with estimators."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, OneHotCategorical

from bench.measurement.engine import Engine, exact_gradient
from bench.objectives import CategoricalVAE, GaussianVAE
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import RLOO, Bound, Enumeration, Reparameterization, StraightThrough, draw, inner, rows
from tests.objectives.autoencoders.by_hand import bits, greys, log_bernoulli, network
from tests.objectives.problems import flat, gradient_of, sharp
from tests.problems import seeded
from tests.tolerances import z_limit

GAUSSIAN = GaussianVAE(dim=2, hidden=7, batch=4, seed=3)
LINEAR = GaussianVAE(dim=2, hidden=7, batch=4, seed=3, decoder="linear")
CATEGORICAL = CategoricalVAE(dim=2, classes=3, hidden=7, batch=4, seed=3)
ALL = [GAUSSIAN, LINEAR, CATEGORICAL]
EXACT = [LINEAR, CATEGORICAL]
over_all = pytest.mark.parametrize("objective", ALL, ids=repr)
over_exact = pytest.mark.parametrize("objective", EXACT, ids=repr)


def log_normal(x, mean, scale):
    return -(((x - mean) / scale) ** 2) / 2 - np.log(scale) - math.log(math.tau) / 2


def f_by_hand(objective, problem, z):
    """Return log p(x, z) - log q(z), ``[n, batch]``, in numpy."""
    x = greys(4) if objective == LINEAR else bits(4)
    code = network(x, problem.theta)
    if isinstance(objective, CategoricalVAE):
        logits = code.reshape(4, 2, 3)
        log_q = (z * (logits - np.logaddexp.reduce(logits, -1, keepdims=True))).sum((-1, -2))
        pixels = network(z.reshape(*z.shape[:-2], 6), problem.extra)
        return log_bernoulli(x, pixels).sum(-1) - 2 * math.log(3) - log_q
    mean, scale = code[:, :2], np.exp(code[:, 2:] / 2)
    prior = (log_normal(z, 0, 1) - log_normal(z, mean, scale)).sum(-1)
    if objective == GAUSSIAN:
        return log_bernoulli(x, network(z, problem.extra)).sum(-1) + prior
    pixels = z @ problem.extra["weight"].numpy().T + problem.extra["bias"].numpy()
    return log_normal(x, pixels, 0.3).sum(-1) + prior


def by_quadrature(problem):
    """Return the bound by Gauss-Hermite rules of 40 x 40 nodes, differentiable in theta through nodes and density."""
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    z = torch.from_numpy(np.array(list(itertools.product(node, repeat=2)))).unsqueeze(1)
    weights = torch.from_numpy(np.prod(list(itertools.product(weight / weight.sum(), repeat=2)), axis=1))
    q = problem.q(problem.theta)
    return weights @ problem.integrand(q)(q.mean + q.stddev * z).mean(-1)


# Exact ---------------------------------------------------------------------------------------------------------------


@over_all
def test_f_by_hand(objective):
    problem = sharp(objective)
    q = problem.q(problem.theta)
    f, z = problem.integrand(q), draw(q, 5, seeded())
    assert isinstance(f, Bound)
    assert q.batch_shape == (4,)
    assert type(inner(q)) is objective.family
    np.testing.assert_allclose(f(z).detach().numpy(), f_by_hand(objective, problem, z.numpy()), rtol=1e-11, atol=0)


def test_the_bound_of_the_linear_decoder_matches_quadrature():
    problem = sharp(LINEAR)
    value, expected = problem.exact(problem.theta), by_quadrature(problem)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient_of(problem, value), gradient_of(problem, expected), rtol=1e-9, atol=1e-11)


def test_the_categorical_bound_is_the_sum_over_all_states():
    problem = sharp(CATEGORICAL)
    states = np.eye(3)[np.array(list(itertools.product(range(3), repeat=2)))]
    logits = network(bits(4), problem.theta).reshape(4, 2, 3)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mass = (states[:, None] * p).sum(-1).prod(-1)
    total = (mass * f_by_hand(CATEGORICAL, problem, np.repeat(states[:, None], 4, 1))).sum(0)
    assert problem.exact(problem.theta).item() == pytest.approx(total.mean(), rel=1e-12)


@pytest.mark.parametrize("objective", [CATEGORICAL, CategoricalVAE(dim=3, classes=4, batch=2)], ids=repr)
def test_value_and_gradient_match_enumeration(objective):
    problem = sharp(objective)
    q = problem.q(problem.theta)
    loss, value = Enumeration()(problem.integrand(q), q).mean(), problem.exact(problem.theta)
    torch.testing.assert_close(value, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient_of(problem, value), gradient_of(problem, loss), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("objective", [*EXACT, GaussianVAE(decoder="linear"), CategoricalVAE()], ids=repr)
def test_the_gradient_is_the_derivative_of_the_value(objective):
    problem = sharp(objective)
    found = torch.autograd.grad(problem.exact(problem.theta), list(problem.theta.values()))
    for (name, t), analytic in zip(problem.theta.items(), found, strict=True):
        at, h, values = int(analytic.abs().argmax()), 1e-5, []
        for sign in (1, -1):
            moved = t.detach().clone()
            moved.view(-1)[at] += sign * h
            values.append(problem.exact(problem.theta | {name: moved}).item())
        difference = (values[0] - values[1]) / (2 * h)
        assert analytic.view(-1)[at].item() == pytest.approx(difference, rel=1e-6, abs=1e-9)


@over_all
def test_f_keeps_rows_and_images_apart(objective):
    problem = sharp(objective)
    r = rows(problem.q(problem.theta), 2)
    f, z = problem.integrand(r), draw(r, 3, seeded())
    changed = z.clone()
    changed[:, 0, 0] = 0.7 - z[:, 0, 0]
    deep = f(torch.stack([z, changed]))
    assert deep.shape == (2, 3, 2, 4)
    torch.testing.assert_close(deep[0], f(z), rtol=1e-13, atol=0)
    same = torch.ones(2, 4, dtype=torch.bool)
    same[0, 0] = False
    moved = (deep[1] - deep[0]).abs()
    assert (moved[:, ~same] > 1e-3).all()
    assert moved[:, same].max() < 1e-12


# The pull-back -------------------------------------------------------------------------------------------------------


def with_copies(objective, copies):
    """Return a q with one encoder per row, by hand."""
    x = torch.from_numpy(greys(4) if objective == LINEAR else bits(4))
    w1, b1, w2, b2 = copies.values()
    hidden = torch.nn.functional.leaky_relu(x @ w1.mT + b1.unsqueeze(1), 0.3)
    code = hidden @ w2.mT + b2.unsqueeze(1)
    if isinstance(objective, CategoricalVAE):
        return Independent(OneHotCategorical(logits=code.unflatten(-1, (2, 3))), 1)
    return Independent(Normal(code[..., :2], (code[..., 2:] / 2).exp()), 1)


@pytest.mark.parametrize(
    ("objective", "estimator"),
    [
        (GAUSSIAN, Reparameterization(n=2)),
        (GAUSSIAN, RLOO(n=3)),
        (LINEAR, Reparameterization(n=2)),
        (CATEGORICAL, RLOO(n=3)),
        (CATEGORICAL, StraightThrough()),
    ],
    ids=repr,
)
def test_pulled_back_rows_are_the_gradients_of_copies_of_the_encoder(objective, estimator):
    engine = Engine(Cell(estimator, objective), Settings(dtype="float64"))
    pulled = engine.gradients(6, seeded(2))
    problem = engine.problem
    copies = {name: t.detach().expand(6, *t.shape).clone().requires_grad_() for name, t in problem.theta.items()}
    q = with_copies(objective, copies)
    estimator(problem.integrand(q), q, seeded(2)).mean(-1).sum().backward()
    each = torch.cat([t.grad.flatten(1) for t in copies.values()], 1)
    torch.testing.assert_close(pulled, each, rtol=0, atol=1e-10)
    assert each.std(0).max() > 1e-3


@over_all
def test_the_decoder_gets_the_gradient_of_the_value(objective):
    problem = sharp(objective)
    assert all(not t.requires_grad for t in problem.extra.values())
    for t in problem.extra.values():
        t.requires_grad_()
    q = problem.q(problem.theta)
    points = draw(q, 3, seeded(1))
    RLOO(n=3)(problem.integrand(q), q, seeded(1)).mean().backward()
    got = flat(t.grad for t in problem.extra.values())
    value = problem.integrand(q)(points).mean()
    expected = flat(torch.autograd.grad(value, list(problem.extra.values())))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    assert got.norm() > 1e-2
    assert all(t.grad is not None for t in problem.theta.values())


# Declarations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "has"),
    [
        (GaussianVAE(), False),
        (GaussianVAE(decoder="linear"), True),
        (CategoricalVAE(), True),
        (CategoricalVAE(dim=3, classes=16), True),
        (CategoricalVAE(dim=4, classes=9), False),
        (CategoricalVAE(dim=12, classes=2), True),
        (CategoricalVAE(dim=13, classes=2), False),
    ],
    ids=repr,
)
def test_the_exact_gradient_exists_if_it_is_declared(objective, has):
    assert objective.has_exact is has
    assert (objective.build().exact is not None) is has
    assert has or objective.reference_estimator.unbiased


def test_sizes():
    assert sum(t.numel() for t in GaussianVAE().build().theta.values()) == 65 * 200 + 201 * 16
    assert sum(t.numel() for t in CategoricalVAE().build().theta.values()) == 65 * 200 + 201 * 32
    assert GaussianVAE(batch=5).row_elements == 1000
    assert GaussianVAE(batch=5, decoder="linear").row_elements == 320
    assert CategoricalVAE(batch=5, hidden=10, dim=10, classes=10).row_elements == 500


@over_all
def test_every_dtype_has_the_same_point_and_the_same_decoder(objective):
    single, double = objective.build(torch.float32), sharp(objective)
    for one, other in ((single.theta, double.theta), (single.extra, double.extra)):
        for name, t in one.items():
            assert t.dtype == torch.float32
            assert torch.equal(other[name], t.double())
    for problem, dtype in ((single, torch.float32), (double, torch.float64)):
        q = problem.q(problem.theta)
        assert problem.integrand(q)(draw(q, 2, seeded())).dtype == dtype


@pytest.mark.parametrize("cls", [GaussianVAE, CategoricalVAE])
@pytest.mark.parametrize("field", [{"dim": 0}, {"hidden": 0}, {"batch": 0}, {"batch": 1798}, {"seed": -1}])
def test_bad_parameters_are_refused_in_a_sentence(cls, field):
    ((name, value),) = field.items()
    with pytest.raises(ValueError, match=rf"{cls.__name__} needs .*\(got {name}={value}\)\. Use {name}=\d+\."):
        cls(**field)


def test_other_bad_parameters_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"CategoricalVAE needs .* \(got classes=1\)\. Use classes=8\."):
        CategoricalVAE(classes=1)
    with pytest.raises(ValueError, match=r"needs decoder to be network or linear \(got decoder='deep'\)\. Use "):
        GaussianVAE(decoder="deep")


# Statistical ---------------------------------------------------------------------------------------------------------


def check_agreement(sample, expected):
    noisy = sample.std(0) > 1e-12  # a pixel that no image has gives its weights no gradient
    np.testing.assert_allclose(sample.mean(0)[~noisy], expected[~noisy], rtol=0, atol=1e-10)
    z = (sample.mean(0) - expected)[noisy] / (sample.std(0)[noisy] / math.sqrt(len(sample)))
    assert noisy.mean() > 0.4
    assert np.abs(z).max() < z_limit(z.size)


@pytest.mark.parametrize(
    ("objective", "estimator"),
    [(LINEAR, Reparameterization()), (LINEAR, RLOO(n=4)), (CATEGORICAL, RLOO(n=4))],
    ids=repr,
)
def test_an_unbiased_estimator_agrees(objective, estimator):
    engine = Engine(Cell(estimator, objective), Settings(replicates=10_000, dtype="float64"))
    sample = torch.cat([engine.draw_gradients(block) for block in range(len(engine.sizes))]).numpy()
    check_agreement(sample, exact_gradient(objective, engine.problem)[1])


def test_reparameterization_agrees_with_quadrature_on_the_network():
    engine = Engine(Cell(Reparameterization(), GAUSSIAN), Settings(replicates=10_000, dtype="float64"))
    sample = torch.cat([engine.draw_gradients(block) for block in range(len(engine.sizes))]).numpy()
    check_agreement(sample, gradient_of(engine.problem, by_quadrature(engine.problem)).numpy())
