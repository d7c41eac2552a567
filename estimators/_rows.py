"""Replicates are rows of q: ``parameters(q)``, ``rows(q, R)``, ``one(t, q)``.

``rows(q, R)`` returns R rows of q whose parameters are *leaves*, so that one backward pass of the summed loss leaves
one gradient per row, that is, per replicate. The rows are views of stride 0: nothing is validated, normalised or
copied.
"""

import functools
import inspect
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

from estimators._laws import has_law, is_torchs, law
from estimators._refusals import Refusal
from estimators.distributions import Drawable


def parameters(q: Distribution) -> dict[str, Tensor]:
    """Return q's own parameters by name: the tensors that q was made from, in which its log-density is differentiated.

    If q was made from ``logits``, then ``probs`` is a cache and not a parameter, and vice versa. An ``Independent`` or
    another wrapper has the names of the distribution inside. The names of a mixture begin with ``mixture_`` and
    ``component_``.
    """
    if "_rows" in q.__dict__:
        return dict(q.__dict__["_rows"])
    if isinstance(q, Independent) or (
        isinstance(q, TransformedDistribution) and law(type(q)) is TransformedDistribution
    ):
        return parameters(q.base_dist)
    if isinstance(q, OneHotCategorical):
        return parameters(q._categorical)
    if isinstance(q, MixtureSameFamily):
        mixture = {f"mixture_{k}": v for k, v in parameters(q.mixture_distribution).items()}
        return mixture | {f"component_{k}": v for k, v in parameters(q.component_distribution).items()}
    own = {}  # the floating-point tensors that q was made from, in the order of its constructor
    for name, group in _arguments(law(type(q)).__init__).items():
        if group and name != _source(q, group):
            continue  # torch's cache beside the own parameter
        value = getattr(q, name, None)
        if isinstance(value, Tensor) and value.is_floating_point():
            own[name] = value
    return own


@functools.cache  # the look-up takes longer than the rest of ``rows``
def _arguments(constructor: Callable[..., None]) -> dict[str, tuple[str, ...] | None]:
    """Return the names of a constructor's arguments, each with the group of alternatives that it belongs to, if any."""
    names = [name for name in inspect.signature(constructor).parameters if name not in ("self", "args", "kwargs")]
    return {name: next((group for group in _GROUPS if name in group), None) for name in names}


_GROUPS = (("probs", "logits"), ("covariance_matrix", "precision_matrix", "scale_tril"))
"""Alternative arguments. A constructor takes one of each group; torch computes the others on demand and caches them."""
_ALTERNATIVES = frozenset(name for group in _GROUPS for name in group)


def _source(q: Distribution, group: tuple[str, ...]) -> str | None:
    """Return the name in a group of alternatives that q was made from: the first one set, in q or in what it wraps."""
    given = [name for name in q.__dict__ if name in group]
    for name in given:
        if q.__dict__[name] is q.__dict__.get("_param"):
            return name
    if given:
        return given[0]
    wrapped = [q.__dict__[name] for name in ("base_dist", "_categorical") if name in q.__dict__]
    return _source(wrapped[0], group) if wrapped else None


def first_parameter(q: Distribution) -> Tensor:
    """Return the first of q's own parameters, the tensors that q was made from; the others share its dtype and device.

    If q holds no such tensor, as a distribution around a network may not, the result is a zero of torch's default
    dtype.
    """
    return next(iter(parameters(q).values()), torch.zeros(()))


def one(t: Tensor, q: Distribution) -> Tensor:
    """Return ``t[:1]`` if all rows of t are one row in memory, so that it is enough to compute with this row.

    ``rows(q, R)`` is q with a new first batch axis of length R: one row, a copy of q's parameters, for each independent
    estimate. The copies take no memory: the first axis of each parameter has stride 0, so every row shows the same
    numbers.

    Args:
        t: a parameter of q, or a tensor made from one, ``[*batch, ...]``.
        q: the distribution, batch shape ``[*batch]``.

    Returns:
        ``t[:1]``, ``[1, ...]``, if q has a batch axis and the first axis of t has stride 0 and more than one entry. In
        every other case t itself. If q has no batch axis, the first axis of t belongs to the event of q.
    """
    return t[:1] if q.batch_shape and t.dim() and t.shape[0] > 1 and t.stride(0) == 0 else t


def rows(q: Distribution, count: int) -> Distribution:
    """Return q with ``count`` rows: a new first batch axis, whose entries are copies of q for independent estimates.

    The result has batch shape ``[count, *batch]``. Its parameters, ``[count, *batch, ...]``, are leaves of the graph,
    so the backward pass of a summed loss leaves one gradient per row. The parameters of the rows are views of q's, and
    their first axis has stride 0: no row takes memory. A parameter of the rows requires a gradient if and only if the
    parameter of q does.

    Args:
        q: any distribution of torch, under any number of ``Independent``; it is not changed.
        count: the number of rows, one for each independent estimate (replicate).

    Raises:
        Refusal: q cannot be rebuilt from its own parameters, the tensors it was made from. An example is a bare
            ``TransformedDistribution`` whose transforms hold tensors that require gradients.
    """

    def leaf(t: Tensor) -> Tensor:
        return t.detach().expand(count, *t.shape).requires_grad_(t.requires_grad)

    return _map(q, leaf, count)


def is_trained(transforms: list[Transform]) -> bool:
    """Return whether a tensor in the transforms, also inside a list, a module or a function, requires a gradient."""
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
    if isinstance(q, Independent):
        return _wrap(q, "base_dist", _map(q.base_dist, leaf, count), count)
    if isinstance(q, OneHotCategorical) and has_law(type(q), OneHotCategorical):
        return _wrap(q, "_categorical", _map(q._categorical, leaf, count), count)
    if has_law(type(q), *_PLAIN):
        new = _bare(q, count)
        leaves = {name: leaf(value) for name, value in parameters(q).items()}
        for name in _ALTERNATIVES & new.__dict__.keys():
            del new.__dict__[name]  # torch's caches
        new.__dict__.update(leaves, _rows=leaves)
        if "_param" in q.__dict__:
            new.__dict__["_param"] = next(iter(leaves.values()))
        return new
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
    frozen = not any(value.requires_grad for value in own.values())
    if type(q).expand is not Distribution.expand and frozen:
        return cast(Distribution, q.expand((count, *q.batch_shape)))
    leaves = {name: leaf(value) if frozen or value.requires_grad else value for name, value in own.items()}
    new = _made(q, leaves)
    if new.batch_shape != (count, *q.batch_shape):
        raise Refusal(
            f"{type(q).__name__} cannot be split into rows: its constructor has no tensor of shape [*batch, ...] that "
            "sets the batch, as a distribution that holds a network has none. Give it the network's output instead."
        )
    new.__dict__["_rows"] = leaves  # torch may hold views of them, or make new ones at every access (Beta)
    return new


def _made(q: Distribution, own: dict[str, Tensor]) -> Distribution:
    """Return a distribution of q's law, made by its constructor from other parameters."""
    family = law(type(q))
    names, arguments = _arguments(family.__init__), dict[str, Any](own)
    for name in names:
        if name in arguments or name in _ALTERNATIVES:  # torch computes an alternative on demand
            continue
        value = q.__dict__.get(name, getattr(q, name, None))
        if value is not None:
            arguments[name] = value
    if "validate_args" in names:
        arguments["validate_args"] = False
    try:
        return family(**arguments)
    except TypeError as error:
        raise Refusal(
            f"{type(q).__name__} cannot be rebuilt from its own parameters ({error}). "
            "Store every constructor argument under its own name, as torch.distributions does."
        ) from error


_HALF = frozenset((torch.float16, torch.bfloat16))


def _holds_no_half(q: Distribution) -> bool:
    """Return whether q is torch's own, and holds no tensor of half precision, nor does any distribution inside it."""
    if not is_torchs(type(q)):
        return False
    for value in q.__dict__.values():
        if isinstance(value, Tensor):
            if value.dtype in _HALF:
                return False
        elif isinstance(value, Distribution) and not _holds_no_half(value):
            return False
    return True


def widened(q: Distribution) -> Distribution:
    """Return q with its half-precision parameters converted to float32; the originals stay in the graph.

    If no parameter has half precision, q itself is returned. So is a q of a class that is neither torch's nor a
    ``Drawable``: it computes in its own dtype.
    """
    if _holds_no_half(q):
        return q  # the way of most calls, without looking up names
    own = parameters(q)
    if _HALF.isdisjoint([value.dtype for value in own.values()]):
        return q
    if isinstance(q, Independent) and has_law(type(q), Independent):
        return Independent(widened(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(q, MixtureSameFamily):
        mixture = cast(Categorical, widened(q.mixture_distribution))
        return type(q)(mixture, widened(q.component_distribution), validate_args=False)
    family = law(type(q))
    if isinstance(q, TransformedDistribution) and family is TransformedDistribution:
        return TransformedDistribution(widened(q.base_dist), q.transforms, validate_args=False)
    if not is_torchs(family) and not issubclass(family, Drawable):
        return q
    return _made(q, {name: value.float() if value.dtype in _HALF else value for name, value in own.items()})
