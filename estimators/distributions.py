"""Distributions that bring their own sampler."""

from __future__ import annotations

import abc

from torch import Generator, Size, Tensor
from torch.distributions import Distribution

Shape = Size | list[int] | tuple[int, ...]
"""What torch's samplers take for a sample shape."""


class Drawable(Distribution, abc.ABC):
    """A distribution that draws from an explicit generator: inherit it for families that torch lacks.

    Store every constructor argument under its own name: ``rows`` rebuilds the distribution from them.
    """

    @abc.abstractmethod
    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples, ``[*sample_shape, *batch, *event]``, without a graph."""

    def rdraw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples that are differentiable in the parameters; declare ``has_rsample = True`` beside it."""
        raise NotImplementedError(f"{type(self).__name__} has no reparameterized sampler.")

    def score(self, x: Tensor, weight: Tensor) -> dict[str, Tensor] | None:
        """Return ``sum_k weight_k grad log q(x_k)`` by parameter name, or None to have autograd do it."""
        return None

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw with the global generator."""
        return self.draw(Size(sample_shape), None)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw differentiably with the global generator."""
        return self.rdraw(Size(sample_shape), None)
