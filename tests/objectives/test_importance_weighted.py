"""The importance-weighted bound: its exact value against quadrature and closed forms, and measurements on it."""

import math

import pytest
import torch

from bench import measure
from bench.objectives import GaussianQuadratic, ImportanceWeighted, LogisticRegression
from bench.planning.cells import mismatch
from estimators import RLOO, VIMCO, Bound, DoublyReparameterized, Reparameterization, StickingTheLanding, draw
from tests.problems import hermite, mean_scores, seeded
from tests.tolerances import z_limit


def exact(objective):
    problem = objective.build(torch.float64)
    value = problem.exact(problem.theta)
    return value.item(), torch.stack(torch.autograd.grad(value, list(problem.theta.values())))


@pytest.mark.parametrize("scale", [0.4, 0.8, 1.2])
@pytest.mark.parametrize("mean", [0.5, 1.6])
def test_one_particle_is_the_evidence_lower_bound(mean, scale):
    value, gradient = exact(ImportanceWeighted(dim=3, particles=1, x=1.5, mean=mean, scale=scale))
    each = -(mean**2) + 1.5 * mean - 1.5**2 / 2 + math.log(scale) - math.log(2 * math.pi) / 2 + 0.5 - scale**2
    assert value == pytest.approx(3 * each, rel=1e-11)
    expected = torch.tensor([[1.5 - 2 * mean], [1 - 2 * scale**2]], dtype=torch.float64).expand(2, 3)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("mean", "scale"), [(0.5, 0.8), (1.6, 1.1), (-0.2, 0.45)])
def test_two_particles_against_quadrature(mean, scale):
    objective = ImportanceWeighted(dim=1, particles=2, mean=mean, scale=scale)
    problem = objective.build(torch.float64)
    q, (z, weights) = problem.q(problem.theta), hermite(100, 2)
    points = problem.theta["mean"] + problem.theta["log_scale"].exp() * z.unsqueeze(-1)
    direct = (weights * problem.integrand(q)(points)).sum()
    value, gradient = exact(objective)
    assert value == pytest.approx(direct.item(), rel=1e-9)
    expected = torch.stack(torch.autograd.grad(direct, list(problem.theta.values())))
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-7)  # of the direct quadrature


def test_the_bound_is_the_evidence_at_the_posterior():
    value, gradient = exact(ImportanceWeighted(dim=4, particles=5, x=2.0, mean=1.0, scale=math.sqrt(0.5)))
    assert value == pytest.approx(4 * (-1 - math.log(4 * math.pi) / 2), rel=1e-12)  # x ~ N(0, 2)
    assert gradient.abs().max() < 1e-12


def test_more_particles_make_the_bound_tighter():
    values = [exact(ImportanceWeighted(particles=k))[0] for k in (1, 2, 8, 64)]
    assert values == sorted(values)
    assert values[-1] < 5 * (-1 - math.log(4 * math.pi) / 2)


@pytest.mark.parametrize(
    "objective",
    [ImportanceWeighted(), ImportanceWeighted(dim=2, particles=3, x=1.0, mean=-0.3, scale=1.2)],
    ids=repr,
)
def test_value_is_the_mean_of_f(objective):
    problem = objective.build(torch.float64)
    q = problem.q(problem.theta)
    fx = problem.integrand(q)(draw(q, 2**16, seeded())).detach()
    assert mean_scores(fx.unsqueeze(-1), exact(objective)[0]).abs().max() < z_limit(2)


@pytest.mark.parametrize("estimator", [VIMCO(), DoublyReparameterized(), Reparameterization(), RLOO()], ids=repr)
def test_unbiased_estimators_are_found_unbiased(estimator):
    m = measure(estimator, ImportanceWeighted(), replicates=20_000, dtype="float64")
    assert m.verdict in ("UNBIASED_WITHIN_TOL", "INCONCLUSIVE")
    assert m.summary.p_bias > 1e-6


def test_doubly_reparameterized_gradients_are_sharper():
    one, other = (
        measure(e, ImportanceWeighted(particles=32), replicates=5_000)
        for e in (DoublyReparameterized(), Reparameterization())
    )
    assert one.variance_interval[1] < other.variance_interval[0] / 5


def test_evaluations_of_log_joints_are_counted():
    m = measure(DoublyReparameterized(n=2), ImportanceWeighted(particles=6), replicates=100)
    assert (m.f_evals, m.grad_evals) == (12, 12)
    assert measure(VIMCO(n=2), ImportanceWeighted(particles=6), replicates=100).f_evals == 12


def test_planning_knows_which_estimators_use_particles():
    assert mismatch(VIMCO(), ImportanceWeighted()) is None
    assert mismatch(DoublyReparameterized(), ImportanceWeighted()) is None
    assert mismatch(DoublyReparameterized(), LogisticRegression()) is None
    assert "biased for a Bound of more than one particle" in mismatch(StickingTheLanding(), ImportanceWeighted())
    assert mismatch(StickingTheLanding(), ImportanceWeighted(particles=1)) is None
    for objective in (LogisticRegression(), ImportanceWeighted(particles=1)):
        assert "at least 2 particles" in mismatch(VIMCO(), objective)
    assert "is not one" in mismatch(VIMCO(), GaussianQuadratic())


def test_the_problem_is_what_was_declared():
    problem = ImportanceWeighted(dim=2, particles=3).build()
    q = problem.q(problem.theta)
    f = problem.integrand(q)
    assert isinstance(f, Bound)
    assert (f.particles, tuple(q.event_shape)) == (3, (3, 2))
    assert f(draw(q, 4, seeded())).dtype == torch.float32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 0),
        ("particles", 0),
        ("particles", 2.0),
        ("x", math.inf),
        ("mean", math.nan),
        ("scale", 0.3),
        ("mean", 5.0),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(field, value):
    with pytest.raises(ValueError, match=r"ImportanceWeighted needs a .* Use \w+=.*\."):
        ImportanceWeighted(**{field: value})
