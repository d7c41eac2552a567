"""Where the mean of f times the score is not the derivative of E[f]: what a score function never sees."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.distributions import (
    AffineTransform,
    CatTransform,
    ComposeTransform,
    Distribution,
    IndependentTransform,
    LogNormal,
    MixtureSameFamily,
    Poisson,
    ReshapeTransform,
    StackTransform,
    Transform,
    TransformedDistribution,
    constraints,
)

from estimators._laws import has_fixed_support, inner
from estimators._parameters import parameters
from estimators._refusals import UnsupportedFamily
from estimators._rows import one
from estimators._transforms import transformed
from estimators.distributions import Drawable


def refuse_unseen(q: Distribution) -> None:
    """Raise ``UnsupportedFamily`` if a score function would miss a part of the derivative of E_q[f].

    This happens in two cases. In the first case, an end a or b of q's support moves with a tensor that requires a
    gradient:

    ``d/dtheta int_a^b f q dx = int_a^b f dq/dtheta dx + f(b) q(b) db/dtheta - f(a) q(a) da/dtheta``

    A score function estimates only the first term. Examples are Uniform, the scale of Pareto and a shifted Exponential.
    If q has density 0 at the end, as a shifted LogNormal has, no term is missed.

    In the second case, q is a Poisson of rate 0. All samples are 0, but the derivative in the rate is ``f(1) - f(0)``.
    A rate of 0 is allowed if its derivative in every parameter is 0, as that of a relu at a negative number is.
    """
    while isinstance(base := inner(q), Drawable) and base.base_dist is not None:
        q = base.base_dist
    family = type(inner(q))
    if not has_fixed_support(family) and any(_moves(end) for end in _ends(q)):
        raise UnsupportedFamily(
            f"The support of {family.__name__} moves with a parameter that requires a gradient, and a score "
            "function misses what crosses its ends. Use Reparameterization, or do not differentiate this parameter."
        )
    if issubclass(family, Poisson) and _has_zero(q):
        raise UnsupportedFamily(
            "A Poisson of rate 0 has a derivative, but this estimator never sees a count above 0. "
            "Use MeasureValued or GO, or keep the rates above 0, as with rate.clamp_min(1e-6)."
        )


def _has_zero(q: Distribution) -> bool:
    """Return whether a rate of a Poisson is 0 and has a derivative other than 0 in a leaf of its graph."""
    rate = parameters(q)["rate"]
    if transformed() or rate.is_meta:  # then no value can be looked at
        return False
    return rate.requires_grad and not one(rate.detach(), q).all() and _moves(torch.where(rate == 0, rate, 0))


def _ends(q: Distribution) -> list[Tensor | float]:
    """Return the ends of q's support."""
    q = inner(q)
    if isinstance(q, LogNormal):
        return []  # the density is 0 at 0
    if isinstance(q, MixtureSameFamily):
        return _ends(q.component_distribution)
    if isinstance(q, TransformedDistribution) and type(q).support is TransformedDistribution.support:
        return _carried(q)
    try:
        return _bounds(q.support)  # type: ignore[arg-type]
    except NotImplementedError:  # a distribution of one's own that does not say
        return []


def _carried(q: TransformedDistribution) -> list[Tensor | float]:
    """Return the ends of the base's support, carried along by the transforms.

    An end of a transform's domain goes to the ends of its codomain: 0 and 1 go nowhere by a logit.
    """
    ends = _ends(q.base_dist)
    for transform in _elementwise(q.transforms) if ends else ():
        if isinstance(transform, ReshapeTransform):
            continue  # it moves no end
        by_parts = isinstance(transform, AffineTransform | StackTransform | CatTransform)
        if not by_parts and (transform.domain.event_dim or transform.codomain.event_dim):
            return []
        domain = _bounds(transform.domain)
        inside = [end for end in map(torch.as_tensor, ends) if not any((end == bound).all() for bound in domain)]
        at_ends = _bounds(transform.codomain) if len(inside) < len(ends) else []
        if isinstance(
            transform, StackTransform | CatTransform
        ):  # each part gets some elements: a number stands for them
            ends = [*inside, *(part(end.flatten()[0]) for part in transform.transforms for end in inside)]
            continue
        ends = [*map(transform, inside), *at_ends]
    return ends


def _elementwise(transforms: Iterable[Transform]) -> Iterator[Transform]:
    """Yield transforms without the compositions and the event axes that wrap them."""
    for transform in transforms:
        if isinstance(transform, ComposeTransform):
            yield from _elementwise(transform.parts)
        elif isinstance(transform, IndependentTransform):
            yield from _elementwise([transform.base_transform])
        else:
            yield transform


def _bounds(support: constraints.Constraint) -> list[Tensor | float]:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    both = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    return [bound for bound in both if bound is not None]


def _moves(end: Tensor | float) -> bool:
    """Return whether an end has a derivative other than 0 in a leaf of its graph."""
    if not isinstance(end, Tensor) or not end.requires_grad:
        return False
    try:
        finite = torch.where(end.isfinite(), end, 0).sum()
        found = torch.autograd.grad(finite, leaves_of(end), retain_graph=True, allow_unused=True)
        return any(g is not None and bool((g != 0).any()) for g in found)
    except RuntimeError:  # under vmap, or on a device without values
        return True


def leaves_of(t: Tensor) -> list[Tensor]:
    """Return the leaves of t's graph that require gradients."""
    if t.grad_fn is None:
        return [t]
    leaves: list[Tensor] = []
    seen: set[Node] = set()
    stack = [t.grad_fn]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        stack.extend(before for before, _ in node.next_functions if before is not None)
    return leaves
