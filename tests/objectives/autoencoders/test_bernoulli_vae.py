"""The binary autoencoder: its exact bound, its pull-back, its decoder, agreement with estimators."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Independent

from bench.measurement.draws import cap, draws
from bench.measurement.engine import Engine, exact_gradient
from bench.objectives import BernoulliVAE
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import RLOO, Bound, DisARM, Enumeration, GumbelSoftmax, draw, rows
from tests.objectives.autoencoders.by_hand import bits, log_bernoulli, network
from tests.objectives.problems import flat, gradient_of, sharp
from tests.problems import seeded
from tests.tolerances import z_limit

SMALL = BernoulliVAE(dim=3, hidden=7, batch=4, seed=3)


# Exact ---------------------------------------------------------------------------------------------------------------


def test_the_value_is_the_sum_over_all_states_by_hand():
    problem, x = sharp(SMALL), bits(4)
    logits, total = network(x, problem.theta), 0.0
    for state in itertools.product([0.0, 1.0], repeat=3):
        b = np.array(state)
        log_q = log_bernoulli(b, logits).sum(-1)
        log_p = log_bernoulli(x, network(b, problem.extra)).sum(-1) + 3 * math.log(0.5)
        total += (np.exp(log_q) * (log_p - log_q)).sum()
    assert problem.exact(problem.theta).item() == pytest.approx(total / 4, rel=1e-13)


@pytest.mark.parametrize("objective", [SMALL, BernoulliVAE(dim=6, batch=2)], ids=repr)
def test_value_and_gradient_match_enumeration(objective):
    problem = sharp(objective)
    q = problem.q(problem.theta)
    loss = Enumeration()(problem.integrand(q), q).mean()
    torch.testing.assert_close(problem.exact(problem.theta), loss, rtol=1e-12, atol=0)
    by_sum = flat(torch.autograd.grad(loss, list(problem.theta.values())))
    torch.testing.assert_close(gradient_of(problem), by_sum, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("objective", [SMALL, BernoulliVAE()], ids=repr)
def test_the_gradient_is_the_derivative_of_the_value(objective):
    problem = sharp(objective)
    analytic = dict(
        zip(problem.theta, gradient_of(problem).split([t.numel() for t in problem.theta.values()]), strict=True)
    )
    for name, t in problem.theta.items():
        at, h = int(analytic[name].abs().argmax()), 1e-5
        values = []
        for sign in (1, -1):
            moved = t.detach().clone()
            moved.view(-1)[at] += sign * h
            values.append(problem.exact(problem.theta | {name: moved}).item())
        assert analytic[name][at].item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6, abs=1e-9)


def test_f_by_hand_on_and_off_the_support():
    problem, x = sharp(SMALL), bits(4)
    q = problem.q(problem.theta)
    f = problem.integrand(q)
    assert isinstance(f, Bound)
    assert q.batch_shape == (4,)
    assert q.event_shape == (3,)
    assert isinstance(q.base_dist, Bernoulli)
    logits = network(x, problem.theta)
    for b in (draw(q, 5, seeded()), torch.rand(5, 4, 3, generator=seeded(), dtype=torch.float64)):
        pixels, soft = network(b.numpy(), problem.extra), b.numpy()
        log_p = log_bernoulli(x, pixels).sum(-1) - 3 * math.log(2)
        log_q = (soft * -np.logaddexp(0, -logits) + (1 - soft) * -np.logaddexp(0, logits)).sum(-1)
        np.testing.assert_allclose(f(b).detach().numpy(), log_p - log_q, rtol=1e-12, atol=0)


def test_f_keeps_rows_and_images_apart():
    problem = sharp(SMALL)
    r = rows(problem.q(problem.theta), 2)
    f, x = problem.integrand(r), draw(r, 3, seeded())
    deep = f(torch.stack([x, 1 - x]))
    assert deep.shape == (2, 3, 2, 4)
    torch.testing.assert_close(deep[0], f(x), rtol=1e-13, atol=0)
    changed = x.clone()
    changed[:, 0, 0] = 1 - x[:, 0, 0]
    same = torch.ones(2, 4, dtype=torch.bool)
    same[0, 0] = False
    moved = (f(changed) - f(x)).abs()
    assert (moved[:, ~same] > 1e-3).all()
    assert moved[:, same].max() < 1e-12


def test_the_data():
    x = bits(1797)
    assert 0.2 < x.mean() < 0.5
    first = sharp(BernoulliVAE(dim=2, hidden=3, batch=2)).q
    weights = {
        "hidden_weight": torch.eye(64, dtype=torch.float64)[:3],
        "hidden_bias": torch.zeros(3, dtype=torch.float64),
        "weight": torch.ones(2, 3, dtype=torch.float64),
        "bias": torch.zeros(2, dtype=torch.float64),
    }
    logits = first(weights).base_dist.logits
    torch.testing.assert_close(logits[:, 0], torch.from_numpy(x[:2, :3].sum(-1)), rtol=0, atol=0)


# The pull-back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [RLOO(n=3), DisARM(n=2), GumbelSoftmax()], ids=repr)
def test_pulled_back_rows_are_the_gradients_of_copies_of_the_encoder(estimator):
    """Compares one encoder, whose rows are pulled back, with one encoder per row."""
    engine = Engine(Cell(estimator, SMALL), Settings(dtype="float64"))
    pulled = engine.gradients(6, seeded(2))
    problem = engine.problem
    copies = {name: t.detach().expand(6, *t.shape).clone().requires_grad_() for name, t in problem.theta.items()}
    x = torch.from_numpy(bits(4))
    w1, b1, w2, b2 = copies.values()
    hidden = torch.nn.functional.leaky_relu(x @ w1.mT + b1.unsqueeze(1), 0.3)
    logits = hidden @ w2.mT + b2.unsqueeze(1)
    q = Independent(Bernoulli(logits=logits, validate_args=False), 1)
    estimator(problem.integrand(q), q, seeded(2)).mean(-1).sum().backward()
    each = torch.cat([t.grad.flatten(1) for t in copies.values()], 1)
    torch.testing.assert_close(pulled, each, rtol=0, atol=1e-10)
    assert each.std(0).max() > 1e-3


def test_the_decoder_gets_the_gradient_of_the_value():
    problem = sharp(SMALL)
    for t in problem.extra.values():
        t.requires_grad_()
    q = problem.q(problem.theta)
    points = draw(q, 3, seeded(1))
    RLOO(n=3)(problem.integrand(q), q, seeded(1)).mean().backward()
    got = flat(t.grad for t in problem.extra.values())
    value = problem.integrand(q)(points).mean()
    expected = flat(torch.autograd.grad(value, list(problem.extra.values())))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-15)
    assert got.norm() > 1e-2
    assert all(t.grad is not None for t in problem.theta.values())


def test_the_decoder_is_a_constant_unless_asked():
    problem = sharp(SMALL)
    assert all(not t.requires_grad for t in problem.extra.values())
    assert all(t.is_leaf and t.requires_grad for t in problem.theta.values())


# Declarations ---------------------------------------------------------------------------------------------------------


def test_the_encoder_of_twenty_latents():
    objective = BernoulliVAE(dim=20)
    problem = objective.build()
    assert sum(t.numel() for t in problem.theta.values()) == 17_020
    assert not objective.has_exact
    assert problem.exact is None
    assert objective.reference_estimator.unbiased
    assert objective.row_elements == 32 * 200
    assert cap(objective, "cpu") == 64
    assert set(draws(Cell(RLOO(), objective), 1000, "cpu")) == {64}


@pytest.mark.parametrize(("dim", "has"), [(1, True), (12, True), (13, False)])
def test_states_are_summed_if_they_are_few(dim, has):
    objective = BernoulliVAE(dim=dim, hidden=3, batch=2)
    assert objective.has_exact is has
    assert (objective.build().exact is not None) is has


def test_every_dtype_has_the_same_point_and_the_same_decoder():
    single, double = SMALL.build(torch.float32), sharp(SMALL)
    for one, other in ((single.theta, double.theta), (single.extra, double.extra)):
        for name, t in one.items():
            assert t.dtype == torch.float32
            assert torch.equal(other[name], t.double())
    _, exact = exact_gradient(SMALL, single)
    np.testing.assert_allclose(exact, gradient_of(double).numpy(), rtol=1e-13, atol=1e-16)


def test_another_seed_is_another_point_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    a, b = (BernoulliVAE(seed=s).build().theta["weight"] for s in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(a, b)
    limit = 1 / math.sqrt(200)
    assert 0.9 * limit < a.abs().max() <= limit


@pytest.mark.parametrize(
    "field", [{"dim": 0}, {"hidden": 0}, {"batch": 0}, {"batch": 1798}, {"seed": -1}, {"dim": 2.0}]
)
def test_bad_parameters_are_refused_in_a_sentence(field):
    ((name, value),) = field.items()
    with pytest.raises(
        ValueError, match=rf"BernoulliVAE needs .*\(got {name}={value}(, of type float)?\)\. Use {name}=\d+\."
    ):
        BernoulliVAE(**field)


# Statistical ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "objective", "count"), [(RLOO(n=4), SMALL, 48), (RLOO(n=2), BernoulliVAE(batch=8), 16)], ids=repr
)
def test_leave_one_out_is_unbiased(estimator, objective, count):
    engine = Engine(Cell(estimator, objective), Settings(replicates=100_000, dtype="float64"))
    sample = torch.cat([engine.draw_gradients(draw) for draw in range(count)]).numpy()
    _, exact = exact_gradient(objective, engine.problem)
    noisy = sample.std(0) > 0  # a pixel that no image has gives its weights no gradient
    np.testing.assert_allclose(sample.mean(0)[~noisy], exact[~noisy], rtol=0, atol=1e-12)
    z = (sample.mean(0) - exact)[noisy] / (sample.std(0)[noisy] / math.sqrt(len(sample)))
    assert noisy.mean() > 0.5
    assert np.abs(z).max() < z_limit(z.size)
