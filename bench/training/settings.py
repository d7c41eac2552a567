"""Settings of training runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Self

from bench.planning.settings import MOST, Settings, store_whole_number

OPTIMIZERS = ("adam", "sgd", "rmsprop")
CHECKPOINTS = 20
"""Default number of checkpoints after step 0."""

MOST_LISTED = 1_000_000
"""The most seeds, and the most checkpoints after step 0."""


@dataclass(frozen=True)
class Training:
    """The settings of training runs, in which an estimator's gradients train the parameters of an objective.

    Args:
        steps: number of steps of the optimizer, at least 1.
        seeds: number of runs of each estimator on each objective, with the seeds 0, 1, 2 ...
        optimizer: "adam", "sgd" or "rmsprop", with torch's defaults except for the learning rate.
        rate: learning rate, above 0.
        measure_every: number of steps between two checkpoints, at least 1; None for a twentieth of all steps. At a
            checkpoint, the objective and the variance of the gradient are measured.
        replicates: number of independent calls of the estimator that measure the variance at a checkpoint, rounded up
            to whole draws (batches); 0 to measure no variance.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".

    Raises:
        ValueError: a value is out of its range.
    """

    steps: int = 2_000
    seeds: int = 6
    optimizer: str = "adam"
    rate: float = 1e-3
    measure_every: int | None = None
    replicates: int = 256
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("steps", 1, MOST),
            ("seeds", 1, MOST_LISTED),
            ("replicates", 0, MOST),
            ("measure_every", 1, MOST),
        ):
            if name != "measure_every" or self.measure_every is not None:
                store_whole_number(self, name, least, most)
        if self.measure_every and self.steps > MOST_LISTED * self.measure_every:
            raise ValueError(f"measure_every makes more than {MOST_LISTED:,} checkpoints (got {self.measure_every}).")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is one of {', '.join(OPTIMIZERS)} (got {self.optimizer!r}).")
        if isinstance(self.rate, bool) or not isinstance(self.rate, Real) or not 0 < self.rate < math.inf:
            raise ValueError(f"rate, the learning rate, is a finite number above 0 (got {self.rate!r}).")
        if not isinstance(self.rate, int):
            object.__setattr__(self, "rate", float(self.rate))
        self.settings(0).check_device()  # settings refuse a wrong dtype

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """Return the settings in a dictionary that was read from JSON. Keys that name no setting are ignored.

        Raises:
            ValueError: a value is out of its range.
        """
        return cls(**{field.name: table[field.name] for field in fields(cls) if field.name in table})

    def settings(self, seed: int) -> Settings:
        """Return the settings with which the training run with this ``seed`` measures the gradient's variance."""
        return Settings(max(1, self.replicates), seed, self.dtype, self.device)

    @property
    def checkpoints(self) -> list[int]:
        """Numbers of the steps after which a training run is evaluated, in ascending order: 0, ..., the last step."""
        every = self.measure_every or max(1, self.steps // CHECKPOINTS)
        return [*range(0, self.steps, every), self.steps]
