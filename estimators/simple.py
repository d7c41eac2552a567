"""SIMPLE: straight-through for random subsets, with the exact marginals."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, evaluate_path
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._surrogate import through
from estimators.subset import Subset


@dataclass(frozen=True)
class SIMPLE(Estimator):
    """SIMPLE: a sampled k-subset in the forward pass, the probabilities of its elements in the backward pass.

    ``g = (1/n) sum_j J^T grad f(x_j)``,  x_j ~ q

    J is the Jacobian, in the logits, of the probabilities ``P(x_i = 1)`` of the D elements, and grad f the gradient of
    f in x. Biased unless f is linear. For k = 1 the estimator is StraightThrough on one-hot samples. Supports
    ``Subset``, a distribution over D bits of which exactly k are 1. Needs df/dx, but only on the support of q. Cost: n
    evaluations of f, n of its gradient, and O(D k) for the probabilities.

    Args:
        n: number of samples.

    Reference: Ahmed, Zeng, Niepert & Van den Broeck 2023 ("SIMPLE: a gradient estimator for k-subset sampling"),
    section 3.
    """

    n: int = 1

    unbiased = False
    families = (Subset,)
    needs_df = True
    reference: ClassVar[str] = "Ahmed et al. 2023"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = through(draw(q, self.n, generator), inner(q).mean, self)
        return evaluate_path(self, f, x).mean(0)
