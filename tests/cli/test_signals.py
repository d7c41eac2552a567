"""Signals: a command ends with the right code and words, and its workers end with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.execution.beginning import FORKS_FOR
from bench.execution.forking import FORKED
from tests.cli.baselines import write_own

WORKER = """
import time
from bench.execution.worker import Worker

class Loop:
    def __reduce__(self):  # runs when the worker reads it, and holds the lock of the interpreter
        return eval, ("sum(__import__('itertools').repeat(0))",)

if __name__ == "__main__":
    worker = Worker()
    worker.ask(Loop())
    print(worker.process.pid, flush=True)
    time.sleep(600)
"""


INTERRUPTED = """
import os, signal, sys
from bench import interrupts

interrupts.listen()
try:
    exec(f"os.kill({os.getpid()}, signal.SIGTERM)")  # as during the import of a module with a dataclass
except KeyboardInterrupt:
    sys.exit(interrupts.end())
"""
PREPARE = """
from multiprocessing import forkserver
import time
from bench.execution import forking

forking.prepare()
print(forkserver._forkserver._forkserver_pid, flush=True)
time.sleep(600)
"""


def started(*words, folder, before=None):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=folder, preexec_fn=before, **pipes)


def in_background():
    """Ignore Ctrl-C, as a command does that a script has started with ``&``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a thread ends the worker, unless C code keeps it waiting"
)
def test_a_worker_that_hangs_in_c_ends_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(WORKER)
    with started("parent.py", folder=tmp_path) as parent:
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
    wait_for(lambda: not lives(pid))


@pytest.mark.skipif(not FORKED, reason="elsewhere no process forks workers")
def test_the_process_that_forks_workers_ends_with_a_parent_that_is_killed_whatever_it_does(tmp_path):
    (tmp_path / "parent.py").write_text(PREPARE)
    with started("parent.py", folder=tmp_path) as parent:
        pid = int(parent.stdout.readline())
        wait_for(lambda: "libtorch" in Path(f"/proc/{pid}/maps").read_text())
        os.kill(pid, signal.SIGSTOP)  # it notices nothing itself now
        parent.kill()
    wait_for(lambda: not lives(pid))


@pytest.mark.skipif(not FORKED, reason="elsewhere no process forks workers")
@pytest.mark.parametrize(("parent", "code"), [(os.getpid(), 0), (1, -signal.SIGKILL)], ids=["alive", "ended"])
def test_the_process_that_forks_workers_ends_if_its_parent_has_ended_already(parent, code):
    words = [sys.executable, "-c", "import bench.execution.mortal"]
    done = subprocess.run(words, env={**os.environ, FORKS_FOR: str(parent)}, check=False)
    assert done.returncode == code


def test_the_exit_code_is_that_of_the_signal_if_it_comes_while_python_executes_a_text(tmp_path):
    (tmp_path / "ends.py").write_text(INTERRUPTED)
    with started("-m", "ends", folder=tmp_path) as command:
        assert (command.wait(60), command.stderr.read()) == (143, "")


@pytest.mark.parametrize("before", [None, in_background])
def test_a_scheduler_ends_a_command_as_ctrl_c_does(tmp_path, before):
    write_own(tmp_path, "import os, pathlib, time; pathlib.Path('begun').write_text(str(os.getpid())); time.sleep(600)")
    words = ("run", "-e", "rloo", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--no-timing", "--out", "here")
    with started("-m", "bench", *words, folder=tmp_path, before=before) as command:
        wait_for(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text())
        pid = int((tmp_path / "begun").read_text())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            command.send_signal(number)
            time.sleep(0.02)
        _, said = command.communicate(timeout=60)
    assert command.returncode == 143
    assert said.splitlines()[-1] == f"Interrupted; what was measured is safe. Go on with: bench {' '.join(words)}"
    assert "Traceback" not in said
    assert not lives(pid)
    assert len((tmp_path / "here" / "records.jsonl").read_text().splitlines()) == 1
