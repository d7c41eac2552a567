"""A distribution of several layers, each a distribution that depends on the samples of the layers before it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Categorical, Distribution, constraints

from estimators._densities import log_prob
from estimators._draws import draw
from estimators._laws import inner
from estimators._parameters import first_parameter, parameters
from estimators._refusals import Refusal
from estimators._transforms import no_derivatives
from estimators.chain import Chain

Maker = Callable[..., Distribution]
"""A function that returns the distribution of a layer, from the weights and the samples of the layers before it."""


class _Joint(constraints.Constraint):
    """Samples whose layers lie in the supports of their distributions."""

    is_discrete = False
    event_dim = 1

    def __init__(self, q: "Layers") -> None:
        self.q = q
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        z = self.q.split(value)
        inside = [_checked(self.q.layer(*z[:k]), z[k]) for k in range(len(z))]
        return torch.stack(inside, -1).all(-1)


def _checked(q: Distribution, z: Tensor) -> Tensor:
    inside: Tensor = q.support.check(z)  # type: ignore[union-attr]
    lead = z.dim() - len(q.event_shape)
    return inside.flatten(lead).all(-1) if inside.dim() > lead else inside


class Layers(Chain):
    """A distribution of several layers of random variables: it holds the parameters of all of them.

    ``q(z_1, z_2, ...) = q_1(z_1) q_2(z_2 | z_1) ...``

    ``q.first`` is the distribution of the first layer, ``q.second(z1)`` that of the second layer, and
    ``q.layer(z1, z2, ...)`` that of the next layer after the given ones. A sample x is all layers in one vector:
    ``q.split(x)`` returns ``(z1, z2, ...)``, and ``q.join(z1, z2, ...)`` returns x. So f is a function of x. Any
    estimator that needs only ``log_prob`` can be called on the whole q, and ``Nested`` calls one estimator inside
    another. Layers is a ``Chain``, a distribution of choices in a row: each layer is one choice.

    ``rows(q, R)`` is q with R copies of its weights, for R independent estimates at once. There every weight has one
    more axis on its left, of length R: a matrix ``w["weight"]``, ``[D, H]``, becomes ``[R, D, H]``, and a sample z1,
    ``[..., D]``, becomes ``[..., R, D]``. With rows and without, the product of the two is

    ``(z1.unsqueeze(-2) @ w["weight"]).squeeze(-2)``

    Args:
        weights: the parameters of all layers by name: tensors, or mappings of tensors.
        layers: one function for each layer. The first gets the weights and returns q_1, of batch shape ``[*batch]``.
            Each other function gets the weights and the samples of all layers before, ``[..., *batch, *event]``. It
            returns the distribution of its layer, of batch shape ``[..., *batch]``.
        shapes: the event shape of every layer; None to find them by a trial in which all samples are 1.
        validate_args: ignored; each layer checks its own arguments.

    Raises:
        Refusal: there are fewer than two layers; the weights hold no floating-point tensor; a layer is no distribution;
            a layer is a ``Categorical``, whose samples are integers; the batch shape of a layer does not fit the
            samples that it gets; or ``shapes`` are not the event shapes of the layers.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self,
        weights: Mapping[str, Any],
        layers: Sequence[Maker],
        shapes: Sequence[Size] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if len(layers) < 2 or not all(map(callable, layers)):
            raise Refusal(
                "Layers needs a function for each of at least two layers (got "
                f"{', '.join(type(each).__name__ for each in layers) or 'none'}). Use the distribution itself for one."
            )
        self.weights, self.layers = weights, layers
        if not parameters(self):
            raise Refusal(
                "Layers needs the parameters of all layers as a mapping of floating-point tensors (got "
                f"{type(weights).__name__}, which shows none). Use a dict such as {{'logits': logits}}, or "
                "dict(network.named_parameters())."
            )
        self.first = self._made(0)
        """The distribution of the first layer."""
        self.shapes: list[Size] = [] if shapes is None else list(shapes)
        """The event shape of every layer."""
        if shapes is None:
            with torch.no_grad():
                for layer in self.tried():
                    self.shapes.append(layer.event_shape)
        elif len(self.shapes) != len(layers) or self.shapes[0] != self.first.event_shape:
            raise Refusal(
                f"Layers needs the event shape of each of {len(layers)} layers, that of the first being "
                f"{list(self.first.event_shape)} (got {[list(shape) for shape in self.shapes]}). Use shapes=None."
            )
        super().__init__(self.first.batch_shape, Size((sum(self.widths),)), validate_args=False)

    def tried(self) -> Iterator[Distribution]:
        """Yield the distribution of every layer in turn, given that all samples of the layers before it are 1.

        Raises:
            Refusal: a layer is a ``Categorical``, a layer is no distribution, or the batch shape of a layer does not
                fit the samples of the layers before it.
        """
        z = list[Tensor]()
        for k in range(len(self.layers)):
            q = self.layer(*z)
            if isinstance(inner(q), Categorical):
                raise Refusal(
                    f"Layer {k + 1} of Layers is a Categorical, whose integers do not fit into one vector with the "
                    "other layers. Use OneHotCategorical."
                )
            yield q
            z.append(first_parameter(self).new_ones((*q.batch_shape, *q.event_shape)))

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of coordinates of each layer in a joined sample."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def families(self) -> tuple[type[Distribution], ...]:
        """The classes of the layers' distributions, without ``Independent``."""
        with torch.no_grad():
            return tuple(type(inner(layer)) for layer in self.tried())

    @property
    def support(self) -> constraints.Constraint:
        """The constraint on samples: each layer lies in the support of its distribution."""
        return _Joint(self)

    def layer(self, *z: Tensor) -> Distribution:
        """Return the distribution of the next layer, given samples of the layers before it.

        Args:
            *z: samples of each layer before, ``[..., *batch, *event]``; none for the first layer.

        Returns:
            A distribution of batch shape ``[..., *batch]``.

        Raises:
            Refusal: the layer is no distribution, or has another batch shape.
        """
        if not z:
            return self.first
        q = self._made(len(z), *z)
        lead = z[-1].shape[: z[-1].dim() - len(self.shapes[len(z) - 1])]
        if q.batch_shape != lead:
            raise Refusal(
                f"Layer {len(z) + 1} of Layers has batch shape {list(q.batch_shape)} for samples of layer {len(z)} of "
                f"shape {list(z[-1].shape)} (expected {list(lead)}). Keep all axes on the left of the samples, and put "
                "the layer's own axes into its event, as with Independent(q, 1)."
            )
        return q

    def _made(self, k: int, *z: Tensor) -> Distribution:
        q: object = self.layers[k](self.weights, *z)
        if not isinstance(q, Distribution):
            raise Refusal(f"Layer {k + 1} of Layers is no distribution (got {type(q).__name__}). Return one.")
        return q

    def second(self, z1: Tensor) -> Distribution:
        """Return the distribution of the second layer, batch shape ``[..., *batch]``, given samples of the first.

        Args:
            z1: samples of the first layer, ``[..., *batch, *event]``.
        """
        return self.layer(z1)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the samples of each layer, ``[..., *batch, *event]``, from joined samples x, ``[..., *batch, D]``.

        D is the number of coordinates of all layers. ``*event`` is the event shape of the layer.
        """
        parts = torch.split(x, list(self.widths), -1)
        return tuple(part.reshape(*x.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True))

    def join(self, *z: Tensor) -> Tensor:
        """Return joined samples, ``[..., *batch, D]``, from a sample z of every layer, ``[..., *batch, *event]``.

        D is the number of coordinates of all layers. The sample of a later layer may have more axes on the left than
        the samples of earlier layers, which are then repeated.
        """
        pairs = zip(z, self.shapes, strict=True)
        flat = [part.reshape(*part.shape[: part.dim() - len(shape)], shape.numel()) for part, shape in pairs]
        lead = flat[-1].shape[:-1]
        return torch.cat([part.expand(*lead, part.shape[-1]) for part in flat], -1)

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return joined samples without a graph, ``[*sample_shape, *batch, D]``, for D coordinates of all layers.

        One layer is drawn after another. If ``generator`` is None, torch's global generator draws.
        """
        with no_derivatives():
            z = [draw(self.first, sample_shape.numel(), generator)]
            while len(z) < len(self.layers):
                z.append(draw(self.layer(*z), 1, generator).squeeze(0))
            return self.join(*z).reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each layer given those before it, ``[..., *batch, layers]``.

        Args:
            value: joined samples, ``[..., *batch, D]``, for D coordinates of all layers.
        """
        z = self.split(value)
        return torch.stack([log_prob(self.layer(*z[:k]), z[k]) for k in range(len(z))], -1)
