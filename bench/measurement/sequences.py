"""Every sequence of a token policy, by number: drawn from its exact law, and weighted as an estimator weighs it."""

import functools
from typing import cast

import torch
from torch import Generator, Tensor

from bench.records.lines import Lost
from estimators import Estimator, Integrand, PolicyReturn, TokenSequence
from estimators.policy_gradient import PolicyGradient


class Sequences:
    """All answers of a ``TokenSequence`` to its prompts, and what an estimator reads of each of them.

    Answer s in the support of q, to prompt p, has the number ``p S + s``. No tensor has a graph.

    Args:
        estimator: an estimator with ``weights``, such as a ``PolicyGradient``, or with ``coefficients``.
        q: the policy, batch shape ``[P]``.
        f: the integrand.

    Raises:
        Lost: f has noise of its own: it gives other values in a second call.
    """

    def __init__(self, estimator: Estimator, q: TokenSequence, f: Integrand) -> None:
        f = f if isinstance(f, PolicyReturn) else PolicyReturn(f)
        self.estimator, self.q, self.f = estimator, q, f if f.q is not None else f.through(lambda g: g, q)
        self.size, self.x = q.support_size, q.enumerate_support()
        self.inside = _by_number(q.mask(self.x))
        self.family = cast(PolicyGradient, estimator) if hasattr(estimator, "weights") else None
        with torch.no_grad():
            evaluate = self.f if self.family is None else self.f.rewards
            self.values, again = (_by_number(evaluate(self.x)) for _ in range(2))
            self.log_probs = _by_number(q.log_probs(self.x))
            others = (self.f.reference, self.f.sampler)
            self.log_ref, self.log_mu = (
                None if each is None else _by_number(each.log_probs(self.x)) for each in others
            )
        if not torch.equal(self.values.nan_to_num(), again.nan_to_num()):
            raise Lost("f gives other values for equal sequences: its gradients cannot be looked up.")
        drawn = self.log_probs if self.family is None or self.log_mu is None else self.log_mu
        self.bounds = _bounds(drawn, q.prompts)

    def draw(self, rows: int, generator: Generator) -> Tensor:
        """Return the numbers of the n samples of the estimator for each row and prompt, ``[rows, P, n]``.

        Each sample takes one uniform number, by inverse transform in float64. For an estimator with ``weights``, the
        integrand's sampler draws if there is one, for every other estimator q.

        Args:
            rows: number of rows.
            generator: the source of the noise.
        """
        n, prompts = self.estimator.points(self.q), len(self.bounds)
        u = torch.rand((prompts, rows * n), dtype=torch.float64, device=self.bounds.device, generator=generator)
        first = self.size * torch.arange(prompts, device=u.device)
        numbers = torch.searchsorted(self.bounds, u, right=True).add_(first.unsqueeze(-1))
        return numbers.view(prompts, rows, n).transpose(0, 1)

    def weights(self, numbers: Tensor) -> Tensor:
        """Return what the estimator multiplies the score of each token by, ``[rows, P, n, T]`` or ``[rows, P, n, 1]``.

        ``numbers`` are those of its samples, ``[rows, P, n]``.
        """
        values = look_up(self.values, numbers)
        if self.family is None:
            found = self.estimator.coefficients(values.movedim(-1, 0))
            assert found is not None
            return found.movedim(0, -1).unsqueeze(-1)
        return self.family.weights(
            values,
            look_up(self.log_probs, numbers),
            None if self.log_ref is None else look_up(self.log_ref, numbers),
            None if self.log_mu is None else look_up(self.log_mu, numbers),
            look_up(self.inside, numbers),
            greedy=self.greedy.expand(numbers.shape[:-1]) if self.family.needs_greedy else None,
            squares=look_up(self.squares, numbers) if self.family.needs_squares else None,
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
