import re

import pytest

from bench.report import words
from bench.report.by_objective import sections
from bench.report.cost import PRODUCT
from bench.report.frame import each
from bench.report.prepared import prepared
from bench.report.tables import latex, markdown
from tests.report.records import heavy, line, moments
from tests.report.test_by_objective import SCALED, learned
from tests.report.test_printed import printed
from tests.report.test_table_csv import rows_of

SPECIAL = r"my_file.py::A&B:share=50%,cost=$1,tag=#1{x}^2~\z|y"


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
    assert "12 more; table.md has them all" in printed(skips, named=True)
    assert printed(skips) == "not applicable: 20 pairs do not fit; table.md has the reasons\n"
    assert in_markdown(prepared(skips)).count("It does not fit.") == 20


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


def test_scale_and_direction_need_a_bias_and_a_finite_variance():
    for record in (moments("rloo", "o", 1.0), heavy("rloo", "o", 1.0)):
        record["summary"] |= SCALED
        table = prepared([record])
        assert words.direction(each(table)[0]) == ""
    assert table["direction"][0] == ""
    assert table[["scale", "angle", "angle_high"]].isna().all(axis=None)
    assert "direction" not in printed([moments("rloo", "o", 1.0)], width=200)


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
