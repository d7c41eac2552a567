"""Surrogates: tensors with one formula for the value and another one for the gradient."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.distributions import Distribution

from estimators._axes import over_event, over_samples, spread
from estimators._first_order import again, no_second_derivatives, once
from estimators._parameters import parameters
from estimators._transforms import Function, apply, forward_mode, is_differentiated, primals_of, transformed

Pull = Callable[[Tensor, Tensor], Tensor]
"""A pull-back: maps the cotangent of a value, and the value itself, to the gradient of the value's source."""


class _WithDerivative(Function):
    """The second argument's value; its source, the first argument, gets ``pull(cotangent, value)``."""

    @staticmethod
    def forward(_source: Tensor, value: Tensor, _pull: Pull) -> Tensor:
        return value.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        source, value, ctx.pull = inputs
        ctx.same = source.dim() == value.dim()
        saved = (source, output) if forward_mode() else (output,)
        ctx.save_for_backward(*saved)
        if forward_mode():
            ctx.save_for_forward(*saved)
        ctx.set_materialize_grads(False)  # without a cotangent there is no gradient, rather than zeros

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, None, None]:
        (g,) = cotangents
        if g is None:
            return None, None, None
        pulled = ctx.pull(g, ctx.saved_tensors[-1])
        return pulled if ctx.same else over_samples(pulled), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        with forward_ad._set_fwd_grad_enabled(True):  # torch switches it off here, but outer levels differentiate this
            source, value = primals_of(ctx.saved_tensors)
            value = with_derivative(source, value, ctx.pull)  # with the tangents of outer levels
            return cast(Tensor, ctx.pull(tangent.expand_as(value), value))


def with_derivative(source: Tensor, value: Tensor, pull: Pull) -> Tensor:
    """Return ``value`` with a new derivative: in the backward pass, ``source`` gets ``pull(cotangent, value)``.

    The cotangent is the gradient that arrives at the result. ``value``, ``[n, ...]`` or ``[...]``, was computed from
    ``source``, ``[...]``, and has no graph. A gradient of shape ``[n, ...]`` is summed over its first axis. Because
    ``pull`` is a function of the value, derivatives of any order are right. ``pull`` must be symmetric, as the Jacobian
    of a sigmoid or a softmax is, because forward mode applies it to tangents.
    """
    value = value.contiguous() if forward_mode() else value  # torch writes the tangent in memory of the same layout
    return cast(Tensor, apply(_WithDerivative, source, value, pull))


pull_through_sigmoid: Pull = torch.ops.aten.sigmoid_backward
"""The pull-back through a sigmoid: ``g y (1 - y)`` for the cotangent g and the sigmoid y of the source."""


def grad_only(x: Tensor) -> Tensor:
    """Return ``x - x.detach()``: zeros of the shape of x that have the gradient of x."""
    return x - x.detach()


class _Through(Function):
    """The value of the first argument; the gradient goes to the second."""

    @staticmethod
    def forward(value: Tensor, _source: Tensor, _who: object) -> Tensor:
        return value.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        value, source, ctx.who = inputs
        ctx.same = value.dim() == source.dim()
        ctx.save_for_backward(source)
        if forward_mode():
            ctx.save_for_forward(source, value)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor, None]:
        (cotangent,) = cotangents
        return None, once(cotangent if ctx.same else over_samples(cotangent), ctx.who, *ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, _value: None, tangent: Tensor, _who: None) -> Tensor:
        source, value = primals_of(ctx.saved_tensors)
        return once(tangent.expand_as(value), ctx.who, source)


def through(value: Tensor, source: Tensor, estimator: object = None) -> Tensor:
    """Return ``value``, ``[n, ...]``, with the gradient of ``source``, ``[n, ...]`` or ``[...]``.

    The result acts like ``value.detach() + source - source.detach()``, but is ``value`` to the last bit. No gradient
    flows into ``value``. If ``source`` has no axis of samples, its gradient is summed over the samples. A second
    derivative in ``source`` raises ``Refusal``, whose message names ``estimator``.
    """
    return cast(Tensor, apply(_Through, value, source, estimator))


class _Joined(Function):
    """The sum of a value and a surrogate, whose mixed second derivatives are refused."""

    @staticmethod
    def forward(_who: object, value: Tensor, surrogate: Tensor) -> Tensor:
        return value + surrogate

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        ctx.who, *both = inputs
        ctx.save_for_backward(*both)
        if forward_mode():
            ctx.save_for_forward(*both)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor, Tensor]:
        value, surrogate = ctx.saved_tensors
        return None, once(*cotangents, ctx.who, surrogate), once(*cotangents, ctx.who, value)

    @staticmethod
    def jvp(ctx: Any, _who: None, of_value: Tensor | None, of_surrogate: Tensor | None) -> Tensor:
        value, surrogate = primals_of(ctx.saved_tensors)
        total = torch.zeros_like(value + surrogate)
        if of_value is not None:
            total = total + once(of_value, ctx.who, surrogate)
        return total if of_surrogate is None else total + once(of_surrogate, ctx.who, value)


def joined(value: Tensor, surrogate: Tensor, estimator: object = None) -> Tensor:
    """Return ``value + surrogate``, the result of an estimator: its value, with the gradient of ``surrogate`` added.

    ``surrogate`` holds zeros that carry a gradient, made by ``inject`` or ``score``. If ``value`` has a graph, the sum
    passes gradients to tensors that f uses, too. Autograd does not know how these gradients depend on q's parameters,
    nor how the surrogate's gradients depend on f's tensors. So a mixed second derivative, in a parameter of q and a
    tensor of f, raises ``Refusal``, whose message names ``estimator``.
    """
    if is_differentiated(value):
        return cast(Tensor, apply(_Joined, estimator, value, surrogate))
    return value + surrogate


class _Inject(Function):
    """Value 0; in the backward pass each target gets the cotangent times its given gradient."""

    @staticmethod
    def forward(zeros: Tensor, _who: object, _mean_zero: bool, *_: Tensor) -> Tensor:
        return zeros.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.who, ctx.mean_zero, *tensors = inputs  # gradients, then their targets
        ctx.save_for_backward(*tensors)  # inputs: under create_graph=True the result stays attached to their graphs
        if forward_mode():
            ctx.save_for_forward(*tensors, output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (cotangent,) = cotangents
        gradients, targets = _halves(ctx.saved_tensors)
        if _is_ones(cotangent):  # no pass over the data
            out = [t.detach() if t.requires_grad and not torch.is_grad_enabled() else t for t in gradients]
        else:
            out = [scaled(spread(cotangent, t), t) for t in gradients]
        if not ctx.mean_zero and again(targets):
            out = [once(t, ctx.who, *targets) for t in out]
        return (None,) * (3 + len(out)) + (*out,)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        *both, zeros = primals_of(ctx.saved_tensors)
        gradients, targets = _halves(both)
        total = zeros.detach()
        for gradient, tangent in zip(gradients, tangents[-len(targets) :], strict=True):
            if tangent is not None:
                total = total + over_event(gradient.detach() * tangent, gradient.dim() - zeros.dim())
        return total if ctx.mean_zero else once(total, ctx.who, *targets)


def scaled(cotangent: Tensor, gradient: Tensor) -> Tensor:
    """Return ``cotangent * gradient``, with 0 where the cotangent is 0, even if the gradient is infinite there.

    If all entries of the cotangent are one number in memory (stride 0), none of them is compared with 0, and the plain
    product is returned.
    """
    product = cotangent * gradient
    one_for_all = cotangent.dim() and not any(cotangent.stride())
    return product if one_for_all else torch.where(cotangent != 0, product, 0)


def _halves(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]


def _is_ones(t: Tensor) -> bool:
    """Return whether t is an expanded 1 without a graph; False on a GPU and under a transform, which hide the value."""
    if transformed() or is_differentiated(t) or not t.is_cpu or any(t.stride()) or not t.numel():
        return False
    return t.as_strided((), ()).item() == 1


def inject(q: Distribution, estimator: object = None, /, **gradients: Tensor) -> Tensor:
    """Return zeros, ``[*batch]``, whose backward pass gives q's parameters the gradients that are passed in.

    The parameters are the tensors from which q was made. In the backward pass, the parameter named ``p`` gets
    ``gradients[p]`` times the gradient of the loss at the zeros. A second derivative in a parameter raises ``Refusal``.

    Args:
        q: the distribution, of batch shape ``[*batch]``.
        estimator: the caller; the message that refuses a second derivative names it.
        **gradients: one gradient for each parameter that gets one, under its name in ``parameters(q)`` and of its
            shape, ``[*batch, ...]``. A gradient may carry a graph to a learned state. The gradients are saved with
            ``save_for_backward``, so they must not be changed in place.

    Raises:
        ValueError: q has no parameter of this name, or the shape of a gradient is not the shape of its parameter.
    """
    own, pairs = parameters(q), []
    for name, gradient in gradients.items():
        if (target := own.get(name)) is None:
            raise ValueError(
                f"inject got a gradient for {name!r}, but the parameters of this {type(q).__name__} are {list(own)}. "
                "Use one of these names."
            )
        if gradient.shape != target.shape:
            raise ValueError(
                f"inject got a gradient of shape {list(gradient.shape)} for {name}, whose shape is "
                f"{list(target.shape)}. Sum it over the samples only."
            )
        pairs.append((gradient, target))
    return inject_at(q.batch_shape, pairs, estimator)


def inject_at(
    batch_shape: torch.Size, pairs: list[tuple[Tensor, Tensor]], estimator: object = None, mean_zero: bool = False
) -> Tensor:
    """Return zeros, ``[*batch]``. In the backward pass, each target gets its gradient times the cotangent.

    The cotangent is the gradient of the loss at the zeros. A target is any tensor computed from q's parameters, such as
    the logits of a q that was made from probabilities. For the tensors from which q was made, use ``inject``. Autograd
    does not know how a gradient depends on the targets. So a second derivative in a target raises ``Refusal``, unless
    ``mean_zero`` is True.

    Args:
        batch_shape: the shape of the zeros, ``[*batch]``.
        pairs: at least one pair of gradient and target, both ``[*batch, ...]``. A gradient may carry a graph, for
            example to a learned state. A backward pass sends nothing into this graph; but the gradients of a backward
            pass with ``create_graph=True`` can be differentiated in the state.
        estimator: the caller; the message that refuses a second derivative names it.
        mean_zero: whether the mean of every gradient is 0 for all values of the targets, as for a control variate. The
            derivative of the gradient then has mean 0 as well, and a second derivative leaves it out.
    """
    used = [(gradient, target) for gradient, target in pairs if is_differentiated(target)]
    if not used:
        return pairs[0][0].new_zeros(batch_shape)
    gradients, targets = zip(*used, strict=True)
    zeros = _zeros(gradients[0], batch_shape)
    return cast(Tensor, apply(_Inject, zeros, estimator, mean_zero, *gradients, *targets))


def _zeros(like: Tensor, shape: torch.Size) -> Tensor:
    """Return zeros of stride 0; of contiguous memory in forward mode, which writes tangents of the same layout."""
    return like.new_zeros(shape) if forward_mode() else like.new_zeros(()).expand(shape)


class _Carry(Function):
    """Value 0; in the backward pass the target gets the cotangent, transformed by a given function."""

    @staticmethod
    def forward(zeros: Tensor, _target: Tensor, _pull: Callable[[Tensor], Tensor], _who: object) -> Tensor:
        return zeros.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, target, ctx.pull, ctx.who = inputs
        ctx.save_for_backward(target)
        if forward_mode():
            ctx.save_for_forward(target, output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, Tensor, None, None]:
        return None, once(ctx.pull(*cotangents), ctx.who, *ctx.saved_tensors), None, None

    @staticmethod
    def jvp(ctx: Any, _zeros: None, tangent: Tensor, *_: None) -> Tensor:
        target, zeros = primals_of(ctx.saved_tensors)
        transposed: Any = torch.func.vjp(ctx.pull, zeros.new_zeros(zeros.shape))[1]  # the pull-back is linear
        try:
            return once(transposed(tangent)[0], ctx.who, target)
        except RuntimeError as error:  # the pull-back holds tensors of a transform further in
            raise no_second_derivatives(ctx.who) from error


def carry(target: Tensor, shape: torch.Size, pull: Callable[[Tensor], Tensor], estimator: object = None) -> Tensor:
    """Return zeros of the given shape. In the backward pass, ``target`` gets ``pull(cotangent)``.

    The cotangent, of the given shape, is the gradient of the loss at the zeros. ``pull`` applies the transposed
    Jacobian: it is a linear function from the cotangent to a gradient of the shape of ``target``. Tensors that ``pull``
    closes over get no gradient. So a second derivative in ``target`` raises ``Refusal``, whose message names
    ``estimator``.
    """
    return cast(Tensor, apply(_Carry, _zeros(target, shape), target, pull, estimator))
