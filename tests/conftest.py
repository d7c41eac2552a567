import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

torch.set_num_threads(1)


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch, tmp_path_factory):
    for key in os.environ:
        if key.startswith(("BENCH_", "_BENCH_", "GITHUB_")) or key in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
            monkeypatch.delenv(key)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call the command line in this process, in an empty folder, and make neither figures nor the page of a report."""
    from bench.cli import main
    from bench.report import Report, figures

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "images", lambda *_given: iter(()))
    monkeypatch.setattr(Report, "_page", lambda *_given: "")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        capsys.readouterr()
        return Result(main(), *capsys.readouterr())

    return run


@pytest.fixture
def start(tmp_path):
    """Run the command line as a process of its own, in an empty folder."""

    def run(*words, python=(), **environment):
        done = subprocess.run(
            [sys.executable, *python, "-m", "bench", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
