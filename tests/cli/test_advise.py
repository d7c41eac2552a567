"""The command ``bench advise``: its report, its JSON, and one sentence for every mistake."""

import json

import pytest

from bench.cli.errors import ExitCode

MINE = """
import torch
from torch.distributions import OneHotCategorical

from bench import Expectation

torch.manual_seed(0)
net, keys, inputs = torch.nn.Linear(4, 5), torch.randn(5, 4), torch.randn(8, 4)
problem = Expectation(
    q=lambda net: OneHotCategorical(logits=net(inputs)),
    f=lambda x: (x @ keys - inputs).square().sum(-1),
    theta=net,
)
"""
QUICK = ["--budget", "1e5-evals", "--no-timing"]


@pytest.fixture
def mine(tmp_path):
    """A problem of one's own, in a file in this test's folder."""
    (tmp_path / "mine.py").write_text(MINE)
    return "./mine.py::problem"


def test_a_problem_in_a_file_gets_advice_and_lines_to_paste(call, mine, tmp_path):
    done = call("advise", "-o", mine, "-e", "rloo", "-e", "gumbel-softmax:temperature=0.5", *QUICK)
    assert done.code == ExitCode.FINE, done.err
    assert "Use:        rloo:n=16" in done.out
    assert "from estimators import RLOO" in done.out
    assert "last measurement" in done.err
    assert not (tmp_path / "results").exists()


def test_json_is_one_document(call):
    done = call("advise", "-o", "gaussian-quadratic:dim=2", "-e", "rloo:n=2,4", "--json", "--quiet", *QUICK)
    assert done.code == 0, done.err
    assert json.loads(done.out)["candidates"] == 2
    assert done.err == ""


def test_several_points_are_named_with_at(call):
    done = call(
        "advise",
        "-o",
        "gaussian-vae",
        "-e",
        "reparameterization:n=1,2",
        "--at",
        "initial,trained",
        "--budget",
        "2e4-evals",
    )
    assert done.code == 0, done.err
    assert "Point:      at gaussian-vae" in done.out
    assert "at=trained" in done.out


def test_a_training_is_named_with_train_steps(call):
    words = ["-o", "bernoulli-quadratic:dim=4", "-e", "rloo:n=2,4", "--train-steps", "20", "--learning-rate", "0.1"]
    done = call("advise", *words, *QUICK)
    assert done.code == 0, done.err
    assert "Point:      at step 20," in done.out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["-o", "gaussian-quadratic", "--budget", "10"], ExitCode.USAGE, "'10' is no budget. Write evaluations"),
        (["-o", "gaussian-quadratic", "--budget", "100-evals"], ExitCode.USAGE, "too small for one round"),
        (["-o", "gaussian-quadratic", "-e", "disarm"], ExitCode.NOTHING, "no estimator fits its objective"),
        (["-o", "gaussian-quadratic", "-e", "rlo"], ExitCode.USAGE, "Did you mean 'rloo'?"),
        (["-o", "gaussian-quadratic", "-e", "rloo:n=32"], ExitCode.USAGE, "Give a larger --per-gradient."),
        (["-o", "gaussian-quadratic", "--at", "trained"], ExitCode.USAGE, "none of the objectives has it"),
        (["-o", "gaussian-quadratic", "--per-gradient", "0"], ExitCode.USAGE, "'0' is not a whole number from 1"),
        ([], ExitCode.USAGE, "Missing option '-o'"),
    ],
)
def test_a_mistake_is_one_sentence(call, words, code, says):
    done = call("advise", *words, "--quiet")
    assert done.code == code
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_q_that_cannot_be_built_is_the_objectives_fault(call, tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace("logits=net(inputs)", "logits=net(keys.T)"))
    done = call("advise", "-o", "./mine.py::problem", *QUICK)
    assert done.code == ExitCode.USAGE
    assert "q fails: RuntimeError" in done.err
    assert len(done.err.splitlines()) == 1


def test_an_f_that_fails_on_the_axes_on_the_left_is_mapped(call, tmp_path):
    one = "(torch.nn.functional.cross_entropy(x @ keys, inputs.softmax(-1), reduction='none'))"
    (tmp_path / "mine.py").write_text(MINE.replace("(x @ keys - inputs).square().sum(-1)", one))
    done = call("advise", "-o", "./mine.py::problem", "-e", "rloo:n=4", *QUICK)
    assert done.code == 0, done.err
    assert "Use:        rloo:n=4" in done.out
