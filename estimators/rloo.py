"""Leave-one-out baselines."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, one_of
from estimators._densities import score
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._surrogate import joined
from estimators.returns import credited, score_of_choices


@dataclass(frozen=True)
class RLOO(Estimator):
    """Score function with leave-one-out baselines (REINFORCE leave-one-out, LOORF).

    ``g = (1/n) sum_k (f(x_k) - 1/(n-1) sum_{j != k} f(x_j)) grad log q(x_k)
       = 1/(n-1) sum_k (f(x_k) - mean f) grad log q(x_k)``

    Unbiased: the baseline of a sample is made from the other samples. A constant in f changes nothing. Needs a q with
    ``log_prob``, and a support that does not move with a trained parameter; f may be a black box. Cost: n evaluations
    of f.

    ``credit="downstream"`` is for an f that is a ``Return``, a sum of costs, and a q of several choices, a ``Chain``:

    ``g = (1/n) sum_k sum_t (R_kt - 1/(n-1) sum_{j != k} R_jt) grad log q_t(x_kt | x_k<t)``

    R_kt is the sum of the costs of sample k that choice t can change. Costs before a choice would only add variance,
    and are left out.

    Args:
        n: number of samples, at least 2.
        credit: what the score of a choice is multiplied by: "whole", the value of f; "downstream", the sum of the costs
            that the choice can change.

    Reference: Salimans & Knowles 2014; Kool, van Hoof & Welling 2019 ("Buy 4 REINFORCE samples, get a baseline for
    free"), equation 8. Downstream: the reward to go of Sutton, McAllester, Singh & Mansour 2000.
    """

    n: int = 2
    credit: str = "whole"

    reference: ClassVar[str] = "Kool et al. 2019"

    def __post_init__(self) -> None:
        at_least(
            self,
            2,
            ": a leave-one-out baseline needs another sample. Use ScoreFunction(n=1) or RLOO(n=2).",
        )
        one_of(self, "credit", "whole", "downstream")

    @property
    def needs_costs(self) -> bool:  # type: ignore[override]
        """Whether the integrand must be a ``Return``: only if ``credit`` is "downstream"."""
        return self.credit == "downstream"

    def coefficients(self, fx: Tensor) -> Tensor:
        """Return ``(f(x_k) - mean f) / (n - 1)`` for each sample, ``[n, *batch]``.

        ``fx`` holds the values f(x_k), ``[n, *batch]``.
        """
        return self._off(fx, fx.mean(0))

    def _off(self, fx: Tensor, mean: Tensor) -> Tensor:
        return (fx - mean).detach() / (self.n - 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the value, ``[*batch]``: the mean of f over the samples, with the estimated gradient attached."""
        x = draw(q, self.n, generator)
        if self.needs_costs:
            fx, to_go = credited(self, f, q, x)
            weight = (to_go - to_go.mean(0)) / (self.n - 1)
            return joined(fx.mean(0), score_of_choices(q, x, weight, self), self)
        fx = f(x)
        value = fx.mean(0)
        return joined(value, score(q, x, self._off(fx, value), self), self)
