"""A measurement that was interrupted goes on from its sums, and its record is that of an uninterrupted one."""

import os
import signal
from collections import Counter
from dataclasses import replace

import pytest

from bench.execution.pool import Pool
from bench.execution.progress import Silent
from bench.execution.tasks import MomentsTask
from bench.measurement import unfinished as keeping
from bench.measurement.engine import Engine
from bench.measurement.moments import measure_moments
from bench.objectives import BernoulliQuadratic, GaussianQuadratic
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records import store, unfinished
from bench.records.lines import Rerun, dumps
from estimators import REBAR, RLOO, Reparameterization
from tests.execution.specs import spec_of
from tests.running import run

CLOCKS = ("wall_seconds", "adapt_seconds", "written", "environment")
CELLS = {
    "plain": MomentsTask(Cell(RLOO(), BernoulliQuadratic(dim=3)), Settings(replicates=10_000)),
    "learned": MomentsTask(Cell(REBAR(), BernoulliQuadratic(dim=3)), Settings(replicates=5_000, adapt_steps=20)),
    "two tensors": MomentsTask(Cell(Reparameterization(), GaussianQuadratic(dim=2)), Settings(replicates=10_000)),
}


def content(record):
    return dumps({key: value for key, value in record.items() if key not in CLOCKS})


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(keeping, "SECONDS", 0.0)


def stop_at(count):
    """Return a receiver of progress that interrupts at this call, and counts the calls."""
    calls = Counter()

    def progress(done, total):
        calls["calls"] += 1
        if calls["calls"] == count:
            raise KeyboardInterrupt

    return progress, calls


@pytest.fixture
def fine(monkeypatch):
    """Spans of few blocks, so that even a short run has many."""
    monkeypatch.setattr("bench.measurement.draws.BLOCKS_PER_SPAN", 2)


@pytest.mark.usefixtures("fine")
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("cut", [None, 2.0])
def test_an_interrupted_measurement_goes_on_and_ends_with_the_same_record(name, cut, tmp_path):
    task, path = CELLS[name], unfinished.path_of(tmp_path, "run")
    measure = lambda progress, keep: measure_moments(  # noqa: E731
        Engine(task.cell, task.settings, truncate_at=cut), progress, keep=keep
    )
    progress, calls = stop_at(-1)
    whole = measure(progress, None)
    assert calls["calls"] > 5
    for count in (3, 2, 2):  # an interruption, and another one after the next partial sums
        with pytest.raises(KeyboardInterrupt):
            measure(stop_at(count)[0], path)
    progress, rest = stop_at(-1)
    assert content(measure(progress, path)) == content(whole)
    assert rest["calls"] == calls["calls"] - 4, "only what was lacking"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_slow_draws_are_kept_until_they_are_summed(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "SLOW", 0.0)
    task, path, drawn = CELLS["two tensors"], unfinished.path_of(tmp_path, "run"), []
    parts = Engine.parts

    def measure(keep, stop=-1):
        def counted(engine, draw, *stage):
            if len(drawn) == stop:
                raise KeyboardInterrupt
            drawn.append(draw)
            return parts(engine, draw, *stage)

        drawn.clear()
        monkeypatch.setattr(Engine, "parts", counted)
        return content(measure_moments(Engine(task.cell, replace(task.settings, dtype=dtype)), keep=keep))

    whole, every = measure(None), [*drawn]
    for stop in (6, 5):
        with pytest.raises(KeyboardInterrupt):
            measure(path, stop)
    assert measure(path) == whole
    assert len(drawn) < len(every) - 5
    assert set(range(1, 5)).isdisjoint(drawn), "only the first draw, on which units are based, is made again"


def test_only_so_many_gradients_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "SLOW", 0.0)
    monkeypatch.setattr(keeping, "MOST", 3 * 256)
    saved = []
    monkeypatch.setattr(unfinished, "save", lambda path, key, sums: saved.append(set(sums["drawn"])))
    task = CELLS["plain"]
    measure_moments(Engine(task.cell, replace(task.settings, replicates=2_048)), keep=tmp_path / "a" / "b")
    assert saved == [{"0"}] * len(saved)
    assert len(saved) >= 8


@pytest.mark.usefixtures("fine")
def test_sums_of_other_code_settings_or_exact_gradients_are_not_used(tmp_path, monkeypatch):
    task, path = CELLS["plain"], unfinished.path_of(tmp_path, "run")

    def calls_of(task, stop=-1, **more):
        progress, calls = stop_at(stop)
        engine = Engine(task.cell, task.settings, **more)
        try:
            return content(measure_moments(engine, progress, keep=path)), calls["calls"]
        except KeyboardInterrupt:
            return "", calls["calls"]

    whole = calls_of(task)
    others = [replace(task, settings=replace(task.settings, seed=1)), CELLS["two tensors"]]
    for other, more in [(others[0], {}), (others[1], {}), (task, {"truncate_at": 1.0})]:
        calls_of(other, 3, **more)
        assert calls_of(task) == whole
    calls_of(task, 3)
    monkeypatch.setattr("bench.measurement.lines.code_digest", lambda *_: "edited")
    assert calls_of(task)[1] == whole[1]


def test_workers_go_on_where_one_process_stopped(tmp_path):
    task = replace(CELLS["plain"], settings=Settings(replicates=100_000), folder=tmp_path)
    whole = content(replace(task, folder=None).record())

    class Stop(Silent):
        def block(self, done, total):
            if done > total / 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task.record(Stop())
    assert unfinished.path_of(tmp_path, task.run_id).exists()
    seen = []

    class Watch(Silent):
        def block(self, done, total):
            seen.append(done / total)

    with Pool(1) as pool:
        assert content(task.record(Watch(), pool)) == whole
    assert len(seen) == 2, "the first of three spans is not drawn again"


def test_a_study_that_is_killed_in_a_cell_goes_on_in_the_cell(tmp_path):
    spec = spec_of("rloo", replicates=100_000)
    run(spec, tmp_path / "whole", Silent())
    folder = tmp_path / "killed"
    child = os.fork()
    if child == 0:

        class Kill(Silent):
            def block(self, done, total):
                if done > total / 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            run(spec, folder, Kill())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (file,) = (folder / unfinished.FOLDER).iterdir()
    seen = []

    class Watch(Silent):
        def block(self, done, total):
            seen.append(done / total)

    run(spec, folder, Watch())
    assert len(seen) == 2, "the first of three spans is not drawn again"
    assert [*map(content, store.read(folder))] == [*map(content, store.read(tmp_path / "whole"))]
    assert not file.parent.exists()


@pytest.mark.usefixtures("fine")
def test_fresh_work_uses_no_sums(tmp_path):
    task = CELLS["plain"]
    path = unfinished.path_of(tmp_path, task.run_id)
    spec = spec_of("rloo", objective="bernoulli-quadratic:dim=3", replicates=10_000)
    with pytest.raises(KeyboardInterrupt):
        measure_moments(Engine(task.cell, task.settings), stop_at(4)[0], keep=path)
    seen = []

    class Watch(Silent):
        def block(self, done, total):
            seen.append(done)

    run(spec, tmp_path, Watch(), rerun={Rerun.ALL})
    assert min(seen) <= 512


def test_a_short_measurement_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "SECONDS", 30.0)
    monkeypatch.setattr(unfinished, "save", lambda *_: pytest.fail("written"))
    run(spec_of("rloo", replicates=10_000), tmp_path, Silent())
    assert not (tmp_path / unfinished.FOLDER).exists()
