"""A worker process: the code in it may crash, hang, exit or print, and this program goes on.

This module imports no torch, so that a command can prepare its workers before it loads anything slow.
"""

import codecs
import contextlib
import multiprocessing
import os
import pickle
import re
import signal
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.execution.beginning import FORKS_FOR, begin
from bench.execution.progress import Event, NoWorker, Progress, Silent
from bench.planning.selectors import Named
from bench.records.lines import Lost
from bench.records.text import printable

PATIENCE = 1800.0
"""Default of ``--cell-timeout``: seconds without progress after which a worker is killed."""
GLANCE = 1.0
"""Seconds after which a waiting parent looks whether its workers still live and are in time."""
GRACE = 5.0
"""Seconds for a process to end, or to say where it is, before it is killed."""
LAST = 2**14
"""Most characters of a worker's stderr that are kept, to quote its last lines."""
QUOTED = 3
"""Most lines that a reason quotes."""
FORKED = sys.platform == "linux"
"""Whether workers are forked from a process that has imported torch once for all of them."""
PLACE = re.compile(r'^ *File "(.+)", line (\d+) in ', re.MULTILINE)
DUMP = re.compile(
    r"^(?:Fatal Python error: .*|(?:Stack|(?:Current t|T)hread 0x\w+) \(most recent call first\):)$", re.MULTILINE
)
"""The lines of a traceback that Python prints when it crashes or when it is asked where it is, and its first line."""


UNKNOWN = 255
"""Python's exit code of a worker whose end the process that forks workers has not reported."""
ALL_LOST = "ended with all others, because the process that starts them was killed"
"""How a worker died that Linux has ended with the process from which it was forked."""


class Crashed(Lost):
    """A worker process died at its work, or made no progress for too long. ``how`` says how, without a full stop."""

    def __init__(self, how: str, words: str) -> None:
        self.how = f"{how}{f': {words}' if words else ''}"
        alone = "" if how == ALL_LOST else " No other cell is affected."
        super().__init__(f"The worker process {how}.{alone}{f' It said: {words}' if words else ''}")


def prepare() -> None:
    """Prepare for worker processes in the background, and return at once.

    On Linux, a process begins to import torch. Workers are later forked from this process.
    """
    if FORKED:
        mortal = ["bench.execution.mortal"] if threading.current_thread() is threading.main_thread() else []
        multiprocessing.set_forkserver_preload([*mortal, "bench.execution.serving", "bench.execution.run"])
        # It shall find the modules that this process finds, and none that lie in the working folder by chance.
        found = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1", FORKS_FOR: str(os.getpid())}
        with _uninterrupted(), _variables(found), _without_main():
            forkserver.ensure_running()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep processes that start inside the block from importing the file of the program: a script would run again."""
    program, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _server() -> int | None:
    """Return the id of the process that forks workers; None if there is none."""
    return forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined,no-any-return]


def _has_ended(server: int) -> bool:
    """Return whether the process that forks workers has ended, or does so in a moment: Linux ends its children first.

    ``server`` is its id. Another such process may have taken its place already.
    """
    end = time.monotonic() + GLANCE
    while server == _server():
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


class Worker:
    """A worker process, and the pipes to it.

    All output of the process goes to stderr of this program, also the output of C code.

    Args:
        preload: the classes that the process loads first, by selector and kind, such as ``mine.py::Mine`` and
            "estimator".
        patience: seconds without progress after which the process is killed.
        fresh: whether to start a new process. If not, on Linux, the process is forked from one that has imported torch.
        environment: more environment variables of the process. A fresh process has them before it imports torch.

    Raises:
        NoWorker: the process cannot be started.
    """

    def __init__(
        self,
        preload: Named = (),
        patience: float = PATIENCE,
        *,
        fresh: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.patience, self.progress = patience, Silent()
        self._answers = deque[Any]()
        self.is_lost = False
        """Whether ``answer`` has found that the process is dead or late; it has then been ended."""
        self._asked, self._heard, self._dead, self._ready, self._said = 0, time.monotonic(), False, False, ""
        self._server: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        context: Any = multiprocessing.get_context("forkserver" if FORKED and not fresh else "spawn")
        self.connection, theirs = context.Pipe()
        self._errors: Connection | None
        self._errors, printed = context.Pipe(duplex=False)
        variables = {**os.environ, **(environment or {})}
        arguments = (theirs, printed, variables, list(preload))
        self.process = context.Process(target=begin, args=arguments, daemon=True)
        try:
            if not fresh:
                prepare()
            with _uninterrupted(), _variables(variables), _without_main():
                self.process.start()
            self._server = None if fresh else _server()
        except (OSError, EOFError) as error:
            why = printable(getattr(error, "strerror", None) or type(error).__name__)
            raise NoWorker(f"No worker process can be started: {why}. Use fewer, as by --workers 1.") from None
        finally:
            theirs.close()
            printed.close()

    def ask(self, task: object, progress: Progress | None = None) -> None:
        """Send a task to the process, and return at once. A later call of ``answer`` returns the result.

        ``progress`` receives the events of the work. If the process has died, only ``answer`` raises an error.

        Raises:
            Lost: the task cannot be sent to another process.
        """
        if not self._asked:
            self._heard, self._said = time.monotonic(), ""
        self.progress = progress or Silent()
        try:
            message = pickle.dumps(task)
        except Exception as error:
            raise Lost(f"The cell cannot be sent to a worker process: {type(error).__name__}: {error}.") from error
        self._asked += 1
        self.send(message)

    def send(self, message: bytes) -> None:
        """Send pickled bytes to the process. If the process has died, nothing is raised."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(message)

    def again(self, message: bytes) -> None:
        """Send pickled bytes that the process has asked for during its work. Then wait for its answer again."""
        self._asked, self._heard = self._asked + 1, time.monotonic()
        self.send(message)

    def answer(self) -> Any:
        """Wait for the answer of the process, and return it. Tasks are answered in the order in which they were sent.

        Raises:
            Crashed: the process has died, or made no progress for too long.
            Lost: the work raised an exception.
            NoWorker: the process has died before it began to work.
            UsageError, Refusal: the work raised it.
        """
        answering([self])
        if not self._answers:
            raise self._lost()
        self._asked -= 1
        found = self._answers.popleft()
        if isinstance(found, Exception):
            raise found
        return found

    @property
    def is_due(self) -> bool:
        """Whether ``answer`` would return or raise at once."""
        return bool(self._answers) or self._dead or self._left < 0

    @property
    def handles(self) -> list[Any]:
        """Handles to wait for. When one is ready, the process has sent or printed something, or has ended."""
        return [self.connection, self.process.sentinel, *([self._errors] if self._errors else [])]

    @property
    def _left(self) -> float:
        return self._heard + self.patience - time.monotonic()

    def listen(self) -> None:
        """Read what the process has sent and printed so far, without waiting."""
        while self._errors and self._errors.poll():
            self._read_errors(self._errors)
        try:
            while self.connection.poll():
                self._take(pickle.loads(self.connection.recv_bytes()))
        except (EOFError, OSError):
            self._dead = True
        if not self._dead and self.process.exitcode is not None:
            self._dead = True
            self.listen()

    def _take(self, message: object) -> None:
        self._heard, self._ready = time.monotonic(), True
        match message:
            case Event(name="" | "ready"):
                pass
            case Event():
                getattr(self.progress, message.name)(*message.arguments)
            case _:
                self._answers.append(message)

    def _read_errors(self, errors: Connection) -> None:
        """Pass on what the process has printed, and keep the end of it."""
        data = os.read(errors.fileno(), 2**16)
        if not data:
            errors.close()
            self._errors = None
        text = self._decoder.decode(data, final=not data)
        said = self._said + text
        self._said = said[-LAST:]
        if dump := DUMP.search(said):  # the reason names its place, and the rest helps nobody
            text = text[: max(0, dump.start() - (len(said) - len(text)))]
        with contextlib.suppress(OSError, ValueError):  # the stream may be closed, or its disk full
            sys.stderr.write(text)
            sys.stderr.flush()

    def _lost(self) -> Crashed | NoWorker:
        """Return why there is no answer, after the end of the process."""
        if not self._dead:
            how = f"made no progress for {self.patience:g} s, the limit of --cell-timeout, and was ended"
            with contextlib.suppress(OSError):
                os.kill(int(self.process.pid or 0), signal.SIGUSR1)  # it prints where it is
            end = time.monotonic() + GRACE
            while not PLACE.search(self._said) and time.monotonic() < end:
                wait(self.handles, GLANCE)
                self.listen()
        else:
            self.process.join(GRACE)
            code = self.process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            how = "closed its pipe" if code is None else how
            how = ALL_LOST if code == UNKNOWN and self._server and _has_ended(self._server) else how
            how += ", as happens when memory runs out" if code == -signal.SIGKILL else ""
        self.listen()
        self.kill()
        self.is_lost = True
        words = last_words(self._said)
        if not self._ready:
            return NoWorker(f"A worker process {how} before it began{f': {words}' if words else ''}.")
        return Crashed(how, words)

    def kill(self) -> None:
        """Kill the process and all processes that it has started, without waiting for their end."""
        if self.process.exitcode is None and self.process.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()

    def stop(self) -> None:
        """End the process."""
        self.kill()
        self.connection.close()
        if self._errors:
            self._errors.close()
            self._errors = None
        self.process.join()


def answering(busy: Collection[Worker]) -> list[Worker]:
    """Wait until at least one of the ``busy`` workers has answered, died or hung; return all such workers."""
    while True:
        for worker in busy:
            worker.listen()
        if due := [worker for worker in busy if worker.is_due]:
            return due
        wait([handle for worker in busy for handle in worker.handles], GLANCE)


def last_words(said: str) -> str:
    """Return the end of what a worker printed to stderr as one line: its last lines, and the place in the code.

    The place is known if Python printed a traceback when the process crashed or hung. It is the innermost line of the
    user's own code. If the traceback has no such line, it is the innermost line of all.
    """
    found = DUMP.search(said)
    before, dump = (said, "") if found is None else (said[: found.start()], said[found.start() :])
    lines = [printable(line) for line in before.splitlines()]
    words = [line for line in lines if line][-QUOTED:]
    if dump.startswith("Fatal"):
        words.append(printable(dump.partition("\n")[0]))
    places = PLACE.findall(dump)
    own = [place for place in places if not _is_library(place[0])]
    if places:
        file, line = (own or places)[0]
        words.append(f"({printable(Path(file).name)}, line {line})")
    return " ".join(words)


def _is_library(file: str) -> bool:
    """Return whether a file belongs to Python, to an installed package or to this program."""
    ours = Path(__file__).parents[2]
    places = (sysconfig.get_path("stdlib"), ours / "bench", ours / "estimators")
    return "site-packages" in file or file.startswith("<") or any(Path(file).is_relative_to(place) for place in places)


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
