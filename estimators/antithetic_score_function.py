"""Score function estimator on antithetic pairs."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, MultivariateNormal, Normal

from estimators._checks import even
from estimators._couplings import antithetic, antithetic_bits, location_scale
from estimators._densities import score
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._surrogate import joined
from estimators._transforms import no_derivatives


@dataclass(frozen=True)
class AntitheticScoreFunction(Estimator):
    """Score function estimator on antithetic pairs of samples.

    ``g = (1/n) sum_k f(x_k) grad log q(x_k)``
    ``x = loc + scale z``,  paired with ``loc - scale z``,  z standard normal, for normal families
    ``x = 1[u < p]``,  paired with ``1[1 - u < p]``,  u uniform, for Bernoulli(p)

    Unbiased: each sample on its own is a draw from q. For the mean of a normal, a pair x, x' gives
    ``(f(x) - f(x')) z / (2 scale)``, in which a constant of f cancels. For the scale, both samples of a pair have the
    same score (grad log q), and the pair gains little over one sample. f may be a black box. Cost: n evaluations of f.

    Args:
        n: number of samples, even: two per pair.

    Reference: Mohamed et al. 2020 (JMLR 21), section 7.2 (coupling); Salimans et al. 2017, section 2 (normal mean).
    """

    n: int = 2

    families = (Normal, MultivariateNormal, Bernoulli)
    reference: ClassVar[str] = "Mohamed et al. 2020"

    def __post_init__(self) -> None:
        even(self, other=f" or ScoreFunction(n={self.n})")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        bits = isinstance(inner(q), Bernoulli)
        with no_derivatives():
            x = (
                antithetic_bits(self.n, q, generator)[1]
                if bits
                else location_scale(q, antithetic(self.n, q, generator))
            )
        fx = f(x)
        return joined(fx.mean(0), score(q, x, fx.detach() / self.n, self), self)
