"""Autoencoders with several particles: the bound by hand, by enumeration and by quadrature."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.measurement.engine import Engine
from bench.objectives import BernoulliVAE, CategoricalVAE, GaussianVAE
from bench.planning.cells import Cell, mismatch
from bench.planning.settings import Settings
from bench.training.settings import Training
from bench.training.train import TrainingRun
from estimators import (
    RLOO,
    VIMCO,
    Bound,
    DoublyReparameterized,
    Enumeration,
    Reparameterization,
    StickingTheLanding,
    draw,
)
from tests.objectives.problems import gradient_of, made
from tests.problems import seeded
from tests.tolerances import z_limit

GAUSSIAN = GaussianVAE(dim=1, hidden=3, batch=2, particles=2)
BERNOULLI = BernoulliVAE(dim=2, hidden=3, batch=2, particles=3)
CATEGORICAL = CategoricalVAE(dim=1, classes=3, hidden=3, batch=2, particles=2)
ALL = [GAUSSIAN, replace(GAUSSIAN, decoder="linear"), BERNOULLI, CATEGORICAL]
over_all = pytest.mark.parametrize("objective", ALL, ids=repr)


@over_all
def test_f_is_the_mean_of_the_weights_of_single_particles(objective):
    _, q, f = made(objective)
    _, _, single = made(replace(objective, particles=None))
    x = draw(q, 5, seeded())
    assert isinstance(f, Bound)
    assert x.shape[:3] == (5, 2, objective.particles)
    each = torch.stack([single(x[:, :, k]) for k in range(objective.particles)])
    torch.testing.assert_close(f(x), each.logsumexp(0) - math.log(objective.particles), rtol=1e-12, atol=0)
    assert f(x).shape == (5, 2)


@over_all
def test_one_particle_is_the_evidence_lower_bound(objective):
    _, q, f = made(replace(objective, particles=1))
    problem, own, single = made(replace(objective, particles=None))
    x = draw(q, 4, seeded())
    torch.testing.assert_close(f(x), single(x[:, :, 0]), rtol=1e-12, atol=0)
    assert q.event_shape == (1, *own.event_shape)
    assert not replace(objective, particles=1).has_exact
    assert (problem.exact is not None) is replace(objective, particles=None).has_exact


def by_quadrature(objective):
    """Return the gradient of the bound for two particles and one latent, by a trapezoidal rule on pairs of points.

    The points are fixed and the density moves: f has kinks, so a rule that moves the points would not converge.
    """
    problem, q, log_weight = made(replace(objective, particles=None))
    node, step = torch.linspace(-9, 9, 1801, dtype=torch.float64), 0.01
    z = (q.mean + q.stddev * node.view(-1, 1, 1)).detach()
    mass = q.log_prob(z).exp() * step * q.stddev.detach().squeeze(-1)
    log_w = log_weight(z)
    pairs = torch.logaddexp(log_w.unsqueeze(1), log_w) - math.log(2)
    return gradient_of(problem, (mass.unsqueeze(1) * mass * pairs).sum((0, 1)).mean())


def value_by_enumeration(problem):
    q = problem.q(problem.theta)
    return Enumeration()(problem.integrand(q), q).mean()


def by_enumeration(objective):
    problem = objective.build(torch.float64)
    return gradient_of(problem, value_by_enumeration(problem))


@pytest.mark.parametrize(
    ("objective", "estimator", "exact"),
    [
        (GAUSSIAN, DoublyReparameterized(), by_quadrature),
        (GAUSSIAN, Reparameterization(), by_quadrature),
        (GAUSSIAN, VIMCO(), by_quadrature),
        (replace(GAUSSIAN, decoder="linear"), DoublyReparameterized(), by_quadrature),
        (BERNOULLI, VIMCO(), by_enumeration),
        (BERNOULLI, RLOO(n=4), by_enumeration),
        (CATEGORICAL, VIMCO(), by_enumeration),
    ],
    ids=lambda part: getattr(part, "__name__", None) or repr(part),
)
def test_unbiased_estimators_agree_with_a_sum_or_an_integral(objective, estimator, exact):
    engine = Engine(Cell(estimator, objective), Settings(replicates=10_000, dtype="float64"))
    sample = torch.cat([engine.draw_gradients(block) for block in range(len(engine.sizes))]).numpy()
    expected = exact(objective).numpy()
    noisy = sample.std(0) > 1e-12  # a pixel that no image has gives its weights no gradient
    np.testing.assert_allclose(sample.mean(0)[~noisy], expected[~noisy], rtol=0, atol=1e-10)
    z = (sample.mean(0) - expected)[noisy] / (sample.std(0)[noisy] / math.sqrt(len(sample)))
    assert noisy.mean() > 0.4
    assert np.abs(z).max() < z_limit(z.size)


def test_more_particles_are_a_tighter_bound():
    values = [value_by_enumeration(replace(BERNOULLI, particles=k).build(torch.float64)).item() for k in (1, 2, 4)]
    assert values == sorted(set(values))


@over_all
def test_planning_knows_the_particles(objective):
    assert mismatch(VIMCO(), objective) is None
    assert mismatch(VIMCO(), replace(objective, particles=None)) is not None
    assert mismatch(StickingTheLanding(), objective) is not None
    assert objective.row_elements == objective.particles * replace(objective, particles=None).row_elements
    assert objective.reference_estimator.unbiased
    assert mismatch(objective.reference_estimator, objective) is None


@over_all
def test_the_bound_can_be_trained(objective):
    record = TrainingRun.of(Cell(VIMCO(), objective), Training(steps=20, rate=1e-2, replicates=64), 0).record()
    assert record["outcome"] == "measured", record["reason"]
    assert record["curves"]["value"][-1] > record["curves"]["value"][0]
    assert (record["f_evals"], record["exact_value"]) == (objective.particles, False)


@pytest.mark.parametrize("particles", [0, -1, 2.0, True])
def test_the_number_of_particles_is_a_whole_number(particles):
    with pytest.raises(ValueError, match=r"needs a whole number particles >= 1 \(got particles="):
        BernoulliVAE(particles=particles)
