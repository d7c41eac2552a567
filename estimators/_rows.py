"""Replicates are rows of q: ``rows(q, R)``, ``one(t, q)``.

``rows(q, R)`` returns R rows of q whose parameters are *leaves*, so that one backward pass of the summed loss leaves
one gradient per row, that is, per replicate. The rows are views of stride 0: nothing is validated, normalised or
copied.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
    Transform,
    TransformedDistribution,
)

from estimators._laws import has_law, law
from estimators._parameters import ALTERNATIVES, made_anew, parameters
from estimators._refusals import Refusal
from estimators.distributions import Drawable


def one(t: Tensor, q: Distribution) -> Tensor:
    """Return ``t[:1]`` if the rows of t are copies that share the memory of one row; else t itself.

    A row is a copy of q's parameters for one independent estimate. ``rows(q, R)`` is q with a new first batch axis of R
    rows. The copies take no memory: the first axis of each parameter has stride 0, so every row shows the same numbers,
    and computing with one row is enough.

    Args:
        t: a parameter of q, or a tensor made from one, ``[*batch, ...]``.
        q: the distribution, batch shape ``[*batch]``.

    Returns:
        ``t[:1]``, ``[1, ...]``, if q has a batch axis and the first axis of t has stride 0 and more than one entry. If
        not, t itself. (If q has no batch axis, the first axis of t belongs to q's event.)
    """
    return t.narrow(0, 0, 1) if q.batch_shape and t.dim() and t.shape[0] > 1 and t.stride(0) == 0 else t


def rows(q: Distribution, count: int) -> Distribution:
    """Return q with ``count`` rows: a new first batch axis, whose entries are copies of q for independent estimates.

    The result has batch shape ``[count, *batch]``. Its parameters, ``[count, *batch, ...]``, are leaves of the graph,
    so the backward pass of a summed loss leaves one gradient per row. These parameters are views of q's parameters with
    stride 0 along the first axis: no row takes memory. A parameter of the rows requires a gradient if and only if the
    parameter of q does.

    Args:
        q: any distribution of torch, under any number of ``Independent``; it is not changed.
        count: the number of rows, one for each independent estimate (replicate).

    Raises:
        Refusal: q cannot be rebuilt from the tensors from which it was made. An example is a bare
            ``TransformedDistribution`` whose transforms hold tensors that require gradients.
    """

    def leaf(t: Tensor) -> Tensor:
        return t.detach().expand(count, *t.shape).requires_grad_(t.requires_grad)

    return _map(q, leaf, count)


def is_trained(transforms: list[Transform]) -> bool:
    """Return whether the transforms hold a tensor that requires a gradient, also in a list, a module or a function."""
    seen: set[int] = set()
    stack: list[Any] = [*transforms]
    while stack:
        held = stack.pop()
        if isinstance(held, Tensor) and held.requires_grad:
            return True
        if id(held) in seen:  # a transform and its inverse hold each other
            continue
        seen.add(id(held))
        if isinstance(held, dict):
            stack.extend(held.values())
        elif isinstance(held, list | tuple):
            stack.extend(held)
        elif isinstance(held, Transform | nn.Module):
            stack.extend(each for name, each in vars(held).items() if name != "_cached_x_y")
        else:
            stack.extend(cell.cell_contents for cell in getattr(held, "__closure__", None) or ())
    return False


_PLAIN = (Normal, Bernoulli, Categorical)  # families that have no attributes besides their parameters


def _map(q: Distribution, leaf: Callable[[Tensor], Tensor], count: int) -> Distribution:
    if has_law(type(q), *_PLAIN):
        new = _bare(q, count)
        leaves = {name: leaf(value) for name, value in parameters(q).items()}
        for name in ALTERNATIVES & new.__dict__.keys():
            del new.__dict__[name]  # torch's caches
        new.__dict__.update(leaves, _rows=leaves)
        if "_param" in q.__dict__:
            new.__dict__["_param"] = next(iter(leaves.values()))
        return new
    if isinstance(q, Independent) or (isinstance(q, Drawable) and q.base_dist is not None):
        return _wrap(q, "base_dist", _map(cast(Distribution, q.base_dist), leaf, count), count)
    if isinstance(q, OneHotCategorical) and has_law(type(q), OneHotCategorical):
        return _wrap(q, "_categorical", _map(q._categorical, leaf, count), count)
    return _rebuild(q, leaf, count)


def _bare(q: Distribution, count: int) -> Distribution:
    new = object.__new__(type(q))  # ``copy`` takes several times as long
    new.__dict__.update(q.__dict__, _batch_shape=torch.Size((count, *q.batch_shape)))
    return new


def _wrap(q: Distribution, name: str, inner: Distribution, count: int) -> Distribution:
    new = _bare(q, count)
    new.__dict__.update({name: inner, "_rows": parameters(inner)})
    return new


def _rebuild(q: Distribution, leaf: Callable[[Tensor], Tensor], count: int) -> Distribution:
    """Call q's constructor on the leaves."""
    if isinstance(q, MixtureSameFamily):
        mixture = cast(Categorical, _map(q.mixture_distribution, leaf, count))
        return type(q)(mixture, _map(q.component_distribution, leaf, count), validate_args=False)
    family = law(type(q))
    if isinstance(q, TransformedDistribution) and family is TransformedDistribution:
        if is_trained(q.transforms):
            raise Refusal(
                "A TransformedDistribution whose transforms hold trainable tensors cannot be split into rows: "
                "only its base distribution's parameters are known. Use a named family (LogNormal, Gumbel, ...) "
                "or put the parameters into the base distribution."
            )
        return TransformedDistribution(_map(q.base_dist, leaf, count), list(q.transforms), validate_args=False)
    own = parameters(q)
    if not own:
        raise Refusal(
            f"{type(q).__name__} cannot be split into rows: no argument of its constructor is a tensor or a mapping of "
            "tensors, as for a distribution that holds a network. Give it dict(network.named_parameters()), and call "
            "the network with torch.func.functional_call; or give it the network's output."
        )
    frozen = not any(value.requires_grad for value in own.values())
    if type(q).expand is not Distribution.expand and frozen:
        return cast(Distribution, q.expand((count, *q.batch_shape)))
    leaves = {name: leaf(value) if frozen or value.requires_grad else value for name, value in own.items()}
    new = made_anew(q, leaves)
    if new.batch_shape != (count, *q.batch_shape):  # it may be that of a frozen parameter
        leaves = {name: leaf(value) for name, value in own.items()}
        new = made_anew(q, leaves)
    if new.batch_shape != (count, *q.batch_shape):
        raise Refusal(
            f"{type(q).__name__} cannot be split into rows: if its parameters get a first axis of length {count}, its "
            f"batch shape is {list(new.batch_shape)} (expected {[count, *q.batch_shape]}). Let the batch shape be the "
            "axes on the left of each parameter's own shape, or give it a network's output instead of a network."
        )
    new.__dict__["_rows"] = leaves  # torch may hold views of them, or make new ones at every access (Beta)
    return new
