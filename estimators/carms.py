"""CARMS: mutually repelling categories in groups of any size."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical

from estimators._axes import one_hot, spread
from estimators._checks import at_least
from estimators._densities import logits, row_probs
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._noise import uniform
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined

MANY, FEW = 32, 8
"""With up to 32 categories, there is one cyclic order for each category, which it begins; with more, 8 orders."""
SLICE = 2**18
"""Largest number of pairs of one variable, counted in every order, whose probabilities are computed at once."""


@dataclass(frozen=True)
class CARMS(Estimator):
    """CARMS: leave-one-out with n mutually repelling categories, each pair reweighted by its probability.

    ``g_c = 1/(n (n-1)) sum_k sum_{j != k} (f(x_k) - f(x_j)) r(x_k, x_j) 1[x_k = c]``,  for the logit of category c
    ``r(c, d) = p_c p_d / P(c, d)``,  P(c, d) the probability of the pair
    ``x_k = F_s^{-1}(u_k)``,  F_s the distribution function of q in the order s, s+1, ..., C, 1, ..., s-1
    ``u_k = (1 - e_k)^{m-1}``,  e uniform on the simplex with m = max(n, 3) corners
    ``P(c, d) = (1/C) sum_s [H(F_c, F_d) - H(F_{c-1}, F_d) - H(F_c, F_{d-1}) + H(F_{c-1}, F_{d-1})]``
    ``H(a, b) = max(a^{1/(m-1)} + b^{1/(m-1)} - 1, 0)^{m-1}``,  the probability P(u_1 < a, u_2 < b)

    In P(c, d), F_c is F_s at category c, and F_{c-1} is F_s at the category before c in the order, 0 for c = s. The
    order starts at category s, which is drawn anew for each variable in each call. s is any of the C categories if C is
    at most 32. If C is larger, s is one of 8 categories, at equal steps of the cumulative probability, and the mean in
    P(c, d) is over these 8. Unbiased, because every pair of categories can be drawn. In one order, two categories near
    its start are never drawn together. But another order has one of them, or both, near its end. Pairs of equal
    categories cancel, because exchanging k and j changes the sign of their term. CARMS gains most over RLOO if there
    are few categories. The variables of q have independent noise. Supports OneHotCategorical and Categorical; for bits,
    use ARMS. f may be a black box. Cost: n evaluations of f; n^2 weights for each variable, each a sum over the orders.

    Args:
        n: number of samples, at least 2.

    Reference: Dimitriev & Zhou 2021 ("CARMS: categorical-antithetic-REINFORCE multi-sample gradient estimator"), with
    the Dirichlet copula. Departures: the authors shuffle the categories into any order. Here only the start of the
    order is random, which gives about the same variance and makes P a short sum. The authors' code clips r, which
    causes a bias. With n = 2, two of three repelling samples are used, because two mirrored samples would leave out
    pairs of categories.
    """

    n: int = 4

    families = (OneHotCategorical, Categorical)
    reference: ClassVar[str] = "Dimitriev & Zhou 2021"

    def __post_init__(self) -> None:
        at_least(self, 2)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        own, p = logits(q), row_probs(q)
        classes, variables = p.shape[-1], own.shape[:-1]
        corners = max(self.n, 3)
        e = -uniform(Size((corners, *variables)), p, generator).log()
        u = (1 - e[: self.n] / e.sum(0)) ** (corners - 1)
        starts = _starts(p)
        firsts = _firsts(starts)
        before = starts.gather(-1, firsts).to(p.dtype).expand(*variables, -1)
        order = (uniform(Size(variables), p, generator) * before.shape[-1]).long().clamp_max(before.shape[-1] - 1)
        moved = u + before.gather(-1, order.unsqueeze(-1)).squeeze(-1)
        u = moved - (moved >= 1).to(p.dtype)
        index = (u.unsqueeze(-1) >= starts[..., 1:]).sum(-1)
        hot = one_hot(index, classes, p.dtype)
        x = hot if isinstance(inner(q), OneHotCategorical) else index
        fx = f(x)
        both = torch.broadcast_tensors(index.unsqueeze(1), index)  # type: ignore[no-untyped-call]
        one, other = (t.flatten(0, 1).movedim(0, -1) for t in both)
        if one.numel() <= p.numel() * classes:
            r = _ratio(starts, firsts, one, other, corners)
        else:  # many rows share one variable: all pairs of its categories are fewer
            c, d = (t.flatten().expand(*p.shape[:-1], -1) for t in torch.meshgrid([_categories(p)] * 2, indexing="ij"))
            r = _ratio(starts, firsts, c, d, corners).expand(*variables, -1).gather(-1, classes * one + other)
        r = r.to(p.dtype).movedim(-1, 0)
        difference = (fx.unsqueeze(1) - fx).detach() / (self.n * (self.n - 1))  # [k, j, *batch]
        r = r.reshape(self.n, self.n, *variables)
        weight = (spread(difference, r) * r).sum(1)
        return joined(fx.mean(0), inject_at(q.batch_shape, [((weight.unsqueeze(-1) * hot).sum(0), own)], self), self)


def _starts(p: Tensor) -> Tensor:
    """Return the sum of the probabilities before each category, ``[..., C]``, in float64."""
    before = p.double().cumsum(-1)[..., :-1].clamp_max(1)
    return torch.cat([torch.zeros_like(p[..., :1], dtype=before.dtype), before], -1)


def _firsts(starts: Tensor) -> Tensor:
    """Return the first category of each order, ``[..., orders]``: every category, or a few spread evenly over the mass.

    Between two neighbouring ones of a few lies at most 1/8 of the mass. So for every pair there is an order in which
    both categories lie in the upper half, or one at the end and the other near the middle: no pair is impossible.
    """
    classes = starts.shape[-1]
    if classes <= MANY:
        return torch.arange(classes, device=starts.device).expand(starts.shape)
    places = (torch.arange(FEW, dtype=starts.dtype, device=starts.device) + 0.5) / FEW
    return (starts.unsqueeze(-2) <= places.unsqueeze(-1)).sum(-1) - 1


def _ratio(starts: Tensor, firsts: Tensor, c: Tensor, d: Tensor, corners: int) -> Tensor:
    """Return r for pairs of categories c and d, each ``[..., pairs]``; 0 for pairs that never occur."""
    width = torch.cat([starts, torch.ones_like(starts[..., :1])], -1).diff(dim=-1)

    def root(below: Tensor) -> Tensor:
        return below.clamp(0, 1) ** (1 / (corners - 1))

    def joint(a: Tensor, b: Tensor) -> Tensor:
        return (a + b - 1).clamp_min(0) ** (corners - 1)

    both = width.new_zeros(())
    for s in torch.split(firsts, max(1, SLICE // c.shape[-1]), -1):
        # Before each category in order s; categories that precede s come after the last one.
        before = starts.unsqueeze(-2) - starts.gather(-1, s).unsqueeze(-1) + (_categories(starts) < s.unsqueeze(-1))
        low, high = root(before), root(before + width.unsqueeze(-2))
        (low_c, high_c), (low_d, high_d) = ([_at(t, pair.unsqueeze(-2)) for t in (low, high)] for pair in (c, d))
        box = joint(high_c, high_d) - joint(low_c, high_d) - joint(low_d, high_c) + joint(low_c, low_d)
        both = both + box.clamp_min(0).sum(-2) / firsts.shape[-1]
    return torch.where(both > 0, _at(width, c) * _at(width, d) / both, 0)


def _categories(p: Tensor) -> Tensor:
    """Return the numbers of the categories, ``[C]``, for probabilities ``[..., C]``."""
    return torch.arange(p.shape[-1], device=p.device)


def _at(t: Tensor, index: Tensor) -> Tensor:
    """Return the elements of t, ``[..., C]``, at indices ``[..., k]`` of the last axis; the other axes broadcast."""
    left = torch.broadcast_shapes(t.shape[:-1], index.shape[:-1])  # type: ignore[no-untyped-call]
    return t.expand(*left, -1).gather(-1, index.expand(*left, -1))
