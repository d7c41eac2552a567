"""The truncated variance of a heavy tail."""

import numpy as np
import pytest
from scipy.stats import binom

from bench.gate import pairs
from bench.gate.findings import Verdict
from bench.gate.measure import measure_for_baseline
from bench.gate.stages import Options
from bench.measurement.engine import Engine
from bench.objectives import ExponentialMoment, GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.stats.gate import ALPHA_VARIANCE, STAGE_ONE_VARIANCE
from estimators import Reparameterization, ScoreFunction
from tests.gate.fabricated import suite, twin
from tests.tolerances import FAILURE_RATE, z_limit

HEAVIEST = Cell(ScoreFunction(), ExponentialMoment(rate=0.4, power=2))
"""Its squared norms have a tail index of 1.6: one gradient of a run may outweigh all others."""
SUITES = 12


def test_distances_are_between_consecutive_gradients():
    engine = Engine(HEAVIEST, Settings(replicates=600))
    g = np.concatenate([engine.draw_gradients(block).double().numpy() for block in range(len(engine.sizes))])
    expected = ((g[::2] - g[1::2]) ** 2).sum(1) / 2
    np.testing.assert_allclose(pairs.distances(engine), expected, rtol=1e-14)


def test_the_mean_distance_is_the_variance():
    values = pairs.distances(Engine(Cell(Reparameterization(), GaussianQuadratic(dim=3)), Settings(replicates=20_000)))
    assert abs(values.mean() - 3 * (4 + 12)) <= z_limit() * values.std() / values.size**0.5


def test_truncation_by_hand():
    values = np.arange(1.0, 201.0)
    found = pairs.truncated(values)
    assert found["truncated_at"] == 198
    cut = np.minimum(values, 198)
    assert found["truncated_mean"] == pytest.approx(cut.mean())
    assert found["truncated_cv2"] == pytest.approx(2 * cut.var(ddof=1) / cut.mean() ** 2)
    assert pairs.truncated(values, 50.0)["truncated_mean"] == pytest.approx(np.minimum(values, 50).mean())


def test_one_huge_gradient_moves_one_distance():
    values = np.random.default_rng(0).exponential(size=5000)
    spoilt = values.copy()
    spoilt[7] = 1e12
    before, after = pairs.truncated(values), pairs.truncated(spoilt)
    assert after["truncated_mean"] == pytest.approx(before["truncated_mean"], rel=0.01)


def test_an_infinite_variance_raises_no_alarm():
    reports = [
        suite(HEAVIEST, replicates=10_000, seed=2 * k).check(options=Options(replicates=2_000, seed=2 * k + 1))
        for k in range(SUITES)
    ]
    findings = [report.findings[0] for report in reports]
    assert all(finding.p_variance is None for finding in findings)
    assert not any(finding.fails for finding in findings)
    flagged = sum(finding.confirm_replicates is not None for finding in findings)
    assert flagged <= binom.isf(FAILURE_RATE, SUITES, STAGE_ONE_VARIANCE)


def test_growth_of_a_heavy_tail_is_caught():
    def call(_self, f, q, generator=None, state=None):
        return 2 * ScoreFunction()(f, q, generator, state)

    made = suite(HEAVIEST, replicates=60_000)
    report = made.check(Cell(twin(HEAVIEST.estimator, call), HEAVIEST.objective), options=Options(replicates=20_000))
    (finding,) = report.findings
    assert finding.verdict is Verdict.REGRESSED
    assert finding.p_adjusted <= ALPHA_VARIANCE
    assert finding.reason.startswith("truncated variance times")
    assert finding.variance is None


def test_an_estimator_that_fails_in_any_call_of_a_baseline_is_a_failed_cell(monkeypatch):
    """The cell is measured, measured again with the cut that the first run has found, and its pairs are drawn."""
    monkeypatch.setattr("bench.gate.measure.is_heavy", lambda _: True)
    calls, last, inner = [], [1e9], ScoreFunction()

    def fails(self, f, q, generator=None, state=None):
        calls.append(1)
        if len(calls) > last[0]:
            raise RuntimeError("the licence has ended")
        return inner(f, q, generator)

    cell = Cell(twin(ScoreFunction(), fails), GaussianQuadratic(dim=2))

    def measured():
        calls.clear()
        return measure_for_baseline(cell, Settings(64), lambda *_: None, adaptive=False)

    assert measured()["outcome"] == "measured"
    for last[0] in range(len(calls)):
        found = measured()
        assert (found["outcome"], "licence" in found["reason"]) == ("failed", True)
