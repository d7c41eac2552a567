"""Which Dask cluster does the work. Imports neither Dask nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.execution.progress import NoWorker


class Gone(NoWorker):
    """The cluster cannot go on. The message is one sentence."""


@dataclass(frozen=True)
class Dask:
    """The Dask cluster to use: a scheduler that runs already, or a local cluster if no scheduler is given.

    A scheduler is given by its address, or by the file that it has written.

    Args:
        scheduler: an address, such as ``tcp://10.0.0.1:8786``.
        file: the file that ``dask scheduler --scheduler-file`` writes.
        workers: number of workers of a local cluster; None for as many as there are processors.
    """

    scheduler: str | None = None
    file: Path | None = None
    workers: int | None = None

    def __str__(self) -> str:
        return self.scheduler or (f"the scheduler in {self.file}" if self.file else "the local Dask cluster")
