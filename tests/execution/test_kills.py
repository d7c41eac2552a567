"""SIGKILL at random instants: `python -m tests.execution.kills` makes more of them, of the commands themselves."""

from bench.execution.progress import Silent
from bench.planning.spec import Spec
from tests.execution.kills import kills
from tests.running import run


def measure(folder):
    objectives = ["gaussian-quadratic:dim=1,2,3", "gaussian-quadratic:dim=520"]
    table = {"estimators": ["reparameterization", "rloo:n=2,3"], "objectives": objectives}
    run(Spec.of(table | {"replicates": 1024, "timing": False}), folder, Silent(), workers=1)


def test_a_study_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path):
    measure(tmp_path / "warm")  # so that no child has to import what is slow
    assert kills(measure, 3, seed=1, folder=tmp_path).kills == 3
