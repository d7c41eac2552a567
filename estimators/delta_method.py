"""Score function with the Taylor expansion of f as control variate."""

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Generator, Tensor
from torch.distributions import Distribution, Normal

from estimators._checks import at_least
from estimators._densities import score
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._surrogate import inject, joined
from estimators._taylor import taylor


@dataclass(frozen=True)
class DeltaMethod(Estimator):
    """Score function with the second-order Taylor expansion of f at the mean as control variate.

    ``h(x) = f(loc) + df(loc) . d + d . H d / 2``,  H the Hessian of f at loc
    ``d = x - loc``
    ``g_loc = (1/n) sum_k (f(x_k) - h(x_k)) score_loc(x_k) + df(loc)``
    ``g_scale = (1/n) sum_k (f(x_k) - h(x_k)) score_scale(x_k) + diag(H) scale``

    df is the gradient of f; score_loc and score_scale are the derivatives of log q in loc and scale. Unbiased: the last
    term of each gradient is the gradient of E[h] with h held fixed. The variance is zero for quadratic f, and small if
    q is narrow. Needs first and second derivatives of f at the mean of q, and only there. Supports Normal. Cost: n + 1
    evaluations of f, one of its gradient and D Hessian-vector products for D coordinates; memory for D^2 numbers per
    batch element, so D should be moderate.

    Args:
        n: number of samples.

    Reference: Paisley, Blei & Jordan 2012, section 3. Departure: the control variate has coefficient 1; the paper
    estimates the coefficient from further samples.
    """

    n: int = 1

    families = (Normal,)
    needs_df = True
    reference: ClassVar[str] = "Paisley et al. 2012"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def points(self, q: Distribution) -> int:
        """Return the number of points that one call holds at once, the larger one of n and D.

        D is the number of coordinates of q. The Hessian has D rows, and each row counts as a point.
        """
        return max(self.n, q.event_shape.numel())

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        base = cast(Normal, inner(q))
        x = draw(q, self.n, generator)
        fx = f(x)
        value, slope, curvature = taylor(self, f, q)
        d = (x - base.loc.detach()).reshape(self.n, *slope.shape)
        bent = (curvature @ d.unsqueeze(-1)).squeeze(-1)
        h = value + ((slope + bent / 2) * d).sum(-1)
        spread = curvature.diagonal(dim1=-2, dim2=-1).reshape(base.loc.shape) * base.scale.detach()
        mean = inject(q, self, loc=slope.reshape(base.loc.shape), scale=spread)
        return joined(fx.mean(0), score(q, x, (fx.detach() - h) / self.n, self) + mean, self)
