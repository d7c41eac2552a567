"""Transforms of torch.func (``grad``, ``vmap``, ``jvp``, ...): whether one is active, and what works under each."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transformed() -> bool:
    """Return whether a transform of torch.func is active."""
    return torch._C._are_functorch_transforms_active()


def forward_mode() -> bool:
    """Return whether forward mode is active: a dual level, or ``torch.func.jvp``."""
    return forward_ad._current_level >= 0


def tangent_of(t: Tensor) -> Tensor | None:
    """Return the tangent of t in forward mode, or None if it has none."""
    return cast(Tensor | None, forward_ad.unpack_dual(t).tangent)  # type: ignore[no-untyped-call]


def is_differentiated(t: Tensor) -> bool:
    """Return whether t is differentiated, in reverse or in forward mode."""
    return t.requires_grad or (forward_mode() and tangent_of(t) is not None)


@contextlib.contextmanager
def no_derivatives() -> Iterator[None]:
    """Differentiate nothing inside the block, in reverse or forward mode (``torch.no_grad`` stops reverse only)."""
    with torch.no_grad(), forward_ad._set_fwd_grad_enabled(False):
        yield


class Function(torch.autograd.Function):
    """An autograd Function that works under every transform; all arguments of ``forward`` are positional."""

    generate_vmap_rule = True

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call ``forward`` and record the graph. Outside transforms, torch's slow look-up of defaults is skipped."""
        direct: Any = super() if transformed() else super(torch.autograd.Function, cls)
        return direct.apply(*args)
