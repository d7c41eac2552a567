"""Base class for distributions with their own sampler."""

import abc

from torch import Generator, Size, Tensor
from torch.distributions import Distribution

Shape = Size | list[int] | tuple[int, ...]
"""Sample shapes that torch's samplers accept."""


class Drawable(Distribution, abc.ABC):
    """A distribution that draws from an explicit generator: the base class for families that torch lacks.

    Subclasses store every constructor argument under its own name: ``rows`` rebuilds the distribution from these.
    """

    @abc.abstractmethod
    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples, ``[*sample_shape, *batch, *event]``, without a graph."""

    def rdraw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples that are differentiable in the parameters, ``[*sample_shape, *batch, *event]``.

        Subclasses that override it declare ``has_rsample = True``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no reparameterized sampler.")

    def score(self, x: Tensor, weight: Tensor) -> dict[str, Tensor] | None:
        """Return ``sum_k weight_k grad log q(x_k)`` by parameter name, or None to let autograd compute the score."""
        return None

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Return samples drawn from the global generator, without a graph."""
        return self.draw(Size(sample_shape), None)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Return differentiable samples drawn from the global generator."""
        return self.rdraw(Size(sample_shape), None)
