"""GO: differences of f between neighbouring integers, weighted by the derivative of the distribution function."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Binomial, Distribution, Geometric, NegativeBinomial, Poisson

from estimators._axes import spread
from estimators._checks import at_least
from estimators._coordinates import AT_ONCE, neighbour, replaced
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators._rows import one
from estimators._surrogate import inject, joined
from estimators._transforms import is_differentiated


@dataclass(frozen=True)
class GO(Estimator):
    """GO (general and one-sample) gradient for integer variables: a weighted forward difference of f.

    ``g_i = (1/n) sum_k -(dF(x_i)/dtheta_i / q(x_i)) (f(x with x_i + 1) - f(x))``,  x = x_k ~ q

    theta_i is a parameter of coordinate i, and F the distribution function of this coordinate. By family and parameter,
    the weight ``-(dF/dtheta) / q`` is:

    ``1`` for Poisson, rate; ``(N - x) / (1 - p)`` for Bernoulli and Binomial, probs, with N trials (1 for Bernoulli);
    ``-(x + 1) / p`` for Geometric, probs; ``(r + x) / (1 - p)`` for NegativeBinomial, probs, with r failures.

    Gradients in logits follow by the chain rule. Unbiased, and f may be a black box. Needs a q of independent integers.
    (For a continuous q, with df/dx in place of the difference, the formula is implicit Reparameterization.) For
    Poisson, GO is MeasureValued. Cost: n (1 + D) evaluations of f for D coordinates.

    Some counts are so large that their dtype does not hold the next integer, as in float32 beyond 2^24. The next number
    of the dtype is then used, and the difference of f is divided by the distance.

    Args:
        n: number of samples.

    Reference: Cong, Zhao, Bai & Carin 2019, theorem 1 and section 4.
    """

    n: int = 1

    families = (Bernoulli, Binomial, Geometric, NegativeBinomial, Poisson)
    reference: ClassVar[str] = "Cong et al. 2019"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def points(self, q: Distribution) -> int:
        """Return the number of points in the largest call of f, per batch element of q."""
        return self.n * min(q.event_shape.numel(), AT_ONCE)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = draw(q, self.n, generator)
        fx = f(x)
        name, weight, last = _weight(q, x)
        if any(is_differentiated(value) for other, value in parameters(q).items() if other != name):
            raise Refusal(
                f"{self!r} has no gradient for the total_count of {type(inner(q)).__name__}. "
                "Use ScoreFunction or RLOO, or detach total_count."
            )
        above, weight = neighbour(x, 1, weight)
        difference = replaced(f, x, torch.minimum(above, last), len(q.event_shape)) - spread(fx.detach(), x)
        return joined(fx.mean(0), inject(q, self, **{name: (weight * difference).mean(0)}), self)


def _weight(q: Distribution, x: Tensor) -> tuple[str, Tensor, Tensor]:
    """Return the parameter's name, its weight ``-(dF/dparameter) / q`` at x, and the last point of the support."""
    base, own = inner(q), {name: one(value.detach(), q) for name, value in parameters(q).items()}
    endless = x.new_full((), torch.inf)
    if isinstance(base, Poisson):
        return "rate", torch.ones_like(x), endless
    name = "probs" if "probs" in own else "logits"
    p = own["probs"] if name == "probs" else own["logits"].sigmoid()
    tiny = torch.finfo(p.dtype).tiny
    slope = torch.ones_like(p) if name == "probs" else p * (1 - p)
    match base:
        case Geometric():
            return name, -(x + 1) * (slope / p.clamp_min(tiny)), endless
        case NegativeBinomial():
            each = p if name == "logits" else 1 / (1 - p).clamp_min(tiny)  # of large logits, p is rounded to 1
            return name, (base.total_count.detach() + x) * each, endless
        case Binomial():
            last = base.total_count.detach()
        case _:
            last = torch.ones_like(p)
    return name, (last - x) * (slope / (1 - p).clamp_min(tiny)), last
