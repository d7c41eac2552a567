"""Gumbel-Rao: straight-through Gumbel-softmax, averaged over its noise given the outcome."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical
from torch.nn.functional import softplus

from estimators._checks import at_least, evaluate_path, positive
from estimators._densities import logits
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._noise import gumbel, logistic
from estimators._protocol import Estimator, State
from estimators._relaxations import squash
from estimators._surrogate import grad_only, through


@dataclass(frozen=True)
class GumbelRao(Estimator):
    """Gumbel-Rao: straight-through Gumbel-softmax, averaged over noise drawn given the discrete sample.

    ``g = (1/n) sum_k (1/inner) sum_j J(y_kj)^T grad f(x_k)``,  x_k ~ q
    ``y_kj = softmax(z_kj / temperature)``
    ``z_kj = logits + G_kj``,  G_kj Gumbel noise, given that the largest entry of z_kj is at category x_k

    J is the Jacobian of y in the logits, with G held fixed; grad f is the gradient of f in x. A bit is a variable of
    two categories, with logits ``logit`` and 0. Biased: g has the mean of StraightThroughGumbelSoftmax, with less
    variance. With inner=1, g has the distribution of that estimator. As the temperature goes to 0 and inner grows, g
    becomes ReinMax. Needs df/dx, but only on the support of q. Cost: n evaluations of f, n of its gradient; n * inner
    draws of the noise.

    Args:
        n: number of samples.
        temperature: temperature of the softmax, positive.
        inner: draws of the noise per sample.

    Reference: Paulus, Maddison & Krause 2021, section 3. Departure: the paper differentiates through G as well, which
    contradicts its own claim for inner=1; public implementations hold G fixed, as here.
    """

    n: int = 1
    temperature: float = 1.0
    inner: int = 10

    unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("rao-gumbel",)
    reference: ClassVar[str] = "Paulus et al. 2021"

    def __post_init__(self) -> None:
        at_least(self, 1)
        at_least(self, 1, field="inner")
        positive(self, "temperature")

    def points(self, q: Distribution) -> int:
        """Return the number of relaxed points that are averaged and held in memory at once, per batch element of q."""
        return self.n * self.inner

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = draw(q, self.n, generator)
        theta = logits(q).clamp_min(torch.finfo(x.dtype).min)  # infinity minus infinity is NaN
        z = perturbed_given(x, q, theta.detach(), self.inner, generator)
        x = through(x, squash(q, z + grad_only(theta), self.temperature).mean(0), self)
        return evaluate_path(self, f, x).mean(0)


def perturbed_given(x: Tensor, q: Distribution, theta: Tensor, inner_draws: int, generator: Generator | None) -> Tensor:
    """Return perturbed logits (logits plus noise), drawn given that their discrete outcome is x.

    Args:
        x: samples of q, bits or one-hot vectors, ``[n, *batch, *event]``.
        q: a Bernoulli or OneHotCategorical distribution.
        theta: q's logits, ``[*batch, *event]``.
        inner_draws: number of draws for each x.
        generator: source of the noise; torch's global generator if None.

    Returns:
        ``[inner_draws, n, *batch, *event]``.
    """
    shape = Size((inner_draws, *x.shape))
    if isinstance(inner(q), Bernoulli):
        sign = 2 * x - 1
        return sign * softplus(logistic(shape, x, generator) + softplus(sign * theta))
    g = gumbel(shape, x, generator)
    largest = (x * g).sum(-1, keepdim=True)  # the maximum of logits + G is Gumbel, whichever category has it
    return torch.where(x > 0, largest, -torch.logaddexp(-(theta + g), -largest))
