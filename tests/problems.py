"""Small problems, exact answers and scores that several rooms of tests use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical
from torch.nn.functional import one_hot

from bench.conformance import support
from estimators import parameters, rows


def seeded(seed=0):
    return Generator().manual_seed(seed)


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


def leaf(*values):
    return t(*values).requires_grad_()


def uniforms(generator, *shape):
    """Return uniform numbers above 0, as the estimators draw them."""
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 2.0**-54


# Distributions ----------------------------------------------------------------------------------------------------


def bits(logits):
    """Return independent bits as one event."""
    return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


def hot(logits):
    """Return independent one-hot categories as one event."""
    return Independent(OneHotCategorical(logits=logits, validate_args=False), 1, validate_args=False)


class Family(NamedTuple):
    theta: tuple[Tensor, ...]
    build: Callable[..., Distribution]
    score: Callable[..., tuple[Tensor, ...]]
    """``score(x, *theta)`` is grad log q(x), written out, ``[n, ...]`` for each of theta."""


def _normal(x, loc, scale):
    return (x - loc) / scale**2, ((x - loc) ** 2 - scale**2) / scale**3


def _bernoulli_probs(x, p):
    return ((x - p) / (p * (1 - p)),)


def _hot(x, p):
    return one_hot(x, p.shape[-1]).double() if x.dim() == p.dim() else x


FAMILIES = {
    "normal": Family((t(0.5, -0.8), t(0.9, 0.6)), lambda m, s: Independent(Normal(m, s), 1), _normal),
    "normal-batch": Family((t(0.5, -0.8, 2.0), t(0.9, 0.6, 1.4)), Normal, _normal),
    "bernoulli-logits": Family(
        (t([0.4, -1.2], [0.3, 2.0]),),
        lambda logits: Independent(Bernoulli(logits=logits), 1),
        lambda x, logits: (x - 1 / (1 + torch.exp(-logits)),),
    ),
    "bernoulli-probs": Family((t(0.3, 0.8),), lambda p: Independent(Bernoulli(p), 1), _bernoulli_probs),
    "categorical-logits": Family(
        (t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]),),
        lambda logits: Independent(Categorical(logits=logits), 1),
        lambda x, logits: (_hot(x, logits) - torch.softmax(logits, -1),),
    ),
    "categorical-probs": Family(
        (t([0.2, 0.5, 0.3], [0.6, 0.1, 0.3]),),
        lambda p: Categorical(p),
        lambda x, p: (_hot(x, p) / p - 1,),  # torch divides by the sum of p, hence the 1
    ),
    "one-hot-logits": Family(
        (t([0.4, -1.2, 0.3], [0.3, 2.0, -0.5]),),
        lambda logits: OneHotCategorical(logits=logits),
        lambda x, logits: (x - torch.softmax(logits, -1),),
    ),
    "one-hot-probs": Family(
        (t([0.2, 0.5, 0.3], [0.6, 0.1, 0.3]),),
        lambda p: Independent(OneHotCategorical(p), 1),
        lambda x, p: (x / p - 1,),
    ),
}

# Integrands -------------------------------------------------------------------------------------------------------


def curved(x):
    """Return an f of three variables that is neither affine nor separable."""
    return torch.sin(2 * x[..., 0] + x[..., 1]) + x[..., 1] * x[..., 2].exp() - 0.3 * x[..., 0] * x[..., 2]


def curved_on_hot(x):
    """Return an f of two one-hot variables of three categories that is neither affine nor separable."""
    slopes = torch.tensor([[0.3, -0.7, 1.1], [0.9, 0.4, -0.2]], dtype=x.dtype)
    a = (slopes * x).sum((-1, -2))
    return a.sin() + a.square() + x[..., 0, 0] * x[..., 1, 2] + 1


def curve(x):
    return (x**3).sum(-1).sin()


def curve_slope(x):
    """Return the derivative of ``curve`` by formula."""
    return (x**3).sum(-1, keepdim=True).cos() * 3 * x**2


def curved_on_pairs(x):
    """Return an f of two variables that is neither affine nor separable."""
    return (x[..., 0] + 0.4).sin() * (1 + 0.5 * x[..., 1]) + (0.3 * x).sum(-1).cos()


def black_box(q):
    """Return an f of no particular form, ``[..., *batch, *event] -> [..., *batch]``."""

    def f(x):
        u = x.double().flatten(x.dim() - len(q.event_shape)) if q.event_shape else x.double().unsqueeze(-1)
        k = torch.arange(1.0, u.shape[-1] + 1, dtype=torch.float64)
        return (u * k).sum(-1).sin() * 3 + (u / k).sum(-1) ** 2

    return f


def slope(f, x):
    """Return df/dx."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


# Exact answers: the noise of an estimator is replaced by the nodes of a quadrature, one per row of q -----------------


def hermite(count: int, variables: int = 1):
    """Return nodes ``[count^variables, variables]`` and weights for standard normals: exact to degree 2 count - 1."""
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(count))
    nodes = torch.tensor(list(itertools.product(z.tolist(), repeat=variables)), dtype=torch.float64)
    weights = torch.tensor(list(itertools.product((w / w.sum()).tolist(), repeat=variables)), dtype=torch.float64)
    return nodes, weights.prod(-1)


def outcomes(variables: int):
    """Return every outcome of bits, ``[2^variables, variables]``."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=variables)), dtype=torch.float64)


def weighted_outcomes(p: float, variables: int):
    """Return every outcome of independent bits, ``[2^variables, variables]``, and its probability."""
    x = outcomes(variables)
    return x, (p * x + (1 - p) * (1 - x)).prod(-1)


def exact_gradient(f, build, logits):
    """Return the gradient of E_q[f] in the logits of bits or categories, by a sum over the support."""
    theta = logits.clone().requires_grad_()
    x, mass = support(build(theta))
    return torch.autograd.grad((mass * f(x)).sum(), theta)[0]


def row_gradients(estimator, f, q, count: int):
    """Return one gradient per row, by name of the parameter."""
    r = rows(q, count)
    own = {name: t for name, t in parameters(r).items() if t.requires_grad}
    loss = estimator(f, r)
    return dict(zip(own, torch.autograd.grad(loss.sum(), list(own.values())), strict=True))


def moments(gradient, weights):
    """Return mean and variance over rows."""
    mean = (weights * gradient).sum().item()
    return mean, (weights * (gradient - mean).square()).sum().item()


# Many gradients, and scores that say how far their mean or variance is from a number ----------------------------------


def gradients(estimator, f, q, count, seed=1, state=None):
    """Return one gradient per row at the first of q's parameters that requires one, ``[count, *parameter]``."""
    r = rows(q, count)
    loss = estimator(f, r, seeded(seed), state)
    (g,) = torch.autograd.grad(loss.sum(), [next(t for t in parameters(r).values() if t.requires_grad)])
    return g


def centred(g, p):
    """Return the gradient at logits from the gradient at their normalised logits; p is the softmax."""
    return g - p * g.sum(-1, keepdim=True)


def mean_scores(samples, exact):
    """Return z-scores of the means over the first axis."""
    error = samples.std(0) / math.sqrt(len(samples))
    return (samples.mean(0) - exact) / error.clamp_min(1e-12)


def variance_scores(samples, exact):
    """Return z-scores of the variances over the first axis, with standard errors from the fourth moments."""
    square = (samples - samples.mean(0)).square()
    return (square.mean(0) - exact) / (square.std(0) / math.sqrt(len(samples))).clamp_min(1e-12)
