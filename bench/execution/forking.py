"""The process from which workers are forked, and what every process of this program inherits when it starts."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver
from types import ModuleType

from bench.execution.beginning import FORKS_FOR

GLANCE = 1.0
"""Seconds after which a waiting parent looks again whether its processes still live and are in time."""
FORKED = sys.platform == "linux"
"""Whether workers are forked from a process that has imported torch once for all of them."""


def prepare() -> None:
    """Begin to prepare for worker processes, and return at once. The preparation goes on in the background.

    On Linux, a new process starts and imports torch; workers are later forked from the new process. On other systems,
    there is nothing to prepare.
    """
    if FORKED:
        mortal = ["bench.execution.mortal"] if threading.current_thread() is threading.main_thread() else []
        multiprocessing.set_forkserver_preload([*mortal, "bench.execution.serving", "bench.execution.run"])
        # It shall find the modules that this process finds, and none that lie in the working folder by chance.
        found = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1", FORKS_FOR: str(os.getpid())}
        with starting(found):
            forkserver.ensure_running()


@contextlib.contextmanager
def starting(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside the block, let new processes start with the environment variables ``variables``.

    The new processes ignore interrupts, and do not import the script of this program.
    """
    with _uninterrupted(), _variables(variables), _without_main():
        yield


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep processes that start inside the block from importing the file of the program: a script would run again."""
    program, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def fork_server() -> int | None:
    """Return the id of the process that forks workers; None if there is none."""
    return forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined,no-any-return]


def has_ended(server: int) -> bool:
    """Return whether the process that forks workers, with the id ``server``, has ended or is about to end.

    The call waits up to a second for the end. The result is also True if another process that forks workers has taken
    the place of this one.
    """
    end = time.monotonic() + GLANCE
    while server == fork_server():
        try:
            if os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Have child processes ignore interrupts: a terminal sends them to the whole group, and the parent handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signals, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set the environment variables inside the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
