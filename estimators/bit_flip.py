"""BitFlip: one coordinate summed out, chosen at random."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Distribution

from estimators._axes import spread
from estimators._checks import at_least
from estimators._densities import probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined
from estimators._transforms import no_derivatives


@dataclass(frozen=True)
class BitFlip(Estimator):
    """BitFlip: the local expectation of one randomly chosen bit, times the number D of bits.

    ``g_i = (1/n) sum_k D 1[i = i_k] p_i (1-p_i) (f(b_k with b_i = 1) - f(b_k with b_i = 0))``,  b_k ~ q

    The bit i_k is chosen uniformly; g_i is the gradient in the logit of bit i, whose probability is p_i. Unbiased;
    exact for one bit. If every p is near 0 or 1, the variance is far lower than with antithetic pairs, because the bits
    of a pair then seldom differ. If every p is near 1/2, the variance is higher than with pairs. Supports Bernoulli; f
    may be a black box. Cost: 2n evaluations of f.

    Args:
        n: number of samples, each with one bit flipped.

    Reference: Kunes, Yin, Land, Haviv, Pe'er & Tavaré 2023 ("Gradient estimation for binary latent variables via
    gradient variance clipping"), BitFlip-1.
    """

    n: int = 1

    families = (Bernoulli,)
    reference: ClassVar[str] = "Kunes et al. 2023"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x, variables = draw(q, self.n, generator), math.prod(q.event_shape)
        fx = f(x)
        chosen = torch.randint(variables, Size((self.n, *q.batch_shape, 1)), generator=generator, device=x.device)
        here = (chosen == torch.arange(variables, device=x.device)).reshape(x.shape)
        with no_derivatives():
            flipped = f(torch.where(here, 1 - x, x))
        slope = variables * (flipped - fx.detach())
        gradient = (here * spread(slope, x) * (1 - 2 * x)).mean(0)
        return joined(fx.mean(0), inject_at(q.batch_shape, [(gradient, probs(q))], self), self)
