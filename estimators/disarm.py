"""DisARM: antithetic pairs of binary samples."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution

from estimators._axes import average, over_samples, spread
from estimators._checks import even
from estimators._couplings import antithetic_bits
from estimators._densities import logits, row_probs
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined


@dataclass(frozen=True)
class DisARM(Estimator):
    """DisARM, also known as U2G: ARM with its uniform noise integrated out.

    ``g_i = (f(b) - f(b')) / 2 * (-1)^{b'_i} 1[b_i != b'_i] sigmoid(|logit_i|)``,  for logit_i, averaged over n/2 pairs
    ``b = 1[u < p]``,  u uniform, p the probabilities of q
    ``b' = 1[1 - u < p]``

    Unbiased: DisARM is the conditional expectation of ARM, given both samples. For a single bit of probability 1/2, the
    variance is 0. If p is near 0 or 1, the bits of a pair seldom differ, and the variance grows relative to the squared
    gradient. Supports Bernoulli; f may be a black box. Cost: n evaluations of f.

    Args:
        n: number of samples, even: two per pair.

    Reference: Dong, Mnih & Tucker 2020 ("DisARM"); the same estimator is in Yin, Ho, Yan, Qian & Zhou 2020 ("U2G").
    """

    n: int = 2

    families = (Bernoulli,)
    command_name: ClassVar[str] = "disarm"
    aliases: ClassVar[tuple[str, ...]] = ("u2g",)
    reference: ClassVar[str] = "Dong et al. 2020"

    def __post_init__(self) -> None:
        even(self)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        _, x = antithetic_bits(self.n, q, generator)
        fx = f(x)
        at_b, at_other = fx.detach().chunk(2)
        b, other = x.chunk(2)
        p = row_probs(q)
        # b - b' is (-1)^b' where the bits differ and 0 elsewhere; max(p, 1 - p) is sigmoid(|logit|).
        signed = (b - other).mul_(spread((at_b - at_other) / self.n, b))
        gradient = over_samples(signed) * torch.maximum(p, 1 - p)
        return joined(average(fx), inject_at(q.batch_shape, [(gradient, logits(q))], self), self)
