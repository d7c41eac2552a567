"""How runs are trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from bench.planning.settings import Settings

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
LOOKS = 20
"""Looks after the first, where their distance is not given."""


@dataclass(frozen=True)
class Training:
    """How runs are trained.

    Args:
        steps: of the optimizer, at least 1.
        seeds: runs of each estimator; their seeds are 0, 1, 2 ...
        optimizer: "adam", "sgd" or "rmsprop", all else as torch has it.
        rate: learning rate, above 0.
        measure_every: steps between two looks, at least 1; a twentieth of all when None.
        replicates: of each measurement of the variance, rounded up to whole draws; 0 to leave it out.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".

    Raises:
        ValueError: one of them is not what it has to be.
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
        for name, least in (("steps", 1), ("seeds", 1), ("replicates", 0), ("measure_every", 1)):
            value = getattr(self, name)
            if name == "measure_every" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least} (got {value!r}).")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is one of {', '.join(OPTIMIZERS)} (got {self.optimizer!r}).")
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < math.inf:
            raise ValueError(f"rate, the learning rate, is a finite number above 0 (got {self.rate!r}).")
        self.settings(0).check_device()  # settings refuse a wrong dtype

    def settings(self, seed: int) -> Settings:
        """Return how the variance of a seed's gradients is measured."""
        return Settings(max(1, self.replicates), seed, self.dtype, self.device)

    @property
    def looks(self) -> list[int]:
        """Steps after which a run is looked at: 0 and the last are among them."""
        every = self.measure_every or max(1, self.steps // LOOKS)
        return [*range(0, self.steps, every), self.steps]
