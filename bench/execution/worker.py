"""A worker process: the code in it may crash, hang, exit or print, and this program goes on.

This module imports no torch, so that a command can prepare its workers before it loads anything slow.
"""

import codecs
import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.execution.beginning import begin
from bench.execution.forking import FORKED, GLANCE, fork_server, has_ended, prepare, starting
from bench.execution.last_words import DUMP, PLACE, last_words
from bench.execution.progress import Event, NoWorker, Progress, Silent
from bench.planning.selectors import Named
from bench.records.lines import Lost
from bench.records.text import printable

PATIENCE = 1800.0
"""Default of ``--cell-timeout``: seconds without progress after which a worker is killed."""
GRACE = 5.0
"""Seconds for a process to end, or to say where it is, before it is killed."""
LAST = 2**14
"""Most characters of a worker's stderr that are kept, to quote its last lines."""
UNKNOWN = 255
"""Python's exit code of a worker whose end the process that forks workers has not reported."""
ALL_LOST = "ended with all others, because the process that starts them was killed"
"""How a worker died that Linux has ended with the process from which it was forked."""


class Crashed(Lost):
    """A worker process died at its work, or made no progress for too long.

    Args:
        how: what happened to the process, without a full stop, such as ``ended with exit code 3``.
        words: what the process printed last; the message quotes it.
    """

    def __init__(self, how: str, words: str) -> None:
        self.how = f"{how}{f': {words}' if words else ''}"
        alone = "" if how == ALL_LOST else " No other cell is affected."
        super().__init__(f"The worker process {how}.{alone}{f' It said: {words}' if words else ''}")


class Worker:
    """A worker process, and the pipes to it.

    All output of the process goes to stderr of this program, also the output of C code.

    Args:
        preload: the classes that the process loads first, by selector and kind, such as ``mine.py::Mine`` and
            "estimator".
        patience: seconds without progress after which the process is killed.
        fresh: whether to start a new process on Linux, too. If not, the process is forked there from one that has
            imported torch. On other systems, every process is new.
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
            with starting(variables):
                self.process.start()
            self._server = None if fresh else fork_server()
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
        """Send pickled bytes that the process has asked for during its work.

        A later call of ``answer`` returns the result of the work, or what the process asks for next.
        """
        self._asked, self._heard = self._asked + 1, time.monotonic()
        self.send(message)

    def answer(self) -> Any:
        """Wait for the answer of the process, and return it. Tasks are answered in the order in which they were sent.

        Raises:
            Crashed: the process has died during its work, or made no progress for too long.
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
        """Read what the process has sent and printed so far, without waiting.

        ``answer`` returns the answers later. Reports of progress go to the receiver that ``ask`` got. What the process
        has printed is printed to stderr.
        """
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
            how = ALL_LOST if code == UNKNOWN and self._server and has_ended(self._server) else how
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
