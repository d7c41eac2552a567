"""Base class for distributions with their own sampler."""

import abc

from torch import Generator, Size, Tensor
from torch.distributions import Distribution

Shape = Size | list[int] | tuple[int, ...]
"""Sample shapes that torch's samplers accept."""


class Drawable(Distribution, abc.ABC):
    """A distribution that draws from an explicit generator: the base class for families that torch lacks.

    A subclass stores every constructor argument under the argument's name, because copies of the distribution are built
    from these attributes. In the methods, ``sample_shape`` is the shape of the axes before ``[*batch, *event]``.
    ``generator`` is the source of all noise; None for torch's global generator.
    """

    base_dist: Distribution | None = None
    """The distribution whose parameters and support this one has, if it is made from one; None if it is not."""

    @abc.abstractmethod
    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples, ``[*sample_shape, *batch, *event]``, without a graph.

        If ``generator`` is None, torch's global generator draws.
        """

    def rdraw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples that are differentiable in the parameters, ``[*sample_shape, *batch, *event]``.

        If ``generator`` is None, torch's global generator draws. A subclass that overrides this method declares
        ``has_rsample = True``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no reparameterized sampler.")

    def score(self, x: Tensor, weight: Tensor) -> dict[str, Tensor] | None:
        """Return ``sum_k weight_k grad log q(x_k)``, ``[*batch, ...]``, by parameter name; None to use autograd.

        The method of the base class returns None; a subclass may override it.

        Args:
            x: samples, ``[n, *batch, *event]``.
            weight: one weight per sample and batch element, ``[n, *batch]``.
        """
        return None

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Return samples, ``[*sample_shape, *batch, *event]``, drawn from torch's global generator, without a graph."""
        return self.draw(Size(sample_shape), None)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Return samples, ``[*sample_shape, *batch, *event]``, differentiable in the parameters.

        The noise comes from torch's global generator.
        """
        return self.rdraw(Size(sample_shape), None)
