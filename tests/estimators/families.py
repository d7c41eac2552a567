"""Families with their scores written out: ``score(x, *theta)`` is grad log q(x), ``[n, ...]`` for each of theta."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical
from torch.nn.functional import one_hot


class Family(NamedTuple):
    theta: tuple[Tensor, ...]
    build: Callable[..., Distribution]
    score: Callable[..., tuple[Tensor, ...]]


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


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
