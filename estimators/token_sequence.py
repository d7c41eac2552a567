"""Token sequences: what a small language model writes in answer to a prompt."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import constraints

from estimators._noise import uniform
from estimators._refusals import Refusal
from estimators._transforms import no_derivatives
from estimators.chain import Chain
from estimators.policies import Policy


class _Sequences(constraints.Constraint):
    """Whole numbers from 0 to V - 1, with nothing but 0 after the first 0."""

    is_discrete = True
    event_dim = 1

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return ((value >= 0) & (value < self.vocabulary) & (_going(value) | (value == 0))).all(-1)


def _going(x: Tensor) -> Tensor:
    """Return whether each token belongs to its sequence, ``[..., T]``: whether none before it is 0, the end."""
    before = torch.cat([torch.ones_like(x[..., :1]), x[..., :-1]], -1)
    return (before != 0).long().cumprod(-1).bool()


class TokenSequence(Chain):
    """Distribution of sequences that a policy writes, token after token, in answer to each of several prompts.

    ``q(x | prompt) = prod_t pi(x_t | prompt, x_<t)``

    A sample is a tensor of whole numbers, ``[*batch, T]``. Token 0 is the end of a sequence; what follows it is 0 too,
    and has probability 1. The length L of a sequence counts the 0 that ends it. A sequence of T tokens needs no end.
    The last axis of the batch is the axis of prompts, which are numbered from 0.

    q's parameters are the weights of the policy, ``weights.NAME``. ``rows(q, R)`` is q with R sets of weights, for R
    independent estimates, and computes with all of them at once. If the R sets are copies of one set, samples are drawn
    with this set alone.

    Args:
        weights: the weights of the policy by name, each ``[*lead, *own shape]``. The batch shape is ``[*lead, P]``.
        policy: what makes the logits of the next token, such as ``TablePolicy(vocabulary=5)``.
        prompts: P, the number of prompts, at least 1.
        length: T, the largest number of tokens of a sequence, at least 1; the event shape is ``[T]``.
        validate_args: whether ``log_probs`` checks that its sequences can occur.

    Raises:
        Refusal: prompts or length is no whole number of at least 1; the policy is no ``Policy``; or a weight is
            missing, unknown, no tensor of floating-point numbers, or of a shape that the policy does not have.

    Reference: Sutskever, Vinyals & Le 2014; as the actions of a policy gradient, Ranzato, Chopra, Auli & Zaremba 2016.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_enumerate_support = True
    eos: ClassVar[int] = 0
    """The token that ends a sequence."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        policy: Policy,
        prompts: int,
        length: int,
        validate_args: bool | None = None,
    ) -> None:
        for name, value in (("prompts", prompts), ("length", length)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise Refusal(f"TokenSequence needs a whole number {name} >= 1 (got {name}={value!r}).")
        if not isinstance(policy, Policy):
            raise Refusal(f"TokenSequence needs a policy, such as TablePolicy(vocabulary=5) (got {policy!r}).")
        if not isinstance(weights, Mapping):
            raise Refusal(
                f"TokenSequence needs weights by name, as in {{'logits': tensor}} (got a {type(weights).__name__})."
            )
        for name, weight in weights.items():
            if not isinstance(weight, Tensor) or not weight.is_floating_point():
                came = weight.dtype if isinstance(weight, Tensor) else f"a {type(weight).__name__}"
                raise Refusal(
                    f"TokenSequence needs a tensor of floating-point numbers as weight {name!r} (got {came})."
                )
        self.weights, self.policy, self.prompts, self.length = weights, policy, prompts, length
        super().__init__(Size((*self._lead(), prompts)), Size((length,)), validate_args=validate_args)

    def _lead(self) -> Size:
        """Return the axes that all weights have on the left of their own shapes.

        Raises:
            Refusal: the weights are not those of the policy.
        """
        shapes = self.policy.shapes(self.prompts, self.length)
        if self.weights.keys() != shapes.keys():
            raise Refusal(
                f"{self.policy!r} needs the weights {', '.join(shapes)} (got {', '.join(self.weights) or 'none'})."
            )
        leads = set[Size]()
        for name, own in shapes.items():
            came = self.weights[name].shape
            if came[len(came) - len(own) :] != own:
                raise Refusal(
                    f"{self.policy!r} needs weights {name} of shape [..., {', '.join(map(str, own))}] for "
                    f"{self.prompts} prompts and {self.length} tokens (got {list(came)})."
                )
            leads.add(came[: len(came) - len(own)])
        if len(leads) > 1:
            raise Refusal(
                f"The weights of a TokenSequence have different axes on the left of their own shapes "
                f"({' and '.join(str(list(each)) for each in sorted(leads))}). Expand them to the same axes."
            )
        return leads.pop()

    @property
    def vocabulary(self) -> int:
        """V, the number of tokens; token 0 is the end."""
        return self.policy.vocabulary

    @property
    def support(self) -> constraints.Constraint:
        """The constraint on samples: whole numbers below ``vocabulary``; after the first 0, the end, only 0."""
        return _Sequences(self.vocabulary)

    def mask(self, x: Tensor) -> Tensor:
        """Return whether each token belongs to its sequence, up to and including the end: bool, ``[..., T]``.

        Args:
            x: sequences of T tokens, ``[..., T]``.
        """
        return _going(x)

    def lengths(self, x: Tensor) -> Tensor:
        """Return the number of tokens of each sequence, the end included: whole numbers, ``[...]``.

        Args:
            x: sequences of T tokens, ``[..., T]``.
        """
        return _going(x).sum(-1)

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of each of T tokens given the earlier tokens, ``[..., *batch, T, V]``.

        V is the size of the vocabulary. After the end of a sequence, the logits mean nothing.

        Args:
            x: sequences, ``[..., *batch, T]``.

        Raises:
            Refusal: x does not hold whole numbers.
        """
        if x.is_floating_point() or x.dtype == torch.bool:
            raise Refusal(f"TokenSequence needs tokens that are whole numbers (got {x.dtype}). Use x.long().")
        x = x.long()
        x = x.expand(torch.broadcast_shapes(x.shape, self.batch_shape + self.event_shape))  # type: ignore[no-untyped-call]
        weights = self._weights()
        sets = next(iter(weights.values())).shape[0]
        found = self.policy.logits(weights, _by_sets(x, sets, self.prompts))
        return found.transpose(0, 1).reshape(*x.shape, self.vocabulary)

    def _weights(self) -> dict[str, Tensor]:
        """Return the weights with their axes on the left made one, ``[B, *own shape]``.

        B is 1 if no gradient is needed and all rows share their weights.
        """
        needs = torch.is_grad_enabled() and any(w.requires_grad for w in self.weights.values())
        found, lead = self.weights if needs else self.first_row().weights, len(self.batch_shape) - 1
        return {name: w.reshape(-1, *w.shape[lead:]) for name, w in found.items()}

    def first_row(self) -> "TokenSequence":
        """Return this distribution with its first row only, if all rows share one set of weights in memory.

        The rows of a distribution lie along its first batch axis, one for each independent estimate, and each has a set
        of weights. If the rows have weights of their own, the distribution is returned as it is; so is a distribution
        without rows, whose batch shape is ``[P]`` for P prompts.
        """
        if len(self.batch_shape) == 1 or any(w.stride(0) for w in self.weights.values()):
            return self
        weights = {name: w[:1] for name, w in self.weights.items()}
        return TokenSequence(weights, self.policy, self.prompts, self.length, validate_args=False)

    def log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each of T tokens given the earlier tokens, ``[..., *batch, T]``.

        After the end of a sequence, token 0 has the log-probability 0, and any other token minus infinity.

        Args:
            value: sequences, whole numbers, ``[..., *batch, T]``.
        """
        if self._validate_args:
            self._validate_sample(value)
        logits = self.logits(value)
        value = value.long().expand(logits.shape[:-1])
        each = logits.log_softmax(-1).gather(-1, value.unsqueeze(-1)).squeeze(-1)
        after = torch.zeros_like(each).masked_fill(value != 0, -torch.inf)
        return torch.where(_going(value), each, after)

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return sequences of T tokens, whole numbers ``[*sample_shape, *batch, T]``.

        One uniform number is drawn for each token. If ``generator`` is None, torch's global generator draws.
        """
        like = next(iter(self.weights.values()))
        noise = uniform(self._extended_shape(sample_shape), like.detach(), generator)

        def chosen(logits: Tensor, u: Tensor) -> Tensor:
            bounds = logits.softmax(-1).cumsum(-1)
            return (u.unsqueeze(-1) * bounds[..., -1:] >= bounds[..., :-1]).sum(-1)

        return self._written(noise, chosen)

    @property
    def mode(self) -> Tensor:
        """The sequence of greedy decoding, T tokens, ``[*batch, T]``: every token is the most probable next one.

        Some other sequence may be more probable as a whole.
        """
        like = next(iter(self.weights.values()))
        return self._written(like.new_zeros(self.batch_shape + self.event_shape), lambda logits, _: logits.argmax(-1))

    def _written(self, noise: Tensor, chosen: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return sequences written token by token, ``[..., *batch, T]``, without a graph.

        Args:
            noise: numbers that are passed to ``chosen``, ``[..., *batch, T]``.
            chosen: maps logits, ``[B, N, P, V]``, and noise, ``[B, N, P]``, to tokens.
        """
        with no_derivatives(), torch.no_grad():
            weights = self._weights()
            sets = next(iter(weights.values())).shape[0]
            columns = _by_sets(noise, sets, self.prompts)
            cache, last, tokens = None, None, []
            for each in columns.unbind(-1):
                logits, cache = self.policy.step(weights, last, cache, columns.shape[1])
                token = chosen(logits, each)
                last = token if last is None else torch.where(last == 0, 0, token)
                tokens.append(last)
            return torch.stack(tokens, -1).transpose(0, 1).reshape(noise.shape)

    @property
    def support_size(self) -> int:
        """S, the number of possible sequences: they end after 1, 2, ..., T tokens, or have T tokens without an end."""
        return self.policy.sequences(self.length)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all S possible sequences of T tokens, ``[S, *batch, T]``.

        If ``expand`` is False, the batch axes have length 1.
        """
        ended, going = [], torch.zeros((1, 0), dtype=torch.long)  # on the CPU: the counts depend on values
        for t in range(1, self.length + 1):
            tokens = torch.arange(self.vocabulary).repeat(len(going)).unsqueeze(-1)
            grown = torch.cat([going.repeat_interleave(self.vocabulary, 0), tokens], -1)
            done = grown[:, -1] == 0
            ended.append(torch.nn.functional.pad(grown[done], (0, self.length - t)))
            going = grown[~done]
        x = torch.cat([*ended, going]).to(next(iter(self.weights.values())).device)
        x = x.reshape(len(x), *(1 for _ in self.batch_shape), self.length)
        return x.expand(len(x), *self.batch_shape, self.length) if expand else x


def _by_sets(x: Tensor, sets: int, prompts: int) -> Tensor:
    """Return ``[..., *lead, P, T]`` as ``[B, N, P, T]``: B sets of weights, and N sequences for each prompt."""
    return x.reshape(-1, sets, prompts, x.shape[-1]).transpose(0, 1)
