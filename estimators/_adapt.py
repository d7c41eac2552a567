"""One step of learning for an estimator's state."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution
from torch.optim import Optimizer

from estimators._protocol import Estimator, Integrand, State
from estimators._rows import parameters


def adapt(
    estimator: Estimator,
    f: Integrand,
    q: Distribution,
    state: State,
    optimizer: Optimizer | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Take one step on the second moment of the gradient at q's own parameters, then update the state's buffers.

    The estimator is unbiased whatever its state, so a smaller second moment is a smaller variance (Ruiz, Titsias & Blei
    2016, section 3; Tucker et al. 2017, section 3.2).

    Args:
        estimator: an estimator that learns.
        f: the integrand.
        q: the distribution, batch shape ``[*batch]``; its parameters must require gradients, and get none.
        state: what ``estimator.init(q)`` made.
        optimizer: over ``state.parameters()``; not needed where the state has only buffers.
        generator: source of all noise.

    Returns:
        The second moment, summed over coordinates and averaged over batch: a scalar without a graph.

    Raises:
        ValueError: the state has parameters and no optimizer came.
    """
    learned = [p for p in state.parameters() if p.requires_grad]
    if learned and optimizer is None:
        raise ValueError(
            f"{estimator!r} learns {len(learned)} tensors, and adapt got no optimizer. "
            "Pass torch.optim.Adam(state.parameters())."
        )
    loss = estimator(f, q, generator, state)
    own = [p for p in parameters(q).values() if p.requires_grad]
    gradients = torch.autograd.grad(loss.sum(), own, create_graph=bool(learned), materialize_grads=True)
    moment = sum((g.square().sum() for g in gradients), loss.new_zeros(())) / max(loss.numel(), 1)
    if optimizer is not None and learned:
        optimizer.zero_grad()
        for parameter, gradient in zip(learned, torch.autograd.grad(moment, learned, materialize_grads=True), strict=True):
            parameter.grad = gradient
        optimizer.step()
    state.update(loss.detach())
    return moment.detach()
