"""ARSM: augment, reinforce, swap, merge."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical

from estimators._axes import one_hot
from estimators._checks import at_least
from estimators._densities import logits
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._noise import uniform
from estimators._protocol import Estimator, State
from estimators._rows import one
from estimators._surrogate import inject_at, joined


@dataclass(frozen=True)
class ARSM(Estimator):
    """ARSM: differences of f between the categories that result from swapping entries of the noise.

    ``g_c = (1/n) sum_k sum_j [f(x^{c,j}) - mean_m f(x^{m,j})] (1/C - w_j)``,  for the logit of category c
    ``x^{m,j} = argmin(log w - logits)``,  with w_m and w_j exchanged,  w uniform on the simplex of C categories

    The index k counts the n draws of w. Unbiased. If q has several variables, each has a w of its own, and a swap
    exchanges the entries m and j in every w. With two categories ARSM is ARM. Each x is a draw from q, and the returned
    value is the mean of f over all x. f may be a black box. Cost: n (C (C-1) / 2 + 1) evaluations of f for any number
    of variables: one for every swap, even if two swaps give equal x.

    Args:
        n: number of draws of w.

    Reference: Yin, Yue & Zhou 2019 ("ARSM: augment-REINFORCE-swap-merge estimator").
    """

    n: int = 1

    families = (OneHotCategorical, Categorical)
    reference: ClassVar[str] = "Yin et al. 2019"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def points(self, q: Distribution) -> int:
        classes = logits(q).shape[-1]
        return self.n * (classes * (classes - 1) // 2 + 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        own = logits(q)
        classes = own.shape[-1]
        e = -uniform(Size((self.n, *own.shape)), own, generator).log()
        w = e / e.sum(-1, keepdim=True)
        swaps, number = _swaps(classes, w.device)
        x = (w[..., swaps].log() - one(own.detach(), q).unsqueeze(-2)).argmin(-1).movedim(-1, 0).flatten(0, 1)
        x = one_hot(x, classes, own.dtype) if isinstance(inner(q), OneHotCategorical) else x
        fx = f(x)
        swapped = fx.detach().reshape(len(swaps), self.n, *q.batch_shape)[number]  # f(x^{m,j}): [m, j, n, *batch]
        difference = (swapped - swapped.mean(0)).movedim((0, 1), (-2, -1))
        spread = difference.reshape(*difference.shape[:-2], *[1] * (w.dim() - fx.dim() - 1), classes, classes)
        gradient = (spread * (1 / classes - w).unsqueeze(-2)).sum(-1).mean(0)
        gradient = gradient * (own.detach() > -torch.inf)  # at impossible categories there is only noise of mean 0
        return joined(fx.mean(0), inject_at(q.batch_shape, [(gradient, own)], self), self)


def _swaps(classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the permutations that swap two of C categories, ``[C (C-1) / 2 + 1, C]``, the identity first.

    The second tensor, ``[C, C]``, has at [m, j] the row of the permutation that exchanges m and j.
    """
    each = torch.arange(classes, device=device)
    orders, number = [each], torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for m, j in itertools.combinations(range(classes), 2):
        order = each.clone()
        order[m], order[j] = j, m
        number[m, j] = number[j, m] = len(orders)
        orders.append(order)
    return torch.stack(orders), number
