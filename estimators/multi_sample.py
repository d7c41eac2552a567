"""Score functions of set functions, averaged over all sets that can be made of the samples."""

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, one_of
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import has_law
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter, Refusal
from estimators._supports import refuse_unseen
from estimators._surrogate import joined
from estimators.repeated import Repeated
from estimators.returns import score_of_choices
from estimators.set_function import SetFunction, shown

MOST_SETS = 20_000
"""Largest number of sets that a call makes of its samples."""


@dataclass(frozen=True)
class MultiSample(Estimator):
    """Score function of a function of k samples, such as the best of k, averaged over all sets of k samples.

    ``g = sum_i c_i grad log q(x_i)``
    ``c_i = mean over all sets S of 1[i in S] (F(S) - b_i(S))``

    F(S) is f at the set S. f is a ``SetFunction``: it combines k values, one of each sample in S. n sets of k samples
    are drawn, N = n k samples in all. The mean is over all sets S of k of these N samples. ``baseline`` says what
    b_i(S) is:

    - "none": 0;
    - "others": F(S) with the value of x_i replaced by the mean of the other k - 1 values;
    - "left-out": the mean of F over all sets without x_i, for n of at least 2;
    - "mean": 0, but the mean of all c_i is then subtracted from each c_i.

    Unbiased, except for "mean", whose expected gradient is 1 - 1/n times the exact one. Two examples of "others"
    follow. If f is the log of the mean of k importance weights, and n is 1, g is VIMCO. If f is the largest of k
    values, F(S) - b_i(S) is 0 for every sample but the best. For the best sample, this difference is the largest value
    minus the second largest. Needs a q that is a ``Repeated``, a distribution of sets; f may be a black box. Cost: n
    evaluations of f, each of k values. A call that would make more than 20,000 sets raises ``Refusal``.

    Args:
        n: number of sets of k samples that are drawn.
        baseline: "none", "others", "left-out" or "mean".

    Reference: Mnih & Rezende 2016, section 2.5 ("others"); Walder & Karkhanis 2025 (2505.15201), section 3, for the
    mean over all sets; Tang, Zheng, Synnaeve & Munos 2025 (2503.19595) for leave-one-out baselines of k samples.
    """

    n: int = 2
    baseline: str = "others"

    families = (Repeated,)
    needs_set = True
    reference: ClassVar[str] = "Walder & Karkhanis 2025"

    def __post_init__(self) -> None:
        one_of(self, "baseline", "none", "others", "left-out", "mean")
        at_least(self, 1)
        if self.n < 2 and self.baseline in ("left-out", "mean"):
            raise InvalidParameter(
                f"{type(self).__name__} with baseline={self.baseline!r} needs n >= 2, so that there are sets "
                f"without a sample (got n={self.n}). Use n=2."
            )

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Whether the expected gradient is exact: yes, unless ``baseline`` is "mean"."""
        return self.baseline != "mean"

    @property
    def gradient_scale(self) -> float | None:  # type: ignore[override]
        """The expected gradient divided by the exact one: 1 - 1/n for the baseline "mean"; None for every other."""
        return 1 - 1 / self.n if self.baseline == "mean" else None

    def refuses(self, family: type[Distribution]) -> str | None:
        if has_law(family, Repeated):
            return None
        return (
            f"{self!r} puts samples of one distribution together into sets, and q is {family.__name__}. Use "
            "Repeated(q, k), or RLOO."
        )

    def points(self, q: Distribution) -> int:
        """Return the number of sets of k samples that one call holds in memory at once, per batch element of q.

        q is a ``Repeated``, and k is the number of samples in one draw from it.
        """
        k = q.event_shape[0] if q.event_shape else 1
        return max(self.n, min(math.comb(self.n * k, k), MOST_SETS))

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the value, ``[*batch]``: the mean of F over all sets, with the estimated gradient attached."""
        self.check(q)
        inside = shown(self, f)
        refuse_unseen(q)
        k = q.event_shape[0]
        if math.comb(self.n * k, k) > MOST_SETS:
            raise Refusal(
                f"{self!r} would make {math.comb(self.n * k, k):,} sets of {k} of its {self.n * k} samples, and the "
                f"limit is {MOST_SETS:,}. Use a smaller n, or RLOO."
            )
        x = draw(q, self.n, generator)
        values = inside.each(x, q).movedim(0, -2).flatten(-2)  # [*batch, N], each k after another one set
        members = _members(self.n * k, k).to(x.device)
        sets = values[..., members]
        together = inside.together(sets)
        coefficient = self._coefficients(inside, sets.detach(), together.detach(), members)
        weight = coefficient.view(*coefficient.shape[:-1], self.n, k).movedim(-2, 0)
        return joined(together.mean(-1), score_of_choices(q, x, weight, self), self)

    def set_coefficients(self, f: SetFunction, values: Tensor) -> Tensor:
        """Return the factors c_i in the gradient ``sum_i c_i grad log q(x_i)``, ``[*batch, N]``, without a graph.

        Args:
            f: the set function.
            values: the values of the N samples, ``[*batch, N]``: n sets of k samples, one set after another, where n is
                the field of that name.
        """
        count = values.shape[-1]
        members = _members(count, count // self.n).to(values.device)
        sets = values.detach()[..., members]
        return self._coefficients(f, sets, f.together(sets), members)

    def _coefficients(self, f: SetFunction, sets: Tensor, together: Tensor, members: Tensor) -> Tensor:
        """Return c_i of every sample, ``[*batch, N]``.

        Args:
            f: the set function.
            sets: values of the samples of every set, ``[*batch, sets, k]``.
            together: F of every set, ``[*batch, sets]``.
            members: the samples of every set, ``[sets, k]``.
        """
        count, k = members.shape
        gain = together.unsqueeze(-1).expand_as(sets)
        if self.baseline == "others":
            gain = gain - _without_own(f, sets)
        zeros = sets.new_zeros(*sets.shape[:-2], self.n * k)
        each = zeros.index_add(-1, members.flatten(), gain.flatten(-2) / count)
        if self.baseline == "mean":
            return each - each.mean(-1, keepdim=True)
        if self.baseline == "left-out":  # a share 1/n of all sets contains x_i
            return each - (together.mean(-1, keepdim=True) - each) / (self.n - 1)
        return each


@dataclass(frozen=True)
class PKPO(MultiSample):
    """Pass-at-k policy optimization: the score function of the best of k, averaged over all sets of k samples.

    ``g = sum_i c_i grad log q(x_i)``
    ``c_i = mean over all sets S of 1[i in S] max_S f``

    n sets of k samples are drawn, N = n k samples in all. S runs over all sets of k of these N samples. max_S f, the
    best of k, is the set function of the paper; any other ``SetFunction`` can take its place. PKPO is ``MultiSample``,
    here by default without a baseline. ``baseline="mean"`` subtracts the mean of all c_i, which makes the expected
    gradient 1 - 1/n times as long. Needs a ``SetFunction`` and a ``Repeated``, a distribution of sets; f may be a black
    box. Cost: n evaluations of f, each of k values.

    Args:
        n: number of sets of k samples that are drawn.
        baseline: "none", "others", "left-out" or "mean", as ``MultiSample`` defines them.

    Reference: Walder & Karkhanis 2025 ("Pass@K policy optimization", 2505.15201), section 3.
    """

    baseline: str = "none"


@cache
def _members(samples: int, k: int) -> Tensor:
    """Return all sets of k of the given number of samples, ``[sets, k]``: numbers from 0."""
    return torch.tensor(list(combinations(range(samples), k)))


def _without_own(f: SetFunction, sets: Tensor) -> Tensor:
    """Return F of every set with one value replaced by the mean of the others, ``[*batch, sets, k]``; 0 for k = 1."""
    k = sets.shape[-1]
    if k == 1:
        return torch.zeros_like(sets)
    own = torch.eye(k, dtype=torch.bool, device=sets.device)
    each = sets.unsqueeze(-2).expand(*sets.shape, k)  # row i: all values of the set
    stand_in = each.masked_fill(own, 0).sum(-1, keepdim=True) / (k - 1)
    without = f.together(torch.where(own, stand_in, each))
    return torch.where(without.isfinite(), without, 0)  # all others are impossible: the baseline is then 0
