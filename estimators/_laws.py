"""What the class of a distribution says about its law: whether closed forms of a parent may be used."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical


def inner(q: Distribution) -> Distribution:
    """Return q without its ``Independent`` wrappers, unless the class of a wrapper has a law of its own."""
    while isinstance(q, Independent) and has_law(type(q), Independent):
        q = q.base_dist
    return q


_F = TypeVar("_F", bound=Callable[..., Any])


def _cached(function: _F) -> _F:
    """Return a function that remembers its results; ``functools.cache`` takes no classes by its types."""
    return cast(_F, functools.cache(function))


_LAW = {"sample", "rsample", "draw", "rdraw", "log_prob", "score", "probs", "logits"}
"""Names that define the law of a distribution: how it is sampled, and its density."""


@_cached
def law(family: type[Distribution]) -> type[Distribution]:
    """Return the class that defines the law of a family: itself, or the parent whose sampler and density it keeps."""
    for ancestor in family.__mro__:
        if ancestor is Distribution:
            break
        if is_torchs(ancestor):
            return ancestor
        if _LAW & vars(ancestor).keys():
            return ancestor if issubclass(ancestor, Distribution) else family
    return family


@_cached
def has_law(family: type[Distribution], *laws: type[Distribution]) -> bool:
    """Return whether the law of a family is one of ``laws``; not for a subclass with its own sampler or density.

    torch's own subclasses, such as Chi2 of Gamma, have the law of their parents.
    """
    own = law(family)
    return own in laws or (is_torchs(own) and issubclass(own, laws))


_CLOSED = (Normal, Bernoulli, Categorical, OneHotCategorical)


def closed(base: Distribution) -> Distribution | None:
    """Return a distribution whose law has closed forms in this library (Normal, bits, categories); None for another."""
    return base if has_law(type(base), *_CLOSED) else None


@_cached
def has_path(family: type[Distribution]) -> bool:
    """Return whether a family has differentiable samples, by an ``rsample`` that belongs to its ``sample``.

    A subclass with its own ``sample`` and the ``rsample`` of its parent has two laws. The second one is not its own.
    """
    order = [vars(ancestor).keys() for ancestor in family.__mro__]
    draws, path = (next(i for i, own in enumerate(order) if own & names) for names in _SAMPLERS)
    return bool(family.has_rsample) and (path <= draws or is_torchs(family.__mro__[draws]))


_SAMPLERS = ({"sample", "draw"}, {"rsample", "rdraw"})


def is_torchs(family: type) -> bool:
    return family.__module__.startswith("torch.distributions.")
