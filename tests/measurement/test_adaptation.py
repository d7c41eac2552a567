"""Adaptation: counted, and frozen before anything is measured."""

import torch

from bench import objectives
from bench.measurement.adaptation import ADAPT_ROWS, ADAPT_STEPS, adapt_state
from bench.measurement.engine import Engine
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import ScoreFunction

SHARP = Settings(replicates=256, dtype="float64")


def test_learning_is_counted_and_frozen():
    engine = Engine(Cell(ScoreFunction(baseline="moving-average"), objectives.GaussianQuadratic(dim=2)), SHARP)
    adaptation = adapt_state(engine)
    assert adaptation.steps == ADAPT_STEPS
    assert adaptation.f_evals == ADAPT_STEPS * ADAPT_ROWS
    assert adaptation.digest is not None
    assert abs(float(engine.state.mean) - 4.0) < 1.0, "E f = 2 (1 + 1) at the initial point"
    again = Engine(engine.cell, SHARP, engine.state_bytes())
    torch.testing.assert_close(again.draw_gradients(0), engine.draw_gradients(0), rtol=0, atol=0)
