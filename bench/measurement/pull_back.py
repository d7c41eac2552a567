"""Gradients at q's own parameters to gradients at theta."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from estimators import parameters, totals


class PullBack:
    """Carries gradients at q's own parameters back to theta, all rows together.

    What is a known function of one tensor of theta goes by its closed form, the rest through autograd.

    Args:
        q: the distribution, built from theta.
        theta: named leaf tensors.
    """

    def __init__(self, q: Distribution, theta: dict[str, Tensor]) -> None:
        own = [t for t in parameters(q).values() if t.requires_grad]
        self.theta = list(theta.values())
        routes = [_route(t, self.theta) for t in own]
        self.closed = [(i, *route) for i, route in enumerate(routes) if route is not None]
        self.made = [i for i, route in enumerate(routes) if route is None]
        self.outputs = [own[i] for i in self.made]

    def __call__(self, parts: list[tuple[Tensor, ...]]) -> list[Tensor]:
        """Return the gradients at theta's tensors, flattened, ``[rows, size of the tensor]`` each.

        Args:
            parts: gradients at q's own parameters, ``[rows of the part, ...]`` each, of parts that are put together.
        """
        own = [g[0] if len(g) == 1 else torch.cat(g) for g in zip(*parts, strict=True)]
        out: list[Tensor | None] = [None] * len(self.theta)
        for i, k, pull in self.closed:
            g = pull(own[i]).flatten(1)
            out[k] = g if (before := out[k]) is None else before + g
        if self.made:
            # What made q is passed once, by all parts together: its matrix products are too small for one part alone.
            pulled = torch.autograd.grad(
                self.outputs,
                self.theta,
                [own[i] for i in self.made],
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
            for k, extra in enumerate(pulled):
                if extra is not None:
                    g = extra.flatten(1)
                    out[k] = g if (before := out[k]) is None else before + g
        rows = len(own[0])
        return [own[0].new_zeros(rows, t.numel()) if g is None else g for g, t in zip(out, self.theta, strict=True)]


_ELEMENTWISE = tuple(f"{name}Backward" for name in ("Exp", "Sigmoid", "Softplus", "Tanh", "Expand"))
"""What autograd calls functions with a diagonal Jacobian; the last, of ``broadcast_all``, where it keeps the shape."""
Pull = Callable[[Tensor], Tensor]
"""Takes gradients ``[rows, ...]`` back to one tensor of theta."""


def _route(own: Tensor, theta: list[Tensor]) -> tuple[int, Pull] | None:
    """Return which tensor of theta q's own parameter is, or is a known function of, and how gradients go back there.

    Known are elementwise functions, and the normalisation of logits, ``logits - logsumexp(logits)``. None where it is
    neither: autograd has to do it.
    """
    node, steps = own.grad_fn, 0
    while node is not None and node.name().startswith(_ELEMENTWISE):
        steps += not node.name().startswith("Expand")
        node = node.next_functions[0][0]
    leaf = own if own.grad_fn is None else getattr(node, "variable", None)
    for k, t in enumerate(theta):
        if t is leaf and t.shape == own.shape:
            return k, _times(torch.autograd.grad(own.sum(), t, retain_graph=True)[0]) if steps else _as_it_is
        if _is_normalised(own, t):
            return k, _centred(t.detach().softmax(-1))
    return None


def _as_it_is(g: Tensor) -> Tensor:
    return g


def _times(slope: Tensor) -> Pull:
    return lambda g: g * slope


def _centred(p: Tensor) -> Pull:
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
