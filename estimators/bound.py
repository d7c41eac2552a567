"""Bounds: integrands that show their inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution

from estimators._families import log_prob


@dataclass(frozen=True, eq=False)
class Bound:
    """The evidence lower bound as an integrand that shows its inside: f(x) = log p(x) - log q(x).

    Estimators that need more than values ask for ``log_weights``; all others see an ordinary integrand.

    Args:
        log_joint: log p(x), ``[..., *batch, *event] -> [..., *batch]``, up to a constant.
        q: the distribution that the bound is over; its gradient passes through, as the objective has it.
    """

    log_joint: Callable[[Tensor], Tensor]
    q: Distribution

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), ``[..., *batch]``."""
        return self.log_weights(x).squeeze(-1)

    def log_weights(self, x: Tensor, q: Distribution | None = None) -> Tensor:
        """Return log p(x) - log q(x), ``[..., *batch, 1]``, with another q in place of the bound's own if given."""
        return (self.log_joint(x) - log_prob(self.q if q is None else q, x)).unsqueeze(-1)
