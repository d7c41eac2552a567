"""Sets of independent samples as one sample: the distribution behind objectives such as the best of k."""

from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, constraints

from estimators._densities import log_prob
from estimators._draws import draw, rdraw
from estimators._refusals import Refusal
from estimators.chain import Chain


class _EachOf(constraints.Constraint):
    """Sets whose samples all lie in the support of one distribution."""

    def __init__(self, q: "Repeated") -> None:
        self.q = q
        self.is_discrete = q.base_dist.support.is_discrete  # type: ignore[union-attr]
        self.event_dim = len(q.event_shape)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        inside: Tensor = self.q.base_dist.support.check(self.q.apart(value))  # type: ignore[union-attr]
        lead = value.dim() - len(self.q.event_shape)  # axes in front of the set, which apart puts first
        return inside.flatten(lead + 1).all(-1).all(0) if inside.dim() > lead + 1 else inside.all(0)


class Repeated(Chain):
    """Distribution of sets of k independent samples of one distribution: one sample is a whole set.

    ``q(x_1, ..., x_k) = prod_i q(x_i)``

    The samples of a set lie along a new first event axis: ``[*batch, k, *event]``. So f is a function of k samples, and
    every estimator that works with any q can be called. ``MultiSample`` needs a ``Repeated`` and a ``SetFunction``. The
    parameters are those of the given distribution.

    Args:
        base_dist: the distribution of one sample, batch shape ``[*batch]``, event shape ``[*event]``.
        k: number of samples in a set, at least 1.
        validate_args: ignored; the given distribution checks its own arguments.

    Raises:
        Refusal: k is not a whole number of at least 1.
    """

    base_dist: Distribution
    has_rsample = True  # a set has it if its samples have it
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, base_dist: Distribution, k: int, validate_args: bool | None = None) -> None:
        if not isinstance(base_dist, Distribution):
            raise Refusal(f"Repeated needs a distribution and a number of samples (got {type(base_dist).__name__}).")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise Refusal(f"Repeated needs a whole number of samples k of at least 1 (got k={k!r}).")
        self.base_dist, self.k = base_dist, k
        self.has_rsample, self.has_enumerate_support = base_dist.has_rsample, base_dist.has_enumerate_support
        super().__init__(base_dist.batch_shape, Size((k, *base_dist.event_shape)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The support of the sets: each of the k samples lies in the support of ``base_dist``."""
        return _EachOf(self)

    def apart(self, value: Tensor) -> Tensor:
        """Return sets with their k samples along the first axis, ``[k, ..., *batch, *event]``.

        Args:
            value: sets, ``[..., *batch, k, *event]``.
        """
        return value.movedim(value.dim() - len(self.event_shape), 0)

    def _together(self, samples: Tensor, sample_shape: Size) -> Tensor:
        """Return sets, ``[*sample_shape, *batch, k, *event]``, for ``k * sample_shape.numel()`` samples."""
        apart = samples.reshape(self.k, *sample_shape, *samples.shape[1:])
        return apart.movedim(0, apart.dim() - len(self.event_shape)).contiguous()

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return sets of k samples, ``[*sample_shape, *batch, k, *event]``, without a graph.

        If ``generator`` is None, torch's global generator draws.
        """
        return self._together(draw(self.base_dist, self.k * sample_shape.numel(), generator), sample_shape)

    def rdraw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return sets of k samples, ``[*sample_shape, *batch, k, *event]``, differentiable in the parameters.

        If ``generator`` is None, torch's global generator draws.
        """
        return self._together(rdraw(self.base_dist, self.k * sample_shape.numel(), generator), sample_shape)

    def log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each sample of a set, ``[..., *batch, k]``.

        Args:
            value: sets of k samples, ``[..., *batch, k, *event]``.
        """
        return log_prob(self.base_dist, self.apart(value)).movedim(0, -1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all sets in every order, ``[S^k, *batch, k, *event]``, if one sample has S possible values.

        Args:
            expand: whether the batch axes have their full size; if False they have size 1.
        """
        one: Tensor = self.base_dist.enumerate_support(expand)
        grid = torch.cartesian_prod(*[torch.arange(len(one))] * self.k).reshape(-1, self.k)
        return self._together(one[grid.T.flatten()], Size((len(grid),)))
