"""A study in Python: tidy frames without torch, figures, and the words, specs and dictionaries that are run."""

import io
import json
import subprocess
import sys

import pandas as pd
import pytest
from matplotlib.text import Text

import bench
from bench.planning.selectors import UsageError
from bench.records import store
from bench.report.export import Format, exported
from tests.report import records

NASTY = ("a|b", "$x$", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "bell\x07\x1b[31m", "l" * 200)


def with_fields(record, estimator=None, objective=None):
    return {**record, "estimator_params": estimator or {}, "objective_params": objective or {}}


STUDY = [
    with_fields(records.moments("rloo", "qubo", 1.5), {"n": 2, "baseline": 0.0}, {"dim": 10, "seed": 0}),
    with_fields(records.moments("nested", "qubo", 2.5), {"n": 4, "baseline": "mean", "inner": 10}, {"dim": 10}),
    with_fields(records.moments("gumbel-softmax", "line", 0.5), {"temperature": 1.0, "coupled": True}, {"dim": 2}),
    with_fields(records.moments("darn", "line", 0.6), {"temperature": 2, "inner": "rloo"}, {"of": NASTY[3]}),
]


def test_every_field_is_a_column_of_its_type():
    frame = bench.Study(STUDY).frame()
    kinds = {name: str(frame[name].dtype) for name in frame if "." in name}
    assert [*kinds] == [
        *(f"estimator.{name}" for name in ("n", "baseline", "inner", "temperature", "coupled")),
        *(f"objective.{name}" for name in ("dim", "seed", "of")),
    ]
    assert (kinds["estimator.n"], kinds["estimator.coupled"], kinds["objective.dim"]) == ("Int64",) * 3
    assert kinds["estimator.temperature"] == "float64"
    found = {name: [None if pd.isna(v) else v for v in frame[name]] for name in kinds}
    assert found["estimator.n"] == [2, 4, None, None]
    assert found["estimator.temperature"] == [None, None, 1.0, 2.0]
    assert found["estimator.coupled"] == [None, None, 1, None]
    assert found["estimator.baseline"] == ["0", "mean", None, None]
    assert found["estimator.inner"] == [None, "10", None, "rloo"]
    assert found["objective.dim"] == [10, 10, 2, None]


def test_csv_json_and_the_frame_have_the_same_columns_and_no_formula():
    frame = bench.Study(STUDY).frame()
    table = pd.read_csv(io.BytesIO(exported(STUDY, Format.CSV)))
    rows = json.loads(exported(STUDY, Format.JSON))
    assert [*frame.columns] == [*table.columns] == [*rows[0]]
    assert rows[3]["objective.of"] == NASTY[3]
    assert table["objective.of"].tolist()[3] == f"'{NASTY[3]}"


@pytest.mark.parametrize("text", NASTY)
def test_names_of_others_do_no_harm_to_the_frame(text, tmp_path):
    strange = {**STUDY[0], "estimator_name": text, "estimator": text, "estimator_params": {text: text, "n": 2}}
    with store.Store(tmp_path / "here") as writer:
        writer.append(strange)
    study = bench.load(tmp_path / "here")
    (column,) = [name for name in study.frame() if name.startswith("estimator.") and name != "estimator.n"]
    assert column.isprintable()
    table = pd.read_csv(io.BytesIO(exported(study.records, Format.CSV)))
    assert column in table
    assert not str(table[column][0]).startswith("=")


def test_several_folders_are_one_study_and_reading_needs_no_torch(tmp_path):
    for name, lines in (("a", STUDY[:3]), ("b", STUDY[2:])):
        with store.Store(tmp_path / name) as writer:
            for line in lines:
                writer.append(line)
    code = "import bench, sys; s = bench.load('a', 'b/records.jsonl'); print(len(s.frame()), s, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "4 Study(4 runs, 4 estimators, 2 objectives) False\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bench.load(), "load needs a study folder"),
        (lambda: bench.load("nowhere"), "There are no records in 'nowhere'"),
        (lambda: bench.Study(STUDY).plot("heatmp"), "Did you mean 'heatmap'"),
        (lambda: bench.Study(STUDY).plot("zz"), "Choose from heatmap, "),
        (lambda: bench.Study(STUDY).plot(3), "There is no figure 3"),
        (lambda: bench.Study(STUDY).plot("heatmap", cost="hours"), "'evaluations' or 'seconds' .got 'hours'"),
        (lambda: bench.Study(STUDY).plot("heatmap", width=float("nan")), "2 to 20 inches, or None .got nan"),
        (lambda: bench.Study(STUDY).plot("heatmap", width="3.25"), "2 to 20 inches, or None .got '3.25'"),
        (lambda: bench.load(["a", "b"]), "load needs paths of study folders"),
        (lambda: bench.Study(STUDY).plot("training"), "no data for the figure 'training'"),
        (lambda: bench.run("-e rlo"), "Did you mean 'rloo'"),
        (lambda: bench.run("--help"), "No such option '--help'"),
        (lambda: bench.run("-e 'rloo"), "A quotation mark lacks its partner"),
        (lambda: bench.run(["-e", "rloo", "--sed", "1"]), "No such option '--sed'"),
        (lambda: bench.run("none.toml"), "none.toml cannot be read"),
        (lambda: bench.run({"estimators": ["rloo"]}), "objectives: give a list"),
        (lambda: bench.run({"estimators": ["rloo"], "objectives": ["qubo"]}, sed=1), "Did you mean 'seed'"),
        (lambda: bench.run(3), "a path, words of `bench run` or a dictionary"),
        (lambda: bench.run(b"-e rloo"), "a path, words of `bench run` or a dictionary .got bytes"),
        (lambda: bench.run("-e rloo -o qubo", replicates="many"), "^replicates: Input should be a valid integer"),
        (lambda: bench.run("-e rloo -o qubo", out=3), "out is the path of a study folder, .* .got 3"),
        (lambda: bench.run("-e rloo -o qubo", out=""), "out is the path of a study folder, .* .got ''"),
        (
            lambda: bench.run("-e rloo -o qubo", out="/dev/null/x"),
            "^/dev/null.* cannot be written: Not a directory. Choo",
        ),
        (lambda: bench.run("-e rloo -o qubo", workers="a"), "workers is a number of processes, 1 or more, .* .got 'a'"),
        (lambda: bench.run({"estimators": ["rloo"], "objectives": ["qubo"]}, workers=0), "1 or more, .* .got 0"),
    ],
)
def test_mistakes_are_one_sentence(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said.replace("?", r"\?")) as error:
        call()
    assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()]


def test_a_folder_without_records_is_named(tmp_path):
    (tmp_path / "records.jsonl").touch()
    with pytest.raises(ValueError, match="There are no records in "):
        bench.load(tmp_path)
    (tmp_path / "link").symlink_to("link")  # a loop, which nobody can open
    with pytest.raises(ValueError, match=r"There are no records in |link/records.jsonl cannot be read"):
        bench.load(tmp_path / "link")


def test_words_a_dictionary_and_a_folder_measure_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "-e rloo:n=2,4 -o bernoulli-quadratic:dim=3 --replicates 300 --no-timing"
    first = bench.run(words)
    spec = {"estimators": ["rloo:n=2,4"], "objectives": ["bernoulli-quadratic:dim=3"], "timing": False}
    second = bench.run(spec, replicates=300, out="there")
    assert bench.run(f"bench run {words}").records == first.records
    third = bench.run("there")
    assert (tmp_path / "results" / "rloo-on-bernoulli-quadratic" / "records.jsonl").exists()
    for other in (second, third, bench.load("there")):
        assert other.frame()["variance"].tolist() == first.frame()["variance"].tolist()
    assert first.frame()["estimator.n"].tolist() == [2, 4]
    fourth = bench.run(tmp_path / "there", seed=1)
    assert set(fourth.frame()["seed"]) == {1}
    assert len(bench.load("there").frame()) == 4
    with pytest.raises(UsageError, match="replicates"):
        bench.run(spec, replicates="many")


def test_a_script_with_an_estimator_of_its_own_needs_no_guard(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom estimators import RLOO\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(RLOO):\n    pass\n"
    )
    (tmp_path / "script.py").write_text(
        "import bench\n\nprint('once')\n"
        "words = '-e ./mine.py::Mine -o qubo --replicates 300 --no-timing'\n"
        "print(bench.run(words).frame()['outcome'].tolist())\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("once\n['measured']\n", "")


def test_a_figure_is_that_of_the_report():
    figure = bench.Study(STUDY).plot("variance-cost")
    (problems, drawn) = {"qubo", "line"}, {text.get_text() for ax in figure.axes for text in ax.findobj(Text)}
    assert problems <= drawn
