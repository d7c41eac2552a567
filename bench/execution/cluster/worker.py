"""What runs inside a worker of a Dask cluster: it passes work on to a process of its own, which measures.

The worker itself imports no torch and stays able to answer its scheduler. A crash of the measurement costs one cell.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

from distributed import Worker as DaskWorker
from distributed import get_worker

from bench.execution.cluster.alike import Setup, data_folder, differing, facts_here, file_differences, set_data_folder
from bench.execution.worker import Worker
from bench.records.lines import Lost

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of a measuring process that was killed from outside: memory ran out, or its machine is shut down."""


class Unlike(Exception):
    """A worker differs from the process of the command. The arguments are its address and the differences."""


class Killed(Exception):
    """The process in which a worker measures was killed from outside. The argument is the reason."""


class _Sealed:
    """Pickled work. Only the measuring process unpacks it, as it alone has loaded the user's classes."""

    def __init__(self, work: bytes) -> None:
        self.work = work

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.work,)


class _Host:
    """The measuring process of a Dask worker, for one setup of a coordinator."""

    def __init__(self, setup: Setup, packed: bytes) -> None:
        self.setup, self.packed, self.cell = setup, packed, ""
        multiprocessing.current_process().daemon = False  # a nanny's worker may have no child otherwise
        self.process = self._started()

    def _started(self) -> Worker:
        """Start a process that finds files as the coordinator does."""
        before, data = Path.cwd(), data_folder()
        try:
            with contextlib.suppress(OSError):  # the check of the user's files says what is missing
                os.chdir(self.setup.folder)
            set_data_folder(self.setup.data)
            return Worker(self.setup.preload, self.setup.patience)
        finally:
            os.chdir(before)
            set_data_folder(data)

    def answer(self, question: object) -> Any:
        """Return the answer of the measuring process, or an exception to raise in the coordinator.

        Raises:
            Killed: the process was killed from outside.
        """
        try:
            self.process.ask(question)
            return self.process.answer()
        except Exception as error:
            if not self.process.is_lost:
                return error
            code = self.process.process.exitcode
            self.process.stop()
            self.process, self.cell = self._started(), ""
            if code in FROM_OUTSIDE:
                raise Killed(str(error)) from None
            return Lost(str(error))


_host: _Host | None = None
_lock = threading.Lock()


def check(setup: bytes, dask_worker: DaskWorker) -> list[str]:
    """Return how this worker differs from the coordinator, each difference as a part of a sentence.

    The coordinator is the process of the command. ``setup`` is the pickled ``Setup`` of the coordinator. Dask itself
    passes ``dask_worker``.
    """
    try:
        _hosted(setup, dask_worker)
    except Unlike as unlike:
        return list(unlike.args[1])
    return []


def record(setup: bytes, work: bytes) -> bytes:
    """Do some work, such as a measurement, and return its pickled record.

    The worker has a process of its own for measurements, which does the work. If the work raises an exception, the
    exception is pickled in place of the record. ``setup`` is the pickled ``Setup`` of the coordinator (the process of
    the command). ``work`` is pickled, too.

    Raises:
        Unlike: this worker differs from the coordinator.
        Killed: the process for measurements was killed from outside.
    """
    return pickle.dumps(_hosted(setup, get_worker()).answer(_Sealed(work)))


def partials(setup: bytes, key: str, packed: bytes, indices: range) -> bytes:
    """Compute draws (batches of replicates) of a large cell, and return their pickled sums.

    The worker has a process of its own for measurements, which does the work. If the work raises an exception, the
    exception is pickled in place of the sums.

    Args:
        setup: the pickled ``Setup`` of the coordinator, the process of the command.
        key: a text that is different for every cell.
        packed: the pickled ``Draws`` of the cell, with empty ``indices``.
        indices: the numbers of the draws.

    Raises:
        Unlike: this worker differs from the coordinator.
        Killed: the process for measurements was killed from outside.
    """
    host = _hosted(setup, get_worker())
    if host.cell != key:
        host.answer(_Sealed(packed))
        host.cell = key
    return pickle.dumps(host.answer(indices))


def dask_setup(_worker: DaskWorker) -> None:
    """Make a worker of a local cluster ignore interrupts, which the command handles. Dask calls this function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end() -> None:
    """End the process in which this worker measures, even in the middle of its work."""
    global _host
    host, _host = _host, None
    if host is not None:
        host.process.kill()


def _hosted(packed: bytes, worker: DaskWorker) -> _Host:
    """Return the measuring process for a setup; start it, and check that this worker is alike, if there is none yet."""
    global _host
    with _lock:
        if _host is None or _host.packed != packed:
            setup = pickle.loads(packed)
            here = {**facts_here(), "threads": str(worker.state.nthreads)}  # torch's switches hold for all threads
            found = [*differing(here, setup.facts), *file_differences(setup.files)]
            if found:
                raise Unlike(worker.address, found)
            end()
            host = _Host(setup, packed)
            answer = host.answer(_Sealed(setup.comparison))
            if answer:
                host.process.stop()
                raise Unlike(worker.address, answer if isinstance(answer, list) else [str(answer)])
            _host = host
        return _host
