"""What may follow the beginning of a selector."""

import subprocess
import sys

import pytest

import estimators
from bench.planning.catalogue import catalogue
from bench.planning.completion import completions

MINE = """
from dataclasses import dataclass
import torch
from bench import Expectation
from bench.objectives import Objective
from estimators import Estimator
raise SystemExit("a file is not executed")

@dataclass(frozen=True)
class Slow(Objective):
    dim: int = 3
    wrong: bool = False

@dataclass(frozen=True)
class Mean(Estimator):
    n: int = 2

class Test: pass
class _Hidden: pass
def q(theta): return theta
def scaled(scale: float = 1.0): return Expectation(q, q)
data = torch.ones(3)
problem = Expectation(q, q, {})
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def :")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "deep.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("estimator", "rl", ["rloo"]),
        ("estimator", "reinfo", ["reinforce-plus-plus", "reinforce++", "reinforce"]),
        ("estimator", "rloo:", ["rloo:n=", "rloo:credit="]),
        ("estimator", "gumbel-softmax:te", ["gumbel-softmax:temperature="]),
        ("estimator", "concrete:te", ["concrete:temperature="]),
        ("estimator", "RLOO:", ["RLOO:n=", "RLOO:credit="]),
        ("estimator", "gumbel-softmax:n=1,2,", ["gumbel-softmax:n=1,2,temperature="]),
        ("estimator", "gumbel-softmax:temperature=1,n", ["gumbel-softmax:temperature=1,n="]),
        ("estimator", "vimco:mean=", ["vimco:mean=geometric", "vimco:mean=arithmetic"]),
        ("estimator", "score-function:n=2,baseline=o", ["score-function:n=2,baseline=optimal"]),
        ("estimator", "vimco:mean=geometric,", ["vimco:mean=geometric,arithmetic", "vimco:mean=geometric,n="]),
        ("estimator", "relax:relaxed=", ["relax:relaxed=true", "relax:relaxed=false"]),
        ("estimator", "rloo:n=", []),
        ("estimator", "nonsense:", []),
        ("estimator", "rloo:x=1,", ["rloo:x=1,n=", "rloo:x=1,credit="]),
        ("objective", "gaussian-q", ["gaussian-quadratic"]),
        ("objective", "gaussian-vae:decoder=l", ["gaussian-vae:decoder=linear"]),
        ("estimator", "./m", ["./made/", "./mine.py::"]),
        ("estimator", "mi", ["mine.py::"]),
        ("estimator", "made/", ["made/deep.py::"]),
        ("estimator", "./nowhere/x", []),
        ("estimator", "./mine.py::", ["./mine.py::Mean"]),
        ("objective", "./mine.py::", ["./mine.py::Slow", "./mine.py::scaled", "./mine.py::problem"]),
        ("objective", "mine.py::s", ["mine.py::scaled"]),
        ("objective", "mine.py::scaled:", ["mine.py::scaled:scale="]),
        ("objective", "./mine.py::Slow:dim=2,3,wrong=t", ["./mine.py::Slow:dim=2,3,wrong=true"]),
        ("objective", "./broken.py::", []),
        ("objective", "./absent.py::", []),
    ],
)  # fmt: skip
def test_the_next_part_is_completed(kind, text, expected):
    assert list(completions(kind, text)) == expected


def test_the_next_part_has_a_line_of_help():
    assert completions("estimator", "rloo:")["rloo:n="].startswith("number of samples")
    assert completions("estimator", "rloo")["rloo"].startswith("Score function with")


@pytest.mark.parametrize("name", sorted(catalogue("estimator")))
def test_every_field_has_a_meaning_and_its_words_are_those_that_a_refusal_names(name):
    for key, field in catalogue("estimator")[name]["fields"].items():
        assert field["meaning"]
        if field["choices"] and field["type"] != "bool":
            with pytest.raises(ValueError, match=f"{key}=") as refused:
                estimators.catalogue()[name](**{key: "nonsense"})
            expected = str(refused.value).partition(" (got ")[0]
            assert all(word in expected for word in field["choices"])
            assert expected.count(" or ") + expected.count(",") == len(field["choices"]) - (field["type"] == "str")


def test_torch_is_not_imported():
    code = "from bench.planning.completion import completions; completions('estimator', 'rloo:')"
    code = f"import sys; {code}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
