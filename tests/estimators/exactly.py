"""Exact means and variances of an estimator: its noise is replaced by the nodes of a quadrature, one per row of q."""

import itertools

import numpy as np
import torch

from estimators import parameters, rows


def hermite(count: int, variables: int = 1):
    """Return nodes ``[count^variables, variables]`` and weights for standard normals: exact to degree 2 count - 1."""
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(count))
    nodes = torch.tensor(list(itertools.product(z.tolist(), repeat=variables)), dtype=torch.float64)
    weights = torch.tensor(list(itertools.product((w / w.sum()).tolist(), repeat=variables)), dtype=torch.float64)
    return nodes, weights.prod(-1)


def bits(p: float, variables: int):
    """Return every outcome of so many independent bits, ``[2^variables, variables]``, and its probability."""
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=variables)), dtype=torch.float64)
    return x, (p * x + (1 - p) * (1 - x)).prod(-1)


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
