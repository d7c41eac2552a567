"""ReinMax: second-order straight-through."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import average, over_samples, totals
from estimators._checks import at_least, evaluate_path, positive
from estimators._densities import logits, row_probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._relaxations import squash
from estimators._rows import one
from estimators._surrogate import carry, through


@dataclass(frozen=True)
class ReinMax(Estimator):
    """ReinMax: straight-through with the derivative of the trapezoid rule (Heun's method).

    ``g = (1/n) sum_k (2 J(m_k) - J(p) / 2) grad f(x_k)``,  x_k ~ q
    ``J(p) = diag(p) - p p^T``
    ``p = softmax(logits)``
    ``m_k = (softmax(logits / temperature) + x_k) / 2``

    J(p) is the Jacobian of p in the logits, and grad f the gradient of f in x. For a bit, a sigmoid replaces the
    softmax, and J(p) = p (1-p). Biased in general. At temperature 1, g is unbiased for a quadratic f; for a bit, its
    mean is then ``p (1-p) (f'(0) + f'(1)) / 2``. At temperature 1, g is also ZGR, the limit of Gumbel-Rao as the
    temperature of Gumbel-Rao goes to 0. At other temperatures g is biased for quadratics, too. Every positive
    temperature is allowed, although the authors' package refuses temperatures below 1. Needs df/dx, but only on the
    support of q. Cost: n evaluations of f, n of its gradient.

    Args:
        n: number of samples.
        temperature: temperature of the softmax, positive.

    Reference: Liu, Dong, Liu, Yu & Gao 2023 ("Bridging discrete and backpropagation"); ZGR: Shekhovtsov 2023.
    """

    n: int = 1
    temperature: float = 1.0

    unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    command_name: ClassVar[str] = "reinmax"
    aliases: ClassVar[tuple[str, ...]] = ("zgr",)
    reference: ClassVar[str] = "Liu et al. 2023"

    def __post_init__(self) -> None:
        at_least(self, 1)
        positive(self, "temperature")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x, p = draw(q, self.n, generator), row_probs(q)
        tempered = p if self.temperature == 1 else squash(q, one(logits(q).detach(), q), self.temperature)
        twice = tempered + x  # 2 m
        x = through(x, carry(logits(q), x.shape, lambda h: over_samples(_trapezoid(q, p, twice, h)), self), self)
        return average(evaluate_path(self, f, x))


def _trapezoid(q: Distribution, p: Tensor, twice: Tensor, h: Tensor) -> Tensor:
    """Return ``(2 J(m_k) - J(p) / 2) h_k`` for each sample k, given the probabilities p of q and ``twice = 2 m``.

    J(m) is m (1 - m) for a bit. For categories the term ``p p^T h / 2`` of J(p) is left out: it is a multiple of p,
    and the gradient in q's normalised logits does not change by a multiple of p.
    """
    if isinstance(inner(q), Bernoulli):
        return (twice * (1 - twice / 2) - p * (1 - p) / 2) * h
    weighted = twice * h
    weighted.addcmul_(totals(weighted), twice, value=-0.5)  # 2 J(m) h
    return weighted.addcmul_(p, h, value=-0.5)
