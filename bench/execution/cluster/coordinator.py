"""The coordinator of a Dask cluster: it sends work to the workers and gives their records to the study.

Tasks are small pickles. The draws (batches of replicates) of a large cell are sent as ranges, and the state of its
estimator goes to each worker once. The number of tasks under way is bounded, and so is the memory.
"""

import contextlib
import json
import logging
import pickle
import queue
import tempfile
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError

from bench.execution.cluster import worker
from bench.execution.cluster.address import Dask, Gone
from bench.execution.cluster.alike import (
    Comparison,
    Setup,
    arithmetic_here,
    code_of,
    data_folder,
    digest_of_file,
    facts_here,
    sentence,
)
from bench.execution.cluster.worker import Killed, Unlike
from bench.execution.pool import AHEAD, Work, chunks_of
from bench.execution.rehearsal import selectors
from bench.execution.serving import Drawable, Draws, Job
from bench.execution.worker import PATIENCE
from bench.measurement.moments import Partials
from bench.measurement.source import Vector
from bench.planning.selectors import UsageError, label
from bench.planning.spec import Spec
from bench.records.environment import cores
from bench.records.lines import Lost, Record
from bench.records.text import described

TRIES_AGAIN = 2
"""How often work is tried again whose measuring process was killed from outside."""
FIRST, AGAIN = 10.0, 60.0
"""Seconds to wait for workers: at the start, and if all of them have left."""
LATE = "1h"
"""Time for a killed worker of a local cluster to start again, on a busy machine too."""
EACH = 1.0
"""Seconds without an answer after which the coordinator looks whether the cluster is still there."""


def connect(address: Dask, spec: Spec, cell_timeout: float | None = None) -> "Cluster":
    """Connect to a Dask cluster, or start a local one. All workers must have the software and files of this process.

    Args:
        address: which cluster to use: one that runs already, or a new local one.
        spec: what the study measures; each worker loads the estimators and objectives that the spec names.
        cell_timeout: seconds without progress after which the work on a cell is ended, and the cell's record reports a
            failure; None for half an hour.

    Raises:
        UsageError: the cluster cannot be reached or has no workers, or a worker differs from this process.
    """
    silence()
    with ExitStack() as stack:
        scheduler = (
            _scheduler(address)
            if address.file or address.scheduler
            else stack.enter_context(local_cluster(address.workers or cores()))
        )
        client = stack.enter_context(_client(scheduler, address))
        try:
            client.wait_for_workers(1, FIRST)
        except TimeoutError:
            start = f"`dask worker {scheduler} --nthreads 1`"
            raise UsageError(f"{address} has no workers. Start some with {start}, and repeat the command.") from None
        cluster = Cluster(client, address, setup_of(spec, cell_timeout), stack.pop_all())
    try:
        cluster.check()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def silence() -> None:
    """Keep Dask's log off the terminal: the commands report in their own words."""
    known = [name for name in logging.root.manager.loggerDict if name.startswith(("distributed", "tornado", "asyncio"))]
    for name in ("distributed", "tornado", "asyncio", *known):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Run a cluster of ``workers`` processes on this machine inside the block, and yield its address.

    The cluster listens on the loopback address only.
    """
    silence()
    settings = {"distributed.deploy.lost-worker-timeout": LATE}
    with (
        tempfile.TemporaryDirectory(prefix="bench-dask-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder, **settings}),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            local_directory=folder,
            silence_logs=logging.CRITICAL,
            preload=[worker.__name__],
        ) as cluster,
    ):
        yield str(cluster.scheduler_address)


def _scheduler(address: Dask) -> str:
    """Return the address of a scheduler that runs already."""
    if address.file is None:
        return str(address.scheduler)
    try:
        return str(json.loads(address.file.read_text(encoding="utf-8"))["address"])
    except OSError as error:
        raise UsageError(f"{address.file} cannot be read: {error.strerror}. Start the scheduler first.") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{address.file} is not a file that `dask scheduler --scheduler-file` has written.") from None


def _client(scheduler: str, address: Dask) -> Any:
    """Return the connection to a scheduler, whose methods have no types."""
    try:
        with warnings.catch_warnings(action="ignore"):  # versions are compared, and refused, by our own check
            return Client(scheduler, timeout=FIRST, set_as_default=False, name="stochgrad-bench")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"{address} cannot be reached: {why}. Is the scheduler running, and the address right?"
        ) from None


def setup_of(spec: Spec, cell_timeout: float | None = None) -> Setup:
    """Return what the workers have to know of this process before they measure a study.

    ``cell_timeout`` is the number of seconds without progress after which the work on a cell is ended, and the cell's
    record reports a failure; None for half an hour.
    """
    named = selectors(spec)
    each = [x for group in spec.instances() for x in group if not _is_ours(x) or getattr(x, "contents", {})]
    own = [(label(x), x, code_of(x)) for x in each]
    return Setup(
        facts=facts_here(),
        files={selector.file[0]: digest_of_file(selector.file[0]) for selector, _ in named if selector.file},
        folder=str(Path.cwd()),
        data=data_folder(),
        preload=named,
        patience=PATIENCE if cell_timeout is None else cell_timeout,
        comparison=pickle.dumps(Job(Comparison(arithmetic_here(), pickle.dumps(own)))),
    )


def _is_ours(instance: object) -> bool:
    return type(instance).__module__.partition(".")[0] in ("bench", "estimators")


class Cluster:
    """The workers of a Dask cluster, in place of a ``Pool``.

    Args:
        client: the connection to the scheduler.
        address: names the cluster in messages.
        setup: what the workers need to know of this process.
        stack: closes the connection at the end, and shuts down the cluster if this process has started it.
    """

    def __init__(self, client: Any, address: Dask, setup: Setup, stack: ExitStack) -> None:
        self._client, self._address, self._stack = client, address, stack
        self._setup = pickle.dumps(setup)
        self._unlike = set[str]()

    @property
    def size(self) -> int:
        """The number of workers at present."""
        return max(1, len(self._workers()))

    def _workers(self) -> list[str]:
        with self._connected():
            return [address for address in self._client.nthreads() if address not in self._unlike]

    def check(self) -> None:
        """Compare all workers with this process.

        Raises:
            UsageError: some workers differ from this process.
        """
        with self._connected():
            found = self._client.run(worker.check, self._setup, on_error="return")
        here = {key: x for key, x in found.items() if x and not isinstance(x, OSError)}  # else it has just left
        told = {key: [str(x)] if isinstance(x, BaseException) else x for key, x in here.items()}
        if told:
            raise UsageError(sentence(told))

    def records(self, tasks: Sequence[Work]) -> Iterator[Record]:
        """Yield the record of every task as the task ends. If the work cannot be done, the record says why.

        Raises:
            Gone: the cluster cannot go on.
        """
        waiting, under_way, done = deque(tasks), dict[Future[Any], Work](), queue.SimpleQueue[Future[Any]]()
        try:
            while waiting or under_way:
                for _ in range(min(len(waiting), AHEAD * self.size - len(under_way))):
                    task = waiting.popleft()
                    under_way[self._submit(done, worker.record, pickle.dumps(Job(task)))] = task
                for future in self._done(done):
                    task = under_way.pop(future)
                    try:
                        yield self._answer(future)
                    except Unlike:
                        waiting.append(task)
                    except Lost as lost:
                        yield task.failed(str(lost))
        finally:
            self._cancel(under_way)

    def spread(self, engine: Drawable, centre: Vector, exact: Vector | None) -> Partials:
        """Compute the partial sums of one cell with all workers, and yield them in the order of the cell's blocks.

        A block is a group of gradients that are summed together; a partial sum (``stats.Partial``) covers successive
        blocks.

        Args:
            engine: computes the gradients of the cell, an estimator on an objective.
            centre: a point near the mean gradient, subtracted from every gradient before it is summed.
            exact: the exact gradient, or None if it is unknown.

        Raises:
            Lost: a worker died again and again, or the computation raised in a worker.
            Refusal: the estimator refused the objective.
            Gone: the cluster cannot go on.
        """
        key, workers = uuid.uuid4().hex, self.size
        draws = Draws(engine.cell, engine.settings, engine.state_bytes(), centre, exact, range(0))
        chunks, done = deque(chunks_of(engine.spans, engine.sizes, workers)), queue.SimpleQueue[Future[Any]]()
        under_way, ready = dict[Future[Any], range](), dict[int, tuple[int, Any]]()
        following = engine.spans[0].start
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}), self._connected():
            packed = self._client.submit(bytes, pickle.dumps(draws), pure=False)
        try:
            while chunks or under_way:
                while chunks and len(under_way) + len(ready) < AHEAD * workers:
                    chunk = chunks.popleft()
                    under_way[self._submit(done, worker.partials, key, packed, chunk)] = chunk
                for future in self._done(done):
                    chunk = under_way.pop(future)
                    try:
                        answer = self._answer(future)
                    except Unlike:
                        chunks.appendleft(chunk)
                        continue
                    ready[chunk.start] = chunk.stop, answer
                while following in ready:
                    following, partials = ready.pop(following)
                    yield from partials
        finally:
            self._cancel([*under_way, packed])

    def _submit(self, done: queue.SimpleQueue[Future[Any]], function: Callable[..., bytes], *given: Any) -> Future[Any]:
        with self._connected():
            future: Future[Any] = self._client.submit(
                function,
                self._setup,
                *given,
                pure=False,
                retries=TRIES_AGAIN,
                workers=self._workers() if self._unlike else None,
                allow_other_workers=bool(self._unlike),  # those may all leave
            )
        future.add_done_callback(done.put)  # type: ignore[no-untyped-call]
        return future

    def _done(self, done: queue.SimpleQueue[Future[Any]]) -> list[Future[Any]]:
        """Wait until work is done, and return its futures.

        Raises:
            Gone: the scheduler went away, or there are no workers any more.
        """
        waited = 0.0
        while True:
            try:
                first = done.get(timeout=EACH)
                break
            except queue.Empty:
                waited = 0.0 if self._workers() else waited + EACH
                if waited >= AGAIN:
                    raise Gone(f"All workers of {self._address} have left.") from None
        return [first, *(done.get() for _ in range(done.qsize()))]

    def _answer(self, future: Future[Any]) -> Any:
        """Return the answer of work that is done.

        Raises:
            Lost: the work cannot be done.
            Unlike: the worker differs from this process.
            Gone: the scheduler went away.
        """
        try:
            with self._connected():
                answer = pickle.loads(future.result())
        except Unlike as unlike:
            self._unlike.add(unlike.args[0])
            if not self._workers():
                raise Gone(sentence({unlike.args[0]: unlike.args[1]})) from None
            raise
        except Killed as killed:
            raise Lost(f"{killed} It was tried {TRIES_AGAIN + 1} times.") from None
        except KilledWorker as killed:
            times = killed.allowed_failures + 1
            raise Lost(f"{times} workers of the cluster died, one after the other, that had this cell.") from None
        except Gone:
            raise
        except Exception as error:  # as from a worker without this program, which came later
            raise Gone(f"A worker of {self._address} cannot work: {described(error)}.") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Say in one sentence that the scheduler went away."""
        try:
            yield
        except (OSError, TimeoutError, FutureCancelledError) as error:
            raise Gone(f"The connection to {self._address} was lost ({type(error).__name__}).") from None

    def _cancel(self, futures: Any) -> None:
        with contextlib.suppress(Exception):
            self._client.cancel(list(futures), force=True)

    def stop(self) -> None:
        """End the processes in which the workers measure, and close the connection. A local cluster is shut down."""
        with contextlib.suppress(Exception):
            self._client.run(worker.end, on_error="ignore")
        with contextlib.suppress(Exception):
            self._stack.close()
