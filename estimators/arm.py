"""ARM: augment, reinforce, merge."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution

from estimators._axes import spread
from estimators._checks import even
from estimators._couplings import antithetic_bits
from estimators._densities import logits
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined


@dataclass(frozen=True)
class ARM(Estimator):
    """ARM: the difference of f over an antithetic pair of bits, times the uniform noise that made the pair.

    ``g_i = (f(b) - f(b')) (1/2 - u_i)``,  for the logit of bit i, averaged over n/2 pairs
    ``b = 1[u < p]``,  u uniform, one u_i for each bit; p the probabilities of q
    ``b' = 1[1 - u < p]``

    Unbiased. DisARM is the conditional expectation of ARM given both samples, so DisARM's variance is never larger.
    Supports Bernoulli; f may be a black box. Cost: n evaluations of f.

    Args:
        n: number of samples, even: two per pair.

    Reference: Yin & Zhou 2019 ("ARM"), theorem 1, with 1 - u in place of u.
    """

    n: int = 2

    families = (Bernoulli,)
    reference: ClassVar[str] = "Yin & Zhou 2019"

    def __post_init__(self) -> None:
        even(self)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        u, x = antithetic_bits(self.n, q, generator)
        fx = f(x)
        at_b, at_other = fx.detach().chunk(2)
        gradient = (spread(at_b - at_other, u) * (0.5 - u)).mean(0)
        return joined(fx.mean(0), inject_at(q.batch_shape, [(gradient, logits(q))], self), self)
