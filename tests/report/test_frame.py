import math

import pytest

from bench.report.cost import priced
from bench.report.frame import frame
from tests.report.records import deterministic, heavy, line, moments, study, timing


def test_one_row_per_run_and_timing_joins_by_run():
    records = study()
    table = frame(records)
    assert list(table["run"]) == [r["run"] for r in records if r["kind"] == "moments"]
    seconds = {r["run"]: r["seconds"] for r in records if r["kind"] == "timing"}
    timed = table[table["seconds"].notna()]
    assert dict(zip(timed["run"], timed["seconds"], strict=True)) == seconds


def test_the_later_line_of_a_run_counts():
    table = frame([moments("rloo", "o", 1.0), moments("rloo", "o", 2.0)])
    assert list(table["variance"]) == [2.0]


def test_timing_lines_alone_make_no_row():
    assert frame([timing(moments("rloo", "o", 1.0), 1e-6)]).empty
    assert frame([]).empty


def test_a_heavy_tail_keeps_its_lower_limit_and_nothing_else():
    for infinite in (False, True):
        row = frame([heavy("rloo", "o", 3.0, infinite=infinite)]).iloc[0]
        assert row["heavy"]
        assert row["variance_low"] == 3.0 * math.exp(-0.7)
        for key in ("variance", "variance_high", "mse", "mse_low", "mse_high", "snr"):
            assert math.isnan(row[key]), key


def test_rounding_of_a_deterministic_estimator_is_no_variance():
    row = frame([deterministic("enumeration", "o")]).iloc[0]
    assert row["variance"] == row["variance_low"] == row["variance_high"] == 0
    assert row["fair"]


def test_fair_runs_may_compete_as_unbiased():
    def fair(**facts):
        return bool(frame([moments("x", "o", 1.0, **facts)])["fair"].iloc[0])

    assert fair(verdict="UNBIASED_WITHIN_TOL", unbiased=False)
    assert fair(verdict="INCONCLUSIVE", unbiased=True)
    assert fair(verdict="NO_REFERENCE", unbiased=True, norm=None)
    assert not fair(verdict="INCONCLUSIVE", unbiased=False)
    assert not fair(verdict="BIASED", unbiased=True)
    assert not fair(verdict="BIASED_WITHIN_TOL", unbiased=True)


def rounding(estimator, verdict="UNBIASED_WITHIN_TOL"):
    record = moments(estimator, "o", 6e-14, verdict=verdict)
    record["summary"]["flags"] = ["AT_FLOAT_RESOLUTION"]
    return record


def test_nothing_is_measured_against_rounding():
    records = [rounding("control"), moments("rloo", "o", 4.0), moments("score-function", "o", 8.0)]
    table = priced(frame([*records, deterministic("enumeration", "o", f_evals=8.0)])).set_index("estimator")
    assert list(table.index[table["exact"]]) == ["control", "enumeration"]
    assert list(table.loc[["rloo", "score-function"], "efficiency"]) == [1.0, 0.5]
    assert table.loc[["control", "enumeration"], "efficiency"].isna().all()
    assert table.loc["control", "variance"] == 6e-14  # the figure is told all the same


@pytest.mark.parametrize(
    ("variance", "dtype", "exact"),
    [(1e-9, "float32", True), (1e-7, "float32", False), (1e-9, "float64", False), (1e-26, "float64", True)],
)
def test_a_thousand_roundings_of_the_gradient_are_rounding(variance, dtype, exact):
    record = moments("local-expectation", "o", variance, verdict="UNBIASED_WITHIN_TOL", norm=1.0)
    assert frame([{**record, "dtype": dtype}])["exact"].iloc[0] == exact


def test_a_bias_beyond_rounding_is_not_exact():
    assert not frame([rounding("control", "BIASED")])["exact"].iloc[0]
    assert not frame([deterministic("enumeration", "o", bias=0.02)])["exact"].iloc[0]


def test_rounding_in_an_exact_method_is_no_bias():
    for bias, fair in ((1e-4, True), (0.02, False)):
        row = frame([deterministic("enumeration", "o", bias=bias)]).iloc[0]
        assert (row["fair"], row["biased"]) == (fair, not fair)


def test_problems_name_only_what_the_study_varies():
    assert list(frame([moments("a", "o", 1.0), moments("b", "o", 1.0)])["problem"]) == ["o", "o"]
    two = [moments("a", "o", 1.0), moments("a", "o", 1.0, dtype="float64"), line("b", "o", outcome="skipped")]
    assert list(frame(two)["problem"]) == ["o (float32)", "o (float64)", "o"]
    seeds = [moments("a", "o", 1.0, seed=seed) for seed in (0, 7)]
    assert list(frame(seeds)["problem"]) == ["o (seed 0)", "o (seed 7)"]


def test_a_longer_run_of_a_cell_stands_apart_from_the_shorter():
    runs = [moments("a", "o", 1.0), moments("a", "o", 1.1, replicates=102_400), moments("a", "other", 1.0)]
    assert list(frame(runs)["problem"]) == ["o (R=10,240)", "o (R=102,400)", "other"]
