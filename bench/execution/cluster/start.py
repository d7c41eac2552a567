"""The start of a cluster. Dask is imported only here, as it is an extra."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from bench.planning.selectors import UsageError

if TYPE_CHECKING:
    from bench.execution.cluster.address import Dask
    from bench.execution.cluster.coordinator import Cluster
    from bench.planning.spec import Spec


def start(address: Dask, spec: Spec, cell_timeout: float | None = None) -> Cluster:
    """Connect to a Dask cluster, or start a local one. All workers must have the software and files of this process.

    Args:
        address: which cluster to use: one that runs already, or a new local one.
        spec: what the study measures; each worker loads the estimators and objectives that the spec names.
        cell_timeout: seconds without progress after which the work on a cell is ended, and the cell's record reports a
            failure; None for half an hour.

    Raises:
        UsageError: the study is not for the CPU, Dask is not installed, the cluster cannot be reached or has no
            workers, or a worker differs from this process.
    """
    if spec.device != "cpu":
        raise UsageError("A Dask cluster measures on CPUs. Leave --device out, or use --workers.")
    if importlib.util.find_spec("distributed") is None:
        raise UsageError('Dask is not installed: pip install "stochgrad-bench[dask]".')
    from bench.execution.cluster.coordinator import connect

    return connect(address, spec, cell_timeout)
