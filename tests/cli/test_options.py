"""The option --data-dir, from the words of a command to the records."""

import os

import pytest

from bench.cli.options import reruns
from bench.objectives.autoencoders.images import images
from bench.records import store
from tests.objectives.autoencoders.datasets import pictures, write_idx

TINY = "bernoulli-vae:dim=2,hidden=3,batch=4,data=mnist"
RUN = ("run", "-o", TINY, "-e", "rloo", "--replicates", "64", "--no-timing", "--quiet", "--out", "here")
TRAIN = ("train", "-o", TINY, "-e", "rloo", "--steps", "2", "--seeds", "1", "--replicates", "0", "--quiet")


@pytest.fixture
def data(tmp_path):
    write_idx(tmp_path / "data" / "mnist", pictures(40), pictures(20, seed=1))
    return tmp_path / "data"


@pytest.mark.parametrize("words", [RUN, (*TRAIN, "--out", "here")], ids=["run", "train"])
def test_the_folder_is_an_option_and_a_variable_and_in_no_record(call, tmp_path, monkeypatch, data, words):
    assert call(*words, "--data-dir", "data").code == 0
    assert "BENCH_DATA_DIR" not in os.environ
    lines = (tmp_path / "here" / "records.jsonl").read_bytes()
    (found,) = store.read(tmp_path / "here")
    monkeypatch.setenv("BENCH_DATA_DIR", str(data))
    assert call(*words).code == 0
    assert call("report", "here", "--quiet").code == 0
    assert (tmp_path / "here" / "records.jsonl").read_bytes() == lines
    assert found["objective_contents"] == {"data": images("mnist").digest}
    assert found["objective"] == TINY
    for path in (tmp_path / "here").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize("words", [RUN, (*TRAIN, "--out", "here")], ids=["run", "train"])
def test_other_data_are_another_objective(call, tmp_path, data, words):
    assert call(*words, "--data-dir", data).code == 0
    write_idx(data / "mnist", pictures(41), pictures(20, seed=1))
    assert call(*words, "--data-dir", data).code == 0
    first, second = store.read(tmp_path / "here")
    assert first["run"] != second["run"]
    assert first["objective_contents"] != second["objective_contents"]
    said = call("report", "here", "--quiet").out
    for line in (first, second):
        assert f"{TINY} (data {line['objective_contents']['data'][:8]})" in " ".join(said.split())


@pytest.mark.usefixtures("data")
def test_workers_find_the_data(call, tmp_path):
    done = call(*TRAIN, "--out", "here", "--seeds", "2", "--workers", "2", "--data-dir", "data")
    assert done.code == 0, done.err
    assert [line["outcome"] for line in store.read(tmp_path / "here")] == ["measured"] * 2


@pytest.mark.parametrize("words", [RUN, TRAIN], ids=["run", "train"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "no data folder is set. Set it with --data-dir or BENCH_DATA_DIR."),
        (("--data-dir", "absent"), "There is no data folder 'absent'."),
        (("--data-dir", "."), "There is no train-images-idx3-ubyte.gz in the data folder '.'."),
    ],
)
def test_data_that_are_not_there_are_one_sentence_and_exit_code_2(call, tmp_path, words, given, message):
    result = call(*words, *given)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: bernoulli-vae: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_the_gate_takes_the_folder_too_and_keeps_no_path(call, tmp_path, data):
    save = ("baseline", "save", "ci", "-e", "rloo", "-o", TINY, "--replicates", "64", "--quiet")
    check = ("check", "--baseline", "ci", "--quiet")
    assert "no data folder is set" in call(*save).err
    assert call(*save, "--data-dir", "data").code == 0
    assert str(tmp_path) not in (tmp_path / "results" / "baselines" / "ci.json").read_text()
    assert call(*check, "--data-dir", data).out == "passed: 1 identical (baseline ci, 1 cell)\n"
    without = call(*check)
    assert without.code == 3
    assert "Set it with --data-dir" in without.out
    assert call("baseline", "promote", "ci", "--quiet", "--data-dir", "data").out.startswith("nothing has changed")
    assert "BENCH_DATA_DIR" not in os.environ
    write_idx(data / "mnist", pictures(41), pictures(20, seed=1))
    other = call(*check, "--data-dir", data)
    assert other.code == 3
    assert "a default has changed, or a file that it is made of" in other.out


def test_what_is_listed_needs_no_data(call):
    assert "data=digits" in call("list", "objectives").out


def test_what_was_measured_stays_when_the_data_are_gone(call, tmp_path, data):
    assert call(*RUN, "--data-dir", "data").code == 0
    before = (tmp_path / "here" / "records.jsonl").read_bytes()
    for path in (data / "mnist").iterdir():
        path.unlink()
    assert call(*RUN, "--data-dir", "data").code == 2
    assert (tmp_path / "here" / "records.jsonl").read_bytes() == before
    assert call("report", "here", "--quiet").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fresh", "--rerun", "none"), "--fresh means --rerun all: leave out one of the two options."),
        (("--rerun", "failed", "--rerun", "all"), "--rerun all stands alone: leave out the other --rerun."),
        (("--rerun", "broken"), "'broken' is not one of 'failed', 'stale', 'all', 'none'"),
    ],
)
@pytest.mark.parametrize("command", ["run", "train"])
def test_words_of_rerun_that_contradict_each_other_are_refused(call, command, words, said):
    done = call(command, "-e", "rloo", "-o", "qubo", *words)
    assert (done.code, said in done.err) == (2, True), done.err


def test_fresh_is_rerun_all_and_the_usual_is_failed_and_stale():
    assert reruns((), fresh=True) == reruns(("all",), fresh=False) == reruns(("all",), fresh=True) == {"all"}
    assert reruns((), fresh=False) == reruns(("stale", "failed"), fresh=False) == {"failed", "stale"}


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--cell-timeout", "nan"),
        ("run", "--precision", "nan"),
        ("measure", "--gradients", "g.npy", "--evaluations", "nan"),
        ("advise", "-o", "qubo", "--lr", "nan"),
    ],
)
def test_nan_is_no_positive_number(call, words):
    result = call(*words)
    assert (result.code, "nan is not a number." in result.err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "-e", "rloo", "-o", "qubo", "--out", ""),
        ("report", ""),
        ("export", "here", "-o", ""),
        ("compare", "a", "b", "--study", ""),
    ],
)
def test_an_empty_text_is_no_path(call, tmp_path, words):
    result = call(*words)
    assert (result.code, "an empty text is no path" in result.err) == (2, True)
    assert not [*tmp_path.iterdir()]
