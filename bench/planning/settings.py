"""Settings: how cells are measured. Imports torch only to look for a CUDA device."""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST_DRAW = 64
"""Fewest replicates of a draw, of a block and of a baseline (see the table in ``bench.measurement.draws``)."""


@dataclass(frozen=True)
class Settings:
    """How cells are measured.

    Args:
        replicates: independent calls R, rounded up to whole draws.
        seed: root of all noise.
        dtype: "float32" or "float64", of samples and gradients; sums are always float64.
        device: "cpu" or "cuda".
        common_noise: do all estimators of an objective share their noise, so that they compare pairwise?
        timing: measure seconds too, afterwards? They need the machine to themselves.
        adapt_seed: root of the noise that a state learns from; the seed when None. Another seed then measures the same
            state again.
    """

    replicates: int = 10_000
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    common_noise: bool = True
    timing: bool = False
    adapt_seed: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.replicates, bool) or not isinstance(self.replicates, int) or self.replicates < 1:
            raise ValueError(f"replicates is a whole number of at least 1 (got {self.replicates!r}).")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is a whole number of at least 0 (got {self.seed!r}).")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is float32 or float64 (got {self.dtype!r}).")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device is cpu or cuda (got {self.device!r}).")
        if self.device == "cuda":
            import torch

            if torch.cuda.is_available():
                return
            raise ValueError("device is cuda, and torch finds no CUDA device here. Use device='cpu'.")
