"""A study folder: what is on record is not measured again."""

import contextlib
import json
import sys
from typing import ClassVar

import pytest
import torch

from bench.execution.progress import Silent
from bench.execution.study import StudyWriter
from bench.execution.tasks import MomentsTask
from bench.objectives import GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records import plan, store
from bench.records.lines import LineKind, Rerun
from bench.records.standing import planned, standing
from estimators import RLOO, ScoreFunction
from tests.execution.specs import spec_of, with_pilots, with_reference
from tests.measurement.objectives import SELECTOR
from tests.recorder import Recorder
from tests.running import run


def test_a_study_is_resumed_without_pilots_and_without_measuring(tmp_path):
    first, again = Recorder(), Recorder()
    records = run(with_pilots("reparameterization"), tmp_path, first)
    assert [line["kind"] for line in first.records] == [LineKind.PILOT, "moments"]
    assert run(with_pilots("reparameterization"), tmp_path, again) == records
    assert again.labels == []
    lines = store.read(tmp_path)
    assert records[0]["replicates"] >= lines[0]["planned_replicates"]
    assert (records[0]["precision"], records[0]["precision_reached"]) == (0.1, True)


def test_an_interrupted_study_keeps_its_pilots(tmp_path):
    class Interrupt(Recorder):
        def finish(self, record):
            super().finish(record)
            if record["kind"] == "moments":
                raise KeyboardInterrupt

    two = with_pilots("reparameterization", "score-function")
    with pytest.raises(KeyboardInterrupt):
        run(two, tmp_path, Interrupt())
    rest = Recorder()
    assert len(run(two, tmp_path, rest)) == 2
    assert [line["kind"] for line in rest.records] == ["moments"]


def test_two_targets_live_in_one_folder(tmp_path):
    coarse = run(with_pilots("reparameterization"), tmp_path, Silent())
    fine = run(with_pilots("reparameterization", precision=0.04), tmp_path, Silent())
    assert fine[0]["replicates"] > coarse[0]["replicates"]
    assert run(with_pilots("reparameterization"), tmp_path, Silent()) == coarse


def test_two_targets_with_one_measurement_are_settled_by_it(tmp_path):
    specs = [with_pilots("reparameterization", precision=h, max_replicates=2_048) for h in (0.01, 0.02)]
    recorder = Recorder()
    records = run(specs, tmp_path, recorder)
    assert [(r["kind"], r.get("precision")) for r in records] == [("moments", 0.01)]
    before = (tmp_path / store.LINES).read_bytes()
    run(specs[::-1], tmp_path, Silent())
    assert (tmp_path / store.LINES).read_bytes() == before
    found = standing(planned(plan.read(tmp_path)), store.read(tmp_path))
    assert str(found) == "2 of 2 cells are here"


def test_a_run_that_is_on_record_already_is_not_measured_again(tmp_path):
    elsewhere = run(with_pilots("reparameterization"), tmp_path / "a", Silent())
    plain = with_pilots("reparameterization", precision=None, replicates=elsewhere[0]["replicates"])
    before = run(plain, tmp_path / "b", Silent())
    assert "precision" not in before[0]
    recorder = Recorder()
    after = run(with_pilots("reparameterization"), tmp_path / "b", recorder)
    assert [line["kind"] for line in recorder.records] == [LineKind.PILOT]
    assert after[0]["precision_reached"] is True
    assert after[0]["wall_seconds"] == before[0]["wall_seconds"]


def kinds(folder):
    return [json.loads(text)["kind"] for text in (folder / store.LINES).read_text().splitlines()]


def test_a_study_measures_a_reference_once_and_finds_it_again(tmp_path):
    recorder = Recorder()
    first = run(with_reference("rloo", "straight-through"), tmp_path, recorder)
    assert kinds(tmp_path) == ["reference", "moments", "moments"]
    assert recorder.totals[-1] == (3, 0)
    assert recorder.labels[0] == f"reference of {SELECTOR}"
    assert len(recorder.records) == 3
    assert {r["kind"] for r in first} == {"moments"}
    (stored,) = (r for r in store.read(tmp_path) if r["kind"] == "reference")
    assert {r["reference_error"] for r in first} == {stored["standard_error"]}

    recorder = Recorder()
    again = run(with_reference("rloo", "straight-through", "score-function"), tmp_path, recorder)
    assert kinds(tmp_path) == ["reference", "moments", "moments", "moments"]
    assert recorder.totals[-1] == (3, 2)
    assert {r["reference_error"] for r in again} == {stored["standard_error"]}
    run(with_reference("rloo", replicates=1_000), tmp_path, Silent())
    assert kinds(tmp_path)[4:] == ["reference", "moments"]


def test_a_complete_study_measures_nothing(tmp_path):
    run(with_reference("rloo"), tmp_path, Silent())
    recorder = Recorder()
    run(with_reference("rloo"), tmp_path, recorder)
    assert recorder.totals[-1] == (1, 1)
    assert recorder.labels == []


def test_edited_code_is_measured_again(tmp_path):
    mine = tmp_path / "mine.py"
    text = (
        "from dataclasses import dataclass\n"
        "from estimators import Estimator, ScoreFunction\n"
        "@dataclass(frozen=True)\n"
        "class Edited(Estimator):\n"
        "    def __call__(self, f, q, generator=None, state=None):\n"
        "        return {}ScoreFunction()(f, q, generator)\n"
    )
    spec = spec_of(f"{mine}::Edited", replicates=300)
    variances = []
    for factor in ("", "", "2 * "):
        mine.write_text(text.format(factor))
        for name in [n for n in sys.modules if n.startswith("_bench_user_")]:
            del sys.modules[name]
        (record,) = run(spec, tmp_path / "study", Silent())
        variances.append(record["summary"]["variance"])
    assert variances[0] == variances[1]
    assert variances[2] == pytest.approx(4 * variances[0])
    assert len((tmp_path / "study" / store.LINES).read_text().splitlines()) == 2


def lines_in(folder):
    """Return kind and outcome of every line of a study folder, superseded lines included."""
    lines = map(json.loads, (folder / store.LINES).read_text().splitlines())
    return [(line["kind"], line["outcome"]) for line in lines]


def test_a_pair_that_does_not_fit_is_written_once(tmp_path):
    spec = spec_of("enumeration", "rloo", replicates=64)
    assert run(spec, tmp_path, Silent()) == run(spec, tmp_path, Silent())
    assert lines_in(tmp_path) == [("moments", "skipped"), ("moments", "measured")]


@pytest.mark.parametrize("interrupted", [False, True])
def test_progress_ends_once_whether_the_run_ends_or_is_interrupted(tmp_path, interrupted):
    class Stopped(Recorder):
        def finish(self, record):
            super().finish(record)
            if interrupted:
                raise KeyboardInterrupt

    recorder = Stopped()
    with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
        run(spec_of("rloo", replicates=64), tmp_path, recorder)
    assert recorder.ends == 1


def test_tasks_of_one_record_are_executed_once_and_keep_their_order(tmp_path):
    settings = Settings(replicates=64)
    one, two = (MomentsTask(Cell(e, GaussianQuadratic()), settings) for e in (RLOO(), ScoreFunction()))
    with StudyWriter(spec_of("rloo"), tmp_path, Silent(), 1) as study:
        assert study.lacking([one, two, MomentsTask(one.cell, settings)]) == [one, two]
        study.execute(study.lacking([one, one, two, one]))
        assert study.lacking([one, two]) == []
    assert lines_in(tmp_path) == [("moments", "measured")] * 2


class PoolOfNone:
    """A pool without processes: notes the sizes asked for, and does all work in this process."""

    sizes: ClassVar[list[int]] = []
    stops: ClassVar[list[bool]] = []

    preload = ()
    size = 0

    def __init__(self, *given):
        self.sizes.clear(), self.stops.clear()

    def __enter__(self):
        return self

    def __exit__(self, *given):
        pass

    def guards(self, cell):
        return False

    def grow(self, count):
        self.sizes.append(count)

    def records(self, tasks):
        yield from (task.record() for task in tasks)

    def stop(self):
        self.stops.append(True)


def test_a_later_stage_with_more_tasks_has_more_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.execution.study.Pool", PoolOfNone)
    settings = Settings(replicates=64)
    tasks = [MomentsTask(Cell(RLOO(), GaussianQuadratic(dim=dim)), settings) for dim in range(1, 7)]
    with StudyWriter(spec_of("rloo"), tmp_path, Silent(), 3) as study:
        study.execute(tasks[:2])
        study.execute(tasks[2:])
    assert (PoolOfNone.sizes, PoolOfNone.stops) == ([2, 3], [True])


def test_every_process_of_a_study_has_one_thread(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with StudyWriter(spec_of("rloo"), tmp_path, Silent(), 1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_one_process_drives_each_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.execution.study.Pool", PoolOfNone)
    on_gpu = [MomentsTask(Cell(RLOO(n=n), GaussianQuadratic()), Settings(device="cuda")) for n in (2, 3)]
    with StudyWriter(spec_of("rloo"), tmp_path, Silent(), 2) as study:
        study.execute(on_gpu)
    assert PoolOfNone.sizes == []
    monkeypatch.setattr("bench.execution.study.gpus", lambda: ["0", "3"])
    for workers, sizes in ((None, [2]), (8, [2]), (1, [])):
        with StudyWriter(spec_of("rloo"), tmp_path, Silent(), workers) as study:
            study.execute(on_gpu)
        assert PoolOfNone.sizes == sizes


def test_workers_end_when_the_run_is_interrupted(tmp_path, monkeypatch):
    class Interrupted(PoolOfNone):
        def records(self, tasks):
            raise KeyboardInterrupt

    monkeypatch.setattr("bench.execution.study.Pool", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(spec_of("rloo", "score-function", replicates=64), tmp_path, Silent(), 2)
    assert Interrupted.stops == [True]


def test_a_fresh_run_measures_everything_again_and_reports_what_others_reuse(tmp_path):
    spec = spec_of("enumeration", "rloo", replicates=64, timing=True)
    seen = []

    class Watch(Silent):
        def stand(self, standing, records):
            seen.append((standing, [(record["kind"], record["written"]) for record in records]))

    first = run(spec, tmp_path, Watch())
    assert seen == []
    again = run(spec, tmp_path, Watch())
    assert again == first
    assert seen == [
        ("1 of 1 cell is here", [(r["kind"], r["written"]) for r in first if r["outcome"] == "measured"]),
        ("1 of 1 cell is here", []),
    ]
    before = lines_in(tmp_path)
    fresh = run(spec, tmp_path, Watch(), rerun={Rerun.ALL})
    assert len(seen) == 2, "nothing is reused"
    assert lines_in(tmp_path) == before * 2
    assert [r.get("summary") for r in fresh] == [r.get("summary") for r in first]
