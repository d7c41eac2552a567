"""What the class of a distribution says about its law: whether closed forms of a parent may be used."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical


def inner(q: Distribution) -> Distribution:
    """Return q without its ``Independent`` wrappers, unless the class of a wrapper has its own sampler or density."""
    while isinstance(q, Independent) and (type(q) is Independent or has_law(type(q), Independent)):
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
    """Return the class that defines the sampler and the density of a class of distributions.

    The result is ``family`` or a parent: the first that is one of torch's families or overrides a sampler or a density.
    A class that is built on none of torch's families may compute its density with methods of its own. If a subclass
    overrides such a method, the result is this subclass.
    """
    parents = family.__mro__[: family.__mro__.index(Distribution)]
    anyhow = not any(map(is_torchs, parents))
    for ancestor in parents:
        if is_torchs(ancestor):
            return ancestor
        if _LAW & vars(ancestor).keys() or (anyhow and _overrides(ancestor)):
            return ancestor if issubclass(ancestor, Distribution) else family
    return family


def _overrides(family: type[Distribution]) -> bool:
    """Return whether a class overrides a method or a property that a parent added to those of ``Distribution``."""
    added = {name for parent in family.__mro__[1:] for name in vars(parent)} - set(dir(Distribution))
    own = [value for name, value in vars(family).items() if name in added]
    return any(callable(value) or isinstance(value, property | functools.cached_property) for value in own)


@_cached
def has_law(family: type[Distribution], *laws: type[Distribution]) -> bool:
    """Return whether the class ``family`` has the sampler and the density of one of the classes ``laws``.

    A subclass that overrides the sampler or the density does not have them. torch's own subclasses count as their
    parents: Chi2 as a Gamma.
    """
    own = law(family)
    return own in laws or (is_torchs(own) and issubclass(own, laws))


_CLOSED = (Normal, Bernoulli, Categorical, OneHotCategorical)


def closed(base: Distribution) -> Distribution | None:
    """Return ``base`` if this library has closed forms for its law (sampler and density); None otherwise.

    The laws with closed forms are Normal, Bernoulli, Categorical and OneHotCategorical.
    """
    return base if has_law(type(base), *_CLOSED) else None


@_cached
def has_path(family: type[Distribution]) -> bool:
    """Return whether a class of distributions has differentiable samples: an ``rsample`` that fits its ``sample``.

    If a subclass overrides ``sample`` alone, the inherited ``rsample`` draws from the parent's law, and the result is
    False.
    """
    order = [vars(ancestor).keys() for ancestor in family.__mro__]
    draws, path = (next(i for i, own in enumerate(order) if own & names) for names in _SAMPLERS)
    return bool(family.has_rsample) and (path <= draws or is_torchs(family.__mro__[draws]))


@_cached
def has_fixed_support(family: type[Distribution]) -> bool:
    """Return whether a family is torch's own and has one support, whatever its parameters are."""
    return is_torchs(family) and not isinstance(family.support, property)


_SAMPLERS = ({"sample", "draw"}, {"rsample", "rdraw"})


@_cached
def is_torchs(family: type) -> bool:
    """Return whether a class of distributions is one of torch's own."""
    return family.__module__.startswith("torch.distributions.")
