"""Tasks: the records that they make."""

import numpy as np

from bench.execution.tasks import MomentsTask
from bench.measurement import reference
from bench.objectives import GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import RLOO, StraightThrough
from tests.measurement.objectives import VAE


def test_a_moments_task_uses_the_reference():
    line = reference.measure_reference(reference.cell_of(VAE), reference.settings_of(Settings(replicates=2_000)))
    cell = Cell(StraightThrough(), VAE)
    plain = MomentsTask(cell, Settings(replicates=300)).record()
    judged = MomentsTask(cell, Settings(replicates=300), reference.read(line)).record()
    assert plain["summary"]["verdict"] == "NO_REFERENCE"
    assert judged["summary"]["verdict"] != "NO_REFERENCE"
    assert judged["fingerprint"] == plain["fingerprint"]
    np.testing.assert_allclose(judged["mean"], plain["mean"], rtol=1e-5, atol=1e-7)


def test_a_failure_keeps_the_precision_that_was_wanted():
    cell = Cell(RLOO(), GaussianQuadratic())
    pilot = {"precision": 0.1, "pilot_replicates": 1024}
    line = MomentsTask(cell, Settings(), pilot=pilot).failed("deliberately")
    assert (line["precision"], line["pilot_replicates"], line["precision_reached"]) == (0.1, 1024, None)
