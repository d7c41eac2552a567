from dataclasses import replace

import pytest

from bench.gate.baseline import assemble
from bench.gate.decide import decide, screen
from bench.gate.findings import Case, Verdict
from bench.gate.stages import Options, Report
from bench.gate.words import Printer
from bench.planning.settings import Settings
from bench.stats.gate import ALPHA_BIAS, ALPHA_VARIANCE
from tests.gate.fabricated import case, entry, grown


def verdict(made: Case, cells: int = 1):
    (finding,) = decide([made], cells=cells, confirming=40_000)
    return finding


def test_the_same_statistics_are_unchanged():
    finding = verdict(case(entry(), {}))
    assert finding.verdict is Verdict.UNCHANGED
    assert finding.change == 1.0
    assert finding.p is None


def test_a_confirmed_growth_is_a_regression():
    base = entry()
    finding = verdict(case(base, grown(base, 1.4), grown(base, 1.4)))
    assert finding.verdict is Verdict.REGRESSED
    assert finding.p_adjusted <= ALPHA_VARIANCE
    assert finding.margin == 0.05
    assert "times 1.4" in finding.reason


def test_growth_that_the_second_stage_does_not_see_is_let_pass():
    base = entry()
    assert verdict(case(base, grown(base, 1.4), {})).verdict is Verdict.UNCHANGED


def test_growth_inside_the_margin_is_let_pass():
    base = entry()
    assert verdict(case(base, grown(base, 1.09), grown(base, 1.09))).verdict is Verdict.REGRESSED
    wide = replace(case(base, grown(base, 1.09), grown(base, 1.09)), margin=0.1)
    assert verdict(wide).verdict is Verdict.UNCHANGED


def test_the_correction_counts_the_cells_of_the_baseline():
    base = entry()
    borderline = case(base, grown(base, 1.11), grown(base, 1.11))
    alone = verdict(borderline)
    most = int(ALPHA_VARIANCE / alone.p)  # so many cells does its p-value allow
    just, over = verdict(borderline, cells=most), verdict(borderline, cells=most + 1)
    assert alone.p == just.p == over.p
    assert just.p_adjusted == pytest.approx(most * alone.p)
    assert alone.verdict is just.verdict is Verdict.REGRESSED
    assert over.verdict is Verdict.UNCHANGED


def test_a_bias_that_is_confirmed_fails():
    biased = {"p_bias": 1e-5, "bias_squared": 0.04}
    finding = verdict(case(entry(), biased, biased))
    assert finding.verdict is Verdict.BIASED
    assert finding.p_bias_adjusted <= ALPHA_BIAS
    assert "0.2" in finding.reason
    assert verdict(case(entry(), biased, {"p_bias": 0.3})).verdict is Verdict.UNCHANGED


def test_a_cell_that_is_declared_biased_may_be_biased():
    biased = {"p_bias": 1e-9}
    assert verdict(case(entry(unbiased=False), biased, biased)).verdict is Verdict.UNCHANGED


def test_taking_the_declaration_back_does_not_open_the_gate():
    biased = {"p_bias": 1e-9, "unbiased": False}
    finding = verdict(case(entry(), biased, biased))
    assert finding.verdict is Verdict.BIASED
    assert any("now declared biased" in note for note in finding.notes)


def test_bias_is_not_tested_where_the_variance_may_be_infinite():
    finding = verdict(case(entry(), {"p_bias": 1e-9, "khat": 1.2}))
    assert finding.p_bias_screen is None
    assert any("not tested" in note for note in finding.notes)


def test_a_bias_and_a_growth_are_both_reported():
    base = entry()
    worse = {**grown(base, 3.0), "p_bias": 1e-9}
    finding = verdict(case(base, worse, worse))
    assert finding.verdict is Verdict.BIASED
    assert "times 3" in finding.reason


def test_a_deterministic_cell_that_varies_fails_at_once():
    base = entry(variance=0.0, deterministic=True, cv2=0.0, khat=None, truncated_at=None)
    finding = verdict(case(base, {"variance": 0.5}))
    assert finding.verdict is Verdict.BECAME_RANDOM
    assert finding.fails


def test_rounding_does_not_make_a_deterministic_cell_random():
    base = entry(variance=0.0, deterministic=True, cv2=0.0, khat=None, truncated_at=None)
    assert verdict(case(base, {"variance": 5e-13})).verdict is Verdict.UNCHANGED
    other = entry(variance=1e-14, deterministic=True, khat=None, truncated_at=None)
    assert verdict(case(other, {"variance": 9e-13})).verdict is Verdict.UNCHANGED


def test_a_cell_without_noise_may_not_move_away_from_the_exact_gradient():
    base = entry(variance=0.0, deterministic=True, bias_norm=1e-7, khat=None, truncated_at=None)
    assert verdict(case(base, {"bias_norm": 0.1}, bias="DETERMINISTIC_BIASED")).verdict is Verdict.BIASED
    assert verdict(case(base, {"bias_norm": 2e-7}, bias="DETERMINISTIC_BIASED")).verdict is Verdict.UNCHANGED


def test_noise_that_went_away_is_an_improvement():
    finding = verdict(case(entry(), {"variance": 0.0}))
    assert finding.verdict is Verdict.IMPROVED
    assert not finding.fails


def test_a_smaller_variance_makes_the_baseline_stale():
    base = entry()
    assert verdict(case(base, grown(base, 0.7))).verdict is Verdict.IMPROVED


def test_a_heavy_tail_is_judged_by_its_truncated_variance_alone():
    base = entry(khat=0.9)
    wild = {**grown(base, 1.0), "variance": 50.0}
    assert verdict(case(base, wild)).verdict is Verdict.UNCHANGED
    finding = verdict(case(base, grown(base, 2.0), grown(base, 2.0)))
    assert finding.verdict is Verdict.REGRESSED
    assert finding.p_variance is None
    assert any("truncated" in note for note in finding.notes)


def test_a_heavy_tail_without_truncated_statistics_is_not_gateable():
    base = entry(khat=0.9, truncated_at=None, truncated_mean=None, truncated_cv2=None)
    finding = verdict(case(base, {"variance": 50.0}))
    assert finding.verdict is Verdict.NOT_GATEABLE
    assert "promote" in finding.reason


def test_a_tail_that_became_infinite_is_reported():
    finding = verdict(case(entry(), {"khat": 1.1}))
    assert any("may be infinite" in note for note in finding.notes)


def test_a_comparison_that_could_not_see_a_doubling_is_inconclusive():
    finding = verdict(case(entry(cv2=3000.0, kurtosis=1e5, truncated_cv2=3000.0), {}))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.smallest_change > 1
    assert f"{finding.smallest_change:.0%}" in finding.reason


def test_the_smallest_visible_change_is_really_visible():
    base = entry()
    seen = verdict(case(base, {})).smallest_change
    assert 0.05 < seen < 0.2
    twice = 2 * seen
    assert verdict(case(base, grown(base, 1 + twice), grown(base, 1 + twice))).verdict is Verdict.REGRESSED


def test_a_fate_needs_no_statistics():
    made = [Case("1", "a", None, fate=Verdict.NEW), Case("2", "b", entry(), fate=Verdict.MISSING, reason="gone")]
    findings = decide(made, cells=1, confirming=4)
    assert [finding.verdict for finding in findings] == [Verdict.NEW, Verdict.MISSING]
    assert findings[1].baseline_variance == 2.0


def test_a_case_that_was_neither_settled_nor_measured_is_refused():
    with pytest.raises(ValueError, match="no first measurement"):
        screen(Case("1", "a", entry()))


def test_unflagged_cells_are_not_confirmed():
    flags = screen(case(entry(), {"p_bias": 0.02}))
    assert not flags.variance
    assert not flags.bias


def test_one_command_accepts_all_faults_that_were_found():
    entries = [entry(name) for name in ("one", "two", "three")]
    cases = [case(each, grown(each, 2), grown(each, 2)) for each in entries[:2]]
    for few, promote in (
        (cases[:1], "`bench baseline promote ci -e one -o objective`"),
        (cases, "`bench baseline promote ci`"),
    ):
        report = Report(decide([*few, case(entries[2], {})], cells=3, confirming=40_000), 3, "commit", Options())
        assert (
            f"If the change is intended: {promote}"
            in Printer("ci", assemble(Settings(1000), entries), report).next_steps()
        )
