"""Sums of log sigmoids, the log-likelihood of bits."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bench.objectives._functions import transformed

FACTORS = 120
"""Number of factors from 1/2 to 1 in one product: few enough, with a margin, for full precision in float32."""


def sum_log_sigmoid(a: Tensor) -> Tensor:
    """Return ``sum_i log sigmoid(a_i)`` over the last axis, ``[...]`` from ``[..., N]``."""
    differentiated = a.requires_grad or transformed()  # then torch's function is the faster one
    return logsigmoid(a).sum(-1) if differentiated else sum_log_sigmoid_value(a)


def sum_log_sigmoid_value(a: Tensor) -> Tensor:
    """Return ``sum_i log sigmoid(a_i)``, ``[...]`` from ``[..., N]``; autograd must not differentiate the result.

    ``log sigmoid(a) = min(a, 0) + log sigmoid(abs(a))``

    The terms ``log sigmoid(abs(a))`` are summed as the logarithm of a product of sigmoids. This takes half the time of
    torch's ``logsigmoid``, which computes a logarithm and an exponential for every term.
    """
    negative_part = a.clamp_max(0).sum(-1)
    sure = a.abs().sigmoid_()
    parts = [factors.prod(-1) for factors in torch.split(sure, FACTORS, -1)]
    return torch.stack(parts).log_().sum(0).add_(negative_part)
