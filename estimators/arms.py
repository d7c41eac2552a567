"""ARMS: mutually repelling bits in groups of any size."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Distribution

from estimators._axes import spread
from estimators._checks import at_least
from estimators._densities import logits, row_probs
from estimators._integrand import Integrand
from estimators._noise import uniform
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined


@dataclass(frozen=True)
class ARMS(Estimator):
    """ARMS: leave-one-out with n mutually repelling bits, reweighted for their correlation.

    ``g_i = 1/(n-1) sum_k (f(b_k) - mean f) (b_{k,i} - p_i) w_i``,  for the logit of bit i of probability p_i
    ``w = p (1-p) / (m - P(u_1 < m, u_2 < m))``
    ``m = min(p, 1-p)``
    ``b_k = 1[u_k < p]`` if p < 1/2, else ``1[u_k > 1 - p]``
    ``u_k = (1 - d_k)^{n-1}``,  d uniform on the simplex of n corners, drawn anew for each bit
    ``P(u_1 < m, u_2 < m) = max(2 m^{1/(n-1)} - 1, 0)^{n-1}``

    Here mean f is the mean of f over the n samples. Unbiased. At p = 0 and p = 1, w would be 0/0, so this
    implementation divides its numerator and denominator by m. The authors' code adds a small number instead, which
    causes a bias. With two samples ARMS is DisARM. At p = 1/2, n samples that repel each other can be worse than n/2
    pairs. Supports Bernoulli; f may be a black box. Cost: n evaluations of f.

    Args:
        n: number of samples, at least 2.

    Reference: Dimitriev & Zhou 2021 ("ARMS: antithetic-REINFORCE-multi-sample"), with the Dirichlet copula.
    """

    n: int = 4

    families = (Bernoulli,)
    reference: ClassVar[str] = "Dimitriev & Zhou 2021"

    def __post_init__(self) -> None:
        at_least(self, 2)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        p, others = row_probs(q), self.n - 1
        m = torch.minimum(p, 1 - p)
        e = -uniform(Size((self.n, *q.batch_shape, *q.event_shape)), p, generator).log()
        u = (1 - e / e.sum(0)) ** others
        x = ((u < m) != (p >= 0.5)).to(p.dtype)
        fx = f(x)
        value = fx.mean(0)
        weight = (fx - value).detach() / others
        both = (2 - m ** (-1 / others)).clamp_min(0) ** others  # P(u_1 < m, u_2 < m) / m
        gradient = (spread(weight, x) * (x - p)).sum(0) * torch.maximum(p, 1 - p) / (1 - both)
        return joined(value, inject_at(q.batch_shape, [(gradient, logits(q))], self), self)
