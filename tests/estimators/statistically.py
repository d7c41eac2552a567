"""Many gradients of an estimator, and scores that say how far their mean or variance is from a number."""

from __future__ import annotations

import math

import torch

from estimators import parameters, rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients(estimator, f, q, count, seed=1, state=None):
    """Return one gradient per row at the first of q's parameters that requires one, ``[count, *parameter]``."""
    r = rows(q, count)
    loss = estimator(f, r, seeded(seed), state)
    (g,) = torch.autograd.grad(loss.sum(), [next(t for t in parameters(r).values() if t.requires_grad)])
    return g


def centred(g, p):
    """Return gradients at normalised logits as those at the logits before, p their softmax."""
    return g - p * g.sum(-1, keepdim=True)


def mean_scores(samples, exact):
    """Return z-scores of the means over the first axis."""
    error = samples.std(0) / math.sqrt(len(samples))
    return (samples.mean(0) - exact) / error.clamp_min(1e-12)


def variance_scores(samples, exact):
    """Return z-scores of the variances over the first axis, with standard errors from the fourth moments."""
    square = (samples - samples.mean(0)).square()
    return (square.mean(0) - exact) / (square.std(0) / math.sqrt(len(samples))).clamp_min(1e-12)
