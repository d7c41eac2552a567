"""The protocol: what an estimator is, what it is called with, and the exceptions that it raises."""

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
    """The estimator cannot work with its fields, with q or with f. The message says what to use instead."""


class UnsupportedFamily(Refusal):
    """The estimator does not support the family of q."""


class NotDifferentiable(Refusal):
    """The estimator needs the gradient of the integrand in x, and the integrand has none."""


class InvalidParameter(Refusal):
    """A field of an estimator has an invalid value."""


class Integrand(Protocol):
    """The integrand f: it maps ``[..., *batch, *event]`` to ``[..., *batch]``, for any number of leading axes."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Evaluate f."""


class State(nn.Module):
    """The tensors that an estimator learns. They are kept outside the estimator, whose fields never change.

    ``adapt`` trains the parameters. ``update`` changes the buffers after a call, never during it, so that no baseline
    contains its own sample.
    """

    def update(self, loss: Tensor) -> None:
        """Update the buffers after a call that returned ``loss``, of any shape; only its value is read."""


class Estimator(abc.ABC):
    """A Monte Carlo estimator of the gradient of E_{x~q}[f(x)] with respect to q's parameters.

    Subclasses are frozen dataclasses of numbers, strings and tuples; their repr is their identity. Class attributes
    such as ``unbiased`` declare facts about the estimator. A fact that depends on the fields is a property.
    """

    unbiased: bool = True
    """Whether the expected gradient is exactly the gradient of E_q[f]."""
    value_unbiased: bool = True
    """Whether the value of the loss is an unbiased estimate of E_q[f]."""
    deterministic: bool = False
    """Whether the gradient is independent of the generator."""
    families: tuple[type[Distribution], ...] | None = None
    """Supported families of q, without ``Independent``; None if only the class's docstring states the conditions."""
    needs_df: bool = False
    """Whether the estimator uses df/dx."""
    needs_relaxed_f: bool = False
    """Whether the estimator evaluates f off the support of q."""
    needs_bound: bool = False
    """Whether the integrand must be a ``Bound``, whose log-weights the estimator uses."""
    needs_state: bool = False
    """Whether the estimator has a state, which ``init`` makes and ``adapt`` trains."""
    command_name: ClassVar[str] = ""
    """Name on the command line; if empty, it is derived from the class's name."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names on the command line."""
    reference: ClassVar[str] = ""
    """Source of the method, in a few words."""

    @abc.abstractmethod
    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``.

        Args:
            f: the integrand, ``[..., *batch, *event] -> [..., *batch]``.
            q: the distribution, batch shape ``[*batch]``, event shape ``[*event]``.
            generator: source of all noise; torch's global generator if None.
            state: the state that ``init`` returned, if the estimator learns.

        Returns:
            A tensor whose value estimates E_q[f] for each batch element. Its gradient at q's parameters is the estimate
            of the gradient. Tensors that f closes over get the gradient of the value.

        Raises:
            Refusal: this estimator cannot work with q or f.
        """

    def init(self, q: Distribution, generator: Generator | None = None) -> State | None:
        """Return a fresh state for q, or None if the estimator learns nothing."""
        return None

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return why this estimator does not support ``family``, or None if it does."""
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
        """Return why this estimator does not support a ``Bound`` of this number of particles, or None if it does.

        ``particles`` is None for a bound without an axis of particles.
        """
        return None

    def check(self, q: Distribution) -> None:
        """Raise ``UnsupportedFamily`` if this estimator does not support the family of q."""
        if reason := self.refuses(type(inner(q))):
            raise UnsupportedFamily(reason)

    def points(self, q: Distribution) -> int:
        """Return the number of sample points that one call holds in memory at once, per batch element."""
        return int(getattr(self, "n", 1))


def _advice(family: type[Distribution]) -> str:
    if issubclass(family, Bernoulli | OneHotCategorical):
        return "Use ScoreFunction, RLOO or StraightThrough."
    if family.has_rsample:
        return "Use Reparameterization, ScoreFunction or RLOO."
    return "Use ScoreFunction or RLOO."


def command_line_name(cls: type) -> str:
    """Return the command-line name of a class: ``MeasureValued`` -> ``measure-valued``, ``RLOO`` -> ``rloo``."""
    given: str = getattr(cls, "command_name", "")
    return given or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
