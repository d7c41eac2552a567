"""The peak memory of one call."""

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Job = Callable[[], object]
"""A function to measure, called without arguments; its result is discarded."""


def peak_bytes(job: Job, device: torch.device | str = "cpu") -> int:
    """Return the most bytes of tensors that one call of ``job`` holds at once, beyond those that existed before it.

    On CUDA, torch's caching allocator reports this number. On a CPU, every storage that an operation of the call
    returns is tracked from its allocation to its release. Memory outside torch is left out on both devices. On a CPU,
    memory that a kernel allocates and frees inside one operation is left out too.

    Raises:
        ValueError: the device is neither CPU nor CUDA.
    """
    device = timed_device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    ledger = _Ledger()
    with ledger:
        job()
    return ledger.peak


def timed_device(device: torch.device | str) -> torch.device:
    """Check that time and memory can be measured on a device, and return the device.

    Raises:
        ValueError: the device is neither CPU nor CUDA.
    """
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"Timing knows how to wait for 'cpu' and 'cuda' (got {device.type!r}): without waiting, a clock reads how "
            f"long the launch took. Use one of the two."
        )
    return device


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Tracks the storages that operations inside it return; ``peak`` is the most bytes that lived at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Answering True makes torch import its compiler at the first operation, which takes a second.
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # A storage first seen as an input existed before: views, in-place operations and out= return such storages.
        self._note((args, kwargs), born=False)
        out = func(*args, **(kwargs or {}))
        self._note(out, born=True)
        return out

    def _note(self, tree: Any, *, born: bool) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
                storage = leaf.untyped_storage()
                key, size = id(storage), storage.nbytes() if born else 0
                if key not in self._known:
                    self._known[key] = weakref.ref(storage, partial(self._drop, key, size))
                    self.live += size
                    self.peak = max(self.peak, self.live)

    def _drop(self, key: int, size: int, _: object) -> None:
        del self._known[key]
        self.live -= size
