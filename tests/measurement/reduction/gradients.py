"""Gradients to reduce."""

import torch


def draw(rows, size, seed=0, dtype=torch.float64):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
