"""Double control variates: leave-one-out baselines improved by the gradient of f at the other samples."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import over_event, spread
from estimators._checks import at_least, evaluate_path, finite
from estimators._densities import logits, probs, row_probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._learned import checked_state
from estimators._parameters import first_parameter, parameters
from estimators._protocol import Estimator, State
from estimators._relaxations import squash
from estimators._surrogate import inject_at, joined
from estimators._transforms import value_and_slope


class Coefficient(State):
    """State of DoubleControlVariate, learned by ``adapt``: the coefficient of its control variates, a scalar."""

    def __init__(self, coefficient: float, like: Tensor) -> None:
        super().__init__(like)
        self.coefficient = nn.Parameter(self.mean.new_tensor(coefficient))


@dataclass(frozen=True)
class DoubleControlVariate(Estimator):
    """Double control variate: leave-one-out for f minus a tangent whose slope comes from the other samples.

    ``g = (1/n) sum_k (F_k - 1/(n-1) sum_{j != k} F_j) (x_k - p) + a mean(f'(x)) grad p``,  x_k ~ q,  p the mean of q
    ``F_k = f(x_k) - a (x_k - p)^T s_k``,  a the coefficient
    ``s_k = 1/(n-1) sum_{j != k} f'(x_j)``

    g is the gradient in the logits of q, and grad p the Jacobian of p in them. f' is the gradient of f in x, and
    mean(f'(x)) the mean of the n f'(x_k). Unbiased for every coefficient; with the coefficient 0 the estimator is RLOO.
    The tangent helps most with two samples, because the noise of the two slopes cancels if f is quadratic. Needs df/dx,
    but only on the support of q. Cost: n evaluations of f, n of its gradient. The paper derives g for bits, with the
    opposite sign of a; the derivation also holds for one-hot categories. A state, made by ``init``, holds the
    coefficient, and ``adapt`` learns it. A call without a state uses the field ``coefficient``.

    Args:
        n: number of samples, at least 2.
        coefficient: a, the factor of the tangent, finite; learning starts from it.

    Reference: Titsias & Shi 2022, section 3.
    """

    n: int = 2
    coefficient: float = 0.0

    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    needs_state = True
    aliases: ClassVar[tuple[str, ...]] = ("double-cv",)
    reference: ClassVar[str] = "Titsias & Shi 2022"

    def __post_init__(self) -> None:
        at_least(self, 2, ": its slopes come from other samples. Use ScoreFunction(n=1) or DoubleControlVariate(n=2).")
        finite(self, "coefficient")

    def init(self, q: Distribution, generator: Generator | None = None) -> Coefficient:
        """Return a state whose coefficient starts at the field ``coefficient``.

        q gives the state its device and its dtype, at least float32; ``generator`` is ignored.
        """
        return Coefficient(self.coefficient, first_parameter(q).detach())

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        own = checked_state(self, state, Coefficient, q)
        a = self.coefficient if own is None else own.coefficient
        x, p = draw(q, self.n, generator), row_probs(q)
        fx, slope = value_and_slope(lambda x: evaluate_path(self, f, x), x)
        residual = x - p
        others = (slope.sum(0) - slope) / (self.n - 1)
        F = fx.detach() - a * over_event(residual * others, x.dim() - fx.dim())
        weight = (F - F.mean(0)) / (self.n - 1)
        gradient = (spread(weight, x) * residual).sum(0)
        # Logits need the full Jacobian of the softmax: learning looks at the gradient at q's own parameters.
        mean = probs(q) if "probs" in parameters(q) else squash(q, logits(q), 1.0)
        return joined(
            fx.mean(0), inject_at(q.batch_shape, [(gradient, logits(q)), (a * slope.mean(0), mean)], self), self
        )
