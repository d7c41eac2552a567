"""Monte Carlo references: measured once per objective, and used with their standard errors."""

import dataclasses
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from bench import measure, objectives
from bench.measurement import reference, summaries
from bench.measurement.engine import Engine
from bench.objectives import BernoulliVAE, GaussianQuadratic
from bench.objectives.autoencoders.images import images
from bench.objectives.autoencoders.networks import network
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records import store
from bench.records.lines import Lost
from estimators import RLOO, DisARM, GumbelSoftmax, Reparameterization, ScoreFunction
from tests.measurement.objectives import SELECTOR, VAE
from tests.tolerances import z_limit

SETTINGS = reference.settings_of(Settings(replicates=2_000))


@dataclass(frozen=True)
class Hidden(GaussianQuadratic):
    """A quadratic that keeps its exact value to itself."""

    dim: int = 2

    has_exact = False
    reference_estimator = Reparameterization(n=4)


def exact_gradient():
    """The gradient by the sum over all 8,192 states, which the objective itself does not make."""
    problem = VAE.build(torch.float64)
    x = images("digits").bits()[:2]
    value = VAE.bounds(x, network(x, problem.theta), problem.extra).mean()
    gradients = torch.autograd.grad(value, list(problem.theta.values()))
    return torch.cat([g.flatten() for g in gradients]).numpy()


@pytest.fixture(scope="module")
def line():
    return reference.measure_reference(reference.cell_of(VAE), SETTINGS)


# The record ----------------------------------------------------------------------------------------------------------


def test_a_reference_is_as_far_from_the_exact_gradient_as_its_error_says(line):
    found = reference.read(line)
    squared = ((found.mean - exact_gradient()) ** 2).sum()
    noise = math.sqrt(2 * found.trace_square) / found.replicates
    assert abs(squared - line["standard_error"] ** 2) < z_limit() * noise
    assert line["standard_error"] == pytest.approx(math.sqrt(found.variance / found.replicates), rel=1e-14)
    assert line["standard_error"] < 0.1 * np.linalg.norm(found.mean)


def test_the_record_describes_the_reference(line):
    assert (line["kind"], line["outcome"], line["dtype"]) == ("reference", "measured", "float64")
    assert line["estimator"] == "disarm:n=8"
    assert line["objective"] == SELECTOR
    assert line["replicates"] == 2_048
    assert line["summary"]["verdict"] == "NO_REFERENCE"
    assert sum(line["groups"].values()) == line["size"] == len(line["mean"])


def test_a_reference_has_noise_of_its_own(line):
    engine = Engine(reference.cell_of(VAE), SETTINGS)
    own = torch.cat([engine.draw_gradients(block, "reference") for block in range(len(engine.sizes))])
    np.testing.assert_allclose(line["mean"], own.mean(0).numpy(), rtol=1e-9, atol=1e-12)
    assert not torch.equal(engine.draw_gradients(0, "reference"), engine.draw_gradients(0))


def test_a_reference_is_written_and_read_without_loss(line, tmp_path):
    with store.Store(tmp_path) as writer:
        writer.append(line)
    (again,) = store.read(tmp_path)
    one, other = reference.read(line), reference.read(again)
    assert np.array_equal(one.mean, other.mean)
    assert (one.replicates, one.variance, one.trace_square) == (other.replicates, other.variance, other.trace_square)


def test_only_objectives_without_an_exact_gradient_have_one():
    assert reference.cell_of(GaussianQuadratic()) is None
    assert reference.cell_of(BernoulliVAE(dim=12)) is None
    assert reference.cell_of(VAE) == Cell(DisARM(n=8), VAE)
    assert reference.in_process(GaussianQuadratic(), SETTINGS) is None


def test_every_objective_of_the_catalogue_without_an_exact_gradient_names_an_unbiased_estimator():
    for cls in objectives.catalogue().values():
        objective = cls()
        assert objective.has_exact or objective.reference_estimator.unbiased
    assert VAE.reference_estimator.unbiased


def test_a_biased_estimator_is_refused():
    cell = Cell(GumbelSoftmax(), VAE)
    with pytest.raises(Lost, match=r"GumbelSoftmax.* is biased\. Name an unbiased estimator"):
        reference.measure_reference(cell, SETTINGS)


def test_an_infinite_variance_is_refused(monkeypatch):
    real = summaries.summarise
    monkeypatch.setattr(
        summaries, "summarise", lambda *a, **k: replace(real(*a, **k), status="INFINITE_VARIANCE_SUSPECTED")
    )
    with pytest.raises(Lost, match="no finite variance"):
        reference.measure_reference(reference.cell_of(Hidden()), SETTINGS)


def test_an_estimator_that_learns_may_be_named(line):
    from estimators import REBAR

    found = reference.read(reference.measure_reference(Cell(REBAR(n=2), VAE), SETTINGS))
    other = reference.read(line)
    squared = ((found.mean - other.mean) ** 2).sum()
    expected = found.variance / found.replicates + other.variance / other.replicates
    noise = math.sqrt(2) * sum(math.sqrt(r.trace_square) / r.replicates for r in (found, other))
    assert abs(squared - expected) < z_limit() * noise


# In Python -----------------------------------------------------------------------------------------------------------


def test_a_measurement_is_judged_against_a_reference():
    honest = measure(RLOO(n=4), VAE, replicates=2_000)
    biased = measure(GumbelSoftmax(), VAE, replicates=2_000)
    for m in (honest, biased):
        assert m.exact is None
        assert "REFERENCE_NOISE" in m.summary.flags
        assert m.record["reference_error"] > 0
        assert m.bias_bound is not None
        assert m.summary.mse is not None
    assert biased.verdict == "BIASED"
    assert honest.verdict in ("INCONCLUSIVE", "UNBIASED_WITHIN_TOL")
    distance = np.linalg.norm(honest.record["mean"] - exact_gradient())
    assert honest.bias_bound > distance / 2


def test_a_reference_finds_what_the_exact_gradient_finds():
    """The same cells with the exact value hidden: the same norm, and no other verdict."""
    for estimator in (Reparameterization(), ScoreFunction()):
        known = measure(estimator, GaussianQuadratic(dim=2), replicates=4_000, dtype="float64")
        hidden = measure(estimator, Hidden(), replicates=4_000, dtype="float64")
        assert abs(hidden.summary.exact_norm - known.summary.exact_norm) < z_limit() * hidden.record["reference_error"]
        assert hidden.verdict in (known.verdict, "INCONCLUSIVE")


def test_a_reference_is_measured_once_in_a_process(monkeypatch):
    calls, real = [], reference.measure_reference
    monkeypatch.setattr(reference, "measure_reference", lambda *a: calls.append(1) or real(*a))
    reference.in_process.cache_clear()
    for estimator in (Reparameterization(), ScoreFunction(), Reparameterization(n=2)):
        measure(estimator, Hidden(), replicates=300)
    measure(ScoreFunction(), Hidden(), replicates=300, dtype="float64", common_noise=False)
    assert len(calls) == 1
    measure(ScoreFunction(), Hidden(), replicates=300, seed=1)
    assert len(calls) == 2


def test_without_a_reference_there_is_no_verdict():
    @dataclass(frozen=True)
    class Mute(Hidden):
        reference_estimator = None

    m = measure(Reparameterization(), Mute(), replicates=300)
    assert m.verdict == "NO_REFERENCE"
    assert m.record["reference_error"] is None


def test_the_settings_of_a_reference_do_not_depend_on_the_cells():
    for field, value in (("dtype", "float32"), ("common_noise", False), ("timing", True)):
        assert reference.settings_of(dataclasses.replace(Settings(replicates=300), **{field: value})) == (
            reference.settings_of(Settings(replicates=300))
        )
