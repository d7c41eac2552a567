"""Draws of a distribution with an explicit generator, ``[n, *batch, *event]``.

Normal, Bernoulli, Categorical and OneHotCategorical, alone or under ``Independent``, compute parameters only once for
rows that share them. A ``Drawable`` brings its own sampler. Every other distribution uses torch's, which is slower:
torch's global generator is seeded from the given one and restored afterwards.
"""

import math

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, OneHotCategorical
from torch.nn import functional

from estimators._densities import row_probs
from estimators._half_precision import widened
from estimators._laws import closed, has_law, inner, is_torchs
from estimators._noise import normal, random, torch_seeded, uniform
from estimators._parameters import first_parameter
from estimators._refusals import UnsupportedFamily
from estimators._transforms import indicator, no_derivatives
from estimators.distributions import Drawable


def draw(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return n samples of q, ``[n, *batch, *event]``, without a graph.

    If ``generator`` is None, torch's global generator draws.
    """
    if (wide := widened(q)) is not q:
        return _as_q(q, draw(wide, n, generator))
    base, shape = inner(q), Size((n, *q.batch_shape, *q.event_shape))
    match closed(base):
        case Normal(loc=loc, scale=scale):
            return normal(shape, loc, generator).mul_(scale.detach()).add_(loc.detach())
        case Bernoulli():
            return _bits(q, shape, generator)
        case OneHotCategorical():
            return _one_hot(q, shape[:-1], generator)
        case Categorical():
            bounds = _bounds(q)  # inverse transform, one uniform for each category number
            return (uniform(shape, bounds, generator).unsqueeze(-1) >= bounds).sum(-1)
        case _ if not is_torchs(type(base)) and isinstance(base, Drawable):
            with no_derivatives():
                return base.draw(Size((n,)), generator)
        case _:
            with no_derivatives(), torch_seeded(generator):
                return q.sample(Size((n,)))


def _as_q(q: Distribution, x: Tensor) -> Tensor:
    """Return samples in the dtype of q, in which they may be rounded; whole numbers stay what they are."""
    return x.to(first_parameter(q).dtype) if x.is_floating_point() else x


def _bits(q: Distribution, shape: Size, generator: Generator | None) -> Tensor:
    """Return ``1[u < p]``, u uniform, with p rounded to the steps of torch's uniforms."""
    p = row_probs(q)
    half_step = torch.finfo(p.dtype).eps / 4  # torch.rand draws multiples of two half steps
    u = random(torch.rand, shape, p, generator)
    return indicator(torch.lt, u, p - half_step, out=u)


def _one_hot(q: Distribution, shape: Size, generator: Generator | None) -> Tensor:
    """Return one-hot vectors by inverse transform, one uniform each.

    ``x_c = 1[F(c - 1) <= u < F(c)]``,  F the distribution function of the categories
    """
    bounds = _bounds(q)
    begins, ends = functional.pad(bounds, (1, 0)), functional.pad(bounds, (0, 1), value=math.inf)
    u = uniform(shape, begins, generator).unsqueeze(-1).expand(*shape, begins.shape[-1]).contiguous()
    open_yet = indicator(torch.lt, u, ends, out=torch.empty_like(u))
    return indicator(torch.ge, u, begins, out=u).mul_(open_yet)


def _bounds(q: Distribution) -> Tensor:
    """Return the distribution function of a categorical q at every category except the last."""
    cdf = row_probs(q).cumsum(-1)
    return cdf[..., :-1] / cdf[..., -1:]


def rdraw(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return n samples of q, ``[n, *batch, *event]``, differentiable in q's parameters (``rsample``).

    If ``generator`` is None, torch's global generator draws the noise.

    Raises:
        UnsupportedFamily: q has no sampler of differentiable samples (``rsample``).
    """
    if (wide := widened(q)) is not q:
        return _as_q(q, rdraw(wide, n, generator))
    base = inner(q)
    if not q.has_rsample:
        raise UnsupportedFamily(f"{type(base).__name__} has no reparameterized sampler. Use ScoreFunction or RLOO.")
    if isinstance(base, Normal) and has_law(type(base), Normal):
        noise = normal(Size((n, *q.batch_shape, *q.event_shape)), base.loc, generator)
        if n != 1:
            return (noise * base.scale).add_(base.loc)
        # One sample is computed without its axis: autograd would sum over it, a pass that changes nothing.
        return (noise.squeeze(0) * base.scale).add_(base.loc).unsqueeze(0)
    if not is_torchs(type(base)) and isinstance(base, Drawable):
        return base.rdraw(Size((n,)), generator)
    with torch_seeded(generator):
        return q.rsample(Size((n,)))
