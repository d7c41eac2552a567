"""Every sequence of a token policy, by number: drawn from its exact law, and weighted as an estimator weighs it."""

import functools
from typing import cast

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.records.lines import Lost
from estimators import (
    Bound,
    Estimator,
    Integrand,
    MultiSample,
    PolicyGradient,
    PolicyReturn,
    Repeated,
    SetFunction,
    TokenSequence,
    inner,
)


class Sequences:
    """All answers of a ``TokenSequence`` to its prompts, each with its log-probabilities and its value of f.

    A ``TokenSequence`` is a policy, a distribution over S possible sequences of tokens for each prompt. Sequence s, as
    an answer to prompt p, has the number ``p S + s``. For an estimator with the method ``weights``, the value of a
    sequence is its reward alone, without a penalty. The tensors here have no autograd graph.

    Args:
        estimator: an estimator that says by which numbers it multiplies scores (gradients of log q). One of its methods
            ``weights`` (as a ``PolicyGradient`` has), ``coefficients`` and ``set_coefficients`` returns them.
        q: the policy, of batch shape ``[P]`` for P prompts; or sets of k of its sequences, a ``Repeated``.
        f: the integrand; for sets, a ``SetFunction``.

    Raises:
        Lost: q is of another class; f does not fit q or the estimator; or f has a gradient or noise of its own, which a
            list of its values would not show.
    """

    def __init__(self, estimator: Estimator, q: Distribution, f: Integrand) -> None:
        self.policy, self.k = policy_of(q)
        sets, weighs = isinstance(inner(q), Repeated), hasattr(estimator, "weights")
        if isinstance(f, Bound) or isinstance(f, SetFunction) != sets or (sets and weighs):
            raise Lost("f shows no values of single sequences, or the estimator needs more than these.")
        f = f if isinstance(f, PolicyReturn | SetFunction) else PolicyReturn(f)
        f = f if f.q is not None else f.through(lambda g: g, q)
        self.estimator, self.f, self.x = estimator, f, self.policy.enumerate_support()
        self.size, self.inside = len(self.x), _by_number(self.policy.mask(self.x))
        self.family = cast(PolicyGradient, estimator) if weighs else None
        found = self._evaluated()
        if found.requires_grad:
            raise Lost("f has a gradient of its own.")
        with torch.no_grad():
            self.values, again = _by_number(found), _by_number(self._evaluated())
            self.log_probs = _by_number(self.policy.log_probs(self.x))
            others = (f.reference, f.sampler) if isinstance(f, PolicyReturn) else (None, None)
            self.log_ref, self.log_mu = (
                None if each is None else _by_number(each.log_probs(self.x)) for each in others
            )
        if not torch.equal(self.values.nan_to_num(), again.nan_to_num()):
            raise Lost("f gives other values for equal sequences.")
        drawn = self.log_probs if self.family is None or self.log_mu is None else self.log_mu
        self.bounds = _bounds(drawn, self.policy.prompts)

    def _evaluated(self) -> Tensor:
        """Return the value of each sequence, ``[S, P]``: its reward alone for an estimator with ``weights``."""
        if isinstance(self.f, SetFunction):
            assert self.f.q is not None
            return self.f.each(self.x.unsqueeze(-2), self.f.q).squeeze(-1)
        return self.f(self.x) if self.family is None else self.f.rewards(self.x)

    def draw(self, rows: int, generator: Generator) -> Tensor:
        """Draw sequences as the estimator does, and return the number ``p S + s`` of each, ``[R, P, G]``.

        S is the number of possible sequences. A sequence answers prompt p, and has position s in the list of all
        possible sequences; p and s count from 0. R is the number of independent calls, and P of prompts. G is the
        number of sequences for each prompt: n for an estimator with n samples, or n k if each sample is a set of k
        sequences, one set after another. The sequences come from q, or from the ``sampler`` of f, another policy, if f
        has one and the estimator has the method ``weights``. A sequence is drawn by inverse transform, from one uniform
        number in float64.

        Args:
            rows: R, the number of independent calls of the estimator.
            generator: the source of the noise.
        """
        count, prompts = getattr(self.estimator, "n", 1) * self.k, len(self.bounds)
        u = torch.rand((prompts, rows * count), dtype=torch.float64, device=self.bounds.device, generator=generator)
        first = self.size * torch.arange(prompts, device=u.device)
        numbers = torch.searchsorted(self.bounds, u, right=True).add_(first.unsqueeze(-1))
        return numbers.view(prompts, rows, count).transpose(0, 1)

    def weights(self, numbers: Tensor) -> Tensor:
        """Return the factors by which the estimator multiplies the score of each token, ``[R, P, G, T]``.

        R is the number of independent calls, P of prompts, G of sequences for each prompt, and T of tokens in a
        sequence. If all tokens of a sequence have one factor, the result is ``[R, P, G, 1]``.

        Args:
            numbers: the number ``p S + s`` of each sequence that the estimator has drawn, as ``draw`` returns it,
                ``[R, P, G]``.
        """
        values = look_up(self.values, numbers)
        if self.family is None:
            return self._coefficients(values).unsqueeze(-1)
        assert isinstance(self.f, PolicyReturn)
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

    def _coefficients(self, values: Tensor) -> Tensor:
        """Return what the score of each sequence is multiplied by; like the values, ``[rows, P, G]``."""
        if not isinstance(self.f, SetFunction):
            return self._of_samples(values)
        if isinstance(self.estimator, MultiSample):
            return self.estimator.set_coefficients(self.f, values)
        each = self._of_samples(self.f.together(values.view(*values.shape[:-1], -1, self.k)))
        return each.repeat_interleave(self.k, -1)

    def _of_samples(self, values: Tensor) -> Tensor:
        """Return the coefficients of samples, ``[rows, P, n]``, from the values of f."""
        found = self.estimator.coefficients(values.movedim(-1, 0))
        assert found is not None
        return found.movedim(0, -1)

    @functools.cached_property
    def greedy(self) -> Tensor:
        """The reward of the greedily decoded sequence for each of the P prompts, ``[P]``."""
        assert isinstance(self.f, PolicyReturn)
        with torch.no_grad():
            return self.f.rewards(self.policy.mode)

    @functools.cached_property
    def squares(self) -> Tensor:
        """The sum of the squared probabilities of all tokens that may stand in a place of a sequence, ``[P S, T]``.

        P is the number of prompts, S of possible sequences, and T of places (tokens) in a sequence.
        """
        with torch.no_grad():
            return _by_number(self.policy.logits(self.x).softmax(-1).square().sum(-1))

    def numbers(self, x: Tensor) -> Tensor:
        """Return the number ``p S + s`` of each sequence in x, ``[R, P, G]``.

        S is the number of possible sequences. A sequence answers prompt p, and has position s in the list of all
        possible sequences; p and s count from 0. R is the number of rows (copies) of q, and P of prompts. G is the
        number of sequences for each prompt: n for n samples of single sequences, and n k for n samples that are sets of
        k sequences.

        Args:
            x: the samples of every row, ``[n, R, P, T]`` or, if they are sets, ``[n, R, P, k, T]``; T is the number of
                tokens.
        """
        x = x.movedim(-2, 1).flatten(0, 1) if isinstance(self.f, SetFunction) else x
        scales = self.policy.vocabulary ** torch.arange(x.shape[-1], device=x.device)
        codes, order = (self.x[:, 0] * scales).sum(-1).sort()
        found = order[torch.searchsorted(codes, (x * scales).sum(-1))]
        return (found + self.size * torch.arange(self.policy.prompts, device=x.device)).movedim(0, -1)


def policy_of(q: Distribution) -> tuple[TokenSequence, int]:
    """Return the policy that q draws sequences from, and the number k of sequences in one sample.

    Raises:
        Lost: q is neither a ``TokenSequence`` nor a ``Repeated`` of one, or has batch axes besides that of the prompts.
    """
    own, k = inner(q), 1
    base = own
    if isinstance(own, Repeated):
        base, k = inner(own.base_dist), own.k
    if type(base) is not TokenSequence or base.batch_shape[1:]:  # a subclass may have a law of its own
        raise Lost("q is no policy whose sequences can be listed.")
    return base, k


def look_up(table: Tensor, numbers: Tensor) -> Tensor:
    """Return the entries of a table whose numbers are given, ``[*shape of numbers, ...]``.

    Args:
        table: one entry for each sequence, ``[number of sequences, ...]``.
        numbers: numbers of sequences, from 0, in a tensor of any shape.
    """
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
