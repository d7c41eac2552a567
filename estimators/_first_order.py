"""Gradients that autograd must not differentiate again: a second derivative raises ``Refusal``."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from estimators._refusals import Refusal
from estimators._transforms import Function, apply, forward_mode, is_differentiated, primals_of, tangent_of


class _Refused(Function):
    """A scalar 0 that depends on all of its arguments and raises when it is differentiated."""

    @staticmethod
    def forward(_who: object, *sources: Tensor) -> Tensor:
        return sources[0].new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Tensor) -> None:
        ctx.who = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise no_second_derivatives(ctx.who)

    jvp = backward


def no_second_derivatives(who: object) -> Refusal:
    """Return the exception for a second derivative. ``who`` is the estimator or its name; None if it is unknown."""
    name = "This estimator" if who is None else who if isinstance(who, str) else repr(who)
    return Refusal(
        f"{name} has no second derivatives: its gradient is a constant for autograd. Use Reparameterization, "
        "HessianControlVariate, QuadraticControlVariate, GumbelSoftmax, ExponentialArrival or Enumeration."
    )


_IN_STATE_ONLY: list[None] = []
"""Not empty inside ``differentiated_in_state_only``; seen by the threads of autograd, too."""


@contextlib.contextmanager
def differentiated_in_state_only() -> Iterator[None]:
    """Allow second derivatives through estimators inside the block.

    Second derivatives are right only in the parameters of a state, which holds what an estimator has learned. The
    caller must take them in no other tensor.
    """
    _IN_STATE_ONLY.append(None)
    try:
        yield
    finally:
        _IN_STATE_ONLY.pop()


def again(sources: Iterable[Tensor]) -> bool:
    """Return whether the gradient that is just being computed will perhaps be differentiated once more.

    The result is True in two cases: autograd records a graph, as in a backward pass with ``create_graph=True``; or one
    of ``sources`` has a tangent of forward mode. Inside the context ``differentiated_in_state_only``, the result is
    False.

    Args:
        sources: the tensors in which the second derivative would be taken.
    """
    if _IN_STATE_ONLY:
        return False
    return torch.is_grad_enabled() or (forward_mode() and any(tangent_of(t) is not None for t in sources))


def once(gradient: Tensor, who: object, *sources: Tensor) -> Tensor:
    """Return ``gradient``. If the result is differentiated again, in one of ``sources``, ``Refusal`` is raised.

    Args:
        gradient: a gradient or a tangent, just computed by a backward pass or in forward mode.
        who: the estimator, or the name of what has no second derivatives, for the message.
        *sources: the tensors in which a derivative of ``gradient`` would be wrong.
    """
    if not again(sources):
        return gradient
    return gradient + cast(Tensor, apply(_Refused, who, *sources))


class _FirstOrder(Function):
    """The second argument; its gradient is not differentiated again."""

    @staticmethod
    def forward(_who: object, source: Tensor) -> Tensor:
        return source.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.who, source = inputs
        ctx.save_for_backward(source)
        if forward_mode():
            ctx.save_for_forward(source)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor]:
        return None, once(*cotangents, ctx.who, *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, _who: None, tangent: Tensor) -> Tensor:
        return once(tangent, ctx.who, *primals_of(ctx.saved_tensors))


def first_order(t: Tensor, who: object) -> Tensor:
    """Return t. A second derivative through the result raises ``Refusal``, whose message names ``who``."""
    return cast(Tensor, apply(_FirstOrder, who, t)) if is_differentiated(t) else t
