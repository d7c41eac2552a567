"""Objectives at the top of a user's file, and functions that return one."""

import pickle
import re
import sys

import pytest

from bench import measure
from bench.execution.progress import Silent
from bench.planning.instances import expand
from bench.planning.selectors import UsageError, label, parse
from bench.planning.spec import Spec
from bench.records.code import code_digest
from bench.records.identity import identity
from estimators import RLOO
from tests.running import run

MINE = """
import torch
from torch.distributions import Bernoulli, Independent
from bench import Expectation
from bench.objectives import GaussianQuadratic
{seed}
logits = torch.randn(3)

def bits(target):
    def q(theta):
        return Independent(Bernoulli(logits=theta["l"]), 1)

    return Expectation(q, lambda x: (x - target).square().sum(-1), {{"l": logits}})

my_problem = bits(0.45)
cosine = GaussianQuadratic(dim=2)
number = 3

def with_target(target: float = 0.2, words="none"):
    return bits(target)

def nothing():
    return None
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(seed="torch.manual_seed(0)"))
    return path


def objectives(path, name):
    return expand(parse(f"{path}::{name}"), "objective")


def test_an_objective_at_the_top_of_a_file_has_its_name(mine):
    (problem,) = objectives(mine, "my_problem")
    (cosine,) = objectives(mine, "cosine")
    assert (label(problem), problem.dim, problem.has_exact) == ("my-problem", 3, True)
    assert (label(cosine), cosine.dim, cosine.family.__name__) == ("cosine", 2, "Normal")
    assert measure(RLOO(n=4), problem, replicates=512).exact is not None


def test_the_arguments_of_a_function_are_parameters(mine):
    made = objectives(mine, "with_target:target=0.2,0.4")
    assert [label(each) for each in made] == ["with-target", "with-target:target=0.4"]
    assert [each.target for each in made] == [0.2, 0.4]
    assert len({str(identity(each)) for each in made}) == 2
    with pytest.raises(UsageError, match=r"target needs a finite number \(got 'big'\)"):
        objectives(mine, "with_target:target=big")
    with pytest.raises(UsageError, match="has no parameter 'dim'"):
        objectives(mine, "with_target:dim=3")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "nothing returned a NoneType. Return an objective, such as bench.Expectation."),
        ("number", "'number' is of type int, not an objective. The file has my_problem, cosine."),
        ("my_problm", "Did you mean 'my_problem'?"),
    ],
)
def test_what_is_no_objective_is_refused(mine, name, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        objectives(mine, name)


def test_a_file_without_a_name_lists_its_objectives(mine):
    with pytest.raises(UsageError, match=r"defines the objectives my_problem, cosine\. Name one"):
        expand(parse(str(mine)), "objective")


def test_a_copy_in_another_process_is_made_again(mine):
    (problem,) = objectives(mine, "my_problem")
    again = pickle.loads(pickle.dumps(problem))
    assert identity(again) == identity(problem)
    assert again.row_elements == problem.row_elements
    assert code_digest(again) == code_digest(problem)


def test_a_problem_that_differs_between_loads_is_refused(mine):
    mine.write_text(MINE.format(seed=""))
    (problem,) = objectives(mine, "my_problem")
    sent = pickle.dumps(problem)
    for name in [name for name in sys.modules if name.startswith("_bench_user_")]:
        del sys.modules[name]
    objectives(mine, "my_problem")
    with pytest.raises(ValueError, match=r"my-problem differs between two loads .* torch\.manual_seed\(0\)"):
        pickle.loads(sent)


def test_workers_measure_it_with_the_bits_of_one_process(mine, tmp_path):
    spec = Spec.of(
        {
            "timing": False,
            "replicates": 256,
            "estimators": ["rloo", "score-function"],
            "objectives": [f"{mine}::my_problem", f"{mine}::with_target:target=0.4"],
        }
    )
    one, two = (run(spec, tmp_path / str(count), Silent(), count) for count in (1, 2))
    assert [r["fingerprint"] for r in sorted(one, key=lambda r: r["run"])] == [
        r["fingerprint"] for r in sorted(two, key=lambda r: r["run"])
    ]
    assert {r["outcome"] for r in one + two} == {"measured"}
    assert {r["objective"] for r in one} == {"my-problem", "with-target:target=0.4"}
