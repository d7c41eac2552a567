"""A fault of the disk at any call: what was measured stays readable, and a repeat of the command completes it."""

import errno
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from bench.execution.progress import Silent
from bench.execution.run import run
from bench.gate import baseline
from bench.planning.spec import Spec
from bench.records import store
from bench.records.files import LOST
from bench.training.settings import Training
from bench.training.train import train
from tests.docs.pages import ROOT

CLOCKS = ("wall_seconds", "adapt_seconds", "written")
LONG = "gaussian-quadratic:dim=520"
"""An objective whose gradient of 1040 elements is too long for a line."""


class Faults:
    """Fails the call of the system with this number, counted from 0, on files below a folder; None counts alone.

    A write that fails has written half of its bytes.
    """

    def __init__(self, patch, folder: Path, fail: int | None, number: int) -> None:
        self.folder, self.fail, self.number, self.calls = str(folder), fail, number, 0
        self.kept = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace")}
        for name in self.kept:
            patch.setattr(os, name, getattr(self, name))

    def _call(self, path) -> bool:
        """Count a call on a path or a descriptor, and tell whether it fails."""
        place = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else os.fspath(path)
        if not str(place).startswith(self.folder):
            return False
        self.calls += 1
        return self.calls - 1 == self.fail

    def _error(self, *path):
        return OSError(self.number, os.strerror(self.number), *path)

    def open(self, path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY) and self._call(path):
            raise self._error(path)
        return self.kept["open"](path, flags, *more, **named)

    def write(self, descriptor, data):
        if self._call(descriptor):
            self.kept["write"](descriptor, bytes(data)[: len(data) // 2])
            raise self._error()
        return self.kept["write"](descriptor, data)

    def fsync(self, descriptor):
        if self._call(descriptor):
            raise self._error()
        self.kept["fsync"](descriptor)

    def replace(self, old, new):
        if self._call(new):
            raise self._error()
        self.kept["replace"](old, new)


def measure(folder):
    objectives = ["gaussian-quadratic:dim=1", LONG]
    table = {"estimators": ["reparameterization"], "objectives": objectives, "replicates": 64, "timing": False}
    spec = Spec.of(table)
    run(spec, folder, Silent())


def train_two(folder):
    spec = Spec.of({"estimators": ["reparameterization"], "objectives": ["gaussian-quadratic:dim=2"]})
    train(spec, Training(steps=2, seeds=2, replicates=0), folder, Silent(), keep_weights=True)


def save_baseline(folder):
    baseline.write(baseline.read(str(ROOT / "results" / "baselines" / "ci.json")), folder / "ci.json")


def settled(folder):
    """Everything in a folder but clocks: the records in the order of their runs, and the bytes of other files."""
    lines = [{k: v for k, v in line.items() if k not in CLOCKS} for line in store.read(folder)]
    for line in lines:
        line.get("curves", {}).pop("training_seconds", None)
    others = {
        str(path.relative_to(folder)): re.sub(rb'"written":"[^"]*"', b"", path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != store.LINES
    }
    return sorted(map(repr, lines)), others


def _error_of(work, folder):
    try:
        work(folder)
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("number", LOST, ids=errno.errorcode.get)
@pytest.mark.parametrize("work", [measure, train_two, save_baseline])
def test_a_fault_of_the_disk_at_any_call_loses_nothing(work, number, tmp_path, monkeypatch):
    work(tmp_path / "whole")
    wanted = settled(tmp_path / "whole")
    with monkeypatch.context() as patch:
        counted = Faults(patch, tmp_path / "counted", None, number)
        work(tmp_path / "counted")
    assert settled(tmp_path / "counted") == wanted
    assert counted.calls > 3
    step = 1 if number == errno.ENOSPC else 7
    for fail in range(0, counted.calls, step):
        folder = tmp_path / str(fail)
        with monkeypatch.context() as patch:
            Faults(patch, folder, fail, number)
            fault = _error_of(work, folder)
        reasons = [line["reason"] or "" for line in store.read(folder)]
        if fault:
            assert (fault.errno, str(fault.filename).startswith(str(folder))) == (number, True)
        else:  # weights that cannot be written cost their run alone
            assert any(os.strerror(number) in reason for reason in reasons)
        work(folder)
        assert settled(folder) == wanted
        lines = [store.parsed(line, folder, number) for number, line in store.raw_lines(folder)][:-1]
        assert None not in lines, "no line is torn"
        done = Counter((line["run"], line["kind"]) for line in lines if line["outcome"] == "measured")
        assert set(done.values()) <= {1}, "nothing is measured twice"
