"""Tables as text: every column is as wide as its widest cell, and what a format would obey is escaped."""

from bench.report.aligned import latex_table, markdown_table, plain_table

HEADER = ("name", "rank", "remarks")
BODY = [["rloo:n=4", "1", ""], ["arm", "10", "50 % of {x}, a & b"], [" disarm ", "–", "^ ~ \\ < > _ # $"]]
LEFT = ("name", "remarks")


def test_markdown():
    assert markdown_table(HEADER, BODY, LEFT).splitlines() == [
        "| name     |   rank | remarks            |",
        "|----------|--------|--------------------|",
        "| rloo:n=4 |      1 |                    |",
        "| arm      |     10 | 50 % of {x}, a & b |",
        r"| disarm   |      – | ^ ~ \ < > _ # $    |",
    ]
    assert markdown_table(("a",), [], ()) == "|   a |\n|-----|"


def test_latex():
    assert latex_table(HEADER, BODY, LEFT).splitlines() == [
        r"\begin{tabular}{lrl}",
        r"\toprule",
        r" name     &   rank & remarks            \\",
        r"\midrule",
        r" rloo:n=4 &      1 &                    \\",
        r" arm      &     10 & 50 \% of \{x\}, a \& b \\",
        r" disarm   &      – & \textasciicircum{} \textasciitilde{} \textbackslash{} \ensuremath{<} \ensuremath{>}"
        r" \_ \# \$    \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_plain_cells_have_several_lines():
    body = [["score-function:\nn=1", "1.23", "few"], ["rloo", "", "a\nlonger\nremark"], ["", "4", ""]]
    assert plain_table(("a name\nof two", "value", ""), body).splitlines() == [
        "a name           value",
        "of two",
        "---------------  -------  ------",
        "score-function:  1.23     few",
        "n=1",
        "rloo                      a",
        "                          longer",
        "                          remark",
        "                 4",
    ]
