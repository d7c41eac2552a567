"""CARMS: mutually repelling categories in groups of any size."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical
from torch.nn.functional import one_hot

from estimators._axes import spread
from estimators._checks import at_least, is_positive
from estimators._densities import logits, row_probs
from estimators._noise import uniform
from estimators._protocol import Estimator, Integrand, InvalidParameter, State, inner
from estimators._surrogate import inject_at, joined


@dataclass(frozen=True)
class CARMS(Estimator):
    """CARMS: leave-one-out with n mutually repelling categories, each pair reweighted by its probability.

    ``g_c = 1/(n (n-1)) sum_k sum_{j != k} (f(x_k) - f(x_j)) r(x_k, x_j) 1[x_k = c]``,  for the logit of category c
    ``r(c, d) = p_c p_d / P(c, d)``,  P(c, d) the probability of the pair
    ``x_k = F^{-1}(u_k)``,  F the distribution function of the categories
    ``u_k = (1 - e_k)^{n-1}``,  e uniform on the simplex; with probability a the u_k are independent instead
    ``P(c, d) = a p_c p_d + (1-a) [H(F_c, F_d) - H(F_{c-1}, F_d) - H(F_c, F_{d-1}) + H(F_{c-1}, F_{d-1})]``
    ``H(s, t) = max(s^{1/(n-1)} + t^{1/(n-1)} - 1, 0)^{n-1}``,  the probability P(u_1 < s, u_2 < t)

    Unbiased: no pair is impossible, and r is at most 1/a. With a = 0 some pairs would be impossible, which would cause
    a bias; the authors' code clips r, which causes another bias. With a = 1 CARMS equals RLOO on equal draws. It gains
    most over RLOO with few categories; with many categories and fewer than about six samples it can have more variance.
    The variables of q have independent noise. Supports OneHotCategorical and Categorical; for bits, use ARMS. f may be
    a black box. Cost: n evaluations of f; n^2 weights for each variable.

    Args:
        n: number of samples, at least 2.
        independent: a, the probability of independent samples, above 0 and at most 1.

    Reference: Dimitriev & Zhou 2021 ("CARMS: categorical-antithetic-REINFORCE multi-sample gradient estimator"), with
    the Dirichlet copula. Departure: a share of the groups is independent, in place of clipping.
    """

    n: int = 4
    independent: float = 0.25

    families = (OneHotCategorical, Categorical)
    reference: ClassVar[str] = "Dimitriev & Zhou 2021"

    def __post_init__(self) -> None:
        at_least(self, 2)
        a = self.independent
        if not is_positive(a) or a > 1:
            raise InvalidParameter(
                f"CARMS needs 0 < independent <= 1 (got independent={a!r}): without independent samples "
                f"some pairs are impossible. Use CARMS(independent=0.25), or RLOO(n={self.n})."
            )

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        own, p = logits(q), row_probs(q)
        classes, variables = p.shape[-1], own.shape[:-1]
        u = uniform(Size((self.n, *variables)), p, generator)
        e = -u.log()
        alone = uniform(Size((1, *variables)), p, generator) < self.independent
        u = torch.where(alone, u, (1 - e / e.sum(0)) ** (self.n - 1))
        bounds = p.cumsum(-1)[..., :-1].clamp_max(1)
        index = (u.unsqueeze(-1) >= bounds).sum(-1)
        hot = one_hot(index, classes).to(p.dtype)
        x = hot if isinstance(inner(q), OneHotCategorical) else index
        fx = f(x)
        pairs = (classes * index.unsqueeze(0) + index.unsqueeze(1)).flatten(0, 1).movedim(0, -1)
        r = self._ratio(p, bounds).flatten(-2).expand(*variables, -1).gather(-1, pairs).movedim(-1, 0)
        difference = (fx.unsqueeze(1) - fx).detach() / (self.n * (self.n - 1))  # [k, j, *batch]
        r = r.reshape(self.n, self.n, *variables)
        weight = (spread(difference, r) * r).sum(1)
        return joined(fx.mean(0), inject_at(q.batch_shape, [((weight.unsqueeze(-1) * hot).sum(0), own)], self), self)

    def _ratio(self, p: Tensor, bounds: Tensor) -> Tensor:
        """Return r for every pair of categories, ``[..., C, C]``."""
        ends = torch.cat([torch.zeros_like(p[..., :1]), bounds, torch.ones_like(p[..., :1])], -1).double()
        root = ends ** (1 / (self.n - 1))
        below = (root.unsqueeze(-1) + root.unsqueeze(-2) - 1).clamp_min(0) ** (self.n - 1)
        both = below.diff(dim=-1).diff(dim=-2).clamp_min(0)
        width = ends.diff(dim=-1)
        apart = (width.unsqueeze(-1) * width.unsqueeze(-2)).clamp_min(torch.finfo(torch.float64).tiny)
        return (1 / (self.independent + (1 - self.independent) * both / apart)).to(p.dtype)
