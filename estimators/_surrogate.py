"""Surrogates: tensors with one formula for the value and another one for the gradient."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from estimators._axes import over_samples, spread
from estimators._rows import parameters

Pull = Callable[[Tensor, Tensor], Tensor]
"""A pull-back: maps the cotangent of a value, and the value itself, to the gradient of the value's source."""


class _WithDerivative(torch.autograd.Function):
    """The second argument's value; its source, the first argument, gets ``pull(cotangent, value)``."""

    @staticmethod
    def forward(ctx: Any, _source: Tensor, value: Tensor, pull: Pull) -> Tensor:
        out = value.view_as(value)
        ctx.save_for_backward(out)
        ctx.set_materialize_grads(False)  # without a cotangent there is no gradient, rather than zeros
        ctx.pull = pull
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, None, None]:
        (g,) = cotangents
        return None if g is None else ctx.pull(g, *ctx.saved_tensors), None, None


def with_derivative(source: Tensor, value: Tensor, pull: Pull) -> Tensor:
    """Return ``value``, which has no graph; in the backward pass ``source`` gets ``pull(cotangent, value)``.

    ``value`` must have been computed from ``source``. The pull-back (transposed Jacobian) is a function of the value,
    so derivatives of any order are right.
    """
    return cast(Tensor, _WithDerivative.apply(source, value, pull))  # type: ignore[no-untyped-call]


pull_through_sigmoid: Pull = torch.ops.aten.sigmoid_backward
"""The pull-back through a sigmoid: ``g y (1 - y)`` for the cotangent g and the sigmoid y of the source."""


def grad_only(x: Tensor) -> Tensor:
    """Return ``x - stop(x)``, a tensor like x with value 0 and the gradient of x."""
    return x - x.detach()


class _Through(torch.autograd.Function):
    """The value of the first argument; the gradient goes to the second."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor) -> Tensor:
        ctx.same = value.dim() == source.dim()
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor]:
        (cotangent,) = cotangents
        return None, cotangent if ctx.same else over_samples(cotangent)


def through(value: Tensor, source: Tensor) -> Tensor:
    """Return ``value``, ``[n, ...]``, with the gradient of ``source``, ``[n, ...]`` or ``[...]``.

    The result equals ``value + grad_only(source)``, without the arithmetic. No gradient flows into ``value``.
    """
    return cast(Tensor, _Through.apply(value, source))  # type: ignore[no-untyped-call]


def valued(surrogate: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` plus a surrogate whose value is 0; if ``value`` has no graph, this takes no addition."""
    return value + surrogate if value.requires_grad else through(value, surrogate)


class _Inject(torch.autograd.Function):
    """Value 0; in the backward pass each target gets the cotangent times its given gradient."""

    @staticmethod
    def forward(ctx: Any, batch_shape: torch.Size, *tensors: Tensor) -> Tensor:
        gradients = tensors[: len(tensors) // 2]  # the others are the targets
        ctx.save_for_backward(*gradients)  # inputs: under create_graph=True the result stays attached to their graphs
        return gradients[0].new_zeros(()).expand(batch_shape)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (cotangent,) = cotangents
        out = ctx.saved_tensors
        if _is_ones(cotangent):  # no pass over the data
            out = out if torch.is_grad_enabled() else [t.detach() for t in out]
        else:
            out = [spread(cotangent, t) * t for t in out]
        return (None,) * (1 + len(out)) + (*out,)


def _is_ones(t: Tensor) -> bool:
    """Return whether t is an expanded scalar 1; False on a GPU, which would have to send its value."""
    return t.is_cpu and not any(t.stride()) and t.numel() > 0 and t.as_strided((), ()).item() == 1


def inject(q: Distribution, **gradients: Tensor) -> Tensor:
    """Return zeros, ``[*batch]``; in the backward pass parameter ``p`` of q gets the cotangent times ``gradients[p]``.

    Args:
        q: the distribution, of batch shape ``[*batch]``.
        **gradients: one tensor per parameter of q, under its name in ``parameters(q)`` and of its shape,
            ``[*batch, ...]``. It may carry a graph (to a learned state); it is saved with ``save_for_backward``.

    Raises:
        ValueError: q has no parameter of this name, or the shape of a gradient is not the shape of its parameter.
    """
    own = parameters(q)
    for name, gradient in gradients.items():
        if name not in own:
            raise ValueError(
                f"inject got a gradient for {name!r}, but the parameters of this {type(q).__name__} are {list(own)}. "
                "Use one of these names."
            )
        if gradient.shape != own[name].shape:
            raise ValueError(
                f"inject got a gradient of shape {list(gradient.shape)} for {name}, whose shape is "
                f"{list(own[name].shape)}. Sum it over the samples only."
            )
    pairs = [(g, own[name]) for name, g in gradients.items() if own[name].requires_grad]
    return inject_at(q.batch_shape, pairs) if pairs else next(iter(gradients.values())).new_zeros(q.batch_shape)


def inject_at(batch_shape: torch.Size, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return zeros of shape ``[*batch]``; in the backward pass each target gets the cotangent times its gradient.

    Use it for the logits or the probabilities of q, whichever q was made from. For q's own parameters, use ``inject``.

    Args:
        batch_shape: ``[*batch]``.
        pairs: pairs of gradient and target, both ``[*batch, ...]``. A gradient may carry a graph, for example to a
            learned state: under ``create_graph=True`` the result of the backward pass keeps this graph. The backward
            pass itself sends nothing into this graph.
    """
    gradients, targets = zip(*pairs, strict=True)
    return cast(Tensor, _Inject.apply(batch_shape, *gradients, *targets))  # type: ignore[no-untyped-call]


class _Carry(torch.autograd.Function):
    """Value 0; in the backward pass the target gets the cotangent, transformed by a given function."""

    @staticmethod
    def forward(ctx: Any, target: Tensor, shape: torch.Size, pull: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.pull = pull
        return target.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return ctx.pull(*cotangents), None, None


def carry(target: Tensor, shape: torch.Size, pull: Callable[[Tensor], Tensor]) -> Tensor:
    """Return zeros of the given shape; in the backward pass ``target`` gets ``pull(cotangent)``.

    ``pull`` is the transposed Jacobian: it maps a cotangent to a gradient of the shape of ``target``. Tensors that
    ``pull`` closes over get no gradient.
    """
    return cast(Tensor, _Carry.apply(target, shape, pull))  # type: ignore[no-untyped-call]
