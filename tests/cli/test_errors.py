"""What the user, the data or the mathematics got wrong: one clear sentence each, and what was measured stays."""

import pytest

from bench.objectives import BernoulliVAE
from bench.objectives.autoencoders import weights
from bench.records import store
from bench.report import figures
from tests.objectives.autoencoders.datasets import pictures, write_idx

VAE = "bernoulli-vae:dim=2,hidden=3,batch=4"
RUN = ("run", "--replicates", "64", "--no-timing", "--out", "here", "--quiet")
TRAIN = ("train", "--steps", "5", "--seeds", "1", "--replicates", "0", "--out", "here", "--quiet")

HOLE = """
from dataclasses import dataclass
from estimators import RLOO

@dataclass(frozen=True)
class Hole(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        return super().__call__(f, q, generator, state) * float("nan")
"""


@pytest.fixture
def study(call, tmp_path, monkeypatch, once):
    """A folder of which something was measured, and what lies beside it."""
    monkeypatch.setattr(figures, "training_images", lambda *_given: iter(()))

    def make():
        assert call(*RUN, "-o", VAE, "-e", "rloo").code == 0
        assert call(*TRAIN, "-o", VAE, "-e", "rloo").code == 0
        (tmp_path / "empty").mkdir()
        (tmp_path / "mine.py").write_text(HOLE)
        write_idx(tmp_path / "small" / "mnist", pictures(40)[:, :20, :20], pictures(20)[:, :20, :20])
        weights.save(BernoulliVAE(dim=3, hidden=3, batch=4).build(), tmp_path / "other")

    once("errors", tmp_path, make)
    return tmp_path / "here"


DATA = ("-o", f"{VAE},data=mnist", "-e", "rloo")
WRONG = {
    "no folder of data": ((*DATA, "--data-dir", "absent"), "There is no data folder 'absent'."),
    "no file of data": ((*DATA, "--data-dir", "empty"), "There is no train-images-idx3-ubyte.gz in the data folder"),
    "wrong image size": ((*DATA, "--data-dir", "small"), "images of 20 x 20 pixels; they must be 28 x 28."),
    "negative temperature": (("-o", VAE, "-e", "gumbel-softmax:temperature=-1"), "needs temperature > 0"),
    "a huge number of samples": (
        ("-o", VAE, "-e", "rloo:n=99999999999999999999"),
        "rloo:n needs a whole number (got '9",
    ),
    "a huge dimension": (
        ("-o", f"bernoulli-vae:dim={10**20}", "-e", "rloo"),
        "bernoulli-vae:dim needs a whole number (got '1",
    ),
    "unknown objective": (("-o", "mnist", "-e", "rloo"), "Unknown objective 'mnist'."),
}


@pytest.mark.parametrize("command", [RUN, TRAIN], ids=["run", "train"])
@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_begin_is_one_sentence(call, study, command, words, message):
    refused(call, study, (*command, *words), message)


def test_a_checkpoint_of_another_architecture_is_one_sentence(call, study):
    (path,) = (study.parent / "other").iterdir()
    message = (
        "holds the weights of another architecture: theta.weight is [3, 3] in the file and [2, 3] in BernoulliVAE."
    )
    refused(call, study, (*RUN, "-o", VAE, "-e", "rloo", "--at", path), message)
    refused(call, study, (*TRAIN, "-o", f"{VAE},at={path}", "-e", "rloo"), message)


def test_an_unknown_optimizer_is_one_sentence(call, study):
    refused(call, study, (*TRAIN, "-o", VAE, "-e", "rloo", "--optimizer", "lion"), "'lion' is not one of 'adam', 'sgd'")


def refused(call, study, words, message):
    before = (study / "records.jsonl").read_bytes()
    result = call(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert (study / "records.jsonl").read_bytes() == before


def test_a_value_that_is_not_a_number_is_recorded_and_takes_nothing_with_it(call, study):
    before = (study / "records.jsonl").read_bytes()
    measured = call(*RUN, "-o", VAE, "-e", "mine.py::Hole", "-e", "rloo:n=3")
    assert measured.code == 1
    assert "gradients were not finite" in " ".join(measured.out.split())
    trained = call(*TRAIN, "-o", VAE, "-e", "mine.py::Hole", "-e", "rloo:n=3")
    assert trained.code == 0  # what diverges is a result
    assert "The value of f in training became nan at step 1." in " ".join(trained.out.split())
    assert (study / "records.jsonl").read_bytes().startswith(before)
    outcomes = {(r["kind"], r["estimator"]): r["outcome"] for r in store.read(study) if r["estimator"] != "rloo"}
    assert outcomes == {
        ("moments", "hole"): "failed",
        ("training", "hole"): "diverged",
        ("moments", "rloo:n=3"): "measured",
        ("training", "rloo:n=3"): "measured",
    }
