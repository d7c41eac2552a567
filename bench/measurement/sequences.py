"""Every sequence of a token policy, by number: drawn from its exact law, and weighted as an estimator weighs it."""

import functools
from typing import cast

import torch
from torch import Generator, Tensor

from estimators import Estimator, Integrand, PolicyReturn, TokenSequence
from estimators.policy_gradient import PolicyGradient


class Sequences:
    """All answers of a ``TokenSequence`` to its prompts, and what estimators read of each of them.

    Answer s in the support of q, to prompt p, has the number ``p S + s``. No tensor has a graph.

    Args:
        q: the policy, batch shape ``[P]``.
        f: the integrand.
    """

    def __init__(self, q: TokenSequence, f: Integrand) -> None:
        f = f if isinstance(f, PolicyReturn) else PolicyReturn(f)
        self.q, self.f = q, f if f.q is not None else f.through(lambda g: g, q)
        self.size, self.x = q.support_size, q.enumerate_support()
        self.inside = _by_number(q.mask(self.x))
        with torch.no_grad():
            self.values, self.rewards = _by_number(self.f(self.x)), _by_number(self.f.rewards(self.x))
            self.log_probs = _by_number(q.log_probs(self.x))
            others = (self.f.reference, self.f.sampler)
            self.log_ref, self.log_mu = (
                None if each is None else _by_number(each.log_probs(self.x)) for each in others
            )
        self.bounds = _bounds(self.log_probs, q.prompts)
        self.sampler_bounds = self.bounds if self.log_mu is None else _bounds(self.log_mu, q.prompts)

    def draw(self, estimator: Estimator, rows: int, generator: Generator) -> Tensor:
        """Return the numbers of the n samples of an estimator for each row and prompt, ``[rows, P, n]``.

        Each sample takes one uniform number, by inverse transform in float64. An estimator with ``weights`` draws
        from the integrand's sampler if there is one, every other from q.

        Args:
            estimator: the estimator, which has a number of samples n.
            rows: number of rows.
            generator: the source of the noise.
        """
        bounds = self.sampler_bounds if hasattr(estimator, "weights") else self.bounds
        n, prompts = estimator.points(self.q), len(bounds)
        u = torch.rand((prompts, rows * n), dtype=bounds.dtype, device=bounds.device, generator=generator)
        first = self.size * torch.arange(prompts, device=bounds.device)
        numbers = torch.searchsorted(bounds, u, right=True).add_(first.unsqueeze(-1))
        return numbers.view(prompts, rows, n).transpose(0, 1)

    def weights(self, estimator: Estimator, numbers: Tensor) -> Tensor:
        """Return what an estimator multiplies the score of each token by, ``[rows, P, n, T]`` or ``[rows, P, n, 1]``.

        Args:
            estimator: an estimator with ``weights`` or ``coefficients``.
            numbers: the numbers of its samples, ``[rows, P, n]``.
        """
        if not hasattr(estimator, "weights"):
            found = estimator.coefficients(look_up(self.values, numbers).movedim(-1, 0))
            assert found is not None
            return found.movedim(0, -1).unsqueeze(-1)
        family = cast(PolicyGradient, estimator)
        return family.weights(
            look_up(self.rewards, numbers),
            look_up(self.log_probs, numbers),
            None if self.log_ref is None else look_up(self.log_ref, numbers),
            None if self.log_mu is None else look_up(self.log_mu, numbers),
            look_up(self.inside, numbers),
            greedy=self.greedy.expand(numbers.shape[:-1]) if family.needs_greedy else None,
            squares=look_up(self.squares, numbers) if family.needs_squares else None,
            beta=self.f.beta,
        )

    @functools.cached_property
    def greedy(self) -> Tensor:
        """The reward of greedy decoding, ``[P]``."""
        with torch.no_grad():
            return self.f.rewards(self.q.mode)

    @functools.cached_property
    def squares(self) -> Tensor:
        """The sum over the vocabulary of the squared probabilities at each token, ``[P S, T]``."""
        with torch.no_grad():
            return _by_number(self.q.logits(self.x).softmax(-1).square().sum(-1))

    def numbers(self, x: Tensor) -> Tensor:
        """Return the numbers of sequences, ``[*]``; x is ``[*, P, T]``."""
        scales = self.q.vocabulary ** torch.arange(x.shape[-1], device=x.device)
        codes, order = (self.x[:, 0] * scales).sum(-1).sort()
        found = order[torch.searchsorted(codes, (x * scales).sum(-1))]
        return found + self.size * torch.arange(self.q.prompts, device=x.device)


def look_up(table: Tensor, numbers: Tensor) -> Tensor:
    """Return the lines of a table, ``[P S, ...]``, of given numbers, ``[*]``: ``[*, ...]``."""
    return table.index_select(0, numbers.reshape(-1)).view(*numbers.shape, *table.shape[1:])


def _by_number(each: Tensor) -> Tensor:
    """Return ``[S, P, ...]`` as ``[P S, ...]``."""
    return each.transpose(0, 1).flatten(0, 1).contiguous()


def _bounds(logs: Tensor, prompts: int) -> Tensor:
    """Return the distribution function of the sequences for each prompt, ``[P, S]``, in float64; the last entry is 1.

    ``logs`` are the log-probabilities of their tokens, ``[P S, T]``.
    """
    total = logs.double().sum(-1).exp().view(prompts, -1).cumsum(-1)
    return total / total[:, -1:]
