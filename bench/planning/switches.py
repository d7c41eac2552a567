"""The global switches of torch, which a user's code may turn for its own needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _set_default_device(device: torch.device) -> None:
    """Make a device the default; None is torch's own way to say that no device was chosen, which costs no time."""
    torch.set_default_device(None if device == torch.device("cpu") else device)


SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
)
"""The switches that are put back, each as the functions that get and set it."""


@contextmanager
def switches_kept() -> Iterator[None]:
    """Put torch's switches back at the end of the ``with`` block, so that the code in it changes no other code."""
    before = [get() for get, _ in SWITCHES]
    try:
        yield
    finally:
        for (get, put), old in zip(SWITCHES, before, strict=True):
            if get() != old:
                put(old)
