"""Leave-one-out baselines."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least
from estimators._densities import score
from estimators._draws import draw
from estimators._protocol import Estimator, Integrand, State
from estimators._surrogate import joined


@dataclass(frozen=True)
class RLOO(Estimator):
    """Score function with leave-one-out baselines (REINFORCE leave-one-out, LOORF).

    ``g = (1/n) sum_k (f(x_k) - 1/(n-1) sum_{j != k} f(x_j)) grad log q(x_k)
       = 1/(n-1) sum_k (f(x_k) - mean f) grad log q(x_k)``

    Unbiased: each baseline is made of the other samples. Invariant to a constant in f. Needs a q with ``log_prob``,
    whose support does not move with a trained parameter; f may be a black box. Cost: n evaluations of f.

    Args:
        n: number of samples, at least 2.

    Reference: Salimans & Knowles 2014; Kool, van Hoof & Welling 2019 ("Buy 4 REINFORCE samples, get a baseline for
    free"), equation 8.
    """

    n: int = 2

    reference: ClassVar[str] = "Kool et al. 2019"

    def __post_init__(self) -> None:
        at_least(
            self,
            2,
            ": a leave-one-out baseline needs another sample. Use ScoreFunction(n=1) or RLOO(n=2).",
        )

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the value, ``[*batch]``: the mean of f over the samples, with the estimated gradient attached."""
        x = draw(q, self.n, generator)
        fx = f(x)
        value = fx.mean(0)
        return joined(value, score(q, x, (fx - value).detach() / (self.n - 1), self), self)
