"""Replicates are rows of q: ``parameters(q)``, ``rows(q, R)``, ``one(t, q)``.

``rows(q, R)`` returns R rows of q whose parameters are *leaves*, so that one backward pass of the summed loss leaves
one gradient per row, that is, per replicate. The rows are views of stride 0: nothing is validated, normalised or
copied.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
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
    ``component_``. If an argument is a mapping of tensors, such as the weights of a network, each tensor in it is a
    parameter: ``weights.bias`` is the tensor "bias" of the argument ``weights``. A tensor in a list or a tuple has its
    number for a name, as in ``weights.0``.
    """
    if "_rows" in q.__dict__:
        return dict(q.__dict__["_rows"])
    if isinstance(q, Independent) or (
        isinstance(q, TransformedDistribution) and law(type(q)) is TransformedDistribution
    ):
        return parameters(q.base_dist)
    if isinstance(q, Drawable) and q.base_dist is not None:
        return parameters(q.base_dist)
    if isinstance(q, OneHotCategorical):
        return parameters(q._categorical)
    if isinstance(q, MixtureSameFamily):
        mixture = {f"mixture_{k}": v for k, v in parameters(q.mixture_distribution).items()}
        return mixture | {f"component_{k}": v for k, v in parameters(q.component_distribution).items()}
    own = {}  # the floating-point tensors that q was made from, in the order of its constructor
    for name, group in _arguments(_maker(q).__init__).items():
        if group and name != _source(q, group):
            continue  # torch's cache beside the own parameter
        value = getattr(q, name, None)
        if isinstance(value, Tensor):
            if value.is_floating_point():
                own[name] = value
        elif isinstance(value, Mapping | list | tuple):
            own.update(_held(name, value))
    return own


def _held(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point tensors in an argument, which may be a mapping, a list or a tuple, by dotted name."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _held(f"{name}.{key}", each)


def _refilled(name: str, value: Any, own: Mapping[str, Tensor]) -> Any:
    """Return an argument with its tensors replaced by the tensors of their dotted names in ``own``."""
    if isinstance(value, Mapping):
        return {key: _refilled(f"{name}.{key}", each, own) for key, each in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        make = getattr(type(value), "_make", type(value))  # a named tuple takes its fields one by one
        return make(_refilled(f"{name}.{i}", each, own) for i, each in enumerate(value))
    return own.get(name, value) if isinstance(value, Tensor) else value


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
    if isinstance(q, Independent) or (isinstance(q, Drawable) and q.base_dist is not None):
        return _wrap(q, "base_dist", _map(cast(Distribution, q.base_dist), leaf, count), count)
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
    new = _made(q, leaves)
    if new.batch_shape != (count, *q.batch_shape):  # it may be that of a frozen parameter
        leaves = {name: leaf(value) for name, value in own.items()}
        new = _made(q, leaves)
    if new.batch_shape != (count, *q.batch_shape):
        raise Refusal(
            f"{type(q).__name__} cannot be split into rows: if its parameters get a first axis of length {count}, its "
            f"batch shape is {list(new.batch_shape)} (expected {[count, *q.batch_shape]}). Let the batch shape be the "
            "axes on the left of each parameter's own shape, or give it a network's output instead of a network."
        )
    new.__dict__["_rows"] = leaves  # torch may hold views of them, or make new ones at every access (Beta)
    return new


def _maker(q: Distribution) -> type[Distribution]:
    """Return the class whose constructor q is rebuilt by: the one that defines q's law, or a class below it.

    A class of the user's that inherits a sampler and a density from another one may have a constructor of its own.
    This constructor is used if q stores all of its arguments, and the other one if not.
    """
    family, own = law(type(q)), type(q)
    if own is family or is_torchs(family) or own.__init__ is family.__init__:
        return family
    stored = all(name == "validate_args" or hasattr(q, name) for name in _arguments(own.__init__))
    return own if stored else family


def _made(q: Distribution, own: dict[str, Tensor]) -> Distribution:
    """Return a distribution of q's law, made by its constructor from other parameters."""
    family = _maker(q)
    names = _arguments(family.__init__)
    arguments: dict[str, Any] = {name: value for name, value in own.items() if name in names}
    for name in names:
        if name in arguments or name in _ALTERNATIVES:  # torch computes an alternative on demand
            continue
        value = q.__dict__.get(name, getattr(q, name, None))
        if value is not None:
            holds = any(key.startswith(f"{name}.") for key in own)
            arguments[name] = _refilled(name, value, own) if holds else value
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
    if isinstance(q, Drawable) and q.base_dist is not None:
        wide = copy.copy(q)
        wide.base_dist = widened(q.base_dist)
        return wide
    if isinstance(q, MixtureSameFamily):
        mixture = cast(Categorical, widened(q.mixture_distribution))
        return type(q)(mixture, widened(q.component_distribution), validate_args=False)
    family = law(type(q))
    if isinstance(q, TransformedDistribution) and family is TransformedDistribution:
        return TransformedDistribution(widened(q.base_dist), q.transforms, validate_args=False)
    if not is_torchs(family) and not issubclass(family, Drawable):
        return q
    return _made(q, {name: value.float() if value.dtype in _HALF else value for name, value in own.items()})
