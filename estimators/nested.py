"""Nesting: one estimator for each layer of random variables, called inside the integrand of the one before."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self, cast

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from estimators._fields import named_type
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._learned import checked_state
from estimators._parameters import first_parameter
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter, UnsupportedFamily
from estimators._spelling import estimator_of, spelled
from estimators.layers import Layers


class NestedState(State):
    """State of Nested: it holds a state for each layer whose estimator learns.

    Args:
        nodes: the state of each layer's estimator, None for an estimator that learns nothing.
        like: a tensor of q, which gives device and dtype.
        fixed: the layers whose states are not trained, each given by its number, from 0. The parameters of these states
            never require gradients.
    """

    def __init__(self, nodes: Sequence[State | None], like: Tensor, fixed: Collection[int] = ()) -> None:
        super().__init__(like)
        self.nodes = nn.ModuleDict({str(k): node for k, node in enumerate(nodes) if node is not None})
        self.fixed = frozenset(map(str, fixed))
        for k in self.fixed & self.nodes.keys():
            self.nodes[k].requires_grad_(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters require gradients, and return this state.

        The states of some layers are left out: those that the argument ``fixed`` of ``NestedState`` names.
        """
        for k, node in self.nodes.items():
            node.requires_grad_(requires_grad and k not in self.fixed)
        return self

    def of(self, layer: int) -> State | None:
        """Return the state of the estimator of a layer, numbered from 0; None if this estimator learns nothing."""
        return cast(State, self.nodes[str(layer)]) if str(layer) in self.nodes else None

    @property
    def in_units_of_f(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the state's parameters that learning makes twice as large if f is doubled."""
        each = ((k, cast(State, node)) for k, node in self.nodes.items())
        return tuple(f"nodes.{k}.{name}" for k, node in each for name in node.in_units_of_f)

    def update(self, value: Tensor | float) -> None:
        """Update the buffers of every layer's state with the value that a call of Nested returned."""
        super().update(value)
        for node in self.nodes.values():
            cast(State, node).update(value)


@dataclass(frozen=True)
class Nested(Estimator):
    """Nesting: an estimator at the first layer, whose integrand is what another estimator returns for the next layer.

    ``g = outer(f_1, q_1)``
    ``f_1(z_1) = inner(f_2, q_2(. | z_1))``,  ``f_2(z_2) = f(z_1, z_2)`` with two layers

    An estimator returns a value whose mean is E f, and whose gradient estimates the gradient of E f. So it can be an
    integrand: the mean of g is the gradient of ``E_{z_1} E_{z_2 | z_1} f(z_1, z_2)`` in the parameters of both layers.
    If there are more than two layers, the inner estimator serves every layer but the first. Unbiased if both estimators
    have unbiased gradients, and the inner estimator an unbiased value. Needs a q that is a ``Layers``; each estimator
    must serve the distribution of its layer. Cost: the product of the evaluations of f that the estimators take for one
    estimate, because the samples form a tree.

    If an estimator learns, so does Nested: its state holds a state for each layer whose estimator learns. There is one
    exception: before the last layer, an estimator that evaluates f off the support, such as REBAR, learns nothing.
    REBAR learns from second derivatives of f. But before the last layer, f is an estimator, and has no second
    derivatives. So the state of REBAR stays as ``init`` made it.

    Args:
        outer: the estimator of the first layer: an estimator, or its text with fields behind colons, such as
            ``rloo:n=4``. In both cases the field holds a text.
        inner: the estimator of all other layers, given as ``outer`` is.

    Reference: Schulman, Heess, Weber & Abbeel 2015 (stochastic computation graphs); van Krieken, Tomczak & Ten Teije
    2021 (Storchastic).
    """

    outer: str = "rloo"
    inner: str = "rloo"

    families = (Layers,)
    reference: ClassVar[str] = "van Krieken et al. 2021"

    def __post_init__(self) -> None:
        for name in ("outer", "inner"):
            value = getattr(self, name)
            if isinstance(value, Estimator):
                object.__setattr__(self, name, spelled(value))
            elif not isinstance(value, str):
                raise InvalidParameter(
                    f"Nested needs an estimator, or its text such as 'rloo:n=4' (got {name}={value!r}"
                    f"{named_type(value, str)}). Use RLOO()."
                )
        for name, node in zip(("outer", "inner"), self.nodes, strict=True):
            object.__setattr__(self, name, spelled(node))
            if isinstance(node, Nested):
                raise InvalidParameter(
                    f"Nested takes the estimators of single layers (got {name}={node!r}). Its inner estimator serves "
                    "every layer but the first. Use RLOO."
                )
            if node.needs_costs:
                raise InvalidParameter(
                    f"Nested needs estimators that work with any f, and {node!r} needs a Return. Give the credit to "
                    "one estimator of all layers, RLOO(credit='downstream'); in Nested, use RLOO."
                )
            if node.needs_bound:
                raise InvalidParameter(
                    f"Nested needs estimators that work with any f, and {node!r} needs a Bound. Use RLOO."
                )

    @cached_property
    def nodes(self) -> tuple[Estimator, Estimator]:
        """Two estimators: that of the first layer, and that of all other layers."""
        return estimator_of(self.outer, "Nested: outer"), estimator_of(self.inner, "Nested: inner")

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Whether ``outer`` and ``inner`` have unbiased gradients, and ``inner`` also an unbiased value."""
        return all(node.unbiased for node in self.nodes) and self.nodes[1].value_unbiased

    @property
    def value_unbiased(self) -> bool:  # type: ignore[override]
        """Whether ``outer`` and ``inner`` both return unbiased values."""
        return all(node.value_unbiased for node in self.nodes)

    @property
    def deterministic(self) -> bool:  # type: ignore[override]
        """Whether the estimators ``outer`` and ``inner`` are both without noise."""
        return all(node.deterministic for node in self.nodes)

    @property
    def needs_df(self) -> bool:  # type: ignore[override]
        """Whether one of the estimators ``outer`` and ``inner`` uses df/dx."""
        return any(node.needs_df for node in self.nodes)

    @property
    def needs_relaxed_f(self) -> bool:  # type: ignore[override]
        """Whether one of the estimators ``outer`` and ``inner`` evaluates f off the support of q."""
        return any(node.needs_relaxed_f for node in self.nodes)

    @property
    def needs_state(self) -> bool:  # type: ignore[override]
        """Whether one of the estimators ``outer`` and ``inner`` learns."""
        return any(node.needs_state for node in self.nodes)

    def init(self, q: Distribution, generator: Generator | None = None) -> NestedState | None:
        """Return a state with an untrained state for each layer whose estimator learns; None if none learns.

        Random initial weights are drawn from ``generator``; from torch's global generator if it is None.
        """
        if not self.needs_state:
            return None
        tried = list(self._tried(_layers(self, q)))
        fixed = [k for k, (node, _) in enumerate(tried[:-1]) if node.needs_relaxed_f]
        return NestedState([node.init(layer, generator) for node, layer in tried], first_parameter(q), fixed)

    def points(self, q: Distribution) -> int:
        """Return the number of sample points that one call holds in memory at once, per batch element."""
        return math.prod(node.points(layer) for node, layer in self._tried(_layers(self, q)))

    def refuses_layers(self, families: Sequence[type[Distribution]]) -> str | None:
        """Return the reason why ``outer`` or ``inner`` does not support a layer; None if all layers are supported.

        ``families`` are the classes of the distributions of the layers, the first layer first.
        """
        reasons = ((k + 1, self.nodes[k > 0].refuses(family)) for k, family in enumerate(families))
        return next((f"Layer {k} of Nested: {reason}" for k, reason in reasons if reason), None)

    def _node(self, k: int, layer: Distribution) -> Estimator:
        """Return the estimator of layer k, counted from 0; raise ``UnsupportedFamily`` if it does not serve it."""
        if reason := self.nodes[k > 0].refuses(type(inner(layer))):
            raise UnsupportedFamily(f"Layer {k + 1} of Nested: {reason}")
        return self.nodes[k > 0]

    def _tried(self, q: Layers) -> Iterator[tuple[Estimator, Distribution]]:
        """Yield the estimator and the distribution of every layer in turn; all samples are 1."""
        with torch.no_grad():
            for k, layer in enumerate(q.tried()):
                yield self._node(k, layer), layer

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the value, ``[*batch]``, with the estimated gradient attached at the parameters of every layer."""
        q = _layers(self, q)
        own = checked_state(self, state, NestedState, q) if self.needs_state else None

        def below(*z: Tensor) -> Tensor:
            """Return f at a sample of every layer; else an estimate of its mean, given samples of the first layers."""
            if len(z) == len(q.layers):
                return f(q.join(*z))
            layer = q.layer(*z)
            node = self._node(len(z), layer)
            learned = None if own is None else own.of(len(z))
            return node(lambda new: below(*z, new), layer, generator, learned)

        return below()


def _layers(estimator: Estimator, q: Distribution) -> Layers:
    """Return q; raise ``Refusal`` if it is not a ``Layers``."""
    if not isinstance(q, Layers):
        raise UnsupportedFamily(
            f"{estimator!r} needs a q that is a Layers, which holds the distributions of all layers (got "
            f"{type(q).__name__}). Use Layers(weights, layers), or RLOO."
        )
    return q
