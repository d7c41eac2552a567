"""Comments on pull requests: what they hold, and their length."""

import pytest
from markdown_it import MarkdownIt

from bench.report.comment import LONGEST, Table, comment

HEADER = ["cell", "verdict"]


def rows(number, text="x" * 50):
    return [[f"{k} {text}", "same"] for k in range(number)]


def test_a_small_comment_has_every_row_and_folds_what_says_so():
    text = comment(
        "### done", [Table(HEADER, rows(2)), Table(HEADER, rows(3), "3 alike"), Table(HEADER, [])], ["- go on"]
    )
    assert text.startswith("### done\n\n| cell | verdict |\n|---|---|\n| 0 x")
    assert text.endswith("\n\n</details>\n\n- go on\n")
    html = MarkdownIt().enable("table").render(text)
    assert html.count("<table>") == 2
    assert html.count("<td>") == 10
    assert html.index("<details><summary>3 alike</summary>") < html.rindex("<table>")


@pytest.mark.parametrize("number", [800, 5_000])
def test_a_long_comment_keeps_what_is_open_and_counts_what_is_left_out(number):
    text = comment("title", [Table(HEADER, rows(300)), Table(HEADER, rows(number), "alike")], ["end"])
    assert LONGEST - 200 < len(text) <= LONGEST
    assert text.count("\n| 299 ") == 2
    kept = text.count(" | same |") - 300
    assert f"\nA comment has no room for {number - kept:,} of the {number:,} rows of “alike”.\n" in text


def test_no_room_for_a_second_table_is_said():
    text = comment("title", [Table(HEADER, rows(5_000)), Table(HEADER, rows(7), "alike")])
    assert len(text) <= LONGEST
    assert "of the 5,000 rows of this table.\n\n" in text
    assert text.endswith("A comment has no room for 7 of the 7 rows of “alike”.\n")
