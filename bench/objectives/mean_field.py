"""The mean-field Gaussian, and theta with its two parameters."""

import torch
from torch.distributions import Distribution, Independent, Normal

from bench.objectives._protocol import Theta


def point(dim: int, mean: float, log_scale: float, dtype: torch.dtype, device: torch.device | str) -> Theta:
    """Return theta: ``mean`` and ``log_scale``, ``[dim]`` each, with the given number in every coordinate."""
    return {
        "mean": torch.full((dim,), mean, dtype=dtype, device=device, requires_grad=True),
        "log_scale": torch.full((dim,), log_scale, dtype=dtype, device=device, requires_grad=True),
    }


def mean_field(theta: Theta) -> Distribution:
    """Return independent coordinates from N(mean, exp(log_scale)^2), as one event ``[dim]``."""
    q = Normal(theta["mean"], theta["log_scale"].exp(), validate_args=False)
    return Independent(q, 1, validate_args=False)
