"""The product on one row of the table: the engine that ``bench run`` and ``measure`` use, made ready once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.measurement.adaptation import adapt_state
from bench.measurement.engine import Engine, exact_gradient
from bench.measurement.moments import summarise_cell
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.stats import Summary
from tests.benchmarks.closed import Moments
from tests.benchmarks.workloads import Row


class Product:
    """A row's cell, ready to be measured again and again.

    Args:
        row: the line of the table.
        replicates: R, rounded up to whole draws; the row's own R when None.
        dtype: "float32" or "float64".
        seed: root of the noise.
    """

    def __init__(self, row: Row, replicates: int | None = None, dtype: str = "float32", seed: int = 0) -> None:
        settings = Settings(replicates=replicates or row.replicates, dtype=dtype, seed=seed, adapt_seed=0)
        self.engine = Engine(Cell(row.estimator, row.objective), settings)
        if row.learned:
            adapt_state(self.engine)
        self.engine.freeze()  # a state does not learn while it is timed
        self.replicates = sum(self.engine.sizes)
        exact = row.objective.has_exact
        self.exact: NDArray[np.float64] | None = (
            exact_gradient(row.objective, self.engine.problem)[1] if exact else None
        )

    def whole(self) -> Summary:
        """Measure with every statistic: blocks, partial sums, their merging, intervals, tests and verdicts."""
        return summarise_cell(self.engine, self.exact)[1]

    def lean(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance alone, ``[size]`` each, from the engine's gradients and the sums of ``closed``.

        The product itself has no such mode.
        """
        sums = [Moments() for _ in self.engine.groups]
        for draw in range(len(self.engine.sizes)):
            for moments, part in zip(sums, self.engine.parts(draw), strict=True):
                moments.add(part)
        means, variances = zip(*(moments.result() for moments in sums), strict=True)
        return torch.cat(means), torch.cat(variances)
