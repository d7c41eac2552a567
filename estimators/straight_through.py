"""Straight-through: the discrete sample in the forward pass, the probabilities in the backward pass."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import average
from estimators._checks import at_least, evaluate_path
from estimators._densities import probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._surrogate import through


@dataclass(frozen=True)
class StraightThrough(Estimator):
    """Straight-through estimator: the sample in the forward pass, the mean of q in the backward pass.

    ``g = (1/n) sum_k J^T grad f(x_k)``,  x_k ~ q

    J is the Jacobian of q's probabilities in q's parameters, and grad f the gradient of f in x. Biased unless f is
    linear. Let a bit be 1 with probability p, and ``f(b) = (b - t)^2``. Then the mean of g for the logit is
    ``2 p (1-p) (p - t)``. This mean vanishes at p = t, and has the wrong sign if t lies between p and 1/2. Needs df/dx,
    but only on the support of q. Cost: n evaluations of f, n of its gradient.

    Args:
        n: number of samples.

    Reference: Bengio, Leonard & Courville 2013, section 4.
    """

    n: int = 1

    unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("st",)
    reference: ClassVar[str] = "Bengio et al. 2013"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = through(draw(q, self.n, generator), probs(q), self)
        return average(evaluate_path(self, f, x))
