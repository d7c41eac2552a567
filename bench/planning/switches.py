"""The global switches of torch and numpy, which a user's code may turn for its own needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution


def _set_default_device(device: torch.device) -> None:
    """Make a device the default; None is torch's own way to say that no device was chosen, which costs no time."""
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _matmul_precision() -> str | None:
    """Return the precision of float32 products; None if it was set for single backends, so that torch has no word."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _set_matmul_precision(precision: str | None) -> None:
    if precision is not None:
        torch.set_float32_matmul_precision(precision)


def _autocast() -> list[tuple[bool, torch.dtype]]:
    return [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")]


def _set_autocast(states: list[tuple[bool, torch.dtype]]) -> None:
    for kind, (enabled, dtype) in zip(("cpu", "cuda"), states, strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    (_autocast, _set_autocast),
    (_matmul_precision, _set_matmul_precision),
    (partial(getattr, torch.backends.cudnn, "benchmark"), partial(setattr, torch.backends.cudnn, "benchmark")),
    (partial(getattr, Distribution, "_validate_args"), Distribution.set_default_validate_args),
    (np.geterr, lambda old: np.seterr(**old)),
)
"""The switches that are put back, each as the functions that get and set it.

The random states of torch, numpy and Python are not among them: all noise of a measurement comes from generators of its
own, so a user's code may leave these states as it likes.
"""


@contextmanager
def switches_kept() -> Iterator[None]:
    """Restore the global switches of torch and numpy at the end of the ``with`` block, whatever the block has set."""
    before = [get() for get, _ in SWITCHES]
    try:
        yield
    finally:
        for (get, put), old in zip(SWITCHES, before, strict=True):
            if get() != old:
                put(old)
