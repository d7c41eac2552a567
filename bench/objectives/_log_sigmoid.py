"""Sums of log sigmoids: the log-likelihood of bits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

FACTORS = 120
"""How many numbers from 1/2 to 1 have a product that float32 holds to full precision, with some to spare."""


def sum_log_sigmoid(a: Tensor) -> Tensor:
    """Return ``sum_i log sigmoid(a_i)`` over the last axis, ``[...]`` from ``[..., N]``."""
    return logsigmoid(a).sum(-1) if a.requires_grad else summed(a)  # torch's has the faster derivative


def summed(a: Tensor) -> Tensor:
    """Return the same, not to be differentiated by autograd.

    ``log sigmoid(a) = min(a, 0) + log sigmoid(abs(a))``, and a sum of the latter is the logarithm of a product: half
    the time of torch's ``logsigmoid``, which takes a logarithm and an exponential of each.
    """
    negative_part = a.clamp_max(0).sum(-1)
    sure = a.abs().sigmoid_()
    parts = [factors.prod(-1) for factors in torch.split(sure, FACTORS, -1)]
    return torch.stack(parts).log_().sum(0).add_(negative_part)
