"""The command `train` from its words to its exit code, with the smallest of runs."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from bench.records import store
from bench.report import figures

TINY = ("--steps", "2", "--seeds", "2", "--replicates", "0", "--workers", "1")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(figures, "training_images", lambda *_given: iter(()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing option '-o'"),
        (["-o", "gaussian-quadratic"], "Missing option '-e'"),
        (["-o", "gaussian-vea", "-e", "rloo"], "Did you mean 'gaussian-vae'?"),
        (["-o", "gaussian-vae", "-e", "rlo"], "Did you mean 'rloo'?"),
        (["-o", "gaussian-vae:batch=2000", "-e", "rloo"], "GaussianVAE needs batch <= 1797"),
        (["-o", "gaussian-vae", "-e", "gumbel-softmax:temperature=-1"], "temperature"),
        (["-o", "qubo", "-e", "rloo", "--lr", "-1"], "a finite number above 0 (got -1.0)."),
        (["-o", "qubo", "-e", "rloo", "--lr", "nan"], "a finite number above 0 (got nan)."),
        (["-o", "qubo", "-e", "rloo", "--lr", "fast"], "'--lr'"),
        (["-o", "qubo", "-e", "rloo", "--optimizer", "lion"], "'lion' is not one of"),
        (["-o", "qubo", "-e", "rloo", "--steps", "0"], "'--steps'"),
        (["-o", "qubo", "-e", "rloo", "--seeds", "x"], "'--seeds'"),
        (["-o", "qubo", "-e", "rloo", "--measure-every", "0"], "'--measure-every'"),
        (["rloo", "-o", "qubo"], "There is no folder 'rloo'. rloo is an estimator: give it as -e rloo."),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence_and_exit_code_2(call, tmp_path, words, message):
    result = call("train", *words)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there_is_one_sentence_and_exit_code_2(call, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call("train", "-o", "gaussian-vae", "-e", "rloo", "--device", "cuda", *TINY)
    expected = "Error: There is no CUDA device for --device cuda. Use --device cpu or auto; see `bench doctor`.\n"
    assert result == (2, "", expected)
    assert not list(tmp_path.iterdir())
    where = ("--device", "auto", "--out", "here", "--quiet")
    assert call("train", "-o", "qubo", "-e", "rloo", *TINY, *where).code == 0
    assert {line["device"] for line in store.read(tmp_path / "here")} == {"cpu"}


def test_the_table_goes_to_stdout_and_the_same_command_goes_on(call, tmp_path):
    words = ("train", "-o", "gaussian-quadratic", "-e", "rloo:n=2,4", *TINY)
    loud = call(*words)
    assert loud.code == 0
    assert loud.out.startswith("gaussian-quadratic\n")
    folder = tmp_path / "results" / "train-rloo-on-gaussian-quadratic"
    assert (
        "train-rloo-on-gaussian-quadratic: records.jsonl, report.html, training.md, training.csv and 0 figures"
        in loud.err
    )
    files = {"records.jsonl", "plan.jsonl", "report.html", "training.md", "training.csv"}
    assert {path.name for path in folder.iterdir()} == files
    before = (folder / "records.jsonl").read_bytes()
    assert call(*words, "--quiet") == (0, loud.out, "")
    assert (folder / "records.jsonl").read_bytes() == before
    assert call("report", folder, "--quiet").out == loud.out


def test_flags_reach_the_records(call, tmp_path):
    given = ("--optimizer", "sgd", "--lr", "0.5", "--measure-every", "1", "--dtype", "float64", "--out", "here")
    result = call("train", "-o", "bernoulli-quadratic", "-e", "enumeration", *TINY, *given, "--json", "--quiet")
    document = json.loads(result.out)
    assert (result.code, result.err, document["folder"]) == (0, "", "here")
    assert document["records"] == store.read(tmp_path / "here")
    (first, second) = document["records"]
    assert (first["optimizer"], first["learning_rate"], first["dtype"]) == ("sgd", 0.5, "float64")
    assert (first["seed"], second["seed"], first["curves"]["step"]) == (0, 1, [0, 1, 2])


def test_what_cannot_be_trained_together_ends_with_4(call):
    result = call("train", "-o", "bernoulli-quadratic", "-e", "reparameterization", *TINY, "--quiet")
    assert result.code == 4
    assert result.err.count("\n") == 1
    assert "Bernoulli" in result.err


def test_divergence_is_a_result_and_failure_is_not(call, tmp_path):
    wild = ("--optimizer", "sgd", "--lr", "1e9", "--measure-every", "1", "--quiet")
    diverged = call("train", "-o", "gaussian-quadratic", "-e", "reparameterization", *TINY, *wild)
    assert diverged.code == 0
    assert "2 of 2" in diverged.out
    assert "diverged: reparameterization:n=1 on gaussian-quadratic, seed 0, 1: " in diverged.out
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom estimators import Estimator\n\n"
        "@dataclass(frozen=True)\nclass Mine(Estimator):\n"
        "    def __call__(self, f, q, generator=None, state=None):\n        raise RuntimeError('out of luck')\n"
    )
    failed = call("train", "-o", "gaussian-quadratic", "-e", "mine.py::Mine", *TINY, "--quiet")
    assert failed.code == 1
    assert "out of luck" in failed.out


def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(call, tmp_path, monkeypatch):
    from bench.training.train import TrainingRun

    work = TrainingRun.work

    def interrupted(run, *given):
        if run.seed:
            raise KeyboardInterrupt
        return work(run, *given)

    monkeypatch.setattr(TrainingRun, "work", interrupted)
    words = ("train", "-o", "gaussian-quadratic", "-e", "rloo", *TINY, "--out", "here", "--quiet")
    result = call(*words)
    assert result.code == 130
    assert f"Go on with: {shlex.join(['bench', *words])}" in result.err
    assert [r["seed"] for r in store.read(tmp_path / "here")] == [0]
    to_go = "1 of 2 runs are here, 1 to go: `bench train here` goes on."
    assert to_go in call("verify", "here").out.splitlines()
    assert to_go in call("report", "here", "--no-figures").err.splitlines()
    monkeypatch.setattr(TrainingRun, "work", work)
    assert call("merge", "here", "-o", "deep/er").code == 0
    assert call("train", "deep/er", "--workers", 1, "--quiet").code == 0
    assert [r["seed"] for r in store.read(tmp_path / "deep" / "er")] == [0, 1]
    (standing,) = json.loads(call("verify", "deep/er", "--json").out)["standings"]
    assert standing == {"noun": "runs", "asked": 2, "here": 2, "failed": 0}
    assert call("report", "deep/er", "--no-figures", "--quiet").err == ""


def test_a_folder_of_training_goes_on_and_is_not_measured(call, tmp_path):
    call("train", "-o", "gaussian-quadratic", "-e", "rloo", *TINY, "--out", "here", "--quiet", "--keep-weights")
    refused = call("run", "here")
    assert (refused.code, "`bench train here` goes on with it" in refused.err) == (2, True)
    call("run", "-o", "gaussian-quadratic", "-e", "rloo", "--replicates", 64, "--no-timing", "--out", "here", "--quiet")
    (tmp_path / "here" / "records.jsonl").write_bytes(b"")
    kept = tmp_path / "here" / "weights.csv"
    kept.unlink()
    assert call("train", "here", "--workers", 1, "--lr", "0.5", "--quiet").code == 0
    assert kept.exists(), "the plan says that weights are kept"
    assert {(r["kind"], r["learning_rate"]) for r in store.read(tmp_path / "here")} == {("training", 0.5)}
    assert call("run", "here", "--quiet").code == 0
    assert [r["kind"] for r in store.read(tmp_path / "here")] == ["training", "training", "moments"]
    assert call("verify", "here").out.splitlines()[1:] == [
        "1 of 1 cell is here.",
        "2 of 4 runs are here, 2 to go: `bench train here` goes on.",
    ]
    (tmp_path / "here" / "plan.jsonl").unlink()  # as older versions have left it
    assert call("verify", "here").out.count("\n") == 1
    assert "repeat the command that made it" in call("train", "here").err
    assert call("train", "-o", "gaussian-quadratic", "-e", "rloo", *TINY, "--out", "here", "--quiet").code == 0
    assert "2 of 2 runs are here." in call("verify", "here").out


def test_what_was_trained_can_be_measured(call, tmp_path):
    small = "bernoulli-vae:dim=2,hidden=3,batch=4"
    assert call("train", "-o", small, "-e", "rloo", *TINY, "--keep-weights", "--out", "here", "--quiet").code == 0
    path = sorted((tmp_path / "here" / "weights").iterdir())[0].relative_to(tmp_path)
    words = ("run", "-o", small, "-e", "rloo", "--replicates", "64", "--no-timing", "--quiet", "--out", "there")
    for at in ("initial", path):
        assert call(*words, "--at", at).code == 0
    found = store.read(tmp_path / "there")
    assert [r["objective_params"]["at"] for r in found] == ["initial", str(path)]
    assert len({r["cell"] for r in found}) == 2
    wrong = call("run", "-o", "bernoulli-vae:dim=3,hidden=3", "-e", "rloo", "--at", path, "--out", "there", "--quiet")
    assert (wrong.code, wrong.out) == (2, "")
    assert "holds the weights of another architecture: theta.weight is [2, 3] in the file" in wrong.err
    assert wrong.err.count("\n") == 1
    for at, message in (("absent.pt", "There is no file of weights 'absent.pt'"), ("here", "There is no file")):
        refused = call(*words, "--at", at)
        assert refused.code == 2
        assert message in refused.err
    assert len([r for r in store.read(tmp_path / "there") if r["outcome"] == "measured"]) == 2


def test_the_weights_of_an_objective_of_ones_own_can_be_measured_at(call, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"(?ms)^```python\n(.*?)^```", page) if "class Mine" in block)
    (tmp_path / "mine.py").write_text(code)
    words = ("-o", "mine.py::Mine", "-e", "reparameterization", "--quiet")
    trained = call("train", *words, "--steps", 300, "--seeds", 2, "--lr", 0.01, "--keep-weights", "--out", "here")
    assert trained.code == 0
    with (tmp_path / "here" / "weights.csv").open(newline="") as file:
        index = list(csv.DictReader(file))
    assert [(row["objective"], row["estimator"], row["seed"]) for row in index] == [
        ("mine", "reparameterization", seed) for seed in ("0", "1")
    ]
    path = f"here/weights/{index[1]['file']}"
    run = ("run", *words, "--no-timing", "--replicates", 64, "--out", "there")
    assert call(*run).code == 0
    assert call(*run, "--at", path).code == 0
    initial, later = (line for line in store.read(tmp_path / "there") if line["kind"] == "moments")
    assert later["objective"] == f"mine:at={path}"
    assert later["objective_contents"] == {"at": index[1]["file"].removesuffix(".pt")}
    assert abs(later["exact"][0]) < abs(initial["exact"][0])
    absent = call(*run, "--at", "absent.pt")
    assert (absent.code, absent.out) == (2, "")
    assert "mine.py::Mine: There is no file of weights 'absent.pt'. Use at=initial" in absent.err
