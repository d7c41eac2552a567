"""Tables for a paper: names, order, the best group in bold, and LaTeX that compiles whatever the labels are."""

import re
import shutil
import subprocess

import pytest

import bench
from bench.planning.naming import called, check, labels_in, named, read_labels
from bench.planning.selectors import UsageError
from bench.planning.spec import Spec
from bench.records import store
from bench.records.text import printable
from bench.report.by_objective import sections
from bench.report.figures import draw
from bench.report.paper import KINDS, Names, grid, latex, markdown, texts
from bench.report.prepared import prepared
from bench.report.tables import latex as tables_of_study
from tests.report.records import deterministic, heavy, line, moments

NASTY = (
    "a|b",
    "$x$",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "l" * 200,
    "[0] \\end{table} ~^_#&%{",
    "*é ≥ λ τ∂Ω x₀² ≈→",
)
BIASED = {"bias": 0.3, "unbiased": False}
STUDY = [
    moments("rloo:n=2", "qubo", 2.0, f_evals=2.0),
    moments("rloo:n=4", "qubo", 1.0, f_evals=4.0),
    moments("darn", "qubo", 0.5, f_evals=1.0, grad_evals=1.0, **BIASED),
    deterministic("enumeration", "qubo", f_evals=1024.0),
    moments("rloo:n=2", "gaussian-cosine", 3.0e-5, norm=None, verdict="NO_REFERENCE"),
    moments("rloo:n=4", "gaussian-cosine", 3.0e-5, norm=None, verdict="NO_REFERENCE"),
    heavy("darn", "gaussian-cosine", 2.0),
    line("arm", "qubo", outcome="skipped", reason="It does not fit."),
    line("score-function", "qubo", outcome="failed", reason="It broke."),
]
TABLE = prepared(STUDY)


def table(kind, **options):
    """Return the cells of a table by row and column, bold ones with stars."""
    found = grid(TABLE, STUDY, kind, options.pop("names", Names()), **options)
    return {
        (row, column): f"*{cell.text}*" if cell.is_best else cell.text
        for row, cells in zip(found.rows, found.cells, strict=True)
        for column, cell in zip(found.columns, cells, strict=True)
    }


def test_variance_and_its_best_group():
    found = table("variance")
    assert found["rloo:n=4", "qubo"] == "*1.00 ± 0.03*"
    assert found["rloo:n=2", "qubo"] == "2.00 ± 0.06"
    assert found["darn", "qubo"] == "0.500 ± 0.015"  # the lowest, but biased
    assert found["enumeration", "qubo"] == "0"
    assert found["score-function", "qubo"] == "failed"
    assert found["enumeration", "gaussian-cosine"] == "–"
    assert (found["rloo:n=2", "gaussian-cosine"][0], found["rloo:n=4", "gaussian-cosine"][0]) == ("*", "*")  # a tie
    assert found["darn", "gaussian-cosine"].startswith("≥ ")
    assert not [row for row, _ in found if row == "arm"]  # it fits nothing


def test_bias_error_and_cost():
    bias, mse, cost = (table(kind) for kind in ("bias", "mse", "cost"))
    assert re.fullmatch(r"[\d.]+–[\d.]+ %", bias["darn", "qubo"])
    assert re.fullmatch(r"≤ [\d.]+ %", bias["rloo:n=2", "qubo"])
    assert bias["enumeration", "qubo"].startswith("*exact")
    assert mse["darn", "qubo"].startswith("*0.59")
    assert not mse["rloo:n=4", "qubo"].startswith("*")
    assert (cost["darn", "qubo"], cost["rloo:n=2", "qubo"], cost["enumeration", "qubo"]) == ("*1 + 1*", "*2*", "1,024")


def test_rows_and_columns_are_swapped():
    straight, swapped = table("mse"), table("mse", rows="objectives")
    assert {(column, row): text for (row, column), text in swapped.items()} == straight


def test_the_order_is_that_of_the_spec_and_labels_come_first():
    spec = Spec(estimators=["darn", "rloo:n=4,2", "enumeration"], objectives=["gaussian-cosine", "qubo"])
    estimators, objectives = named(STUDY, [spec])
    assert [*estimators] == ["darn", "rloo:n=4", "rloo:n=2", "enumeration", "arm", "score-function"]
    assert [*objectives] == ["gaussian-cosine", "qubo"]
    labels = {"estimators": {"enumeration": "Sum", "rloo": "RLOO", "rloo:n=2": "Pair"}, "objectives": {"qubo": "L"}}
    estimators, objectives = named(STUDY, [spec], labels)
    assert [*estimators.items()][:4] == [
        ("enumeration", "Sum"),
        ("rloo:n=4", "RLOO"),
        ("rloo:n=2", "Pair"),
        ("darn", "darn"),
    ]
    estimators, _ = named(STUDY, [spec], {"estimators": {"rloo": "RLOO"}})
    assert [*estimators.values()][:2] == ["RLOO (n=4)", "RLOO (n=2)"]
    assert objectives == {"qubo": "L", "gaussian-cosine": "gaussian-cosine"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[estimator]\nrloo = 'x'", "there is no table \\[estimator\\]. Did you mean 'estimators'"),
        ("[estimators]\nrloo = 3", "give each selector a name in quotes"),
        ("estimators = 3", "give each selector a name in quotes"),
        ("[estimators", "is not TOML"),
        ("[estimators]\n'rloo:n' = 'x'", "\\[estimators\\]: .*rloo:n"),
        ("\xff", "is not TOML"),
        ("[estimators]\nrlo = 'x'", "'rlo', which was not measured in this study. It has rloo"),
        (None, "There is no file"),
    ],
)
def test_mistakes_in_labels_are_one_sentence(tmp_path, text, said):
    path = tmp_path / "labels.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=said) as error:
        check(read_labels(path), STUDY)
    assert "\n" not in str(error.value)


def test_a_spec_has_labels_and_a_file_replaces_them(tmp_path):
    told = {"estimators": {"rloo": "RLOO"}}
    spec = Spec(estimators=["rloo", "darn"], objectives=["qubo"], labels=told)
    assert labels_in([tmp_path], [spec]) == {**told, "objectives": {}}
    (tmp_path / "labels.toml").write_text('[objectives]\nqubo = "Q"\n')
    assert labels_in([tmp_path], [spec]) == {"estimators": {}, "objectives": {"qubo": "Q"}}
    wrong = (
        ("x", "give the tables"),
        ({"estimator": {}}, "no table \\[estimator\\]"),
        ({"estimators": {"rlo": "RLOO"}}, ".*Did you mean 'rloo'"),
    )
    for labels, said in wrong:
        with pytest.raises(UsageError, match=f"^labels.*{said}"):
            Spec.of({"estimators": ["rloo"], "objectives": ["qubo"], "labels": labels})


def test_figures_call_an_estimator_by_its_name():
    labels = {"estimators": {"enumeration": "Sum", "rloo": "RLOO"}, "objectives": {"qubo": "Cut"}}
    names = called(STUDY, labels=labels)
    assert [*names.items()][:3] == [("enumeration", "Sum"), ("rloo:n=2", "RLOO (n=2)"), ("rloo:n=4", "RLOO (n=4)")]
    assert names["rloo"] == "RLOO"
    drawn = draw("heatmap", TABLE, called=names)
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()][:3] == ["Sum", "RLOO (n=2)", "RLOO (n=4)"]
    assert "Cut" in [text.get_text() for text in drawn.axes[0].get_xticklabels()]
    drawn = draw("variance-cost", TABLE, called=names)
    assert {"Sum", "RLOO"} < {text.get_text() for text in drawn.legends[0].get_texts()}
    assert "Cut" in {ax.get_title(loc="left") for ax in drawn.axes}


def written(kinds=KINDS):
    """Return the texts of tables whose names are those of the worst labels."""
    labels = dict(
        zip(
            [label for label in dict.fromkeys(TABLE["estimator"]) if label != "arm"],
            map(printable, NASTY),
            strict=False,
        )
    )
    return texts(TABLE, STUDY, kinds, Names(labels, {"qubo": NASTY[0], "gaussian-cosine": NASTY[3]}))


def test_no_label_does_harm_in_markdown():
    from markdown_it import MarkdownIt

    for name, text in written().items():
        if name.endswith(".md"):
            tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
            inside = [child for token in tokens for child in token.children or ()]
            assert {child.type for child in inside} <= {"text", "strong_open", "strong_close", "text_special"}
            plain = "".join(child.content for child in inside)
            assert all(label in plain for label in NASTY[:5])
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_latex_is_balanced_and_escaped():
    for name, text in written().items():
        if name.endswith(".tex"):
            plain = re.sub(r"\\[\\&%$#_{}]", "", text)
            assert plain.count("{") == plain.count("}")
            assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
            rows = text[text.index(r"\toprule") : text.index(r"\bottomrule")].split("\\\\\n")[:-1]
            assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {2}
            assert not re.search(r"\\\\\s*[\[*]", text)
            assert not set(re.sub(r"[é]", "", text)) - set(map(chr, range(10, 127)))


def test_numbers_of_latex():
    found = latex(grid(TABLE, STUDY, "variance", Names()))
    assert r"{\boldmath\bfseries $1.00 \pm 0.03$}" in found
    assert r"\times 10^{-5}" in found
    assert r"$\geq " in found
    assert r"{\boldmath\bfseries $1 + 1$}" in latex(grid(TABLE, STUDY, "cost", Names()))
    assert "$1{,}024$" in latex(grid(TABLE, STUDY, "cost", Names()))
    assert markdown(grid(TABLE, STUDY, "variance", Names())).count("**") == 6


def test_the_command_makes_tables_alone(call, tmp_path):
    with store.Store(tmp_path / "here") as writer:
        for record in STUDY:
            writer.append(record)
    (tmp_path / "here" / "labels.toml").write_text('[estimators]\n"rloo:n=4" = "Ours"\n')
    done = call("report", "here", "--table", "variance", "--table", "cost", "--columns", "estimators")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split("|")[2].strip() == "Ours"
    made = {path.name for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert made == {"records.jsonl", "labels.toml", "variance.md", "variance.tex", "cost.md", "cost.tex", "methods.bib"}
    assert (tmp_path / "here" / "methods.bib").read_text() == bench.load("here").bibtex()
    for words, said in (
        (("--rows", "estimators"), "add --table"),
        (("--table", "mse", "--rows", "objectives", "--columns", "objectives"), "cannot both be objectives"),
        (("--table", "mse", "--format", "html"), "in --format md, tex, bib"),
        (("--table", "mse", "--labels", "none.toml"), "There is no file 'none.toml'"),
    ):
        wrong = call("report", "here", *words)
        assert (wrong.code, wrong.err.count("\n"), said in wrong.err) == (2, 1, True), wrong.err


def test_latex_compiles(tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no TeX is installed")
    tables = [text for name, text in written().items() if name.endswith(".tex")]
    tables.append(tables_of_study(sections(TABLE)))
    text = "\n".join([r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", *tables])
    (tmp_path / "paper.tex").write_text(f"{text}\n\\end{{document}}\n", encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run([engine, *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
