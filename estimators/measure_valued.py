"""Measure-valued derivatives: differences of f under the two parts of the derivative of q."""

from __future__ import annotations

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
from torch.nn.functional import one_hot

from estimators._checks import at_least, one_value_each
from estimators._coordinates import AT_ONCE, replaced
from estimators._densities import probs, row_probs
from estimators._draws import draw
from estimators._measures import pairs
from estimators._protocol import Estimator, Integrand, Refusal, State, inner
from estimators._rows import parameters
from estimators._surrogate import inject


@dataclass(frozen=True)
class MeasureValued(Estimator):
    """Measure-valued (weak) derivative: the derivative of q is a constant times a difference of two densities.

    ``dq/dtheta_i = c (q+ - q-)``,  ``g_i = (1/n) sum_k c (f(x with x_i+) - f(x with x_i-))``,  x ~ q

    ``Normal, loc: c = 1 / (scale sqrt(2 pi)),  x+- = loc +- scale W``
    ``Normal, scale: c = 1 / scale,  x+ = loc + scale M,  x- = loc + scale U M``
    ``Bernoulli, probs: c = 1,  x+ = 1,  x- = 0``;  ``categorical, probs of category k: c = 1,  x+ = k,  x- = x``
    ``Poisson, rate: c = 1,  x+ = x + 1,  x- = x``
    ``Exponential, Gamma, rate: c = k / rate,  x+ = x,  x- = x + E / rate``
    ``Weibull, scale: c = k / scale,  x+ = scale ((x / scale)^k + E)^(1 / k),  x- = x``

    with W Rayleigh, M a random sign times a chi variable of three degrees, U uniform, E exponential, k the
    concentration (1 for Exponential); logits by the chain rule. Unbiased, and f is a black box. Needs a factorised q;
    the concentration of Gamma and Weibull, whose two parts have no known sampler, is refused. One part is x itself for
    all but the mean of a Normal: f(x), which is the value too, is shared by all coordinates. Cost: n (1 + D)
    evaluations of f for D coordinates; n (1 + 3D) for a Normal; n (1 + D (C - 1)) for C categories; those of a
    parameter that is not differentiated are saved.

    Args:
        n: samples.
        coupled: are x+ and x- made of the same noise, as above, or of independent noise? Variables of finite support
            have no noise in them.

    Reference: Pflug 1996; Heidergott, Vazquez-Abad & Volk-Makarewicz 2008; Mohamed et al. 2020 (JMLR 21), section 6.
    Departure: the parts that are x are shared, where the text evaluates f twice for each coordinate and parameter.
    """

    n: int = 1
    coupled: bool = True

    families = (Normal, Bernoulli, OneHotCategorical, Categorical, Poisson, Exponential, Gamma, Weibull)
    aliases: ClassVar[tuple[str, ...]] = ("weak-derivative",)
    reference: ClassVar[str] = "Pflug 1996"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return why a family is not served, or None."""
        return _unknown("df", family) if issubclass(family, Chi2) else super().refuses(family)

    def points(self, q: Distribution) -> int:
        """Return how many points the largest call of f has."""
        each, variables = 2 if isinstance(inner(q), Normal) else 1, math.prod(q.event_shape)
        if isinstance(inner(q), OneHotCategorical | Categorical):
            each = probs(q).shape[-1] - 1
            variables //= each + 1 if isinstance(inner(q), OneHotCategorical) else 1
        return self.n * max(1, each * min(variables, AT_ONCE))

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``."""
        self.check(q)
        wanted = [name for name, value in parameters(q).items() if value.requires_grad]
        if isinstance(inner(q), OneHotCategorical | Categorical):
            return self._categorical(f, q, generator)
        x, parts = pairs(q, self.n, self.coupled, generator)
        if unknown := set(wanted) - set(parts):
            raise Refusal(_unknown(unknown.pop(), type(inner(q))))
        fx = f(x)
        one_value_each(fx, x, q.batch_shape)
        spread = fx.detach().reshape(fx.shape + (1,) * (x.dim() - fx.dim()))
        gradients = {}
        for name in wanted:
            c, *sides = parts[name]
            new = [side for side in sides if side is not None]
            values = iter(replaced(f, x, torch.stack(new), len(q.event_shape)))
            plus, minus = (spread if side is None else next(values) for side in sides)
            gradients[name] = (c * (plus - minus)).mean(0)
        return fx.mean(0) + (inject(q, **gradients) if gradients else 0)

    def _categorical(self, f: Integrand, q: Distribution, generator: Generator | None) -> Tensor:
        """Return the loss: each variable takes every other category in turn."""
        p, hot = row_probs(q), isinstance(inner(q), OneHotCategorical)
        classes = p.shape[-1]

        def g(index: Tensor) -> Tensor:
            return f(one_hot(index, classes).to(p.dtype) if hot else index)

        x = draw(q, self.n, generator)
        index = x.argmax(-1) if hot else x
        fx = f(x)
        one_value_each(fx, x, q.batch_shape)
        further = torch.arange(1, classes, device=x.device).reshape(-1, *(1 for _ in index.shape))
        others = (index + further) % classes
        there = replaced(g, index, others, index.dim() - fx.dim())
        difference = there - fx.detach().reshape(fx.shape + (1,) * (index.dim() - fx.dim()))
        each = difference.new_zeros((*index.shape, classes))
        each = each.scatter_(-1, others.movedim(0, -1), difference.movedim(0, -1)).mean(0)
        (name,) = parameters(q)
        return fx.mean(0) + inject(q, **{name: each if name == "probs" else p * each})


def _unknown(name: str, family: type[Distribution]) -> str:
    return (
        f"MeasureValued has no pair of samplers for the {name} of {family.__name__}. Use ScoreFunction, RLOO, or "
        "Reparameterization where f is differentiable; or do not differentiate it."
    )
