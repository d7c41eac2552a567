"""Pilots: the replicates that a target of precision needs."""

import itertools
from dataclasses import dataclass

import pytest
import torch

from bench import measure, objectives
from bench.measurement.engine import Engine
from bench.measurement.pilot import run_pilot
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import LineKind
from bench.stats import PrecisionTarget
from estimators import Enumeration, Estimator, Reparameterization
from tests.recorder import Recorder

COSINE, SMALL = objectives.GaussianCosine(), Settings()
CELL = Cell(Reparameterization(), COSINE)


def pilot(cell, target, look=lambda *_: None):
    return run_pilot(cell, SMALL, target, lambda *_: None, look)


def test_a_pilot_looks_after_doublings_and_stops_when_it_is_precise():
    recorder = Recorder()
    line = pilot(CELL, PrecisionTarget(0.05), recorder.look)
    replicates = [n for *_, n in recorder.looks]
    assert all(b >= 2 * a * 0.9 for a, b in itertools.pairwise(replicates))
    assert [half for _, half, _, _ in recorder.looks][-1] <= 0.05
    assert all(half > 0.05 for _, half, _, _ in recorder.looks[:-1])
    assert line["pilot_replicates"] == replicates[-1]
    assert line["looks"] == [[n, half] for _, half, _, n in recorder.looks]
    assert line["outcome"] == "measured"


def test_a_sharper_target_needs_replicates_as_its_square():
    coarse, fine = (pilot(CELL, PrecisionTarget(h))["planned_replicates"] for h in (0.04, 0.02))
    assert fine / coarse == pytest.approx(4, rel=0.2)


def test_a_pilot_stops_at_the_most_replicates_and_says_so():
    recorder = Recorder()
    line = pilot(CELL, PrecisionTarget(0.001, max_replicates=3_000), recorder.look)
    assert line["planned_replicates"] == 3_000
    assert [n for *_, n in recorder.looks] == [1024, 2048, 3072]


def test_a_method_without_noise_needs_no_pilot():
    line = pilot(Cell(Enumeration(), objectives.BernoulliQuadratic()), PrecisionTarget(0.01))
    assert (line["planned_replicates"], line["looks"]) == (64, [])


def test_no_more_replicates_are_planned_than_the_most(monkeypatch):
    monkeypatch.setattr("bench.measurement.pilot.planned_replicates", lambda *_: 10**9)
    assert pilot(CELL, PrecisionTarget(0.1, max_replicates=20_000))["planned_replicates"] == 20_000


def test_a_method_without_noise_reaches_every_precision():
    record = measure(Enumeration(), objectives.BernoulliQuadratic(), precision=0.01).record
    assert (record["precision_reached"], record["deterministic"]) == (True, True)


def test_a_measurement_is_a_fresh_run_of_the_planned_length():
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


def test_a_pilot_has_noise_of_its_own(monkeypatch):
    stages, own = set(), Engine.generator

    def generator(self, stage, draw):
        stages.add(stage)
        return own(self, stage, draw)

    monkeypatch.setattr(Engine, "generator", generator)
    run_pilot(CELL, SMALL, PrecisionTarget(0.1, 4000))
    assert stages == {LineKind.PILOT}
