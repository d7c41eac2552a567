"""A Dask cluster: the records of one process, whatever becomes of its workers; a pool that is not alike is refused."""

import os
import signal

import pytest
from distributed import Client

from bench.execution import tasks
from bench.execution.cluster import coordinator, worker
from bench.execution.cluster.address import Dask, Gone
from bench.execution.cluster.alike import facts_here
from bench.execution.cluster.start import start
from bench.execution.progress import Progress
from bench.planning.selectors import UsageError, parse
from bench.planning.spec import Spec
from bench.records import store
from bench.training.settings import Training
from bench.training.train import train
from tests.execution.specs import without_clocks
from tests.running import run

MINE = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from estimators import RLOO

@dataclass(frozen=True)
class Mine(RLOO):
    dies: int = 0

    def __call__(self, f, q, generator=None, state=None):
        mark = Path(__file__).with_name(f"died{self.dies}")
        if self.dies and q.batch_shape[0] != 64 and not mark.exists():
            if self.dies == signal.SIGTERM:
                mark.touch()
            os.kill(os.getpid(), self.dies)
        return super().__call__(f, q, generator, state)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "mine.py").write_text(MINE)
    return folder


@pytest.fixture(scope="module")
def spec(home):
    """One spec for all tests: a worker starts a new process for each."""
    estimators = ["rloo:n=2,4", "score-function", f"{home / 'mine.py'}::Mine:n=3"]
    return Spec.of(
        {"timing": False, "replicates": 3000, "estimators": estimators, "objectives": ["gaussian-quadratic:dim=2,3"]}
    )


@pytest.fixture(scope="module")
def local():
    with coordinator.local_cluster(2) as address:
        yield address


@pytest.fixture(scope="module")
def alone(spec, tmp_path_factory):
    return without_clocks(run(spec, tmp_path_factory.mktemp("alone"), Progress()))


@pytest.fixture
def dask(local, monkeypatch):
    """The measuring processes stay for the next test."""
    monkeypatch.setattr(coordinator.Cluster, "stop", lambda cluster: cluster._stack.close())
    return Dask(local)


@pytest.fixture
def client(local):
    with Client(local, set_as_default=False) as client:
        yield client


def test_the_records_are_those_of_one_process_also_of_an_own_class_and_a_spread_cell(
    spec, dask, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks, "LARGE", 30_000)
    spread = []
    monkeypatch.setattr(coordinator.Cluster, "spread", record_calls(coordinator.Cluster.spread, spread))
    assert without_clocks(run(spec, tmp_path, Progress(), dask)) == alone
    assert [engine.cell.label for engine in spread] == ["rloo:n=4 on gaussian-quadratic:dim=3"]


def record_calls(method, calls):
    def recorded(self, engine, *given):
        calls.append(engine)
        return method(self, engine, *given)

    return recorded


def test_training_runs_are_those_of_one_process(spec, dask, tmp_path):
    how = Training(steps=4, seeds=1, replicates=64, measure_every=4)
    here = train(spec, how, tmp_path / "here", Progress())
    assert without_clocks(train(spec, how, tmp_path / "dask", Progress(), dask)) == without_clocks(here)
    assert {record["outcome"] for record in here} == {"measured"}


class Killer(Progress):
    """Kills a worker of the cluster when the first record is there."""

    def __init__(self, client):
        self.client = client

    def finish(self, record):
        if self.client is not None:
            pids = self.client.run(os.getpid)
            os.kill(min(pids.values()), signal.SIGKILL)
            self.client = None


def test_the_cells_of_a_killed_worker_are_tried_again(spec, dask, client, alone, tmp_path):
    assert without_clocks(run(spec, tmp_path, Killer(client), dask)) == alone
    client.wait_for_workers(2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_measuring_process_that_dies_costs_its_cell_at_most(number, spec, home, dask, alone, tmp_path):
    """One that was killed from outside is tried again; one that has crashed would crash again."""
    estimators = parse(f"{home / 'mine.py'}::Mine:n=3,dies={number:d}"), parse("rloo:n=2")
    cells = spec.model_copy(update={"estimators": estimators})
    records = run(cells, tmp_path, Progress(), dask)
    outcomes = {(record["estimator_name"], record["outcome"]) for record in records}
    assert outcomes == {("rloo", "measured"), ("mine", "failed" if number == signal.SIGSEGV else "measured")}
    reasons = {record["reason"] for record in records if record["outcome"] == "failed"}
    assert all("was killed by signal 11" in reason for reason in reasons)


def test_workers_that_differ_are_refused_before_the_first_cell(spec, dask, tmp_path, monkeypatch):
    monkeypatch.setattr(coordinator, "facts_here", lambda: {**facts_here(), "torch": "1.0"})
    monkeypatch.setattr(coordinator, "digest_of_file", lambda path: "0")
    with pytest.raises(UsageError, match=r"On tcp://127.*, torch is .*, not 1\.0 and .*mine\.py has another content\."):
        run(spec, tmp_path, Progress(), dask)


def test_a_worker_that_differs_later_is_not_used(spec, dask, client, alone, tmp_path, monkeypatch):
    """As one that joins in the middle: it is checked at its first task."""

    def spoil():
        worker.file_differences = lambda *_given: ["torch is 1.0"]
        worker.end()

    def mend():
        from bench.execution.cluster import alike

        worker.file_differences = alike.file_differences

    check = coordinator.Cluster.check
    one = min(client.nthreads())

    def spoiled(cluster):
        check(cluster)
        client.run(spoil, workers=[one])

    monkeypatch.setattr(coordinator.Cluster, "check", spoiled)
    assert without_clocks(run(spec, tmp_path, Progress(), dask)) == alone
    with pytest.raises(UsageError, match=r"torch is 1\.0"):
        start(Dask(dask.scheduler), spec)
    client.run(mend, workers=[one])


def test_a_cluster_that_cannot_be_used_is_a_sentence(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(coordinator, "FIRST", 0.5)
    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:1 cannot be reached"):
        start(Dask("tcp://127.0.0.1:1"), spec)
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        start(Dask(file=tmp_path / "none.json"), spec)
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(UsageError, match=r"empty\.json is not a file that `dask scheduler"):
        start(Dask(file=tmp_path / "empty.json"), spec)
    with pytest.raises(UsageError, match="measures on CPUs"):
        start(Dask(), spec.model_copy(update={"device": "cuda"}))
    with (
        coordinator.local_cluster(0) as empty,
        pytest.raises(UsageError, match=r"has no workers\. Start some with `dask worker tcp://127"),
    ):
        start(Dask(empty), spec)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--scheduler tcp://1:2 --scheduler-file f", "both name a Dask cluster: choose one"),
        ("--scheduler tcp://1:2 --executor local", "--executor local wants none: choose one"),
        ("--scheduler-file f --workers 2", "Leave --workers out"),
        ("--scheduler tcp://10.0.0.1:99999", "is no address with a port from 1 to 65535"),
        ("--scheduler cluster", "write it as tcp://10.0.0.1:8786"),
    ],
)
def test_options_that_contradict_each_other_are_refused(words, said, call):
    for command in ("run", "train"):
        done = call(command, "-e", "rloo", "-o", "qubo", *words.split())
        assert (done.code, said in " ".join(done.err.split())) == (2, True)


class Cutter(Progress):
    """Cuts the connections of all clients to the scheduler when the first record is there."""

    def __init__(self, client):
        self.client = client

    def finish(self, record):
        def cut(dask_scheduler):
            for each in dask_scheduler.client_comms.values():
                each.comm.abort()

        self.client.run_on_scheduler(cut)


def test_a_scheduler_that_goes_away_ends_the_run_and_the_records_stay(spec, dask, client, tmp_path):
    with pytest.raises(Gone, match=r"The connection to tcp://127\..* was lost"):
        run(spec, tmp_path, Cutter(client), dask)
    assert {line["outcome"] for line in store.read(tmp_path)} == {"measured"}
