"""The own parameters of a distribution: the tensors that it was made from, and a new one made from other tensors."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, OneHotCategorical, TransformedDistribution

from estimators._laws import is_torchs, law
from estimators._refusals import Refusal
from estimators.distributions import Drawable


def parameters(q: Distribution) -> dict[str, Tensor]:
    """Return q's parameters by name: the tensors from which q was made.

    - If q was made from ``logits``, ``probs`` is a cache and not a parameter. If it was made from ``probs``, ``logits``
      is the cache.
    - For an ``Independent`` or another wrapper, the names are those of the distribution inside.
    - For a mixture, the names begin with ``mixture_`` and ``component_``.
    - If an argument of q is a mapping of tensors, such as the weights of a network, each tensor in it is a parameter:
      ``weights.bias`` is the tensor "bias" of the argument ``weights``. In a list or a tuple, the name is a number, as
      in ``weights.0``.
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
ALTERNATIVES = frozenset(name for group in _GROUPS for name in group)
"""Names of arguments that have alternatives."""


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
    """Return the first of the tensors from which q was made; the others share its dtype and device.

    A distribution around a network may hold no tensor. The result is then a zero of torch's default dtype.
    """
    return next(iter(parameters(q).values()), torch.zeros(()))


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


def made_anew(q: Distribution, own: dict[str, Tensor]) -> Distribution:
    """Return a distribution with the law of q, made by q's constructor from the parameters in ``own``.

    ``own`` holds them under the names that ``parameters(q)`` gives them. All other arguments are those of q.
    """
    family = _maker(q)
    names = _arguments(family.__init__)
    arguments: dict[str, Any] = {name: value for name, value in own.items() if name in names}
    for name in names:
        if name in arguments or name in ALTERNATIVES:  # torch computes an alternative on demand
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
