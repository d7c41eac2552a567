"""The pull-back of gradients from q's own parameters to theta."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from estimators import parameters, totals


class PullBack:
    """A function that turns gradients with respect to q's parameters into gradients with respect to theta.

    It does so for all replicates together. If a parameter of q is a known function of one tensor of theta, a closed
    form is used; if not, autograd.

    Args:
        q: the distribution, built from theta.
        theta: named leaf tensors.
    """

    def __init__(self, q: Distribution, theta: dict[str, Tensor]) -> None:
        own = [t for t in parameters(q).values() if t.requires_grad]
        self.theta = list(theta.values())
        routes = [route(t, self.theta) for t in own]
        self.closed = [(i, *route) for i, route in enumerate(routes) if route is not None]
        self.made = [i for i, route in enumerate(routes) if route is None]
        self.outputs = [own[i] for i in self.made]

    def __call__(self, slices: list[tuple[Tensor, ...]]) -> list[Tensor]:
        """Return the gradients at every tensor of theta, each ``[replicates, size of the tensor]``.

        ``slices`` hold the gradients of successive replicates at q's own parameters. A slice is a tuple with a tensor
        ``[replicates of the slice, ...]`` for each parameter of q that requires gradients.
        """
        own = [g[0] if len(g) == 1 else torch.cat(g) for g in zip(*slices, strict=True)]
        rows = len(own[0])
        out: list[Tensor | None] = [None] * len(self.theta)
        pulled: list[tuple[int, Tensor | None]] = [(k, pull(own[i])) for i, k, pull in self.closed]
        if self.made:
            # One pass for all slices: the matrix products of a single slice are too small to be fast.
            how = {"retain_graph": True, "allow_unused": True, "is_grads_batched": True}
            cotangents = [own[i] for i in self.made]
            pulled += enumerate(torch.autograd.grad(self.outputs, self.theta, cotangents, **how))
        for k, g in pulled:
            if g is not None:
                g = g if g.dim() == 2 else g.reshape(rows, self.theta[k].numel())
                out[k] = g if (before := out[k]) is None else before + g
        return [own[0].new_zeros(rows, t.numel()) if g is None else g for g, t in zip(out, self.theta, strict=True)]


_ELEMENTWISE = tuple(f"{name}Backward" for name in ("Exp", "Sigmoid", "Softplus", "Tanh", "Expand"))
"""Autograd's names of functions with a diagonal Jacobian; ``broadcast_all`` expands, which counts if shapes stay."""
Pull = Callable[[Tensor], Tensor]
"""A function that pulls gradients ``[rows, ...]`` back to one tensor of theta."""


def route(own: Tensor, theta: list[Tensor]) -> tuple[int, Pull] | None:
    """Return the closed form that turns gradients at ``own``, one of q's parameters, into gradients at theta.

    Let t be a tensor of theta. A closed form is known if ``own`` is t itself, an elementwise function of t, or the
    normalised logits ``t - logsumexp(t)``.

    Returns:
        The index of the tensor in ``theta``, and the function from gradients at ``own`` to gradients at that tensor;
        None if no closed form is known.
    """
    node, steps = own.grad_fn, 0
    while node is not None and node.name().startswith(_ELEMENTWISE):
        steps += not node.name().startswith("Expand")
        node = node.next_functions[0][0]
    leaf = own if own.grad_fn is None else getattr(node, "variable", None)
    for k, t in enumerate(theta):
        if t is leaf and t.shape == own.shape:
            return k, _times(torch.autograd.grad(own.sum(), t, retain_graph=True)[0]) if steps else unchanged
        if _is_normalised(own, t):
            return k, _centred(t.detach().softmax(-1))
    return None


def unchanged(g: Tensor) -> Tensor:
    """Return the gradients unchanged, for a parameter of q that is itself a tensor of theta."""
    return g


def _times(slope: Tensor) -> Pull:
    """Return the pull-back through an elementwise function: ``g * slope``."""
    return lambda g: g * slope


def _centred(p: Tensor) -> Pull:
    """Return the pull-back through the normalisation of logits: ``g - sum(g) p``, the sum over the last axis."""
    return lambda g: torch.addcmul(g, totals(g), p, value=-1)


def _is_normalised(own: Tensor, t: Tensor) -> bool:
    """Return whether ``own`` is the difference of ``t`` and its logsumexp over the last axis."""
    if own.grad_fn is None or not own.grad_fn.name().startswith("SubBackward") or own.shape != t.shape:
        return False
    (first, _), (second, _) = own.grad_fn.next_functions
    if getattr(first, "variable", None) is not t or second is None or not second.name().startswith("Logsumexp"):
        return False
    inside = second.next_functions[0][0]
    return getattr(inside, "variable", None) is t and torch.equal(own, t - t.logsumexp(-1, keepdim=True))
