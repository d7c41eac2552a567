"""Black-box smoothing: differences of f with q's parameters moved forwards and backwards, on the same noise."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, OneHotCategorical

from estimators._axes import spread
from estimators._checks import even, positive
from estimators._densities import logits
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._noise import gumbel, logistic, normal, uniform
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._relaxations import harden
from estimators._surrogate import inject_at, joined


@dataclass(frozen=True)
class EvolutionStrategies(Estimator):
    """Evolution strategies, antithetic: moves q's parameters by Gaussian steps, forwards and backwards.

    ``g = (1/n) sum_j (f(x(u + scale e_j)) - f(x(u - scale e_j))) e_j / scale``,  e_j ~ N(0, I),  over n/2 pairs j

    The vector u holds q's parameters on an unbounded scale: mean and log scale of a Normal, logits of Bernoulli and
    categories. x(u) is a sample of q at u. Both sides of a step use the same noise (normal, logistic or Gumbel). Biased
    by O(scale^2): the returned value estimates the average of E_q[f] over Gaussian steps in u, and g estimates the
    gradient of this average. f may be a black box. The variance grows with the number of parameters and, for discrete
    x, with 1/scale. Cost: n evaluations of f.

    Args:
        n: number of samples, even: two per step.
        scale: size of the steps, positive.

    Reference: Wierstra et al. 2014 (JMLR 15); Salimans, Ho, Chen, Sidor & Sutskever 2017, section 2, applied here to a
    function that includes the expectation over q.
    """

    n: int = 2
    scale: float = 0.1

    unbiased = False
    value_unbiased = False
    families = (Normal, Bernoulli, OneHotCategorical, Categorical)
    aliases: ClassVar[tuple[str, ...]] = ("es",)
    reference: ClassVar[str] = "Salimans et al. 2017"

    def __post_init__(self) -> None:
        even(self, "one sample on each side of a step")
        positive(self, "scale")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        u = _unbounded(q)
        steps = [normal(Size((self.n // 2, *t.shape)), t, generator) for t in u]
        return _differences(self, f, q, u, steps, generator)


@dataclass(frozen=True)
class SPSA(Estimator):
    """Simultaneous perturbation: moves all of q's parameters by steps of random sign, forwards and backwards.

    ``g_i = (1/n) sum_j (f(x(u + scale s_j)) - f(x(u - scale s_j))) / (scale s_ji)``,  s_ji = +-1,  over n/2 pairs j

    The vector u holds q's parameters on an unbounded scale: the mean and the log scale of a Normal, the logits of
    Bernoulli and categories. x(u) is a sample of q at u; both sides of a step use the same noise (normal, logistic or
    Gumbel). Biased by O(scale^2), but unbiased if E_q[f] is quadratic in u. f may be a black box. The variance grows
    with the number of parameters and, for discrete x, with 1/scale. Cost: n evaluations of f.

    Args:
        n: number of samples, even: two per step.
        scale: size of the steps, positive.

    Reference: Spall 1992 (IEEE Transactions on Automatic Control 37), section 2.
    """

    n: int = 2
    scale: float = 0.1

    unbiased = False
    value_unbiased = False
    families = (Normal, Bernoulli, OneHotCategorical, Categorical)
    reference: ClassVar[str] = "Spall 1992"

    def __post_init__(self) -> None:
        even(self, "one sample on each side of a step")
        positive(self, "scale")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        u = _unbounded(q)
        signs = [uniform(Size((self.n // 2, *t.shape)), t, generator).sub_(0.5).sign_() for t in u]
        return _differences(self, f, q, u, signs, generator)


def _unbounded(q: Distribution) -> list[Tensor]:
    """Return q's parameters on an unbounded scale, with their graph."""
    if isinstance(inner(q), Normal):
        loc, scale = parameters(q).values()
        return [loc, scale.log()]
    return [logits(q)]


def _differences(
    estimator: EvolutionStrategies | SPSA,
    f: Integrand,
    q: Distribution,
    u: list[Tensor],
    steps: list[Tensor],
    generator: Generator | None,
) -> Tensor:
    """Return the loss of central differences along steps ``[pairs, *batch, ...]`` with entries of variance 1."""
    steps = [torch.where(t.isfinite(), step, 0) for t, step in zip(u, steps, strict=True)]  # infinite logits stay
    make = {Normal: normal, Bernoulli: logistic}.get(type(inner(q)), gumbel)
    noise = make(Size((len(steps[0]), *u[0].shape)), u[0], generator)
    sides = [[t.detach() + way * estimator.scale * step for t, step in zip(u, steps, strict=True)] for way in (1, -1)]
    x = torch.cat([_sample(q, side, noise) for side in sides])
    fx = f(x)
    there, back = fx.detach().chunk(2)
    slope = (there - back) / (len(x) * estimator.scale)
    gradients = [(spread(slope, step) * step).sum(0) for step in steps]
    return joined(fx.mean(0), inject_at(q.batch_shape, list(zip(gradients, u, strict=True)), estimator), estimator)


def _sample(q: Distribution, u: list[Tensor], noise: Tensor) -> Tensor:
    """Return samples of q at parameters u, made from the noise, without a graph: ``[pairs, *batch, *event]``."""
    match inner(q):
        case Normal():
            loc, log_scale = u
            return loc + log_scale.exp() * noise
        case Categorical():
            return (u[0] + noise).argmax(-1)
        case _:
            return harden(q, u[0] + noise)
