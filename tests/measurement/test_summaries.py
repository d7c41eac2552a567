"""Summaries of a cell's partial sums."""

from dataclasses import replace

from bench import objectives
from bench.measurement.engine import Engine, exact_gradient
from bench.measurement.moments import summarise_cell
from bench.measurement.summaries import has_no_noise
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import Reparameterization


def test_slopes_that_are_0_in_all_tracked_rows_do_not_make_f_a_step():
    engine = Engine(Cell(Reparameterization(), objectives.GaussianQuadratic(dim=2)), Settings(replicates=1000))
    exact = exact_gradient(engine.cell.objective, engine.problem)[1]
    sums, _, _ = summarise_cell(engine, exact)
    assert not has_no_noise(engine, replace(sums, zero_rows=sums.followed))
