import csv as csv_reader
import io
import itertools
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.records import store
from bench.report import Report, words
from bench.report.by_objective import HEADER, absences, filled, sections
from bench.report.cost import PRODUCT
from bench.report.frame import each, frame
from bench.report.layout import broken, fitting
from bench.report.prepared import prepared
from bench.report.printed import BROKEN_UP, DROPPED_FIRST, INDENT
from bench.report.table_csv import csv
from bench.report.tables import latex, markdown
from tests.report.records import deterministic, heavy, line, many, moments, study, timing

RESULTS = Path(__file__).parents[2] / "results"
SPECIAL = r"my_file.py::A&B:share=50%,cost=$1,tag=#1{x}^2~\z|y"


def printed(records, width=100, *, named=False, **options):
    stream = io.StringIO()
    Report(records).show(Console(file=stream, width=width, **options), named=named)
    return stream.getvalue()


def rows_of(records):
    return list(csv_reader.DictReader(io.StringIO(csv(prepared(records)))))


def in_markdown(table):
    return markdown(table, "s", sections(table))


def texts(records):
    table = prepared(records)
    return {"markdown": in_markdown(table), "latex": latex(sections(table)), "terminal": printed(records)}


@pytest.mark.parametrize("infinite", [False, True])
def test_a_heavy_tail_never_gets_a_two_sided_interval(infinite):
    records = [heavy("wild", "o", 310.0, infinite=infinite), moments("tame", "o", 2.0)]
    for name, text in texts(records).items():
        found = next(row for row in text.splitlines() if re.match(r"\W*wild", row))
        assert re.search(r"(≥|\\geq\$) 150", found), name
        assert not re.search(r"±|\[|∞|infty|pm", found), name
        assert "heavy tail" in found or "infinite variance?" in found
    row = rows_of(records)[0]
    assert float(row["variance_low"]) == records[0]["summary"]["variance_low"]
    empty = ("variance", "variance_high", "mse", "mse_low", "mse_high", "snr", *PRODUCT)
    assert {row[key] for key in (*empty, "efficiency", "rank_low", "rank_high")} == {""}


def test_csv_has_every_run_and_skip_at_full_precision():
    records = study()
    rows = rows_of(records)
    moments_lines = [r for r in records if r["kind"] == "moments"]
    assert len(rows) == len(moments_lines)
    for row, record in zip(rows, moments_lines, strict=True):
        assert row["outcome"] == record["outcome"]
        if record["outcome"] == "measured" and row["variance"] not in ("", "0.0"):
            assert float(row["variance"]) == record["summary"]["variance"]
            assert float(row["f_evals"]) == record["f_evals"]
    assert {"seconds", "peak_bytes", "cost_forward_passes", "variance_times_cost_unit", "f_evals"} <= set(rows[0])
    assert rows[0]["replicates"] == "10240"


@pytest.mark.parametrize("width", [100, 80])
@pytest.mark.parametrize("records", [study(), many(22, 2)], ids=["study", "many"])
def test_the_terminal_table_fits(records, width):
    text = printed(records, width)
    assert max(len(row) for row in text.splitlines()) <= width
    for label in {r["estimator"] for r in records if r["outcome"] == "measured" and len(r["estimator"]) <= 26}:
        assert label in text


@pytest.mark.parametrize("study", ["catalogue", "reference"])
def test_no_word_of_a_committed_study_is_cut_off_on_a_narrow_terminal(study):
    table = prepared(store.read(RESULTS / study))
    rows = [row for section in sections(table, terse=True) for row in section.body]
    for width in (80, 100):
        kept = fitting(*filled(HEADER, rows), width - INDENT, DROPPED_FIRST, BROKEN_UP)
        assert sum(kept.values()) + len(kept) - 1 <= width - INDENT
        for name, size in kept.items():
            cells = [broken(row[HEADER.index(name)], size) for row in rows]
            assert max(len(line) for cell in cells for line in cell.splitlines() or [""]) <= size


def test_a_long_label_is_folded_before_a_column_goes():
    label = "score-function:baseline=moving-average"
    text = printed([moments(label, "o", 2.0), moments("rloo:n=4", "o", 3.0)], 80)
    assert "eff." in text
    assert max(len(row) for row in text.splitlines()) <= 80
    first_words = [row.split()[0] for row in text.splitlines() if row.startswith("  ") and row.strip()]
    assert label in {a + b for a, b in itertools.pairwise(first_words)} | set(first_words)


def test_a_narrow_terminal_keeps_bias_and_variance():
    head = next(row for row in printed(study(), 80).splitlines() if "estimator" in row)
    assert "bias" in head
    assert "variance (95 %)" in head
    assert "cos" not in head


def test_no_escape_codes_outside_a_terminal_and_no_colour_where_it_is_unwanted(monkeypatch):
    assert "\x1b" not in printed(study())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", printed(study(), force_terminal=True))
    monkeypatch.delenv("NO_COLOR")
    assert re.search(r"\x1b\[[0-9;]*32", printed(study(), force_terminal=True, color_system="standard"))


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


@pytest.mark.parametrize(
    ("status", "remark"),
    [
        ("FEW_FOR_TAIL", "few replicates for this tail"),
        ("RARE_LARGE_VALUES", "rare large values: about 50,000 replicates settle it"),
    ],
)
def test_a_tail_that_more_replicates_would_settle_keeps_value_and_rank(status, remark):
    records = [moments("wild", "o", 9.5, half=0.16, high=None, status=status), moments("tame", "o", 2.0)]
    summary = records[0]["summary"]
    summary |= {"khat": 1.2, "cv2": 30.0}
    table = prepared(records)
    (wild,) = [row for row in each(table) if row.estimator == "wild"]
    assert (wild.heavy, wild.rank_low, wild.rank_high) == (False, 2, 2)
    assert wild.efficiency > 0
    for found in (in_markdown(table), printed(records)):
        text = " ".join(found.split())
        assert "9.5 [8.0, ∞)" in text
        assert remark.split(":")[0] in text
    assert remark in in_markdown(table)
    assert r"$\infty$" in latex(sections(table))


def test_many_skips_are_cut_short_in_the_terminal_only():
    skips = [line(f"e{i}", "o", outcome="skipped", reason="It does not fit.") for i in range(20)]
    assert "12 more, all in table.md" in printed(skips, named=True)
    assert printed(skips) == "not applicable: 20 pairs do not fit; table.md has the reasons\n"
    assert in_markdown(prepared(skips)).count("It does not fit.") == 20


def test_columns_that_do_not_fit_are_named():
    record = moments("a" * 26, "o", 2.0, f_evals=4)
    assert "too narrow for rank, cos" in printed([record], width=60)
    assert "too narrow" not in printed([record], width=160)


def test_latex_escapes_what_a_user_may_write():
    table = prepared([moments(SPECIAL, "o_1", 2.0), line("b", "o_1", outcome="failed", reason="100 % & more_")])
    text = latex(sections(table))
    body = "\n".join(row for row in text.splitlines() if not row.startswith("%"))
    plain = re.sub(r"\\[&%$#_{}]|\\\^\{\}|\\text\w+(\{\})?|\\ensuremath\{.\}|\$\\?\w+\$|\$\^2\$", "", body)
    plain = re.sub(r"\\(begin|end|caption)\{|\\(centering|toprule|midrule|bottomrule)|\\\\", "", plain)
    cells = [row for row in plain.splitlines() if "my" in row]
    assert cells
    for row in cells:
        assert not re.search(r"[%$#_^~]", row), row
        assert "\\" not in row, row
    assert r"my\_file.py::A\&B" in text


def test_markdown_rows_all_have_the_same_number_of_cells():
    text = in_markdown(prepared([moments(SPECIAL, "o", 2.0), moments("plain", "o", 3.0)]))
    rows = [re.sub(r"\\\|", "", row) for row in text.splitlines() if row.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_best_first_then_biased_then_heavy_then_failed():
    records = [
        line("f", "o", outcome="failed", reason="It broke."),
        heavy("h", "o", 1e-3),
        moments("b", "o", 1e-3, bias=0.5, unbiased=False),
        moments("second", "o", 2.0, verdict="INCONCLUSIVE"),
        moments("first", "o", 1.0, verdict="INCONCLUSIVE"),
    ]
    found = re.findall(r"^\| (\w+) ", in_markdown(prepared(records)), flags=re.M)
    assert found == ["estimator", "first", "second", "b", "h", "f"]


def test_a_variance_has_the_digits_its_interval_supports():
    coarse, fine = moments("a", "o", 1.234567, half=0.3), moments("b", "o", 1.234567, half=0.001)
    text = in_markdown(prepared([coarse, fine]))
    assert re.search(r"a .* 1\.2 ± 0\.4", text)
    assert re.search(r"b .* 1\.2346 ± 0\.0012", text)
    text = printed([coarse, fine])
    assert re.search(r"a .* 1\.2 ±30 %", text)
    assert re.search(r"b .* 1\.235 ±0\.1 %", text)


def test_a_noisy_time_is_marked():
    record = moments("a", "o", 1.0)
    assert "~1.0 µs" in printed([record, timing(record, 1e-6, noisy=True)])
    assert "~" not in printed([record, timing(record, 1e-6)])


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


def test_scale_and_direction_need_a_bias_and_a_finite_variance():
    for record in (moments("rloo", "o", 1.0), heavy("rloo", "o", 1.0)):
        record["summary"] |= SCALED
        table = prepared([record])
        assert words.direction(each(table)[0]) == ""
    assert table["direction"][0] == ""
    assert table[["scale", "angle", "angle_high"]].isna().all(axis=None)
    assert "direction" not in printed([moments("rloo", "o", 1.0)], width=200)


def learned(label, variance, **more):
    return moments(label, "o", variance, **more) | {"adapt_steps": 150, "adapt_f_evals": 9_600, "adapt_seconds": 0.1}


def test_what_was_learned_is_marked_with_its_steps_and_evaluations_and_in_the_advice():
    records = [learned("score-function:baseline=moving-average", 1.0), moments("rloo", "o", 20.0)]
    for name, text in texts(records).items():
        flat = re.sub(r"\s+", " ", text)
        assert (
            "baseline=moving-average learned and was frozen at this point, which never happens in training" in flat
        ), name
        if name != "terminal":
            assert "learned and frozen at this point: 150 steps, 9,600 f" in flat, name
    assert "frozen" in printed(records, 160)
    own, plain = rows_of(records)
    assert (own["learned_and_frozen"], own["adapt_steps"], own["adapt_f_evals"]) == ("1", "150", "9600.0")
    assert plain["learned_and_frozen"] == "0"


def test_the_advice_is_silent_about_learning_that_it_does_not_recommend():
    (section,) = sections(prepared([moments("rloo", "o", 1.0), learned("nvil", 20.0)]))
    assert "frozen" not in section.advice
    (section,) = sections(prepared([learned("rebar", 1.0), learned("nvil", 1.0), moments("rloo", "o", 30.0)]))
    assert "nvil and rebar learned and were frozen at this point" in section.advice


@pytest.mark.parametrize(("settled", "mark"), [(False, True), (True, False), (None, False)])
def test_a_state_that_still_learned_at_the_limit_is_marked(settled, mark):
    (section,) = sections(prepared([learned("rebar", 1.0) | {"adapt_settled": settled}]))
    assert ("9,600 f, still learning" in section.body[0][-1]) == mark
