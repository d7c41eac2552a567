"""A user's objective in a study: its checks before it is measured, its record, and the size of an estimate."""

import pytest

from bench.execution.objectives import examine
from bench.execution.pool import Pool
from bench.execution.progress import Silent
from bench.execution.rehearsal import selectors
from bench.measurement.draws import sizes_of
from bench.measurement.objective_checks import QUICK, Fault
from bench.measurement.objective_checks.parts import training_data
from bench.measurement.objective_checks.run import check_once
from bench.objectives import GaussianQuadratic, Objective
from bench.planning.spec import Spec
from bench.records import store
from bench.records.lines import LineKind
from bench.training.settings import Training
from bench.training.train import train
from tests.running import run

MINE = """
from dataclasses import dataclass
import torch
from torch.distributions import OneHotCategorical
from bench.objectives import Objective, Problem

@dataclass(frozen=True)
class Mine(Objective):
    wrong: bool = False
    dim = 1
    family = OneHotCategorical

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": torch.zeros(32, 10, dtype=dtype, device=device, requires_grad=True)}
        def q(theta):
            return OneHotCategorical(logits=theta["logits"])
        def exact(theta):
            p = theta["logits"].softmax(-1)[:, 0]
            return p.sum() if self.wrong else p.mean()
        return Problem(theta, q, lambda _q: lambda x: x[..., 0], exact)
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return f"{path}::Mine"


def spec(objective, *estimators, timing=False, replicates=64):
    return Spec(
        objectives=[objective], estimators=estimators or ["rloo", "enumeration"], timing=timing, replicates=replicates
    )


def of_kind(folder, kind):
    return [line for line in store.read(folder) if line["kind"] == kind]


def test_an_objective_at_fault_stops_the_run_before_the_folder_is_made(mine, tmp_path):
    with pytest.raises(Fault, match=r"a factor of 32: the batch has 32 elements"):
        run(spec(f"{mine}:wrong=true"), tmp_path / "study", Silent())
    with pytest.raises(Fault, match=r"a factor of 32"):
        train(spec(f"{mine}:wrong=true"), Training(steps=1, seeds=1), tmp_path / "study", Silent())
    assert not (tmp_path / "study").exists()


def test_the_study_keeps_the_size_of_a_row_and_never_measures_it_again(mine, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    run(spec(mine, timing=True), folder, Silent())
    (line,) = of_kind(folder, LineKind.OBJECTIVE)
    assert (line["objective"], line["row_elements"], line["outcome"]) == ("mine", 512, "measured")
    before = (folder / "records.jsonl").read_bytes()
    monkeypatch.setattr(Objective, "measured_row_elements", lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr("bench.measurement.objective_checks.run.judge", lambda *_: pytest.fail("checked"))
    run(spec(mine, timing=True), folder, Silent())
    assert (folder / "records.jsonl").read_bytes() == before
    run(spec(mine, "rloo:n=3", "rloo:n=5", timing=True), folder, Silent(), workers=2)
    assert len(of_kind(folder, LineKind.MOMENTS)) == 4
    assert len(of_kind(folder, LineKind.TIMING)) == 4


def test_the_stored_size_decides_the_draws_also_in_workers(mine, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    run(spec(mine, replicates=1000), folder, Silent())
    monkeypatch.setattr(Objective, "measured_row_elements", lambda *_, **__: 2**14)  # as another version might
    check_once.cache_clear()
    for workers in (1, 2):
        new = run(spec(mine, f"rloo:n={2 + workers}", "score-function", replicates=1000), folder, Silent(), workers)
        assert {line["replicates"] for line in new} == {1024}
    (objective,) = spec(mine).instances()[1]
    assert objective.row_elements == 2**14  # the size that this process would have measured


def test_changed_code_is_examined_again(mine, tmp_path):
    folder = tmp_path / "study"
    (objective,) = spec(mine).instances()[1]
    with Pool(0, selectors(spec(mine))) as pool:
        (line,) = examine([objective], folder, pool)
        with store.Store(folder) as writer:
            writer.append(line)
        assert examine([objective], folder, pool) == []
        assert examine([objective], folder, pool, fresh=True) != []
        (both,) = examine([objective], folder, pool, (*QUICK, training_data))
        assert set(both["checks"]) == {*line["checks"], "training_data"}
        with store.Store(folder) as writer:
            writer.append({**line, "code": "another"})
        assert len(examine([objective], folder, pool)) == 1


def test_objectives_of_the_catalogue_have_no_such_record(tmp_path):
    assert examine([GaussianQuadratic()], tmp_path, Pool()) == []


def test_timing_takes_no_more_rows_than_the_largest_draw_of_the_study(mine, tmp_path):
    folder = tmp_path / "study"
    run(spec(mine, timing=True), folder, Silent())
    (objective,) = spec(mine).instances()[1]
    most = max(sizes_of(objective, 64, "cpu"))
    assert {line["timing_rows"] for line in of_kind(folder, LineKind.TIMING)} == {most} == {256}
