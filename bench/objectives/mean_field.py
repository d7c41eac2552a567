"""The mean-field Gaussian."""

from torch.distributions import Distribution, Independent, Normal

from bench.objectives._protocol import Theta


def mean_field(theta: Theta) -> Distribution:
    """Return the distribution of independent coordinates N(mean, exp(log_scale)^2), of event shape ``[dim]``.

    theta holds the tensors ``mean`` and ``log_scale``, ``[dim]`` each.
    """
    q = Normal(theta["mean"], theta["log_scale"].exp(), validate_args=False)
    return Independent(q, 1, validate_args=False)
