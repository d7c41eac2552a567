"""A small calibration study: its laws are as declared, its shortcuts are exact, its figures hold."""

import math
from math import sqrt

import numpy as np
import pytest
import torch
from scipy.stats import binom

from bench.gate.findings import Verdict
from bench.measurement.reduction.kernels import Workspace
from bench.stats import summarise
from bench.stats.variance import TAIL_REPLICATES
from tests.calibration import accusations, adaptive, coverage, direction, expected, gate, levels, long
from tests.calibration.laws import EXP1, G1, G20, IW45, LAWS, SFQ1, Law, exponential, generator
from tests.tolerances import FAILURE_RATE, z_limit

QUICK = {law.name: law for law in LAWS if law.name in expected.COVERAGE}
RUNS = 120
ACCUSATIONS = 40
"""Runs of each law: few, since `python -m tests.calibration` makes thousands, and these show that it works."""
LIGHT = [
    law
    for law in (*LAWS, *levels.VECTOR, *accusations.NEW)
    if math.isfinite(law.variance) and law.name not in ("EXP1", "EXP1 D=20", "T3", "T3 D=20", "IW.7")
]


@pytest.mark.parametrize("law", LIGHT, ids=lambda law: law.name)
def test_a_law_has_the_mean_and_the_variance_it_says(law):
    rows = 400_000 // law.size
    g = law.draw(generator("test", law.name), rows).double().numpy()
    squares = ((g - law.mean) ** 2).sum(1)
    assert abs(squares.mean() - law.variance) <= z_limit() * squares.std() / sqrt(rows) + 1e-6 * law.variance
    off = np.abs(g.mean(0) - law.mean) / (g.std(0) / sqrt(rows) + 1e-12)
    assert off.max() <= z_limit(law.size)


@pytest.mark.parametrize("law", [SFQ1, EXP1, QUICK["IW.7"]], ids=lambda law: law.name)
def test_heavy_laws_by_quadrature(law):
    x, w = np.polynomial.hermite_e.hermegauss(180)
    weighted = 0.7 * x * np.exp(0.15 * x**2)
    g = {"SFQ1": (1 + x) ** 2 * x, "EXP1": x * np.exp(x), "IW.7": weighted}[law.name]
    mean = (w * g).sum() / w.sum()
    assert law.mean[0] == pytest.approx(mean, rel=1e-9, abs=1e-12)
    assert law.variance == pytest.approx((w * (g - mean) ** 2).sum() / w.sum(), rel=1e-3)


def within(hits: int, runs: int, rate: float, expected_runs: int) -> bool:
    """Return whether a rate agrees with an expected one, given in rounded percent and based on ``runs`` runs."""
    return abs(coverage_score(hits, runs, rate, expected_runs)) <= z_limit(2 * len(QUICK))


def coverage_score(hits: int, runs: int, rate: float, expected_runs: int) -> float:
    from tests.calibration.write import score

    return score(hits / runs, runs, rate, expected_runs)


@pytest.mark.parametrize("law", QUICK.values(), ids=lambda law: law.name)
def test_intervals_cover_as_expected_and_nothing_unbiased_is_called_biased(law):
    columns = coverage.runs(law, 1_000, range(RUNS))
    covered = int(sum(columns["covered"]))
    assert within(covered, RUNS, expected.COVERAGE[law.name][0], expected.RUNS[1_000])
    assert sum(columns["biased"]) <= binom.isf(FAILURE_RATE, RUNS, 0.001)
    for key in ("missed_first", "missed_second"):
        assert sum(columns[key]) <= binom.isf(FAILURE_RATE, RUNS, expected.MISSED_ONE / 100)
    if law.name in expected.TAILS:
        assert within(int(sum(columns["khat_heavy"])), RUNS, expected.TAILS[law.name][0][1], expected.RUNS[1_000])


def test_an_infinite_variance_has_no_upper_limit():
    columns = coverage.runs(IW45, 10_000, range(20))
    assert np.mean(columns["khat_heavy"]) == 1
    assert sum(columns["biased"]) == 0


ACCUSED = {law.name: law for law in (*accusations.FINITE, *accusations.INFINITE)}
"""Laws by name."""


@pytest.mark.parametrize("replicates", accusations.SIZES)
@pytest.mark.parametrize("law", accusations.FINITE, ids=lambda law: law.name)
def test_a_finite_variance_is_called_infinite_no_more_often_than_the_level_says(law, replicates):
    columns = accusations.runs(law, replicates, range(ACCUSATIONS))
    accused = sum(columns["INFINITE_VARIANCE_SUSPECTED"])
    if law.finite_support or replicates < TAIL_REPLICATES:
        assert accused == sum(columns["HEAVY_TAIL"]) == 0
    assert accused <= binom.isf(FAILURE_RATE, ACCUSATIONS, 0.05)
    if law.name in ("COS", "CHI2", "HOT10"):
        assert sum(columns["HEAVY_TAIL"]) <= binom.isf(FAILURE_RATE, ACCUSATIONS, 0.05)


def test_lobes_of_a_bounded_f_looked_like_an_infinite_variance():
    columns = accusations.runs(ACCUSED["COS"], 2_000, range(20))
    assert np.mean(columns["point_HEAVY_TAIL"]) > 0.5  # a point estimate alone accuses
    assert sum(columns["FEW_FOR_TAIL"]) == sum(columns["point_HEAVY_TAIL"])


@pytest.mark.parametrize("law", accusations.INFINITE, ids=lambda law: law.name)
def test_an_infinite_variance_is_caught_and_never_gets_two_limits(law):
    columns = accusations.runs(law, 10_000, range(ACCUSATIONS))
    assert sum(columns["two_limits"]) <= binom.isf(FAILURE_RATE, ACCUSATIONS, 0.025)
    if law.name in ("IW.3", "EXP2"):
        assert sum(columns["INFINITE_VARIANCE_SUSPECTED"]) >= binom.ppf(FAILURE_RATE, ACCUSATIONS, 0.9)


@pytest.mark.parametrize("law", [G20, SFQ1, levels.VECTOR[1]], ids=lambda law: law.name)
def test_many_runs_at_once_are_tested_as_a_run_is(law):
    g = law.draw(generator("test", "levels"), 3 * levels.ROWS).view(3, levels.ROWS, law.size)
    sizes = [levels.ROWS // 8] * 8
    p = levels.three_parts(g, law.mean, 8)
    for gradients, found in zip(g, p, strict=True):
        sums = coverage.sums_of(gradients, law, sizes, Workspace())
        assert found == pytest.approx(summarise(sums, exact=law.mean, dtype="float32").p_bias, rel=1e-3)


@pytest.mark.parametrize("law", [G1, SFQ1, G20], ids=lambda law: law.name)
def test_the_bias_test_keeps_its_level(law):
    runs = 8_000 if law.size == 1 else 1_000
    found = levels.rejections(law, range(runs))
    for level in levels.NOMINAL:
        assert found[f"{level:g}"][0] <= binom.isf(FAILURE_RATE / 10, runs, level)


@pytest.mark.parametrize("name", levels.SUMS)
def test_the_sum_test_keeps_its_level(name):
    found = levels.sum_rejections(name, 20, range(10_000))
    for level in levels.NOMINAL:
        assert found[f"{level:g}"][0] <= binom.isf(FAILURE_RATE / 10, 10_000, level)


def test_the_mean_gradients_have_the_scale_and_the_angle_of_their_case():
    for law in direction.LAWS:
        exact, means = direction.means(law)
        assert np.linalg.norm(exact) == pytest.approx(direction.SIGNAL * sqrt(law.variance))
        for case, (scale, angle) in direction.CASES.items():
            along = means[case] @ exact / (exact @ exact)
            across = np.linalg.norm(means[case] - along * exact) / np.linalg.norm(along * exact)
            assert (along, math.degrees(math.atan(across))) == pytest.approx((scale, angle), abs=1e-7)


def test_limits_of_scale_and_angle_hold_and_no_word_is_wrong():
    """A few runs show that the study works; the rates are in its tables."""
    runs, law = 8, next(law for law in direction.LAWS if law.name == "T5 D=2")
    for row in direction.summary(law, direction.runs(law, range(runs))):
        for key, rate in (("covered", 0.95), ("upper_holds", 0.95), ("lower_holds", 0.95)):
            assert runs * row[key] >= binom.ppf(FAILURE_RATE, runs, rate)
        assert runs * row["wrong_word"] <= binom.isf(FAILURE_RATE, runs, 0.003)
        if row["case"] != "turned":
            assert runs * row["p_05"] <= binom.isf(FAILURE_RATE, runs, 0.05)


def test_a_planned_run_covers_and_is_precise():
    columns = adaptive.runs(G1, range(60))
    assert sum(columns["covered"]) >= binom.ppf(FAILURE_RATE, 60, 0.95)
    assert np.mean(columns["reached"]) > 0.9
    heavy = adaptive.runs(exponential("EXP1", 1.0), range(4))
    assert heavy["reached"] == [0.0] * 4
    assert min(heavy["replicates"]) >= adaptive.MOST


@pytest.mark.parametrize("law", [G1, SFQ1], ids=lambda law: law.name)
def test_long_runs_cover_though_not_all_is_followed(law):
    columns = long.runs(law, range(40))
    for key in ("covered", "mse_covered"):
        assert sum(columns[key]) >= binom.ppf(FAILURE_RATE / 4, 40, 0.93)
    assert sum(columns["biased"]) <= binom.isf(FAILURE_RATE, 40, 0.001)
    row = long.summary(law, columns)
    assert row["followed"] == 139_264 < row["R"] == 303_104


CELLS = (gate.CELLS[1], gate.CELLS[3], gate.CELLS[6])


def test_resampled_suites_raise_no_alarm():
    suites = gate.suites_of([gate.null_cases(cell, 10, blocks=256, firsts=40, baselines=4) for cell in CELLS])
    assert len(suites) == 10
    assert [len(suite) for suite in suites] == [len(CELLS) * gate.EACH] * 10
    assert not any(finding.fails for suite in suites for finding in suite)
    confirmed = sum(finding.confirm_replicates is not None for suite in suites for finding in suite)
    assert confirmed > 0


def test_planted_faults_are_caught():
    rows = {row["fault"]: row for row in gate.power(CELLS[0], None, trials=4, blocks=256)}
    assert [row["caught"] for row in rows.values()] == [1.0] * len(gate.FAULTS)
    assert rows["variance × 2"]["variance_ratio"] == pytest.approx(2, rel=0.1)
    assert rows["bias of 5 %"]["variance_ratio"] == pytest.approx(1, rel=0.1)
    name, sound, faulty = gate.PLANTED[-1]
    (row,) = gate.power(sound, (name, faulty), trials=2, blocks=256)
    assert (row["caught"], row["variance_ratio"] > 2) == (1.0, True)


def test_a_pool_resamples_what_was_measured():
    cell = CELLS[0]
    gradients = gate.gradients_of(cell, 64)
    pool = gate.Pool.of(cell, gradients)
    flat = gradients.flatten(0, 1).double()
    assert pool.exact == pytest.approx(flat.mean(0).numpy(), rel=1e-9)
    entry = pool.baselines(1, gate.random_of("test"))[0]
    assert entry.variance == pytest.approx(float(flat.var(0).sum()), rel=0.05)
    assert torch.equal(gradients, gate.gradients_of(cell, 64))
    assert Verdict.REGRESSED in gate.FAILING
    assert isinstance(G1, Law)
