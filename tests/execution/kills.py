"""Kills of `bench run` and `bench train` at random instants; each time, the command is repeated.

``python -m tests.execution.kills [KILLS] [SEED]`` kills that many times in each of three ways: `bench run` in one
process, `bench run` with two workers, and `bench train`. It prints what was found, and fails if anything was lost or
has changed.
"""

import importlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.cli import main as bench
from bench.records import store
from bench.records.verify import verify
from bench.report import figures
from tests.execution.folders import parts_of, records_of

Work = Callable[[Path], object]
LINGER = 30.0
"""Seconds within which the workers of a killed process have to be gone."""


class Killed(NamedTuple):
    """What the kills have shown: how many there were, in how many studies, and how many records each study had then."""

    kills: int
    studies: int
    held: list[int]
    lingered: float


def kills(work: Work, count: int, seed: int, folder: Path) -> Killed:
    """Kill a work ``count`` times at random instants, repeat it each time, and compare it with an uninterrupted run.

    A study that is complete before the next kill is compared and followed by a new one.
    """
    chance, done, studies, held, lingered = random.Random(seed), 0, 0, list[int](), 0.0
    begin = time.time()
    assert wait(start(work, folder / "whole")) == 0
    duration = (folder / "whole" / store.LINES).stat().st_mtime - begin  # until the last record, without the report
    wanted = records_of(folder / "whole")
    while done < count:
        study, before = folder / str(studies), list[str]()
        studies += 1
        while done < count:
            child = start(work, study)
            time.sleep(chance.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
            if wait(child) == 0:
                break
            done += 1
            lingered = max(lingered, until_gone(child))
            now = records_of(study)
            assert set(before) <= set(now) <= set(wanted), "a record that was there is there, and every record is right"
            assert all("is cut short" in fault.what for fault in verify(study).damage)
            before = now
            held.append(len(now))
        assert wait(start(work, study)) == 0
        assert records_of(study) == wanted
        assert not verify(study).damage
        lines = [line for _, line in store.raw_lines(study) if line]
        assert len(lines) == len(wanted), "nothing was measured twice"
        assert not parts_of(study), "a start sweeps what was left"
    return Killed(done, studies, held, lingered)


def start(work: Work, folder: Path) -> int:
    """Do the work in a process of its own, with a process group of its own; return the id of both."""
    child = os.fork()
    if child:
        return child
    leave = os._exit  # the one that no code of ours has replaced
    try:
        os.setpgid(0, 0)
        work(folder)
        leave(0)
    finally:
        leave(1)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def until_gone(group: int) -> float:
    """Wait until no process of a group is left, and return for how many seconds some were."""
    begin = time.monotonic()
    while time.monotonic() < begin + LINGER:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return time.monotonic() - begin
        time.sleep(0.01)
    raise AssertionError(f"workers are still there after {LINGER:g} s")


def command(*words: str) -> Work:
    """Return the work of a command: as a person types it, but for the start of Python and the figures."""

    def work(folder: Path) -> None:
        figures.images = figures.training_images = lambda *_: iter(())

        sys.argv = ["bench", *words, "--quiet", "--out", str(folder)]
        with open(os.devnull, "w") as nothing:  # noqa: PTH123
            sys.stdout = sys.stderr = nothing
            if bench():
                raise RuntimeError

    return work


OBJECTIVES = ("-o", "gaussian-quadratic:dim=200", "-o", "qubo:dim=8")
RUN = ("run", "-e", "rloo:n=2,3,4,5,6,8", "-e", "score-function", "-e", "reparameterization", *OBJECTIVES)
WORKS = {
    "run, one process": command(*RUN, "--replicates", "1024", "--no-timing", "--workers", "1"),
    "run, two workers": command(*RUN, "--replicates", "1024", "--no-timing", "--workers", "2"),
    "train": command(
        *("train", "-e", "rloo:n=2,4", "-e", "score-function", "-o", "qubo:dim=8", "--steps", "100", "--seeds", "4"),
        *("--keep-weights", "--workers", "1"),
    ),
}


def main() -> None:
    for name in (
        "bench.execution.run",
        "bench.training.train",
        "bench.report.study",
        "torch",
        "pandas",
        "rich.console",
    ):
        importlib.import_module(name)  # once, not in every child: a kill is to hit the work
    count, seed = int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for name, work in WORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            found = kills(work, count, seed, Path(folder))
            spent = time.monotonic() - begin
        print(
            f"{name}: {found.kills} kills in {found.studies} studies, with {found.held} records on disk; nothing lost, "
            f"changed or measured twice; workers gone after {found.lingered:.1f} s; {spent:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
