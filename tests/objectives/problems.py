"""Problems in float64, and their gradients."""

import torch


def sharp(objective):
    """Return the problem of an objective in float64."""
    return objective.build(torch.float64)


def made(objective):
    """Return the problem of an objective, its q and its f, in float64."""
    problem = sharp(objective)
    q = problem.q(problem.theta)
    return problem, q, problem.integrand(q)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def gradient_of(problem, value=None):
    """Return the gradient of a value in theta, flat: of the exact value unless another is given."""
    value = problem.exact(problem.theta) if value is None else value
    return flat(torch.autograd.grad(value, list(problem.theta.values())))
