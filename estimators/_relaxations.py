"""Relaxed samples of bits and one-hot categories."""

import math

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Distribution

from estimators._axes import SHORT, over_categories, totals
from estimators._densities import logits, row_probs
from estimators._laws import inner
from estimators._noise import gumbel, logistic, uniform
from estimators._rows import one
from estimators._surrogate import Pull, pull_through_sigmoid, with_derivative
from estimators._transforms import indicator, reusable, transformed


def _softmax(x: Tensor, out: Tensor | None) -> Tensor:
    """Return ``exp(x) / sum exp(x)`` over the last axis, in the memory of ``out`` if it is given and the axis is short.

    The largest x is subtracted only if an exponential might overflow, or all of them underflow.
    """
    if not x.is_cpu or transformed() or x.shape[-1] >= SHORT:
        return x.softmax(-1)
    low, high = x.aminmax()
    safe = math.log(torch.finfo(x.dtype).max / SHORT) - 1  # between -safe and safe exponentials have finite sums, not 0
    e = torch.exp(x if low > -safe and high < safe else x - x.amax(-1, keepdim=True), out=out)
    return e.div_(over_categories(e))


def _pull_through_softmax(g: Tensor, y: Tensor) -> Tensor:
    """Return ``(diag(y) - y y^T) g``."""
    weighted = y * g
    if transformed():  # y may have rows of vmap that g has not
        return weighted - totals(weighted) * y
    return weighted.addcmul_(totals(weighted), y, value=-1)


def perturbed(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return q's logits plus n draws of noise, ``[n, *batch, *event]``, without a graph.

    The noise is logistic for a Bernoulli q, Gumbel for a OneHotCategorical q. ``harden`` makes samples of q from these
    perturbed logits. ``squash`` makes relaxed samples: points between the bits or one-hot vectors. If ``generator`` is
    None, torch's global generator draws the noise.
    """
    noise = logistic if isinstance(inner(q), Bernoulli) else gumbel
    own = logits(q).detach()
    return noise(Size((n, *q.batch_shape, *q.event_shape)), own, generator).add_(one(own, q))


def squash(q: Distribution, z: Tensor, temperature: Tensor | float) -> Tensor:
    """Return relaxed samples, of the shape of z, made from perturbed logits z; differentiable in z and the temperature.

    ``sigmoid(z / temperature)``  for Bernoulli
    ``softmax(z / temperature)``  for categories

    Args:
        q: a Bernoulli or OneHotCategorical distribution.
        z: perturbed logits, logits plus noise as ``perturbed`` makes them, ``[n, *batch, *event]``.
        temperature: a positive number or scalar tensor. The smaller it is, the nearer the result is to a sample of q.
    """
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        z, temperature = z / temperature, 1.0
    row, own = one(z.detach(), q), _is_one(temperature)
    scaled = row if own else row / temperature
    return with_derivative(z, _link(q, scaled, None if own else reusable(scaled)).expand_as(z), _pull(q, temperature))


def relaxed(q: Distribution, z: Tensor, temperature: float) -> Tensor:
    """Return relaxed samples, of the shape of z, made from perturbed logits z; differentiable in q's logits.

    ``sigmoid(z / temperature)``  for Bernoulli
    ``softmax(z / temperature)``  for categories

    The gradient in q's logits is the gradient in z, because z is these logits plus noise.

    Args:
        q: a Bernoulli or OneHotCategorical distribution.
        z: perturbed logits, logits plus noise as ``perturbed`` makes them, ``[n, *batch, *event]``, without a graph.
            The memory of z may be overwritten.
        temperature: a positive number. The smaller it is, the nearer the result is to a sample of q.
    """
    scaled = z if _is_one(temperature) else z.div_(temperature)
    return with_derivative(logits(q), _link(q, scaled, reusable(scaled)), _pull(q, temperature))


def race(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return n Gumbel-softmax samples at temperature 1 of a categorical q, ``[n, *batch, *event]``.

    ``y = (p / E) / sum(p / E)``,  E standard exponential, p the probabilities of q

    Because ``-log E`` is Gumbel, y is the softmax of logits plus Gumbel noise. E is made as ``-log u`` from a uniform
    u, so one logarithm is computed, and no exponential. The denominator is finite and not 0, because p sums to 1. The
    result is differentiable in q's logits. If ``generator`` is None, torch's global generator draws.
    """
    p = row_probs(q)
    u = uniform(Size((n, *q.batch_shape, *q.event_shape)), p, generator)
    rates = torch.div(p.neg(), u.log_(), out=reusable(u))
    value = rates.div_(over_categories(rates))
    return with_derivative(logits(q), value, _pull_through_softmax)


def _is_one(temperature: Tensor | float) -> bool:
    """Return whether a temperature is the number 1; False for a tensor, whose value a GPU would have to send."""
    return isinstance(temperature, int | float) and temperature == 1


def _link(q: Distribution, z: Tensor, out: Tensor | None) -> Tensor:
    return torch.sigmoid(z, out=out) if isinstance(inner(q), Bernoulli) else _softmax(z, out)


def _pull(q: Distribution, temperature: Tensor | float) -> Pull:
    """Return the pull-back through the relaxation at a temperature."""
    through = pull_through_sigmoid if isinstance(inner(q), Bernoulli) else _pull_through_softmax
    return through if _is_one(temperature) else lambda g, y: through(g, y).div_(temperature)


def harden(q: Distribution, z: Tensor) -> Tensor:
    """Return samples of q, the discrete outcomes of perturbed logits z, of the shape of z, without a gradient.

    ``1[z > 0]``  for Bernoulli
    ``onehot(argmax z)``  for categories

    Args:
        q: a Bernoulli or OneHotCategorical distribution.
        z: perturbed logits, logits plus noise as ``perturbed`` makes them, ``[n, *batch, *event]``.
    """
    if isinstance(inner(q), Bernoulli):
        return indicator(torch.gt, z.detach(), 0, out=torch.empty_like(z))
    return z.new_zeros(z.shape).scatter_(-1, z.argmax(-1, keepdim=True), 1.0)
