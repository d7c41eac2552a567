"""The Python interface: ``measure(estimator, objective) -> Measurement``."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import pilot, reference
from bench.cells import moments_record, single_thread, timing_record
from bench.engine import Engine, Settings
from bench.objectives import Objective
from bench.plan import Cell, mismatch
from bench.record import Record
from bench.stats import Aim, Summary
from estimators import Estimator, Refusal


@dataclass(frozen=True)
class Measurement:
    """What is known of one cell: a view of its record.

    ``record`` is the moments line as it is stored; ``timing`` the timing line, or None.
    """

    cell: Cell
    record: Record = field(repr=False)
    timing: Record | None = field(default=None, repr=False)

    @functools.cached_property
    def summary(self) -> Summary:
        """All statistics (see ``bench.stats.Summary``)."""
        return Summary.from_json(self.record["summary"])

    @property
    def replicates(self) -> int:
        """Independent calls R."""
        return int(self.record["replicates"])

    @property
    def variance(self) -> float:
        """Total variance of one estimate: the trace of its covariance."""
        return self.summary.variance

    @property
    def variance_interval(self) -> tuple[float, float | None]:
        """95 % interval of the variance; no upper end where the tail allows none."""
        return self.summary.variance_low, self.summary.variance_high

    @property
    def mean(self) -> dict[str, Tensor]:
        """Mean gradient, shaped like theta, float64."""
        return self._shaped(self.record["mean"])

    @property
    def exact(self) -> dict[str, Tensor] | None:
        """Exact gradient, shaped like theta, float64; None where there is none."""
        return None if self.record["exact"] is None else self._shaped(self.record["exact"])

    @property
    def bias_bound(self) -> float | None:
        """95 % upper bound of the Euclidean norm of the bias; None without an exact gradient."""
        return self.summary.bias_bound

    @property
    def verdict(self) -> str:
        """What the data say of the bias, in a word."""
        return self.summary.verdict

    @property
    def status(self) -> str:
        """Whether the variance can be trusted, in a word."""
        return self.summary.status

    @property
    def f_evals(self) -> float:
        """Evaluations of f per estimate."""
        return float(self.record["f_evals"])

    @property
    def grad_evals(self) -> float:
        """Evaluations of df/dx per estimate."""
        return float(self.record["grad_evals"])

    @property
    def seconds(self) -> float | None:
        """Seconds per estimate in batch; None unless timing was asked for."""
        return None if self.timing is None else float(self.timing["seconds"])

    def _shaped(self, flat: Any) -> dict[str, Tensor]:
        vector, out, at = torch.as_tensor(np.asarray(flat, dtype=np.float64)), {}, 0
        for name, shape in self.record["shapes"].items():
            size = math.prod(shape)
            out[name] = vector[at : at + size].reshape(shape)
            at += size
        return out


def measure(
    estimator: Estimator,
    objective: Objective,
    *,
    replicates: int = 10_000,
    precision: float | None = None,
    max_replicates: int = 1_000_000,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    common_noise: bool = True,
    timing: bool = False,
) -> Measurement:
    """Measure one estimator on one objective.

    Args:
        estimator: from the catalogue, or your own.
        objective: from the catalogue, or your own.
        replicates: independent calls R, rounded up to whole blocks.
        precision: instead of R, the relative half-width that the 95 % interval of the variance shall have, as 0.05. A
            pilot finds R and is thrown away. ``record["precision_reached"]`` says whether it is enough.
        max_replicates: with a precision, the R at which to stop though it is not reached.
        seed: root of all noise; the same seed gives the same bits.
        device: "cpu" or "cuda".
        dtype: "float32" or "float64".
        common_noise: share noise between estimators of an objective, so that they compare pairwise.
        timing: measure seconds too; needs the machine to itself.

    Returns:
        A ``Measurement``.

    Raises:
        Refusal: the two do not fit together.
        ValueError: a setting is not usable.
        Lost: gradients were not finite.
    """
    settings = Settings(replicates, seed, dtype, device, common_noise, timing)
    cell = Cell(estimator, objective)
    if reason := mismatch(estimator, objective):
        raise Refusal(reason)
    with single_thread():
        found = None
        if precision is not None:
            found = pilot.pilot_record(cell, settings, Aim(precision, max_replicates), lambda *_: None, lambda *_: None)
            settings = replace(settings, replicates=found["planned_replicates"])
        stand_in = reference.here(objective, reference.settings_of(settings))
        line = moments_record(Engine(cell, settings), lambda _done, _total: None, reference=stand_in)
        line = line if found is None else pilot.judged(line, found)
        return Measurement(cell, line, timing_record(cell, settings) if timing else None)
