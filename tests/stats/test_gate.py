from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import gate
from bench.stats.gate import GateCell

approx = pytest.approx

BASE = GateCell(
    replicates=100_000,
    variance=2.0,
    cv2=2.0,
    kurtosis=15.0,
    rho=1.0,
    khat=0.1,
    truncated_at=9.0,
    truncated_mean=1.9,
    truncated_cv2=1.5,
    float_floor=1e-10,
)
SAME = replace(BASE, replicates=40_000)


def test_both_parts_are_paid_for():
    new = replace(SAME, variance=2.4, truncated_mean=2.3)
    result = gate.gate_cell(BASE, new, 0.05)
    assert result.outcome == "TESTED"
    assert result.p_variance is not None
    assert result.p_truncated is not None
    assert result.p == approx(2 * min(result.p_variance, result.p_truncated))
    assert result.p < 1e-10


def test_a_heavy_tail_is_guarded_by_the_truncated_part_alone():
    heavy = replace(BASE, khat=0.8)
    result = gate.gate_cell(heavy, replace(SAME, variance=50.0), 0.05)
    assert result.p_variance is None
    assert result.p == result.p_truncated
    assert result.p == approx(1.0, abs=0.01)
    blind = gate.gate_cell(heavy, replace(SAME, truncated_at=8.0), 0.05)
    assert (blind.outcome, blind.p) == ("NOT_GATEABLE", None)


def test_without_truncated_moments_the_variance_decides_alone():
    result = gate.gate_cell(BASE, replace(SAME, truncated_at=None), 0.05)
    assert result.p_truncated is None
    assert result.p == result.p_variance


@pytest.mark.parametrize(
    ("old", "new", "outcome", "p", "reason"),
    [
        (0.0, 1e-3, "FAIL", 0.0, "DETERMINISTIC_BECAME_RANDOM"),
        (0.0, 1e-11, "PASS", 1.0, "nothing varies"),
        (0.0, 0.0, "PASS", 1.0, "nothing varies"),
        (1.0, 0.0, "PASS", 1.0, "stale"),
    ],
)
def test_cells_without_noise(old, new, outcome, p, reason):
    result = gate.gate_cell(replace(BASE, variance=old), replace(SAME, variance=new), 0.05)
    assert (result.outcome, result.p) == (outcome, p)
    assert reason in result.reason


def test_a_tail_that_appears_is_a_warning():
    assert "warning" in gate.gate_cell(BASE, replace(SAME, khat=1.2), 0.05).reason
    assert gate.gate_cell(BASE, SAME, 0.05).reason == ""


def test_a_fall_is_a_notice():
    assert gate.is_stale(BASE, replace(SAME, variance=1.0), 0.05, 1e-3)
    assert not gate.is_stale(BASE, SAME, 0.05, 1e-3)


@given(st.floats(0.5, 3.0), st.floats(0.01, 0.5))
def test_scale_equivariance(ratio, margin):
    def scaled(cell, c):
        return replace(cell, variance=cell.variance * c, truncated_mean=cell.truncated_mean * c)

    new = scaled(SAME, ratio)
    a = gate.gate_cell(BASE, new, margin)
    b = gate.gate_cell(scaled(BASE, 1e6), scaled(new, 1e6), margin)
    assert a.p == approx(b.p, rel=1e-6)
    if ratio <= 1 + margin:
        assert a.p >= 0.5  # inside the margin nothing is ever small


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 50))
def test_holm_is_a_running_maximum_that_decides(p, others):
    names = {str(i): x for i, x in enumerate(p)}
    result = gate.holm(names, cells=len(p) + others, alpha=0.05)
    for name, (rejected, adjusted) in result.items():
        assert rejected == (adjusted <= 0.05) or adjusted == approx(0.05)
        assert min(1.0, names[name] * 1.0) <= adjusted <= 1.0
    ordered = sorted(names, key=names.__getitem__)
    assert [result[n][1] for n in ordered] == sorted(result[n][1] for n in ordered)


def test_sizes():
    assert gate.replicates_for_power(1.0, 0.10, 0.05) == approx(15_800, rel=0.01)
    assert gate.replicates_for_power(1.0, 0.25, 0.10) == approx(2_090, rel=0.01)
    assert [gate.default_margin(c) for c in (3.0, 3.1)] == [0.05, 0.10]
    assert [gate.baseline_replicates(c) for c in (10.0, 11.0)] == [100_000, 400_000]
    with pytest.raises(ValueError, match="within the margin"):
        gate.replicates_for_power(1.0, 0.05, 0.10)
    with pytest.raises(ValueError, match="all cells of the baseline"):
        gate.holm({"a": 0.1, "b": 0.2}, cells=1, alpha=0.05)
