"""A fault of the disk, or a kill, at any call: what was measured stays readable, and a repeat completes it."""

import os
from collections import Counter
from pathlib import Path

import pytest

from bench.execution.progress import Silent
from bench.gate import baseline_file
from bench.planning.spec import Spec
from bench.records import store
from bench.records.files import LOST
from bench.training.settings import Training
from bench.training.train import train
from tests.docs.pages import ROOT
from tests.execution.folders import parts_of, records_of, settled
from tests.running import run

KILLED = 77
"""Exit code of a process that was killed on purpose."""
LONG = "gaussian-quadratic:dim=520"
"""An objective whose gradient of 1040 elements is too long for a line."""


class Calls:
    """Counts the calls of the system that open, write, sync or replace files below a folder, from 0.

    Nothing is synced: that takes most of the time, and no power fails here. ``at`` is the number of the call that
    ``strike`` replaces; None counts alone.
    """

    def __init__(self, patch, folder: Path, at: int | None = None) -> None:
        self.folder, self.at, self.names = str(folder), at, list[str]()
        self.kept = {name: getattr(os, name) for name in ("open", "write", "replace")}
        for name in (*self.kept, "fsync"):
            patch.setattr(os, name, getattr(self, name))

    def _strikes(self, name, path) -> bool:
        """Count a call on a path or a descriptor, and tell whether it is the one."""
        place = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else os.fspath(path)
        if not str(place).startswith(self.folder):
            return False
        self.names.append(name)
        return len(self.names) - 1 == self.at

    def strike(self, *path):
        """Do what happens instead of the call, or after half of the bytes."""
        raise NotImplementedError

    def open(self, path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY) and self._strikes("open", path):
            self.strike(path)
        return self.kept["open"](path, flags, *more, **named)

    def write(self, descriptor, data):
        if self._strikes("write", descriptor):
            self.kept["write"](descriptor, bytes(data)[: len(data) // 2])
            self.strike()
        return self.kept["write"](descriptor, data)

    def fsync(self, descriptor):
        if self._strikes("fsync", descriptor):
            self.strike()

    def replace(self, old, new):
        if self._strikes("replace", new):
            self.strike()
        self.kept["replace"](old, new)


class Faults(Calls):
    """The call fails with one of the errors of a full or broken disk."""

    @property
    def number(self):
        return LOST[self.at % len(LOST)]

    def strike(self, *path):
        raise OSError(self.number, os.strerror(self.number), *path)


class Kills(Calls):
    """The process is gone at the call, as after SIGKILL: nothing is cleaned up."""

    leave = staticmethod(os._exit)  # the one that no code of ours has replaced

    def strike(self, *_path):
        self.leave(KILLED)


def measure(folder):
    objectives = ["gaussian-quadratic:dim=1", LONG]
    table = {"estimators": ["reparameterization"], "objectives": objectives, "replicates": 64, "timing": False}
    spec = Spec.of(table)
    run(spec, folder, Silent())


def train_two(folder):
    spec = Spec.of({"estimators": ["reparameterization"], "objectives": ["gaussian-quadratic:dim=2"]})
    train(spec, Training(steps=2, seeds=2, replicates=0), folder, Silent(), keep_weights=True)


def save_baseline(folder):
    baseline_file.write(baseline_file.read(str(ROOT / "results" / "baselines" / "ci.json")), folder / "ci.json")


def _error_of(work, folder):
    try:
        work(folder)
    except OSError as error:
        return error
    return None


@pytest.fixture(scope="module", params=[measure, train_two, save_baseline])
def whole(request, tmp_path_factory):
    """A work, what an uninterrupted run of it leaves, and the names of the calls that it makes."""
    work, folder = request.param, tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        counted = Calls(patch, folder)
        work(folder)
    assert {"open", "write", "fsync", "replace"} <= set(counted.names)
    return work, settled(folder), counted.names


def complete(work, folder, patch):
    """Repeat the work, and check that nothing in the folder is torn, and nothing was measured twice."""
    with patch.context() as quick:
        Calls(quick, folder)
        work(folder)
    lines = [store.parsed(line, folder, number) for number, line in store.raw_lines(folder)][:-1]
    assert None not in lines, "no line is torn"
    done = Counter((line["run"], line["kind"]) for line in lines if line["outcome"] == "measured")
    assert set(done.values()) <= {1}, "nothing is measured twice"
    return settled(folder)


def test_whatever_is_written_is_synced_at_once(whole):
    for at, name in enumerate(names := whole[2]):
        if name == "write":
            assert names[at + 1] == "fsync"
        if name == "replace":
            assert names[at + 1 : at + 3] == ["open", "fsync"], "the names in the folder"


def test_a_fault_of_the_disk_at_any_call_loses_nothing(whole, tmp_path, monkeypatch):
    work, wanted, names = whole
    for at in range(len(names)):
        folder = tmp_path / str(at)
        with monkeypatch.context() as patch:
            faults = Faults(patch, folder, at)
            fault = _error_of(work, folder)
        reasons = [line["reason"] or "" for line in store.read(folder)]
        if fault:
            assert (fault.errno, str(fault.filename).startswith(str(folder))) == (faults.number, True)
        else:  # weights that cannot be written cost their run alone
            assert any(os.strerror(faults.number) in reason for reason in reasons)
        assert complete(work, folder, monkeypatch) == wanted


def test_a_kill_inside_any_write_loses_nothing(whole, tmp_path, monkeypatch):
    work, wanted, names = whole
    for at in (at for at, name in enumerate(names) if name in ("write", "replace")):
        folder = tmp_path / str(at)
        child = os.fork()
        if not child:
            try:
                Kills(monkeypatch, folder, at)
                work(folder)
            finally:
                Kills.leave(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
        assert set(records_of(folder)) <= set(wanted[0])
        complete(work, folder, monkeypatch)
        assert not parts_of(folder), "what the killed one has left is gone"
        assert settled(folder) == wanted
