"""Settings: how cells are measured. Imports torch only to look for a CUDA device."""

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
        common_noise: whether all estimators of an objective share their noise, so that they compare pairwise.
        timing: whether to measure seconds too, afterwards. Timing needs the machine to itself.
        adapt_seed: root of the noise that a state learns from; the seed when None. With it, a run with another seed
            measures the state that was learned before.

    Raises:
        ValueError: a value is not usable on any machine.
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

    def check_device(self) -> None:
        """Refuse a device that this machine does not have. Settings are read anywhere, and used where the device is.

        Raises:
            UsageError: the device is "cuda", and torch finds no CUDA device.
        """
        if self.device == "cuda":
            import torch

            from bench.planning.selectors import UsageError

            if not torch.cuda.is_available():
                raise UsageError("device is cuda, and torch finds no CUDA device here. Use device='cpu'.")
