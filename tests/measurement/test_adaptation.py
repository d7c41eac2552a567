"""Adaptation: counted, stopped when it no longer pays, and frozen before anything is measured."""

from dataclasses import replace

import pytest
import torch

from bench import objectives
from bench.measurement.adaptation import ADAPT_ROWS, ADAPT_WINDOW, adapt_state
from bench.measurement.engine import Engine
from bench.measurement.lines import run_of
from bench.planning.cells import Cell
from bench.planning.settings import ADAPT_STEPS, Settings
from estimators import RLOO, QuadraticControlVariate, Reparameterization, ScoreFunction

SHARP = Settings(replicates=256, dtype="float64")
AVERAGE = Cell(ScoreFunction(baseline="moving-average"), objectives.GaussianQuadratic(dim=2))


def test_learning_is_counted_and_frozen():
    engine = Engine(AVERAGE, SHARP)
    adaptation = adapt_state(engine)
    assert adaptation.steps % ADAPT_WINDOW == 0
    assert 2 * ADAPT_WINDOW <= adaptation.steps < ADAPT_STEPS
    assert adaptation.f_evals == adaptation.steps * ADAPT_ROWS
    assert adaptation.digest is not None
    assert abs(float(engine.state.mean) - 4.0) < 1.0, "E f = 2 (1 + 1) at the initial point"
    again = Engine(engine.cell, SHARP, engine.state_bytes())
    torch.testing.assert_close(again.draw_gradients(0), engine.draw_gradients(0), rtol=0, atol=0)


@pytest.mark.parametrize("limit", [1, 70])
def test_the_limit_is_kept_and_belongs_to_the_run(limit):
    short = replace(SHARP, adapt_steps=limit)
    adaptation = adapt_state(Engine(AVERAGE, short))
    assert (adaptation.steps, adaptation.settled) == (limit, False)
    assert run_of(AVERAGE, short) != run_of(AVERAGE, SHARP)
    plain = Cell(RLOO(), AVERAGE.objective)
    assert run_of(plain, short) == run_of(plain, SHARP)
    assert run_of(AVERAGE, replace(SHARP, adapt_steps=ADAPT_STEPS)) == run_of(AVERAGE, SHARP)


def test_it_goes_on_while_it_pays(monkeypatch):
    """The second moments of the windows fall by 2 %, by 2 %, and by half a percent."""
    falling = [torch.tensor(m) for m in (1.0, 0.98, 0.96, 0.955, 0.5) for _ in range(ADAPT_WINDOW)]
    monkeypatch.setattr("bench.measurement.adaptation.adapt", lambda *_: falling.pop(0))
    adaptation = adapt_state(Engine(AVERAGE, SHARP))
    assert (adaptation.steps, adaptation.settled) == (4 * ADAPT_WINDOW, True)


@pytest.mark.parametrize("power", [-10, 10])
def test_the_unit_of_f_changes_neither_the_steps_nor_the_relative_variance(power):
    """For f times a power of two, the state learns in equally many steps, and every gradient is the same multiple."""
    c, settings, objective = 2.0**power, Settings(replicates=256), objectives.GaussianQuadratic()
    problem = objective.build(torch.float32, "cpu")
    times = replace(problem, integrand=lambda q: lambda x: c * problem.integrand(q)(x))
    cell = Cell(QuadraticControlVariate(), objective)
    plain, scaled = Engine(cell, settings, problem=problem), Engine(cell, settings, problem=times)
    assert adapt_state(plain).steps == adapt_state(scaled).steps
    own = plain.draw_gradients(0)
    assert torch.equal(scaled.draw_gradients(0), c * own)
    free = Engine(Cell(Reparameterization(), objective), settings, problem=problem).draw_gradients(0)
    assert own.var(0).sum() < 0.01 * free.var(0).sum()
