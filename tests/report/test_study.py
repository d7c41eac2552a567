import base64
import io
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import rc_context
from rich.console import Console

from bench.report import Report
from bench.report.figures import FORMATS, MADE, NAMES, TRAINING, images, rendered
from bench.report.prepared import prepared
from tests.report import training_records
from tests.report.records import line, moments, study, timing


def write(folder, records, *cost):
    return Report(records, *cost).write(folder)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("first") / "study"
    written = write(target, study())
    assert set(written) == {target / path for path in files(target)}
    return target


def test_every_table_and_figure_is_written(folder):
    drawn = [name for name in NAMES if name != "direction"]  # these records have no angles
    drawn += ["variance-n", "variance-dim", "bias-dim"]
    figures = {f"figures/{name}.{suffix}" for name in drawn for suffix in FORMATS}
    assert {str(path) for path in files(folder)} == {"report.html", "table.md", "table.csv", "table.tex"} | figures


def test_the_same_records_give_the_same_bytes(folder, tmp_path):
    again = tmp_path / "study"
    write(again, study())
    assert files(again) == files(folder)


def test_figures_without_content_go_and_other_files_stay(tmp_path):
    records = [moments("a", o, 1.0) for o in "op"] + [moments("b", "o", 2.0, bias=0.5, unbiased=False)]
    (tmp_path / "figures").mkdir()
    stale = [tmp_path / "figures" / f"variance-n.{suffix}" for suffix in FORMATS]
    stale.append(tmp_path / "figures" / "bias-temperature.svg")  # a field that is swept no longer
    mine = tmp_path / "figures" / "bias-mine.svg"
    for path in (*stale, mine):
        path.write_text("old" if path == mine else f"old {MADE}")
    written = write(tmp_path, records)
    assert not any(path.exists() for path in stale)
    assert mine.read_text() == "old"
    assert {path.stem for path in written if path.suffix == ".svg"} == {"heatmap", "bias-variance", "variance-cost"}
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("change", ["nothing", "a time", "a variance"])
def test_a_figure_is_drawn_again_only_if_its_records_have_changed(tmp_path, monkeypatch, change):
    first, second = moments("a", "o", 1.0), moments("b", "o", 2.0, bias=0.5, unbiased=False)
    records = [first, timing(first, 1e-6), second, timing(second, 1e-6)]
    write(tmp_path, records, "seconds")
    drawn = []
    monkeypatch.setattr("bench.report.figures.rendered", lambda *given: drawn.append(1) or rendered(*given))
    records = {
        "nothing": records,
        "a time": [first, timing(first, 2e-6), second, timing(second, 1e-6)],
        "a variance": [moments("a", "o", 1.5), *records[1:]],
    }[change]
    before = files(tmp_path)
    written = write(tmp_path, records, "seconds")
    had = {path.stem for path in tmp_path.glob("figures/*")}
    assert had == {"bias-variance", "variance-cost"}
    again = {"nothing": set(), "a time": {"variance-cost"}, "a variance": had}[change]
    assert len(drawn) == len(again) * len(FORMATS)
    assert {path for path in before if files(tmp_path)[path] != before[path] and path.parent.name == "figures"} == {
        Path("figures", f"{name}.{suffix}") for name in again for suffix in FORMATS
    }
    assert {path.stem for path in written} >= had


def test_a_figure_of_a_few_objectives_is_drawn_again_only_if_one_of_them_has_changed(tmp_path, monkeypatch):
    """Of 25 objectives, four have a panel: the first ones."""
    monkeypatch.setattr("bench.report.figures.names", lambda _table: ["variance-cost", "bias-variance"])

    def records(first, last):
        variances = {0: first, 24: last}
        pairs = [(e, f"o{i}", variances.get(i, 1.0)) for i in range(25) for e in "ab"]
        return [moments(*pair, bias=0.1 * (pair[0] == "b"), unbiased=pair[0] == "a") for pair in pairs]

    write(tmp_path, records(1.0, 1.0))
    drawn = []
    monkeypatch.setattr("bench.report.figures.rendered", lambda *given: drawn.append(1) or rendered(*given))
    before = files(tmp_path)
    write(tmp_path, records(1.0, 2.0))
    changed = {path.stem for path, content in files(tmp_path).items() if content != before[path]} - {"report", "table"}
    assert (changed, len(drawn)) == (set(), 0)
    write(tmp_path, records(2.0, 2.0))
    changed = {path.stem for path, content in files(tmp_path).items() if content != before[path]} - {"report", "table"}
    assert changed == {"variance-cost", "bias-variance"}


def test_an_equal_figure_is_an_equal_file_whichever_version_has_drawn_it(tmp_path, monkeypatch):
    records = [moments("a", "o", 1.0), moments("b", "o", 2.0)]
    write(tmp_path, records)
    before = files(tmp_path)
    monkeypatch.setattr("bench.records.installed.digest", lambda: "other code")
    write(tmp_path, records)
    assert files(tmp_path) == before
    svg = tmp_path / "figures" / "variance-cost.svg"
    svg.write_bytes(b"a file of another version, which the notes do not know")
    write(tmp_path, records)
    assert files(tmp_path)[svg.relative_to(tmp_path)] == before[svg.relative_to(tmp_path)]


def test_settings_of_matplotlib_of_the_users_own_change_no_figure(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.report.figures.NAMES", ("variance-cost",))
    table = prepared([moments("a", "o", 1.0), moments("b", "o", 2.0)])
    plain = [*images(table, tmp_path / "plain", ["svg"])]
    with rc_context({"axes.facecolor": "red", "axes.grid": True, "savefig.bbox": "tight"}):
        assert [*images(table, tmp_path / "red", ["svg"])] == plain


def test_a_figure_that_is_gone_is_drawn_again(tmp_path):
    records = [moments("a", "o", 1.0), moments("b", "o", 2.0)]
    write(tmp_path, records)
    before = files(tmp_path)
    (tmp_path / "figures" / "variance-cost.png").unlink()
    write(tmp_path, records)
    assert files(tmp_path) == before


def test_a_study_of_failures_has_tables_and_no_figures(tmp_path):
    records = [
        line("a", "o", outcome="failed", reason="ValueError: it broke."),
        line("b", "o", outcome="skipped", reason="It does not fit."),
    ]
    assert [path.name for path in write(tmp_path, records)] == ["report.html", "table.md", "table.csv", "table.tex"]
    text = (tmp_path / "table.md").read_text()
    assert "ValueError: it broke." in text
    assert "It does not fit." in text
    assert "Runs: 0 measured, 1 failed, 1 skipped." in text


def test_an_empty_study_has_tables(tmp_path):
    assert len(write(tmp_path, [])) == 4


def test_importing_the_report_loads_nothing_heavy():
    heavy = ("torch", "matplotlib", "pandas", "seaborn", "scipy", "rich")
    code = f"import sys, bench.report; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_of_training_has_its_own_files_and_no_empty_table(tmp_path):
    shape, grey = [2, 2, 8, 8], base64.b64encode(bytes(range(256))).decode()
    records = training_records.study()
    records[0]["pictures"] = {name: {"shape": shape, "grey": grey} for name in ("reconstructions", "samples", "walk")}
    written = {path.name for path in write(tmp_path / "a", records)}
    assert written == {
        "report.html",
        "training.md",
        "training.csv",
        *(f"{name}.{suffix}" for name in TRAINING for suffix in FORMATS),
    }
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    write(tmp_path / "a", records)
    assert before == {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    plain = {path.name for path in write(tmp_path / "a", [training_records.run("rloo", [0.0, 1.0, 2.0, 3.0])])}
    assert plain == {"report.html", "training.md", "training.csv", "training.svg", "training.png"}
    assert not (tmp_path / "a" / "figures" / "training-pictures.png").exists()


@pytest.fixture
def one_format(monkeypatch):
    monkeypatch.setattr("bench.report.figures.FORMATS", ("svg",))


@pytest.mark.usefixtures("one_format")
def test_both_kinds_of_records_have_their_files(tmp_path):
    names = {
        path.name for path in write(tmp_path, [moments("a", "o", 1.0), training_records.run("a", [0.0, 1.0, 2.0, 3.0])])
    }
    assert {"table.md", "training.md", "variance-cost.svg", "training.svg"} <= names


@pytest.mark.usefixtures("one_format")
@pytest.mark.parametrize(
    "records",
    [
        [training_records.run("a", [0.0], outcome="diverged")],
        [{**training_records.run("a", [0.0]), "outcome": "failed", "reason": "No."}],
        [training_records.run("a", [1.0, 1.0, 1.0, 1.0], variance=[0.0] * 4)],
        [training_records.run(f"rloo:n={n}", [0.0, 1.0, 2.0, 3.0], variance=[1.0] * 4) for n in range(2, 12)],
    ],
    ids=["diverged at once", "failed", "constant", "many of one name"],
)
def test_incomplete_studies_are_drawn(tmp_path, records):
    assert "training.md" in {path.name for path in write(tmp_path, records)}


def test_a_figure_that_cannot_be_drawn_leaves_the_others_and_the_tables(tmp_path, monkeypatch):
    records = [moments("a", "o", 1.0), moments("b", "o", 2.0, bias=0.5)]
    write(tmp_path, records)
    (tmp_path / "figures" / "variance-cost.svg").write_bytes(b"old")

    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr("bench.report.figures.variance_cost.variance_cost", broken)
    report = Report(records)
    written = {path.name for path in report.write(tmp_path)}
    (undrawn,) = report.undrawn
    assert undrawn.startswith(f"{tmp_path / 'figures' / 'variance-cost'} cannot be drawn: MemoryError: no room")
    assert not list(tmp_path.glob("figures/variance-cost.*"))
    assert {"report.html", "table.md", "table.csv", "table.tex", "bias-variance.svg"} == {*written} - {
        "bias-variance.png"
    }


@pytest.mark.parametrize(
    ("formats", "end"),
    [
        (("html",), "; report.html has the reasons"),
        (("tex", "csv"), "; table.csv has the reasons"),
        (("md", "html"), "; table.md has the reasons"),
        (("tex",), ""),
    ],
)
def test_the_terminal_names_a_file_that_was_written(tmp_path, monkeypatch, formats, end):
    monkeypatch.setattr("bench.report.page.page", lambda *_: "page")
    made = Report([moments("a", "o", 1.0), line("b", "o", outcome="skipped", reason="It does not fit.")])
    made.write(tmp_path, formats=formats)
    text = io.StringIO()
    made.show(Console(file=text, width=100))
    assert f"not applicable: 1 pair does not fit{end}\n" in text.getvalue()
