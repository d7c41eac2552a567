"""A report of an unchanged study is not made again, and whatever it is made of makes it anew."""

import json

import pytest

from bench.records import cache, files, installed, plan, store
from bench.records.lines import dumps
from bench.report import Report, figures
from tests.report.records import moments


@pytest.fixture
def made(monkeypatch):
    """The calls that make a report."""
    calls, write = [], Report.write
    monkeypatch.setattr(Report, "write", lambda *given, **more: calls.append(1) or write(*given, **more))
    return calls


@pytest.fixture
def shown(monkeypatch):
    """The calls that make the tables that are printed."""
    calls, show = [], Report.show
    monkeypatch.setattr(Report, "show", lambda *given, **more: calls.append(1) or show(*given, **more))
    return calls


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "here"
    lines = [dumps(moments(name, "o", variance)) for name, variance in (("a", 1.0), ("b", 2.0))]
    files.write(folder / store.LINES, "".join(f"{line}\n" for line in lines))
    return folder


def test_an_unchanged_report_is_printed_again(call, made, study):
    first = call("report", "here")
    contents = {path.name: path.read_bytes() for path in study.iterdir()}
    assert first.code == 0
    assert call("report", "here") == first
    assert len(made) == 1
    assert {path.name: path.read_bytes() for path in study.iterdir()} == contents


def edited(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


def to_do(study, _):
    plan.extend(study, [plan.line_of({"estimators": ["c"], "objectives": ["o"]}, ["0" * 16])])


CHANGES = {
    "record": lambda study, _: edited(study / store.LINES, "0.9", "0.8"),
    "plan": to_do,
    "array": lambda study, _: files.write(study / "arrays" / "0.npy", b"1"),
    "table": lambda study, _: edited(study / "table.md", "a", "b"),
    "missing": lambda study, _: (study / "report.html").unlink(),
    "figure": lambda study, _: files.write(study / "figures" / "variance-n.svg", "old"),
    "labels": lambda study, _: (study / "labels.toml").write_text('[estimators]\na = "A"\n'),
    "installed": lambda _, patch: patch.setattr(installed, "digest", lambda: "changed"),
    "cache": lambda *_: [path.write_bytes(path.read_bytes()[:-2]) for path in cache.folder().glob("*.cached")],
}
OF_TEXT = {
    "plan of nothing": lambda study, _: (study / "plan.jsonl").write_text("\n"),
    "spec": lambda study, _: (study / "spec.toml").write_text('estimators = ["a", "b", "c"]\nobjectives = ["o"]\n'),
    "width": lambda _, patch: patch.setattr("bench.cli.terminal.PIPE_WIDTH", 90),
}
"""Changes that can change what is printed, and nothing else."""


@pytest.mark.parametrize("change", [*CHANGES, *OF_TEXT])
def test_a_change_makes_it_anew(call, made, shown, study, monkeypatch, change):
    call("report", "here")
    (CHANGES | OF_TEXT)[change](study, monkeypatch)
    call("report", "here")
    assert len(shown) == 2
    assert len(made) == 1 + (change in CHANGES)


@pytest.mark.parametrize("option", ["--cost=seconds", "--width=5", "--format=md", "--no-figures"])
def test_another_option_makes_it_anew(call, made, study, option):
    call("report", "here")
    call("report", "here", option)
    assert len(made) == 2


def test_files_that_are_there_already_are_listed(call, made, study):
    first = call("report", "here", "--quiet")
    second = call("report", "here")
    assert (second.out, len(made)) == (first.out, 1)
    assert second.err.startswith("here: records.jsonl, report.html, table.md, table.csv, table.tex and 0 figures\n")


def test_files_of_another_report_are_replaced(call, made, study):
    for _ in range(2):
        call("report", "here")
        call("report", "here", "-e", "a")
    assert len(made) == 4


def test_another_folder_makes_it_anew(call, made, study, tmp_path):
    call("report", "here")
    study.rename(tmp_path / "there")
    assert "there: records" in call("report", "there").err
    assert len(made) == 2


def test_a_study_that_grows_meanwhile_is_not_remembered(call, made, study, monkeypatch):
    write = Report.write
    line = dumps(moments("c", "o", 3.0)) + "\n"

    def growing(*given, **more):
        with (study / store.LINES).open("a") as file:
            file.write(line)
        return write(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "write", growing)
        assert "\n  c " not in call("report", "here").out
    assert "\n  c " in call("report", "here").out


def test_a_report_whose_files_another_one_replaces_meanwhile_is_made_anew(call, made, study, monkeypatch):
    write = Report.write

    def overtaken(self, folder, **more):
        written = write(self, folder, **more)
        (folder / "table.md").write_text("The table of a report with other options.")
        return written

    with monkeypatch.context() as patch:
        patch.setattr(Report, "write", overtaken)
        call("report", "here")
    call("report", "here")
    assert "other options" not in (study / "table.md").read_text()


def test_a_figure_that_could_not_be_drawn_is_tried_again(call, made, study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(figures, "images", lambda *_: iter([("heatmap.svg", "MemoryError: no room")]))
        assert "no room" in call("report", "here").err
    assert "no room" not in call("report", "here").err
    assert len(made) == 2


def test_a_file_of_others_among_the_figures_stays_and_counts_for_nothing(call, made, study):
    files.write(study / "figures" / "mine.svg", "mine")
    assert call("report", "here") == call("report", "here")
    assert len(made) == 1
    assert (study / "figures" / "mine.svg").read_text() == "mine"


def test_a_json_report_holds_the_records(call, made, study):
    outs = [call("report", "here", "--json").out for _ in range(2)]
    assert outs[0] == outs[1]
    assert len(json.loads(outs[0])["records"]) == 2
    assert len(made) == 1


def test_a_finished_run_is_reported_once(call, made, tmp_path):
    words = ("-e", "rloo:n=2", "-o", "gaussian-cosine", "--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    first = call("run", *words)
    assert first.code == 0
    assert call("run", *words) == first
    assert len(made) == 1
    call("run", *words, "-e", "rloo:n=4")
    assert len(made) == 2
    (tmp_path / "here" / "labels.toml").write_text('[estimators]\nrloo = "Leave one out"\n')
    call("run", *words, "-e", "rloo:n=4")
    assert len(made) == 3


def test_run_and_report_make_the_files_once(call, made, shown, tmp_path):
    words = (
        "-e",
        "rloo:n=2,4",
        "-o",
        "gaussian-quadratic:dim=2,3,4,5",
        "--out",
        "here",
        "--replicates",
        64,
        "--no-timing",
    )
    call("run", *words)
    call("report", "here")
    assert (len(shown), len(made)) == (2, 1)
    (tmp_path / "here" / "table.md").unlink()
    call("report", "here")
    assert call("run", *words, "--json").code == 0
    assert len(made) == 2


def test_a_record_that_is_edited_while_others_are_measured_is_reported_afterwards(call, tmp_path, monkeypatch):
    words = ("-o", "gaussian-quadratic:dim=2", "--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    call("run", "-e", "rloo:n=2", *words)
    path, append = tmp_path / "here" / store.LINES, store.Store.append

    def meanwhile(*given):
        path.write_bytes(path.read_bytes().replace(b'"family":"Normal"', b'"family":"Edited"'))
        return append(*given)

    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "append", meanwhile)
        assert "Edited" not in call("run", "-e", "rloo:n=4", *words).out
    call("report", "here", "--no-figures")
    assert "Edited" in (path.parent / "table.csv").read_text()


def test_an_empty_folder_of_figures_is_none(call, tmp_path):
    words = ("-e", "rloo:n=2", "-o", "gaussian-quadratic:dim=3", "--out", "here", "--replicates", 64, "--no-timing")
    first = call("run", *words)
    assert "draws figures" in first.err
    (tmp_path / "here" / "figures").mkdir()
    for path in cache.folder().glob("*.cached"):
        path.unlink()
    assert "draws figures" in call("run", *words).err


def test_records_beside_a_report_are_listed_once_they_are_there(call, study, tmp_path):
    assert call("report", "here", "--out", "there").err.startswith("there: report.html")
    files.write(tmp_path / "there" / store.LINES, (study / store.LINES).read_bytes())
    assert call("report", "here", "--out", "there").err.startswith("there: records.jsonl, report.html")
