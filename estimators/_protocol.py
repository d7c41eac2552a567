"""What estimators ask of a distribution: draws with an explicit generator, closed-form scores, one row at a time.

Normal, Bernoulli, Categorical and OneHotCategorical, alone or under ``Independent``, have closed forms, computed on the
one row behind a stride-0 view. A ``Drawable`` brings its own; every other distribution goes through torch, slower, with
the global generator forked and seeded from the given one.

All draws have shape ``[n, *batch, *event]``.
"""

from __future__ import annotations

import abc
import re
from typing import ClassVar, Protocol

from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, OneHotCategorical


def inner(q: Distribution) -> Distribution:
    """Return q without its ``Independent`` wrappers."""
    while isinstance(q, Independent):
        q = q.base_dist
    return q


class Refusal(ValueError):
    """An estimator says no: what came, what was expected, what to use instead."""


class UnsupportedFamily(Refusal):
    """The estimator does not serve distributions of this family."""


class NotDifferentiable(Refusal):
    """The integrand has no gradient in x at all, and the estimator needs one."""


class InvalidParameter(Refusal):
    """An estimator was made with a value that it cannot work with."""


class Integrand(Protocol):
    """The integrand f: ``[..., *batch, *event] -> [..., *batch]``, for any number of extra axes on the left."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Evaluate f."""
        ...


class State(nn.Module):
    """What an estimator learns, beside it and never in it.

    Parameters are trained by ``adapt``; buffers change in ``update``, after the call, so that a baseline never contains
    the sample that it multiplies.
    """

    def update(self, loss: Tensor) -> None:
        """Take in the value of a finished call. ``loss``: any shape; only its value is read."""


class Estimator(abc.ABC):
    """A Monte Carlo estimator of the gradient of E_{x~q}[f(x)] with respect to q's parameters.

    Subclasses are frozen dataclasses of numbers, strings and tuples; their repr is their identity. The class attributes
    below are the declared facts; an estimator whose facts depend on its fields declares them as properties.
    """

    unbiased: bool = True
    """Is the expected gradient exactly that of E_q[f]?"""
    value_unbiased: bool = True
    """Is the value of the loss an unbiased estimate of E_q[f]?"""
    deterministic: bool = False
    """Does the gradient not depend on the generator?"""
    families: tuple[type[Distribution], ...] | None = None
    """Families of q that it serves, without ``Independent``; None for all that have what the docstring asks."""
    needs_df: bool = False
    """Does it use df/dx?"""
    needs_relaxed_f: bool = False
    """Does it evaluate f off the support of q?"""
    needs_bound: bool = False
    """Does it ask the integrand for its log-weights (see ``Bound``)?"""
    needs_state: bool = False
    """Does it learn (see ``init`` and ``adapt``)?"""
    command_name: ClassVar[str] = ""
    """Name on the command line, where the one derived from the class is not the field's word."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names on the command line."""
    reference: ClassVar[str] = ""
    """Where the method comes from, in a few words."""

    @abc.abstractmethod
    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``.

        Args:
            f: the integrand, ``[..., *batch, *event] -> [..., *batch]``.
            q: the distribution, batch shape ``[*batch]``, event shape ``[*event]``.
            generator: source of all noise; the global one when None.
            state: what ``init`` made, for the few that learn.

        Returns:
            A tensor whose value estimates E_q[f] for each batch element, whose gradient at q's parameters is the
            estimator, and which passes the gradient of the value through to whatever f closes over.

        Raises:
            Refusal: q or f is of a kind that this estimator does not serve.
        """

    def init(self, q: Distribution, generator: Generator | None = None) -> State | None:
        """Return a fresh state for q, or None for the estimators that learn nothing."""
        return None

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return why this estimator cannot serve ``family``, or None if it can."""
        if self.families is None or issubclass(family, self.families):
            return None
        if issubclass(family, Categorical) and OneHotCategorical in self.families:
            return (
                f"{self!r} needs one-hot samples, and q is an integer Categorical. "
                "Use OneHotCategorical with the same logits."
            )
        served = " or ".join(f.__name__ for f in self.families)
        return f"{self!r} serves {served}, and q is {family.__name__}. {_advice(family)}"

    def refuses_particles(self, particles: int | None) -> str | None:
        """Return why this estimator cannot serve a ``Bound`` of so many particles, or None if it can."""
        return None

    def check(self, q: Distribution) -> None:
        """Raise ``UnsupportedFamily`` if q is not of a family that this estimator serves."""
        reason = self.refuses(family(q))
        if reason:
            raise UnsupportedFamily(reason)

    def points(self, q: Distribution) -> int:
        """Return how many points of q one call holds at once, per batch element."""
        return int(getattr(self, "n", 1))


def _advice(family: type[Distribution]) -> str:
    if issubclass(family, Bernoulli | OneHotCategorical):
        return "Use ScoreFunction, RLOO or StraightThrough."
    if family.has_rsample:
        return "Use Reparameterization, ScoreFunction or RLOO."
    return "Use ScoreFunction or RLOO."


def family(q: Distribution) -> type[Distribution]:
    """Return the type of q without its ``Independent`` wrappers."""
    while isinstance(q, Independent):
        q = q.base_dist
    return type(q)


def command_line_name(cls: type) -> str:
    """Return the command-line name of a class: ``MeasureValued`` -> ``measure-valued``, ``RLOO`` -> ``rloo``."""
    given: str = getattr(cls, "command_name", "")
    return given or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
