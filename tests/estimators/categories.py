"""Two categorical variables, and an f of them."""

import torch
from torch.distributions import Categorical, Independent

LOGITS = torch.tensor([[0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]], dtype=torch.float64)


def f(x):
    """Neither affine nor separable."""
    x = x.double()
    return torch.sin(2 * x[..., 0] - x[..., 1]) + x[..., 0] * x[..., 1]


def categories(logits=LOGITS, cls=Categorical):
    return Independent(cls(logits=logits.clone().requires_grad_(), validate_args=False), 1)
