"""A target of precision: how many replicates a pilot asks for, and what a study does with it."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from bench import measure, objectives
from bench.execution.progress import Silent
from bench.execution.run import run
from bench.measurement.engine import Engine
from bench.measurement.pilot import run_pilot
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.planning.spec import Spec
from bench.records import store
from bench.records.lines import LineKind
from bench.report.frame import frame
from bench.stats import PrecisionTarget
from estimators import Enumeration, Estimator, Reparameterization, ScoreFunction

COSINE, SMALL = objectives.GaussianCosine(), Settings()
CELL = Cell(Reparameterization(), COSINE)


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.labels, self.looks, self.lines = [], [], []

    def cell(self, label):
        self.labels.append(label)

    def look(self, label, reached, wanted, replicates):
        self.looks.append((label, reached, wanted, replicates))

    def finish(self, record):
        self.lines.append(record)


def pilot(cell, target, told=None):
    told = told or Told()
    return run_pilot(cell, SMALL, target, lambda *_: None, told.look)


def spec(estimators=("reparameterization",), **given):
    table = {"timing": False, "estimators": list(estimators), "objectives": ["gaussian-cosine"], "precision": 0.1}
    return Spec.of({**table, **given})


def test_a_pilot_looks_after_doublings_and_stops_when_it_is_precise():
    told = Told()
    line = pilot(CELL, PrecisionTarget(0.05), told)
    replicates = [n for *_, n in told.looks]
    assert all(b >= 2 * a * 0.9 for a, b in itertools.pairwise(replicates))
    assert [half for _, half, _, _ in told.looks][-1] <= 0.05
    assert all(half > 0.05 for _, half, _, _ in told.looks[:-1])
    assert line["pilot_replicates"] == replicates[-1]
    assert line["looks"] == [[n, half] for _, half, _, n in told.looks]
    assert line["outcome"] == "measured"


def test_a_sharper_target_needs_replicates_as_its_square():
    coarse, fine = (pilot(CELL, PrecisionTarget(h))["planned_replicates"] for h in (0.04, 0.02))
    assert fine / coarse == pytest.approx(4, rel=0.2)


def test_a_pilot_stops_at_the_most_replicates_and_says_so():
    told = Told()
    line = pilot(CELL, PrecisionTarget(0.001, max_replicates=3_000), told)
    assert line["planned_replicates"] == 3_000
    assert [n for *_, n in told.looks] == [1024, 2048, 3072]


def test_a_method_without_noise_needs_no_pilot():
    line = pilot(Cell(Enumeration(), objectives.BernoulliQuadratic()), PrecisionTarget(0.01))
    assert (line["planned_replicates"], line["looks"]) == (64, [])


@pytest.mark.parametrize("wrong", [0, -0.1, 1, 5])
def test_a_precision_is_a_fraction(wrong):
    with pytest.raises(ValueError, match=r"precision is a fraction, such as 0\.05"):
        PrecisionTarget(wrong)


def test_what_is_published_is_a_fresh_run_of_fixed_length():
    asked = measure(Reparameterization(), COSINE, precision=0.05)
    plain = measure(Reparameterization(), COSINE, replicates=asked.replicates)
    assert asked.record["run"] == plain.record["run"]
    assert asked.summary == plain.summary
    low, high = asked.variance_interval
    assert asked.record["precision_reached"] is ((high - low) / 2 / asked.variance <= 0.05)
    assert asked.record["pilot_replicates"] > 0


@dataclass(frozen=True)
class HeavyTailed(Estimator):
    """Without a variance: the tail index of the squared gradient is 1.8."""

    def __call__(self, f, q, generator=None, state=None):
        loss = Reparameterization()(f, q, generator)
        return loss * (1 - torch.rand(loss.shape, generator=generator)) ** -0.9


def test_heavy_tails_are_never_precise():
    measured = measure(HeavyTailed(), COSINE, precision=0.5, max_replicates=4_000, seed=1)
    assert measured.status == "INFINITE_VARIANCE_SUSPECTED"
    assert measured.record["precision_reached"] is False
    assert measured.replicates == 4_096


def test_a_study_is_resumed_without_pilots_and_without_measuring(tmp_path):
    first, again = Told(), Told()
    records = run(spec(), tmp_path, first)
    assert [line["kind"] for line in first.lines] == [LineKind.PILOT, "moments"]
    assert run(spec(), tmp_path, again) == records
    assert again.labels == []
    lines = store.read(tmp_path)
    assert records[0]["replicates"] >= lines[0]["planned_replicates"]
    assert (records[0]["precision"], records[0]["precision_reached"]) == (0.1, True)


def test_an_interrupted_study_keeps_its_pilots(tmp_path):
    class Interrupt(Told):
        def finish(self, record):
            super().finish(record)
            if record["kind"] == "moments":
                raise KeyboardInterrupt

    two = spec(["reparameterization", "score-function"])
    with pytest.raises(KeyboardInterrupt):
        run(two, tmp_path, Interrupt())
    rest = Told()
    assert len(run(two, tmp_path, rest)) == 2
    assert [line["kind"] for line in rest.lines] == ["moments"]


def test_two_targets_live_in_one_folder(tmp_path):
    coarse, fine = run(spec(), tmp_path, Silent()), run(spec(precision=0.04), tmp_path, Silent())
    assert fine[0]["replicates"] > coarse[0]["replicates"]
    assert run(spec(), tmp_path, Silent()) == coarse


def test_a_run_that_is_on_record_already_is_not_measured_again(tmp_path):
    elsewhere = run(spec(), tmp_path / "a", Silent())
    plain = spec(precision=None, replicates=elsewhere[0]["replicates"])
    before = run(plain, tmp_path / "b", Silent())
    assert "precision" not in before[0]
    told = Told()
    after = run(spec(), tmp_path / "b", told)
    assert [line["kind"] for line in told.lines] == [LineKind.PILOT]
    assert after[0]["precision_reached"] is True
    assert after[0]["wall_seconds"] == before[0]["wall_seconds"]


def test_workers_change_no_figure(tmp_path):
    given = spec(["reparameterization", "score-function"])
    alone, shared = run(given, tmp_path / "a", Silent()), run(given, tmp_path / "b", Silent(), workers=2)
    by = {r["estimator"]: (r["replicates"], r["summary"]) for r in alone}
    assert by == {r["estimator"]: (r["replicates"], r["summary"]) for r in shared}


@dataclass(frozen=True)
class Broken(Estimator):
    broken: bool = True

    def __call__(self, f, q, generator=None, state=None):
        return (math.nan if self.broken else 1.0) * ScoreFunction()(f, q, generator)


def test_a_pilot_that_fails_is_the_cells_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(Spec, "instances", lambda _self: ([Broken()], [COSINE]))
    told = Told()
    (line,) = run(spec(), tmp_path, told)
    assert (line["kind"], line["outcome"]) == (LineKind.PILOT, "failed")
    assert "1024 of 1024 gradients were not finite" in line["reason"]
    table = frame(store.read(tmp_path))
    assert list(table["outcome"]) == ["failed"]
    monkeypatch.setattr(Spec, "instances", lambda _self: ([Broken(broken=False)], [COSINE]))
    assert run(spec(), tmp_path, told)[0]["outcome"] == "measured"


def test_a_pilot_has_noise_of_its_own(monkeypatch):
    stages, own = set(), Engine.generator

    def generator(self, stage, draw):
        stages.add(stage)
        return own(self, stage, draw)

    monkeypatch.setattr(Engine, "generator", generator)
    run_pilot(CELL, SMALL, PrecisionTarget(0.1, 4000))
    assert stages == {LineKind.PILOT}
