"""Measure-valued derivatives: differences of f under the two parts of the derivative of q."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Chi2,
    Distribution,
    Exponential,
    Gamma,
    Normal,
    OneHotCategorical,
    Poisson,
    Weibull,
)

from estimators._axes import one_hot, spread
from estimators._checks import at_least, true_or_false
from estimators._coordinates import AT_ONCE, replaced
from estimators._densities import probs, row_probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._measures import pairs
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators._surrogate import inject, joined
from estimators._transforms import is_differentiated


@dataclass(frozen=True)
class MeasureValued(Estimator):
    """Measure-valued (weak) derivative: the derivative of q is a constant times a difference of two densities.

    ``dq/dtheta_i = c (q+ - q-)``,  theta_i a parameter of coordinate i, x_i+ ~ q+, x_i- ~ q-
    ``g_i = (1/n) sum_k c (f(x_k with x_i+) - f(x_k with x_i-))``,  x_k ~ q

    | parameter | c | x+ | x- |
    | --- | --- | --- | --- |
    | Normal, loc | 1 / (scale sqrt(2 pi)) | loc + scale W | loc - scale W |
    | Normal, scale | 1 / scale | loc + scale M | loc + scale U M |
    | Bernoulli, probs | 1 | 1 | 0 |
    | categorical, probs of category j | 1 | j | x |
    | Poisson, rate | 1 | x + 1 | x |
    | Exponential, Gamma, rate | a / rate | x | x + E / rate |
    | Weibull, scale | a / scale | scale ((x / scale)^a + E)^(1 / a) | x |

    W is Rayleigh, U uniform and E exponential. M is a random sign times a chi variable of three degrees of freedom. a
    is the concentration (1 for Exponential). Gradients in logits follow by the chain rule.

    Unbiased, and f may be a black box. Needs a q of independent coordinates. The derivative in the concentration of
    Gamma or Weibull is refused: no sampler of its q+ and q- is known. In every row of the table but the first, x itself
    can serve as x+ or x-. All coordinates share f(x), whose mean is the returned value. Cost: n (1 + D) evaluations of
    f for D coordinates. The cost is n (1 + 3D) for a Normal and n (1 + D (C - 1)) for C categories. Parameters that are
    not differentiated cost nothing.

    Some Poisson counts are so large that their dtype does not hold x + 1, as in float32 beyond 2^24. Then x+ is the
    next number of the dtype, c is divided by the distance, and ``coupled=False`` is refused.

    Args:
        n: number of samples.
        coupled: whether x+ and x- share their noise, as in the table. If False, each has noise of its own. Variables of
            finite support have no noise to share.

    Reference: Pflug 1996; Heidergott, Vazquez-Abad & Volk-Makarewicz 2008; Mohamed et al. 2020 (JMLR 21), section 6.
    Departure: all x+ and x- that equal x share one evaluation of f. These references take two evaluations for each
    coordinate and parameter.
    """

    n: int = 1
    coupled: bool = True

    families = (Normal, Bernoulli, OneHotCategorical, Categorical, Poisson, Exponential, Gamma, Weibull)
    aliases: ClassVar[tuple[str, ...]] = ("weak-derivative",)
    reference: ClassVar[str] = "Pflug 1996"

    def __post_init__(self) -> None:
        at_least(self, 1)
        true_or_false(self, "coupled")

    def refuses(self, family: type[Distribution]) -> str | None:
        return _unknown("df", family) if issubclass(family, Chi2) else super().refuses(family)

    def points(self, q: Distribution) -> int:
        """Return the number of points in the largest call of f, per batch element of q."""
        each, variables = 2 if isinstance(inner(q), Normal) else 1, math.prod(q.event_shape)
        if isinstance(inner(q), OneHotCategorical | Categorical):
            each = probs(q).shape[-1] - 1
            variables //= each + 1 if isinstance(inner(q), OneHotCategorical) else 1
        return self.n * max(1, each * min(variables, AT_ONCE))

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        return differences(self, f, q, generator, self.n, self.coupled)


def differences(
    who: Estimator, f: Integrand, q: Distribution, generator: Generator | None, n: int, coupled: bool = True
) -> Tensor:
    """Return an estimate of E_q[f], ``[*batch]``, with the gradient of ``MeasureValued`` attached.

    For each parameter of a coordinate, this gradient is a constant times ``f(x with x_i+) - f(x with x_i-)``. Here x_i+
    and x_i- are draws of coordinate i from two densities, whose difference is the derivative of q up to a constant.

    Args:
        who: the estimator that messages name.
        f: the integrand.
        q: a distribution of independent coordinates.
        generator: source of all noise; torch's global generator if None.
        n: number of samples x.
        coupled: whether x_i+ and x_i- share their noise. If False, each has noise of its own.
    """
    who.check(q)
    wanted = [name for name, value in parameters(q).items() if is_differentiated(value)]
    if isinstance(inner(q), OneHotCategorical | Categorical):
        return _over_categories(who, f, q, generator, n)
    x, parts = pairs(q, n, coupled, generator)
    if unknown := set(wanted) - set(parts):
        raise Refusal(_unknown(unknown.pop(), type(inner(q))))
    fx = f(x)
    at_x = spread(fx.detach(), x)
    gradients = {}
    for name in wanted:
        c, *sides = parts[name]
        new = [side for side in sides if side is not None]
        values = iter(replaced(f, x, torch.stack(new), len(q.event_shape)))
        plus, minus = (at_x if side is None else next(values) for side in sides)
        gradients[name] = (c * (plus - minus)).mean(0)
    return joined(fx.mean(0), inject(q, who, **gradients), who) if gradients else fx.mean(0)


def _over_categories(who: Estimator, f: Integrand, q: Distribution, generator: Generator | None, n: int) -> Tensor:
    """Return the loss for categories: each variable takes every other category in turn."""
    p, hot = row_probs(q), isinstance(inner(q), OneHotCategorical)
    classes = p.shape[-1]

    def g(index: Tensor) -> Tensor:
        return f(one_hot(index, classes, p.dtype) if hot else index)

    x = draw(q, n, generator)
    index = x.argmax(-1) if hot else x
    fx = f(x)
    further = torch.arange(1, classes, device=x.device).reshape(-1, *(1 for _ in index.shape))
    others = (index + further) % classes
    difference = replaced(g, index, others, index.dim() - fx.dim()) - spread(fx.detach(), index)
    each = difference.new_zeros((*index.shape, classes))
    each = each.scatter_(-1, others.movedim(0, -1), difference.movedim(0, -1)).mean(0)
    (name,) = parameters(q)
    return joined(fx.mean(0), inject(q, who, **{name: each if name == "probs" else p * each}), who)


def _unknown(name: str, family: type[Distribution]) -> str:
    return (
        f"MeasureValued has no pair of samplers for the {name} of {family.__name__}. Use ScoreFunction, RLOO, or "
        "Reparameterization where f is differentiable; or do not differentiate it."
    )
