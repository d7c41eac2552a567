"""What identifies an expectation: sources of functions, and numbers of tensors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def pieces(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Yield the bytes that identify a value, such as a function or a tensor. A changed value has other bytes.

    The bytes are the numbers of tensors, the sources of functions, and what functions close over. ``seen`` has the ids
    of the functions and objects that were visited before. These are skipped, and the ids of new ones are added to
    ``seen``.
    """
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        yield repr((tuple(value.shape), str(value.dtype))).encode()
        yield flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""
    elif isinstance(value, str | int | float | bool | bytes | None):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield repr(key).encode()
            yield from pieces(each, seen)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from pieces(each, seen)
    elif inspect.isclass(value) or inspect.ismodule(value) or id(value) in seen:
        yield value.__name__.encode() if hasattr(value, "__name__") else b"seen"
    elif isinstance(value, nn.Module):
        seen.add(id(value))
        yield repr(value).encode()
        yield from (_source(type(layer)) for layer in value.modules())
        yield from pieces(dict(value.state_dict()), seen)
    elif inspect.isfunction(value):
        seen.add(id(value))
        yield _source(value)
        if not str(value.__module__).startswith("torch"):
            closed = inspect.getclosurevars(value)
            yield from pieces([closed.nonlocals, closed.globals, value.__defaults__, value.__kwdefaults__], seen)
    else:
        seen.add(id(value))
        yield _source(type(value))
        yield from pieces(getattr(value, "__dict__", {}), seen)


def _source(defined: Any) -> bytes:
    """Return the source of a function or a class; its name if there is no source."""
    try:
        return inspect.getsource(defined).encode()
    except (OSError, TypeError):
        return str(defined.__qualname__).encode()
