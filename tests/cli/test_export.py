"""The command `export`: every cell in every format, with whole numbers whole and nothing that is no JSON."""

import io
import json
import os

import pandas as pd
import pytest

from bench.records import files, store
from bench.report.export import Format, exported
from tests.report import records

SEED = 2**63 - 1
STUDY = [
    {**records.moments("rloo:n=2", "qubo", 1.5), "seed": SEED},
    {**records.line("score-function", "qubo", outcome="failed", reason="It broke."), "seed": SEED},
]


@pytest.fixture
def study(tmp_path):
    with store.Store(tmp_path / "here") as writer:
        for record in STUDY:
            writer.append(record)
    return tmp_path / "here"


def test_csv_is_the_table_of_the_report_and_json_has_its_rows(call, study):
    assert call("report", "here", "--no-figures", "--quiet").code == 0
    text = (study / "table.csv").read_text()
    assert call("export", "here").out == call("export", "here/records.jsonl", "--format", "csv").out == text
    rows = json.loads(call("export", "here", "--format", "json").out, parse_constant=pytest.fail)
    table = pd.read_csv(io.StringIO(text))  # pandas 2 reads a float with an error in the last digit
    assert [[*row] for row in rows] == [[*table.columns]] * 2
    assert [(row["seed"], type(row["seed"])) for row in rows] == [(SEED, int)] * 2
    for row, line in zip(rows, table.to_dict("records"), strict=True):
        for key, value in line.items():
            if isinstance(value, float) and not pd.isna(value):
                value = pytest.approx(value, rel=1e-15)
            assert (row[key] or None) is None if pd.isna(value) else row[key] == value, key
    assert rows[1]["variance"] is None


@pytest.mark.usefixtures("study")
def test_several_folders_are_one_study(call, tmp_path):
    with store.Store(tmp_path / "there") as writer:
        writer.append(STUDY[0])
        writer.append({**records.moments("rloo:n=4", "qubo", 0.5), "seed": SEED})
    rows = json.loads(call("export", "here", "there", "--format", "json").out)
    assert [row["estimator"] for row in rows] == ["rloo:n=2", "score-function", "rloo:n=4"]


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_a_file_gets_the_format_of_its_name(call, study, name):
    assert call("export", "here", "-o", f"deep/{name}").out == ""
    content = (study.parent / "deep" / name).read_bytes()
    assert content == exported(store.read(study), Format(name[2:]))
    assert call("export", "here", "--format", "csv", "-o", "b.json").code == 0
    assert (study.parent / "b.json").read_text().startswith("problem,")


@pytest.mark.usefixtures("study")
def test_parquet_without_pyarrow_says_what_to_install(call, monkeypatch):
    def lacking(*_, **__):
        raise ImportError("Missing optional dependency 'pyarrow'.")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", lacking)
    done = call("export", "here", "-o", "a.parquet")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "pip install 'stochgrad-bench[parquet]'" in done.err
    done = call("export", "here", "--format", "parquet")
    assert (done.code, "give a file, as in -o study.parquet" in done.err) == (2, True)


def test_parquet_has_the_types_of_the_columns(study):
    pytest.importorskip("pyarrow", reason="Parquet needs the extra parquet")
    table = pd.read_parquet(io.BytesIO(exported(store.read(study), Format.PARQUET)))
    assert table["seed"].tolist() == [SEED, SEED]
    assert str(table["seed"].dtype) == "int64"
    assert table["variance"].isna().tolist() == [False, True]
    assert [*table.columns] == [*json.loads(exported(store.read(study), Format.JSON))[0]]


def test_a_study_of_training_has_a_row_for_each_checkpoint(call, tmp_path, study):
    words = ("-e", "rloo", "-o", "gaussian-quadratic:dim=1", "--steps", 2, "--seeds", 1, "--replicates", 0, "--quiet")
    assert call("export", "here", "--training").code == 2
    assert call("train", *words, "--out", "there").code == 0
    text = (tmp_path / "there" / "training.csv").read_text()
    assert call("export", "there").out == text
    rows = json.loads(call("export", "there", "--format", "json").out)
    assert [row["step"] for row in rows] == pd.read_csv(io.StringIO(text))["step"].tolist()
    assert [row["variance"] for row in rows] == [None] * len(rows)
    with store.Store(tmp_path / "there") as writer:
        writer.append(STUDY[0])
    assert call("export", "there").out.startswith("problem,")
    assert call("export", "there", "--training").out == text


@pytest.mark.parametrize(
    "name", ["records.jsonl", "plan.jsonl", "spec.toml", "arrays/x.csv", "link.csv", "../there.csv"]
)
def test_no_file_of_a_study_is_overwritten(call, study, tmp_path, name):
    (study / "arrays").mkdir(exist_ok=True)
    (study / "link.csv").symlink_to(study / "records.jsonl")
    (tmp_path / "there.csv").symlink_to(study / "records.jsonl")
    before = (study / "records.jsonl").read_bytes()
    for command in (("export", "here", "--format", "csv", "-o"), ("check", "--markdown"), ("check", "--junit")):
        result = call(*command, f"here/{name}")
        assert result.code == 2
        assert "belongs to a study and would be overwritten. Give another file." in result.err
    assert (study / "records.jsonl").read_bytes() == before
    assert call("export", "here", "-o", "here/rows.csv").code == 0


def test_an_ending_that_names_no_format_needs_one(call, study):
    result = call("export", "here", "-o", "rows.xyz")
    assert (result.code, result.err) == (
        2,
        "Error: rows.xyz ends in .xyz: give --format, one of csv, parquet, json.\n",
    )
    assert call("export", "here", "--format", "csv", "-o", "rows.txt").code == 0


def test_a_pipe_gets_the_rows_and_stays_a_pipe(call, study, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("pipe", "link"):
        assert call("export", "here", "--format", "csv", "-o", name).code == 0
        assert os.read(reader, 10**6).startswith(b"problem,estimator,")
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(OSError, match="not a regular file"):
        files.write(tmp_path / "pipe", b"rows")
    assert (tmp_path / "pipe").is_fifo()
