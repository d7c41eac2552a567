import pytest

from bench.report import words
from bench.report.by_objective import HEADER, absences, sections
from bench.report.frame import each, frame
from bench.report.prepared import prepared
from tests.report.records import deterministic, line, moments, study


def test_skips_are_one_line_per_estimator_and_family_with_the_reason():
    records = study()
    failed, skipped = absences(prepared(records))
    assert len(failed) == 1
    assert "measure-valued on OneHotCategorical (categorical-polynomial): RuntimeError: 3 of 10240" in failed[0]
    starts = [text.split(":")[0] for text in skipped]
    assert starts.count("gumbel-softmax on Normal (3 objectives)") == 1
    assert len(skipped) == 5


def test_one_setting_that_failed_is_named():
    failures = [line(f"rloo:n={n}", "o", outcome="failed", reason="no") for n in (2, 4)]
    assert absences(prepared(failures))[0] == ["rloo on Normal (o): no"]
    assert absences(prepared([failures[0], moments("rloo:n=4", "o", 1.0)]))[0] == ["rloo:n=2 on Normal (o): no"]


def test_a_grid_of_instances_that_a_reason_quotes_is_one_line():
    reasons = {n: f"RLOO(n={n}) serves nothing, and q is Cauchy. Use X." for n in (2, 4)}
    skips = [line(f"rloo:n={n}", "o", outcome="skipped", reason=reason) for n, reason in reasons.items()]
    assert absences(prepared(skips))[1] == ["rloo on Normal (o): RLOO serves nothing, and q is Cauchy. Use X."]
    assert absences(prepared(skips[:1]))[1] == [f"rloo on Normal (o): {reasons[2]}"]


def test_what_varies_by_rounding_alone_is_called_exact():
    record = moments("control", "o", 6e-14, verdict="UNBIASED_WITHIN_TOL")
    record["summary"]["flags"] = ["AT_FLOAT_RESOLUTION"]
    records = [record, moments("rloo", "o", 4.0), deterministic("enumeration", "o", f_evals=8.0)]
    (section,) = sections(prepared(records))
    place = HEADER.index("eff.")
    assert {row[0]: row[place] for row in section.body} == {"control": "exact", "rloo": "1.0", "enumeration": "exact"}
    assert section.advice.startswith("use control: exact")


def test_a_constant_says_how_far_off_it_is():
    """A rare other gradient cannot be excluded."""
    record = moments("reparameterization", "o", 0.0, bias=1.0, status="DEGENERATE", verdict="DEGENERATE")
    record["summary"]["bias_norm"] = 1.0
    assert words.bias(each(frame([record]))[0]) == "constant, off 100 %"


SCALED = {"scale": 0.7512, "angle": 0.1, "angle_low": 0.0, "angle_high": 0.4, "direction": "scaled"}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (SCALED, "scaled 0.75"),
        (SCALED | {"angle_low": 4.02, "angle_high": 8.99, "direction": "turned"}, "turned 4.0–9.0°, scale 0.75"),
        (SCALED | {"angle_high": 6.91, "direction": "undecided"}, "scale 0.75, ≤ 7.0°"),
        (SCALED | {"scale": -0.3, "angle_low": 95.0, "direction": "points away"}, "points away, scale -0.30"),
        (
            SCALED | {"angle": 5.0, "angle_low": None, "angle_high": None, "direction": "turned"},
            "turned 5.0°, scale 0.75",
        ),
        ({"scale": 0.75, "angle": None, "direction": "undecided"}, "scale 0.75"),  # one coordinate
        ({"gain": 0.75}, "scale 0.75"),  # an early record
        ({"scale": None}, ""),
    ],
)
def test_a_bias_is_said_as_scale_and_direction(found, text):
    record = moments("gumbel-softmax", "o", 1.0, bias=0.3, verdict="BIASED")
    del record["summary"]["scale"]
    record["summary"] |= found
    (section,) = sections(prepared([record]))
    assert section.body[0][HEADER.index("direction")] == text


def learned(label, variance, **more):
    return moments(label, "o", variance, **more) | {"adapt_steps": 150, "adapt_f_evals": 9_600, "adapt_seconds": 0.1}


def test_the_advice_is_silent_about_learning_that_it_does_not_recommend():
    (section,) = sections(prepared([moments("rloo", "o", 1.0), learned("nvil", 20.0)]))
    assert "frozen" not in section.advice
    (section,) = sections(prepared([learned("rebar", 1.0), learned("nvil", 1.0), moments("rloo", "o", 30.0)]))
    assert "nvil and rebar learned and were frozen at this point" in section.advice


@pytest.mark.parametrize(("settled", "mark"), [(False, True), (True, False), (None, False)])
def test_a_state_that_still_learned_at_the_limit_is_marked(settled, mark):
    (section,) = sections(prepared([learned("rebar", 1.0) | {"adapt_settled": settled}]))
    assert ("9,600 f, still learning" in section.body[0][-1]) == mark
