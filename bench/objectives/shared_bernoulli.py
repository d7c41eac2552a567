"""Bits that share one parameter."""

from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from bench.objectives._checks import finite
from bench.objectives._protocol import Objective, Problem, Theta, point


@dataclass(frozen=True)
class SharedBernoulli(Objective):
    """Quadratic of three bits that share one logit, so the gradients of all three bits add up, and so do their errors.

    ``f(b) = sum_j (b_j - t_j)^2``
    ``b_j ~ Bernoulli(p)``
    ``p = sigmoid(logit)``
    ``t = (0.6, 0.51, 0.48)``
    ``E f = sum_j [p (1 - t_j)^2 + (1 - p) t_j^2]``

    The gradient is taken in theta: ``logit``, ``[1]``. Exact value: closed form. The gradient, ``-0.18 p (1 - p)``, is
    small beside the noise. A logit that is not finite raises ``ValueError``.

    Args:
        logit: logit at the point of measurement; 0 and -4 in the paper.

    Reference: Liu, Regier, Tripuraneni, Jordan & McAuliffe 2019 (Rao-Blackwellized stochastic gradients) and Kool, van
    Hoof & Welling 2020, section 5.
    """

    logit: float = 0.0

    dim = 3
    family = Bernoulli
    row_elements = property(attrgetter("dim"))
    reference = "Liu et al. 2019; Kool et al. 2020"

    def __post_init__(self) -> None:
        finite(self, "logit")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        target = torch.tensor([0.6, 0.51, 0.48], dtype=dtype, device=device)

        def q(theta: Theta) -> Distribution:
            logits = theta["logit"].expand(self.dim)
            return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

        def f(b: Tensor) -> Tensor:
            return (b - target).square().sum(-1)

        def exact(theta: Theta) -> Tensor:
            p, t = theta["logit"].sigmoid(), target.to(theta["logit"])
            return (p * (1 - t).square() + (1 - p) * t.square()).sum()

        return Problem(point(1, dtype, device, logit=self.logit), q, lambda _q: f, exact)
