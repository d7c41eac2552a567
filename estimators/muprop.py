"""MuProp: the score function with the linearisation of f at the mean as a control variate."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import over_event, spread
from estimators._checks import at_least, evaluate_path
from estimators._densities import logits, probs, row_probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined
from estimators._transforms import value_and_slope


@dataclass(frozen=True)
class MuProp(Estimator):
    """MuProp: score function of f minus its tangent at the mean, plus the tangent's own gradient.

    ``g = (1/n) sum_k (f(x_k) - f(p) - f'(p) (x_k - p)) grad log q(x_k) + f'(p) grad p``,  x_k ~ q

    p is the mean of q, and f' the gradient of f. Unbiased. For an affine f only the last term remains, and this term is
    the exact gradient. MuProp has no further baseline, so f minus the tangent may contain a large constant, which adds
    variance. Needs df/dx, and an f that is defined off the support of q. Cost: n + 1 evaluations of f, 1 of its
    gradient.

    Args:
        n: number of samples.

    Reference: Gu, Levine, Sutskever & Mnih 2016, section 3. Where the paper has a mean-field network, q's probabilities
    are used here.
    """

    n: int = 1

    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    needs_relaxed_f = True
    command_name: ClassVar[str] = "muprop"
    reference: ClassVar[str] = "Gu et al. 2016"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x, p = draw(q, self.n, generator), row_probs(q)
        fx = f(x)
        at_mean, slope = value_and_slope(lambda mean: evaluate_path(self, f, mean), probs(q).detach())
        tangent = at_mean.detach() + over_event((x - p) * slope, x.dim() - fx.dim())
        weight = (fx.detach() - tangent) / self.n
        gradient = (spread(weight, x) * (x - p)).sum(0)
        return joined(fx.mean(0), inject_at(q.batch_shape, [(gradient, logits(q)), (slope, probs(q))], self), self)
