"""The toy problem of the relaxation papers."""

from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from bench.objectives._checks import at_least, finite
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.squares import squared_distance


@dataclass(frozen=True)
class BernoulliQuadratic(Objective):
    """Quadratic of independent bits; a target nearer to 1/2 gives a smaller gradient and more noise.

    ``f(b) = sum_j (b_j - target)^2``
    ``b_j ~ Bernoulli(p_j)``
    ``p = sigmoid(logits)``
    ``E f = sum_j [p_j (1 - target)^2 + (1 - p_j) target^2]``

    The gradient is taken in theta: ``logits``, ``[dim]``. Exact value: closed form. On bits f is affine, so estimators
    that are exact for affine f look better here than elsewhere. Bad arguments raise ``ValueError``.

    Args:
        dim: number of bits, at least 1; 1 in the papers on REBAR and RELAX.
        target: the number that every bit should be close to; 0.45 in the paper on REBAR, 0.499 in the paper on RELAX.
            At 0.499 the gradient is so small that noise hides every bias.
        logit: logit of every bit at the point of measurement.

    Reference: with ``dim=1``, Tucker et al. 2017 (REBAR) and Grathwohl et al. 2018 (RELAX); with ``dim=200``, Titsias &
    Shi 2022, who take the mean over bits instead of the sum.
    """

    dim: int = 10
    target: float = 0.45
    logit: float = 0.0

    family = Bernoulli
    former_defaults = MappingProxyType({"dim": 1, "target": 0.499})
    row_elements = property(attrgetter("dim"))
    reference = "Tucker et al. 2017; Grathwohl et al. 2018"

    def __post_init__(self) -> None:
        at_least(self, dim=1)
        finite(self, "target", "logit")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        target = torch.tensor(self.target, dtype=dtype, device=device)

        def q(theta: Theta) -> Distribution:
            return Independent(Bernoulli(logits=theta["logits"], validate_args=False), 1, validate_args=False)

        def f(b: Tensor) -> Tensor:
            return squared_distance(b, target)

        def exact(theta: Theta) -> Tensor:
            p = theta["logits"].sigmoid()
            return (p * (1 - self.target) ** 2 + (1 - p) * self.target**2).sum()

        return Problem(point(self.dim, dtype, device, logits=self.logit), q, lambda _q: f, exact)
