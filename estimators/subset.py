"""The distribution of a random subset of fixed size."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import constraints

from estimators._fields import plain_value
from estimators._noise import uniform
from estimators._refusals import Refusal
from estimators._rows import one
from estimators._transforms import vmapped
from estimators.distributions import Drawable


class _Subsets(constraints.Constraint):
    """Bits that sum to k."""

    is_discrete = True
    event_dim = 1

    def __init__(self, k: int) -> None:
        self.k = k
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == self.k)


class Subset(Drawable):
    """Random subset of k out of D elements: independent bits, given that exactly k of them are 1.

    ``q(x) = exp(x . logits) / Z``,  x in {0, 1}^D, ``sum x = k``
    ``Z = sum of exp(x . logits) over all k-subsets``

    The distribution is also called conditional Bernoulli or conditional Poisson. A recursion over the elements computes
    the sums over subsets in log space, at cost O(D k). Sampling is exact: one element after another is taken or left,
    with its probability given the earlier elements. (Gumbel-top-k draws from a different distribution, Plackett-Luce.)

    Args:
        logits: ``[*batch, D]``; adding a constant to all logits of a batch element changes nothing. At most D - k of
            them may be -inf: their elements are never in the subset.
        k: number of elements in the subset, from 1 to D.
        validate_args: whether torch checks the arguments.

    Raises:
        Refusal: k is not a whole number from 1 to D; or torch checks the arguments, and a logit is +inf or more than
            D - k logits are -inf.

    Reference: Chen, Dempster & Liu 1994 (Biometrika 81); Ahmed, Zeng, Niepert & Van den Broeck 2023 (SIMPLE).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, logits: Tensor, k: int = 1, validate_args: bool | None = None) -> None:
        k = plain_value(k)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= logits.shape[-1]:
            raise Refusal(
                f"Subset needs a whole number k from 1 to {logits.shape[-1]}, the number of elements (got k={k!r}). "
                "Use OneHotCategorical for k=1, or Bernoulli for any number."
            )
        self.logits, self.k = logits, k
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)
        if not self._validate_args or vmapped() or logits.is_meta:
            return
        if not (logits < math.inf).all() or ((logits > -math.inf).sum(-1) < k).any():
            raise Refusal(
                f"Subset needs logits below +inf, and at least k={k} of them above -inf. Leave an element that is "
                "always in the subset out of it, and use k - 1."
            )

    @property
    def support(self) -> constraints.Constraint:
        """The constraint on samples: D bits that sum to k."""
        return _Subsets(self.k)

    @property
    def mean(self) -> Tensor:
        """The probability that each of D elements is in the subset, ``[*batch, D]``, differentiable in the logits."""
        theta = self.logits.unbind(-1)
        before, after = _sums(theta, self.k), _sums(theta[::-1], self.k)[::-1]
        sides = zip(before[:-1], after[1:], strict=True)
        without = [(b[..., :-1] + a[..., :-1].flip(-1)).logsumexp(-1) for b, a in sides]
        return (self.logits + torch.stack(without, -1) - before[-1][..., -1:]).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log q, ``[..., *batch]``, at points ``value`` of D coordinates, ``[..., *batch, D]``.

        The points may lie off the support, because log q is extended linearly.
        """
        if self._validate_args:
            self._validate_sample(value)
        return (value * self.logits).sum(-1) - _sums(self.logits.unbind(-1), self.k)[-1][..., -1]

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples of D bits, ``[*sample_shape, *batch, D]``, without a graph. In each sample k bits are 1.

        If ``generator`` is None, torch's global generator draws.
        """
        theta = one(self.logits.detach(), self)
        u = uniform(Size((*sample_shape, *self.logits.shape)), theta, generator)
        left = torch.full(u.shape[:-1], self.k, device=u.device)
        after = _sums(theta.unbind(-1)[::-1], self.k)[::-1]
        bits = []
        for i in range(u.shape[-1]):
            given, rest = (t.expand(*left.shape, self.k + 1) for t in after[i : i + 2])
            ways = theta[..., i] + rest.gather(-1, (left - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
            p = (ways - given.gather(-1, left.unsqueeze(-1)).squeeze(-1)).exp()  # 1 if all the rest are needed
            bits.append((u[..., i] < p) & (left > 0))
            left = left - bits[-1].long()
        return torch.stack(bits, -1).to(u.dtype)

    def score(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return ``{"logits": sum_k weight_k (x_k - mean)}``, ``[*batch, D]``: the weighted sum of the scores.

        Args:
            x: samples of D bits, ``[n, *batch, D]``.
            weight: one weight per sample and batch element, ``[n, *batch]``.
        """
        mean = Subset(one(self.logits.detach(), self), self.k, validate_args=False).mean
        spread = weight.unsqueeze(-1)
        return {"logits": (spread * x).sum(0) - spread.sum(0) * mean}

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return every subset as D bits, ``[subsets, *batch, D]``.

        If ``expand`` is False, the batch axes have length 1.
        """
        elements = self.logits.shape[-1]
        members = torch.tensor(list(itertools.combinations(range(elements), self.k)), device=self.logits.device)
        x = self.logits.new_zeros(len(members), elements).scatter_(-1, members, 1.0)
        x = x.reshape(len(x), *(1 for _ in self.batch_shape), elements)
        return x.expand(len(x), *self.batch_shape, elements) if expand else x


def _sums(theta: Sequence[Tensor], k: int) -> list[Tensor]:
    """Return the log-sums over subsets of 0 to k elements, ``[*batch, k + 1]``, for every prefix of the elements.

    The prefixes are: no element, the first element, the first two elements and so on. An impossible size has a large
    negative number, because minus infinity has no gradient.
    """
    impossible = torch.finfo(theta[0].dtype).min / 4
    none = torch.full_like(theta[0], impossible).unsqueeze(-1)
    sums = [torch.cat([torch.zeros_like(none), none.expand(*theta[0].shape, k)], -1)]
    for t in theta:
        taken = torch.cat([none, sums[-1][..., :-1] + t.unsqueeze(-1)], -1)
        sums.append(torch.logaddexp(sums[-1], taken))
    return sums
