"""Settings of a measurement. Imports torch only to look for a CUDA device."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

SMALLEST_DRAW = 64
"""Fewest replicates in a draw (a batch), in a block (a part of a draw) or in a baseline."""
MOST = 10**12
"""The largest number that is accepted as a count, such as replicates. More could not be measured in a life."""
ADAPT_STEPS = 500
"""Default for the most steps in which a state learns."""


@dataclass(frozen=True)
class Settings:
    """The settings of a measurement.

    Args:
        replicates: number of independent calls of the estimator, rounded up to whole draws (batches).
        seed: root seed of all noise.
        dtype: "float32" or "float64", of samples and gradients; sums are always float64.
        device: "cpu" or "cuda".
        common_noise: whether all estimators of an objective share their noise, so that the estimators can be compared
            in pairs.
        timing: whether to measure seconds too, after everything else. While timing, nothing else should run on the
            machine.
        adapt_seed: root seed of the noise from which the state of an estimator learns; None for ``seed``. If it is set,
            runs that differ only in ``seed`` measure the same learned state.
        adapt_steps: largest number of steps in which the state of an estimator learns before the measurement. Learning
            stops earlier if further steps no longer pay.

    Raises:
        ValueError: a value is invalid. Whether this machine has the device is not checked.
    """

    replicates: int = 10_000
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    common_noise: bool = True
    timing: bool = False
    adapt_seed: int | None = None
    adapt_steps: int = ADAPT_STEPS

    def __post_init__(self) -> None:
        store_whole_number(self, "replicates", 1, MOST)
        store_whole_number(self, "seed", 0)
        store_whole_number(self, "adapt_steps", 1, MOST)
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is float32 or float64, as text (got {self.dtype!r}).")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device is cpu or cuda, as text (got {self.device!r}).")

    def check_device(self) -> None:
        """Check that this machine has the device of the settings.

        There is no such check when settings are made, so they can name the device of another machine.

        Raises:
            UsageError: the device is "cuda", and torch finds no CUDA device.
        """
        if self.device == "cuda":
            import torch

            from bench.planning.selectors import UsageError

            if not torch.cuda.is_available():
                raise UsageError("device is cuda, and torch finds no CUDA device here. Use device='cpu'.")


def store_whole_number(settings: Any, name: str, least: int, most: int | None = None) -> None:
    """Check that the field ``name`` of frozen settings is a whole number, and store it as an int.

    A number of another type, such as ``numpy.int64(3)``, becomes an int.

    Raises:
        ValueError: the value is not a whole number, is below ``least``, or is above ``most``.
    """
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} is a whole number of at least {least} (got {value!r}).")
    if most is not None and int(value) > most:
        raise ValueError(f"{name} is at most {most:,} (got {str(value)[:30]}).")
    object.__setattr__(settings, name, int(value))
