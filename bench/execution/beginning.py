"""How a worker process begins. This module imports no torch: what the parent asks for comes first."""

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from bench.planning.selectors import Named

PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when its parent ends."""
FORKS_FOR = "STOCHGRAD_FORKS_FOR"
"""Variable in the environment of the process from which workers are forked: the process id of the command."""


def begin(connection: Connection, printed: Connection, variables: dict[str, str], preload: Named) -> None:
    """Make this process a worker, which does the work that comes through its pipe until the pipe closes.

    Args:
        connection: the pipe that brings the work, and takes the results.
        printed: the pipe that takes what this process prints.
        variables: the environment variables of the parent.
        preload: the classes to load first: each by a selector such as ``mine.py::Mine``, and "estimator" or
            "objective".
    """
    os.environ.clear()
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all, and the parent handles it
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # what the work starts is ended with it
    os.dup2(printed.fileno(), 2)
    os.dup2(2, 1)  # stdout of a command is for its results
    printed.close()
    sys.stdout = sys.stderr
    die_with_parent()
    faulthandler.enable(all_threads=False)  # a crash of the interpreter names the line
    faulthandler.register(signal.SIGUSR1, all_threads=False)
    with contextlib.suppress(OSError):  # if memory runs out, Linux shall choose this process
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    from bench.execution.serving import serve

    serve(connection, preload)


def end_with_parent() -> None:
    """On Linux, let the kernel kill this process as soon as its parent ends. Elsewhere, do nothing.

    The parent is the thread that has started this process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_command() -> None:
    """Let this process, from which workers are forked, be killed when its command ends.

    If the command has ended already, the process is killed at once.
    """
    end_with_parent()
    if os.environ.get(FORKS_FOR) != str(os.getppid()):  # it ended before this process could ask for the signal
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent() -> None:
    """Let this process be killed as soon as its parent has ended.

    On Linux the kernel kills the process, even if it hangs in C code. Elsewhere a thread waits for the end of the
    parent.
    """
    if sys.platform == "linux":
        server = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]
        if server is not None:  # without this, the process that forks workers would not end before they do
            os.close(server)
        end_with_parent()
    watched = multiprocessing.parent_process()
    assert watched is not None

    def wait_for_the_end() -> None:
        watched.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
