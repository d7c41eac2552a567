"""Transforms of torch.func (``grad``, ``vmap``, ``jvp``, ...): whether one is active, and what works under each."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch._C._functorch import CVmapInterpreterPtr, RandomnessType, TransformType
from torch.autograd import forward_ad

transformed: Callable[[], bool] = torch._C._are_functorch_transforms_active
"""Return whether a transform of torch.func is active. This is torch's own function: every call of an estimator asks."""


def forward_mode() -> bool:
    """Return whether code runs in forward-mode differentiation: inside ``dual_level`` or ``jvp`` of torch."""
    return forward_ad._current_level >= 0


def primal_of(t: Tensor) -> Tensor:
    """Return t without the tangent of the current level of forward mode."""
    if transformed() and torch._C._functorch.is_batchedtensor(t):  # torch unpacks no tensor of vmap
        place, level = torch._C._functorch.maybe_get_bdim(t), torch._C._functorch.maybe_get_level(t)
        within = primal_of(torch._C._functorch.get_unwrapped(t))
        return torch._C._functorch._add_batch_dim(within, place, level)
    return cast(Tensor, forward_ad.unpack_dual(t).primal)  # type: ignore[no-untyped-call]


def primals_of(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the tensors without their tangents of the current level of forward mode."""
    return [primal_of(t) for t in tensors]


def tangent_of(t: Tensor) -> Tensor | None:
    """Return the tangent of t in forward mode, or None if it has none."""
    while transformed() and torch._C._functorch.is_batchedtensor(t):
        t = torch._C._functorch.get_unwrapped(t)
    return cast(Tensor | None, forward_ad.unpack_dual(t).tangent)  # type: ignore[no-untyped-call]


def is_differentiated(t: Tensor) -> bool:
    """Return whether t is differentiated, in reverse or in forward mode.

    Inside ``vmap``, a tensor does not show whether an outer transform differentiates it. The result is then True.
    """
    if t.requires_grad or (transformed() and torch._C._functorch.is_batchedtensor(t)):
        return True
    return forward_mode() and tangent_of(t) is not None


def no_derivatives() -> contextlib.AbstractContextManager[None]:
    """Differentiate nothing inside the block, in reverse or forward mode (``torch.no_grad`` stops reverse only)."""
    return _no_mode() if forward_mode() else torch.no_grad()


@contextlib.contextmanager
def _no_mode() -> Iterator[None]:
    with torch.no_grad(), forward_ad._set_fwd_grad_enabled(False):
        yield


def reusable(t: Tensor) -> Tensor | None:
    """Return t, to be overwritten as the ``out`` of an operation; None if t must not be overwritten.

    Overwriting is forbidden under a transform of torch.func and in forward mode.
    """
    return None if transformed() or forward_mode() else t


def indicator(compare: Callable[..., Tensor], a: Tensor, b: Tensor | float, out: Tensor) -> Tensor:
    """Return 1 where ``compare(a, b)`` is True and 0 elsewhere.

    The result is written into ``out``, unless torch.func is active.
    """
    return compare(a, b).to(out.dtype) if transformed() else compare(a, b, out=out)


def value_and_slope(f: Callable[[Tensor], Tensor], x: Tensor, learning: bool = False) -> tuple[Tensor, Tensor]:
    """Return f(x), with its graph, and the gradient of the sum of f(x) in x.

    This works under every transform of torch.func. In inference mode, which records no graph, the gradient is 0.

    Args:
        f: the function.
        x: points, without a graph.
        learning: whether the gradient keeps its graph, so that it can be differentiated again.
    """
    if torch.is_inference_mode_enabled():
        return f(x), torch.zeros_like(x)
    if transformed():
        fx, pull, *_ = torch.func.vjp(f, x)
        (slope,) = pull(torch.ones_like(fx))
        return fx, slope if learning else slope.detach()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        fx = f(x)
        (slope,) = torch.autograd.grad(fx.sum(), x, retain_graph=True, create_graph=learning)
    return fx, slope


def _vmaps() -> list[CVmapInterpreterPtr]:
    stack = torch._C._functorch.get_interpreter_stack()
    return [CVmapInterpreterPtr(each) for each in stack or () if each.key() == TransformType.Vmap]


def vmapped() -> bool:
    """Return whether ``torch.func.vmap`` is active."""
    return transformed() and bool(_vmaps())


def rows_differ() -> bool:
    """Return whether ``torch.func.vmap`` is active with ``randomness="different"``."""
    return transformed() and any(each.randomness() == RandomnessType.Different for each in _vmaps())


def unwrapped(t: Tensor) -> Tensor:
    """Return the plain tensor inside t if transforms of torch.func have wrapped t; else t itself."""
    while transformed() and torch._C._functorch.is_functorch_wrapped_tensor(t):
        t = torch._C._functorch.get_unwrapped(t)
    return t


class Function(torch.autograd.Function):
    """An autograd Function that works under every transform of torch.func. Arguments of ``forward`` are positional."""

    generate_vmap_rule = True


def apply(function: type[Function], *args: Any) -> Any:
    """Return ``function.apply(*args)``, by a shorter way if neither torch.func nor torch.compile is active.

    torch's own ``apply`` first binds the arguments and looks for transforms, which takes time.
    """
    if transformed() or torch.compiler.is_compiling():
        return function.apply(*args)  # type: ignore[no-untyped-call]
    direct: Any = super(torch.autograd.Function, function)
    return direct.apply(*args)
