"""Runs: pilots and references come first, and workers change no figure."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from bench import measure
from bench.execution.pool import Pool
from bench.execution.progress import Silent
from bench.execution.run import LEAST_SECONDS
from bench.measurement import reference
from bench.measurement.lines import failed, head
from bench.measurement.timing import CELL_SECONDS, measure_timing
from bench.objectives import GaussianCosine
from bench.planning.spec import Spec
from bench.records import store
from bench.records.lines import LineKind
from bench.report.frame import frame
from estimators import RLOO, Estimator, ScoreFunction
from tests.execution.specs import spec_of, with_pilots, with_reference
from tests.measurement.objectives import VAE
from tests.recorder import Recorder
from tests.running import run


def test_workers_change_no_figure(tmp_path):
    given = with_pilots("reparameterization", "score-function")
    alone, shared = run(given, tmp_path / "a", Silent()), run(given, tmp_path / "b", Silent(), workers=2)
    by = {r["estimator"]: (r["replicates"], r["summary"]) for r in alone}
    assert by == {r["estimator"]: (r["replicates"], r["summary"]) for r in shared}


@dataclass(frozen=True)
class Broken(Estimator):
    broken: bool = True

    def __call__(self, f, q, generator=None, state=None):
        return (math.nan if self.broken else 1.0) * ScoreFunction()(f, q, generator)


def test_a_pilot_that_fails_is_the_cells_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(Spec, "instances", lambda _self: ([Broken()], [GaussianCosine()]))
    (line,) = run(with_pilots("reparameterization"), tmp_path, Recorder())
    assert (line["kind"], line["outcome"]) == (LineKind.PILOT, "failed")
    assert "1024 of 1024 gradients were not finite" in line["reason"]
    table = frame(store.read(tmp_path))
    assert list(table["outcome"]) == ["failed"]
    monkeypatch.setattr(Spec, "instances", lambda _self: ([Broken(broken=False)], [GaussianCosine()]))
    assert run(with_pilots("reparameterization"), tmp_path, Recorder())[0]["outcome"] == "measured"


def test_python_one_process_and_workers_agree_to_the_bit(tmp_path):
    def clean(records):
        return {r["estimator"]: (r["summary"], r["reference_error"], r["fingerprint"]) for r in records}

    alone = clean(run(with_reference("rloo", "disarm"), tmp_path / "a", Silent()))
    spread = clean(run(with_reference("rloo", "disarm"), tmp_path / "b", Silent(), workers=2))
    assert alone == spread
    m = measure(RLOO(), VAE, replicates=600)
    assert m.record["reference_error"] == alone["rloo"][1]
    assert m.summary.p_bias == alone["rloo"][0]["p_bias"]


def test_a_reference_that_fails_is_a_record_and_costs_only_the_verdict(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\n"
        "from bench.objectives import BernoulliQuadratic\n"
        "from estimators import RLOO\n"
        "@dataclass(frozen=True)\n"
        "class Broken(RLOO):\n"
        "    def __call__(self, f, q, generator=None, state=None):\n"
        "        raise ArithmeticError('out of order')\n"
        "@dataclass(frozen=True)\n"
        "class Wrong(BernoulliQuadratic):\n"
        "    has_exact = False\n"
        "    reference_estimator = Broken()\n",
        encoding="utf-8",
    )
    recorder = Recorder()
    (cell,) = run(with_reference("rloo", objective=f"{mine}::Wrong"), tmp_path / "study", recorder)
    assert [(r["kind"], r["outcome"]) for r in recorder.records] == [("reference", "failed"), ("moments", "measured")]
    assert "out of order" in recorder.records[0]["reason"]
    assert cell["summary"]["verdict"] == "NO_REFERENCE"
    assert reference.read(recorder.records[0]) is None


def test_a_run_with_workers_and_users_own_code(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\n"
        "from estimators import Estimator, RLOO\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Estimator):\n"
        "    n: int = 2\n"
        "    def __call__(self, f, q, generator=None, state=None):\n"
        "        return RLOO(n=self.n)(f, q, generator)\n"
    )
    spec = spec_of(f"{mine}::Mine:n=2,3", "rloo", replicates=300)
    records = run(spec, tmp_path / "study", Silent(), workers=2)
    assert [r["outcome"] for r in records] == ["measured"] * 3
    by = {r["estimator"]: r["summary"]["variance"] for r in records}
    assert by["mine"] == by["rloo"]


def test_a_cell_that_fails_is_not_timed_and_nothing_runs_beside_the_timing(tmp_path, monkeypatch):
    pools = []

    class Watched(Pool):
        running = False

        def grow(self, count):
            pools.append(self)
            self.running = count > 0
            super().grow(count)

        def stop(self):
            super().stop()
            self.running = False

    def timed(cell, settings, seconds):
        assert not any(pool.running for pool in pools)
        return measure_timing(cell, settings, seconds)

    monkeypatch.setattr("bench.execution.study.Pool", Watched)
    monkeypatch.setattr("bench.execution.tasks.measure_timing", timed)
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from dataclasses import dataclass\n"
        "from estimators import Estimator, ScoreFunction\n"
        "@dataclass(frozen=True)\n"
        "class Broken(Estimator):\n"
        "    def __call__(self, f, q, generator=None, state=None):\n"
        "        return float('nan') * ScoreFunction()(f, q, generator)\n"
    )
    spec = spec_of(f"{broken}::Broken", "rloo", timing=True, replicates=64)
    records = run(spec, tmp_path / "study", Silent(), workers=2)
    assert pools
    assert sorted((r["estimator"], r["kind"], r["outcome"]) for r in records) == [
        ("broken", "moments", "failed"),
        ("rloo", "moments", "measured"),
        ("rloo", "timing", "measured"),
    ]


def test_a_reference_is_as_long_as_the_longest_run_that_it_serves(tmp_path):
    given = with_reference("rloo", "score-function", replicates=None, precision=0.05, max_replicates=20_000)
    run(given, tmp_path, Silent())
    lines = store.read(tmp_path)
    (stood_in,) = (line["replicates"] for line in lines if line["kind"] == LineKind.REFERENCE)
    measured = {line["replicates"] for line in lines if line["kind"] == LineKind.MOMENTS}
    assert len(measured) == 2
    assert stood_in == max(measured)


@pytest.mark.parametrize(
    ("whole", "used", "expected"),
    [
        (100.0, 1.0, [CELL_SECONDS] * 3),
        (0.3, 1.0, [0.1, 0.1, 0.1]),
        (0.3, 0.5, [0.1, 0.125, 0.1875]),
        (0.3, 2.0, [0.1, 0.05, LEAST_SECONDS]),
    ],
)
def test_cells_share_the_time_for_timing(tmp_path, monkeypatch, whole, used, expected):
    clock, given = SimpleNamespace(now=0.0), []

    def timed(cell, settings, seconds):
        given.append(seconds)
        clock.now += used * seconds
        return failed(head(cell, settings, LineKind.TIMING), "The clock is an invention.")

    monkeypatch.setattr("bench.execution.tasks.measure_timing", timed)
    monkeypatch.setattr("bench.execution.run.STUDY_SECONDS", whole)
    monkeypatch.setattr("bench.execution.run.time", SimpleNamespace(monotonic=lambda: clock.now))
    run(spec_of("rloo:n=2,3,4", timing=True, replicates=64), tmp_path, Silent())
    assert given == pytest.approx(expected)
