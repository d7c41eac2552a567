"""What estimators ask of a distribution: draws with an explicit generator, closed-form scores, one row at a time.

Normal, Bernoulli, Categorical and OneHotCategorical, alone or under ``Independent``, have closed forms, computed on the
one row behind a stride-0 view. A ``Drawable`` brings its own; every other distribution goes through torch, slower, with
the global generator forked and seeded from the given one.

All draws have shape ``[n, *batch, *event]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from estimators._axes import spread
from estimators._rows import parameters

Pull = Callable[[Tensor, Tensor], Tensor]
"""A pull-back: from a cotangent and the value that was made from a source to the gradient of the source."""


class _WithDerivative(torch.autograd.Function):
    """The second argument's value; its source, the first argument, gets ``pull(cotangent, value)``."""

    @staticmethod
    def forward(ctx: Any, _source: Tensor, value: Tensor, pull: Pull) -> Tensor:
        out = value.view_as(value)
        ctx.save_for_backward(out)
        ctx.set_materialize_grads(False)  # what gets no gradient hands none on, rather than zeros
        ctx.pull = pull
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, None, None]:
        (g,) = cotangents
        return None if g is None else ctx.pull(g, *ctx.saved_tensors), None, None


def with_derivative(source: Tensor, value: Tensor, pull: Pull) -> Tensor:
    """Return a known value with a known derivative in its source.

    The pull-back is a function of the value, whose derivative is known too, so derivatives of any order are right.

    Args:
        source: what the value was made from; it gets ``pull(cotangent, value)``.
        value: computed without a graph.
        pull: the transposed Jacobian.
    """
    out: Tensor = _WithDerivative.apply(source, value, pull)  # type: ignore[no-untyped-call]
    return out


pull_through_sigmoid: Pull = torch.ops.aten.sigmoid_backward
"""The cotangent g, given the sigmoid y of the source, becomes ``g y (1 - y)``."""


def grad_only(x: Tensor) -> Tensor:
    """Return ``x - stop(x)``: value 0, gradient of ``x``. Same shape as ``x``."""
    return x - x.detach()


class _Through(torch.autograd.Function):
    """Value of the first argument, gradient to the second."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, source: Tensor) -> Tensor:
        ctx.same = value.dim() == source.dim()
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor]:
        (cotangent,) = cotangents
        if ctx.same:
            return None, cotangent
        return None, cotangent.squeeze(0) if len(cotangent) == 1 else cotangent.sum(0)


def through(value: Tensor, source: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``source``: ``value + grad_only(source)`` without its arithmetic.

    Args:
        value: no gradient flows into it.
        source: of the shape of ``value``, with or without its first axis, that of the samples.
    """
    out: Tensor = _Through.apply(value, source)  # type: ignore[no-untyped-call]
    return out


def valued(surrogate: Tensor, value: Tensor) -> Tensor:
    """Return ``value + surrogate`` of a surrogate of value 0; without the addition where f is a black box.

    Args:
        surrogate: ``[*batch]``.
        value: of the same shape; if it has a graph, gradients flow into it too.
    """
    return value + surrogate if value.requires_grad else through(value, surrogate)


class _Inject(torch.autograd.Function):
    """Value 0; the backward hands each target the cotangent times its given gradient.

    The gradients are saved inputs, so under ``create_graph=True`` the result stays attached to whatever made them.
    """

    @staticmethod
    def forward(ctx: Any, batch_shape: torch.Size, *tensors: Tensor) -> Tensor:
        gradients = tensors[: len(tensors) // 2]  # the others are the targets
        ctx.save_for_backward(*gradients)
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
    """Return whether t is a single 1 at every place of it; False where a GPU would have to say."""
    return t.is_cpu and not any(t.stride()) and t.numel() > 0 and t.as_strided((), ()).item() == 1


def inject(q: Distribution, **gradients: Tensor) -> Tensor:
    """Return a surrogate of value 0 whose gradient at q's own parameters is the given one.

    Args:
        q: the distribution, of batch shape ``[*batch]``.
        **gradients: one tensor per parameter of q, by the name it has in ``parameters(q)`` and with its shape
            ``[*batch, ...]``. It may carry a graph (to a learned state); it is saved with ``save_for_backward``.

    Returns:
        Zeros of shape ``[*batch]``; the backward gives parameter ``p`` the cotangent times ``gradients[p]``.

    Raises:
        ValueError: q has no parameter of that name, or a gradient is not shaped like its parameter.
    """
    own = parameters(q)
    for name, gradient in gradients.items():
        if name not in own:
            raise ValueError(f"inject got a gradient for {name!r}, and this {type(q).__name__} is made of {list(own)}.")
        if gradient.shape != own[name].shape:
            raise ValueError(
                f"inject got a gradient of shape {list(gradient.shape)} for {name}, whose shape is "
                f"{list(own[name].shape)}. Sum it over samples, and over nothing else."
            )
    pairs = [(g, own[name]) for name, g in gradients.items() if own[name].requires_grad]
    return inject_at(q.batch_shape, pairs) if pairs else next(iter(gradients.values())).new_zeros(q.batch_shape)


def inject_at(batch_shape: torch.Size, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return zeros of shape ``[*batch]`` whose backward gives each target the cotangent times its gradient.

    Args:
        batch_shape: ``[*batch]``.
        pairs: gradient and target, both ``[*batch, ...]``. A gradient may carry a graph: the backward is attached to it
            under ``create_graph=True``, and passes it nothing.
    """
    gradients, targets = zip(*pairs, strict=True)
    out: Tensor = _Inject.apply(batch_shape, *gradients, *targets)  # type: ignore[no-untyped-call]
    return out


class _Carry(torch.autograd.Function):
    """Value 0; the backward hands the target what a given function makes of the cotangent."""

    @staticmethod
    def forward(ctx: Any, target: Tensor, shape: torch.Size, pull: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.pull = pull
        return target.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        (cotangent,) = cotangents
        return ctx.pull(cotangent), None, None


def carry(target: Tensor, shape: torch.Size, pull: Callable[[Tensor], Tensor]) -> Tensor:
    """Return zeros whose derivative in ``target`` is a Jacobian of one's own choice.

    Args:
        target: what gets the gradient.
        shape: of the zeros.
        pull: the transposed Jacobian: from a cotangent of that shape to a gradient shaped like ``target``. It may hold
            tensors, through which nothing flows to ``target``.
    """
    out: Tensor = _Carry.apply(target, shape, pull)  # type: ignore[no-untyped-call]
    return out
