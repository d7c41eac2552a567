"""DARN: the score function with a Taylor expansion of f as baseline."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._checks import at_least, evaluate_path, one_of
from estimators._densities import logits, row_probs
from estimators._draws import draw
from estimators._first_order import first_order
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._surrogate import grad_only


@dataclass(frozen=True)
class DARN(Estimator):
    """DARN: score function with f replaced by its slope at the sample, times the sample's distance from a centre.

    ``g_i = (1/n) sum_k (x_ki - p_i) grad_i f(x_k)^T (x_ki - centre_i)``,  x_k ~ q, p the mean of q

    g_i is the gradient in the logits of variable i, and grad_i f the slope of f in x_i. So g_i is the score function
    with the baseline ``f(x) - grad_i f(x)^T (x_i - centre_i)``: a Taylor expansion at x, which approximates f at the
    point with x_i moved to the centre. The baseline depends on x_i, so the estimator is biased. The bias vanishes if f
    is linear. With the uniform centre, it also vanishes if f is quadratic in each bit. On the same samples, the average
    of StraightThrough and DARN(centre="mean") is ReinMax. Needs df/dx, but only on the support of q. Cost: n
    evaluations of f, n of its gradient.

    Args:
        n: number of samples.
        centre: "uniform" (1/2 for a bit, 1/C for each of C categories) or "mean" (the probabilities).

    Reference: Gregor, Danihelka, Mnih, Blundell & Wierstra 2014 ("Deep autoregressive networks"), for bits; for
    categories and with the mean as centre: Liu et al. 2023 ("Bridging discrete and backpropagation").
    """

    n: int = 1
    centre: str = "uniform"

    unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    reference: ClassVar[str] = "Gregor et al. 2014"

    def __post_init__(self) -> None:
        at_least(self, 1)
        one_of(self, "centre", "uniform", "mean")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x, p = draw(q, self.n, generator), row_probs(q)
        bits = isinstance(inner(q), Bernoulli)
        centre = p if self.centre == "mean" else 1 / 2 if bits else 1 / p.shape[-1]
        largest = torch.finfo(p.dtype).max
        score = (x - p) * logits(q).clamp(-largest, largest)  # 0 times an infinite logit is NaN
        x = first_order(x + grad_only((x - centre) * (score if bits else score.sum(-1, keepdim=True))), self)
        return evaluate_path(self, f, x).mean(0)
