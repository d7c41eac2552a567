"""Policies: what gives the logits of the next token of a sequence, from its weights and the tokens before."""

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from estimators._fields import PlainFields, named_type
from estimators._noise import normal
from estimators._refusals import InvalidParameter

Weights = Mapping[str, Tensor]
"""The weights of a policy by name, each ``[B, *own shape]``: B sets of weights."""
MOST_ELEMENTS = 2**31
"""Most elements in weights that ``Policy.initial`` makes."""
LOOKED_UP = ("logits", "prompts", "tokens", "positions")
"""Names of weights that are tables, of which a prompt, a prefix, a token or a position picks a row."""


@dataclass(frozen=True)
class Policy(PlainFields, abc.ABC):
    """Base class of policies. A policy makes the logits of the next token of a ``TokenSequence``.

    A policy holds plain numbers only. Its weights are the parameters of the distribution, so they are arguments of its
    methods. There may be B sets of weights, one for each row (independent estimate), and all sets are used at once.
    Token 0 ends a sequence. Prompts are numbers from 0.

    Args:
        vocabulary: V, the number of tokens, at least 2; token 0 is the end of a sequence.
    """

    vocabulary: int = 5

    def __post_init__(self) -> None:
        self._at_least(vocabulary=2)

    def _at_least(self, **least: int) -> None:
        """Raise ``InvalidParameter`` unless each named field is a whole number of at least the given value."""
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InvalidParameter(
                    f"{type(self).__name__} needs a whole number {name} >= {low} "
                    f"(got {name}={value!r}{named_type(value, int)})."
                )

    @abc.abstractmethod
    def shapes(self, prompts: int, length: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight by name, for a number of prompts and a largest length of sequences."""

    @property
    def widest(self) -> int:
        """The largest number of elements of any intermediate tensor, for one token of one sequence: ``vocabulary``."""
        return self.vocabulary

    def sequences(self, length: int) -> int:
        """Return S, the number of different sequences of at most T tokens from a vocabulary of V.

        ``S = sum_{l = 1 ... T} (V - 1)^(l - 1) + (V - 1)^T``

        The sum counts the sequences whose token l is the end, 0. The last term counts those of T tokens without an end.

        Args:
            length: T, the largest number of tokens of a sequence.
        """
        others = self.vocabulary - 1
        return sum(int(others**t) for t in range(length)) + int(others**length)

    def initial(self, prompts: int, length: int, generator: Generator, like: Tensor) -> dict[str, Tensor]:
        """Return random weights, in the dtype and on the device of ``like``.

        The weights of a norm are ones. A table is a weight from which a prompt, a token or a position picks a row; its
        entries have variance 1. Entries of any other matrix have the variance 1 / (number of its rows). So the logits
        have a variance of about 1 at most.

        Args:
            prompts: P, the number of prompts, at least 1.
            length: T, the largest number of tokens of a sequence, at least 1.
            generator: source of the random numbers.
            like: a tensor.

        Raises:
            InvalidParameter: a number is wrong, or the weights would have more than 2^31 elements.
        """
        for name, value in (("prompts", prompts), ("length", length)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidParameter(
                    f"{self!r} needs a whole number {name} >= 1 (got {name}={value!r}{named_type(value, int)})."
                )
        if sum(map(math.prod, self.shapes(prompts, length).values())) > MOST_ELEMENTS:
            raise InvalidParameter(
                f"The weights of {self!r} would have more than 2^31 elements for prompts={prompts} and "
                f"length={length}. Lower the length, the vocabulary or the number of prompts."
            )
        return {
            name: like.new_ones(shape)
            if name.endswith("norm")
            else normal(torch.Size(shape), like, generator) / (1 if name in LOOKED_UP else shape[-2] ** 0.5)
            for name, shape in self.shapes(prompts, length).items()
        }

    @abc.abstractmethod
    def step(self, weights: Weights, last: Tensor | None, cache: Any, points: int) -> tuple[Tensor, Any]:
        """Return the logits of the next token, ``[B, N, P, V]``, and a cache for the token after it.

        The shape is for B sets of weights, N sequences, P prompts and V tokens.

        Args:
            weights: the weights, each ``[B, *own shape]``.
            last: the token before, ``[B, N, P]``; None for the first token.
            cache: what this method returned for the token before; None for the first token.
            points: N, the number of sequences for each prompt.
        """

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits of every token given the earlier tokens, ``[B, N, P, T, V]``, for a vocabulary of V.

        Args:
            weights: B sets of weights, each ``[B, *own shape]``.
            x: N sequences of T tokens for each of P prompts, ``[B, N, P, T]``.
        """
        found, cache, last = [], None, None
        for token in x.unbind(-1):
            each, cache = self.step(weights, last, cache, x.shape[1])
            found.append(each)
            last = token
        return torch.stack(found, -2)


@dataclass(frozen=True)
class TablePolicy(Policy):
    """A policy with its own logits for every prompt and every beginning of a sequence.

    Any distribution of sequences is possible. The weight is ``logits``, ``[P, prefixes, V]``, for P prompts. A prefix
    is a beginning that has not ended; there are ``1 + (V - 1) + ... + (V - 1)^(T - 1)`` of them, for sequences of at
    most T tokens. Prefix 0 is empty. Prefix i, followed by token v > 0, is prefix ``i (V - 1) + v``.

    Args:
        vocabulary: V, the number of tokens, at least 2; token 0 is the end of a sequence.
    """

    def shapes(self, prompts: int, length: int) -> dict[str, tuple[int, ...]]:
        """Return ``{"logits": (P, prefixes, V)}``, for V tokens.

        A prefix is the beginning of a sequence that has not ended; ``prefixes`` is the number of all prefixes.

        Args:
            prompts: P, the number of prompts.
            length: the largest number of tokens of a sequence.
        """
        others = self.vocabulary - 1
        prefixes = (others**length - 1) // (others - 1) if others > 1 else length
        return {"logits": (prompts, prefixes, self.vocabulary)}

    def step(self, weights: Weights, last: Tensor | None, cache: Any, points: int) -> tuple[Tensor, Any]:
        """Return the logits of the next token, ``[B, N, P, V]``, and the number of the prefix, ``[B, N, P]``.

        The prefix is the beginning of the sequence, up to the token before. The shapes are for B sets of weights, N
        sequences, P prompts and V tokens.

        Args:
            weights: the weight ``logits``, ``[B, P, prefixes, V]``.
            last: the token before, ``[B, N, P]``; None for the first token.
            cache: the number of the prefix without its last token; None for the first token.
            points: N, the number of sequences for each prompt.
        """
        table = weights["logits"]
        if last is None:
            prefix = torch.zeros((len(table), points, table.shape[1]), dtype=torch.long, device=table.device)
        else:
            prefix = cache * (self.vocabulary - 1) + last
        return _of_prefixes(table, prefix), prefix

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits of every token given the earlier tokens, ``[B, N, P, T, V]``, for a vocabulary of V.

        Args:
            weights: a mapping with the one weight ``logits``, ``[B, P, prefixes, V]``, for B sets of weights. A prefix
                is the beginning of a sequence that has not ended; there is a row of V logits for each prefix.
            x: N sequences of T tokens for each of P prompts, ``[B, N, P, T]``.
        """
        prefix = [torch.zeros_like(x[..., 0])]
        for token in x.unbind(-1)[:-1]:
            prefix.append(prefix[-1] * (self.vocabulary - 1) + token)
        return _of_prefixes(weights["logits"], torch.stack(prefix, -1))


def _of_prefixes(table: Tensor, prefix: Tensor) -> Tensor:
    """Return the rows of a table, ``[B, P, prefixes, V]``, for prefixes ``[B, N, P, ...]``: ``[B, N, P, ..., V]``."""
    prompts, prefixes = table.shape[1:3]
    first = torch.arange(prompts, device=table.device) * prefixes
    return looked_up(table.flatten(1, 2), prefix + first.reshape(-1, *(1 for _ in prefix.shape[3:])))


def looked_up(table: Tensor, index: Tensor) -> Tensor:
    """Return rows of length W from each of B tables, ``[B, ..., W]``.

    Args:
        table: the tables, ``[B, rows, W]``.
        index: the numbers of the wanted rows in each table, ``[B, ...]``.
    """
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, table.shape[-1])
    return table.gather(1, flat).reshape(*index.shape, table.shape[-1])


def times(h: Tensor, matrix: Tensor) -> Tensor:
    """Return the products ``h matrix``, ``[B, ..., U]``, with one of B matrices for each entry of the first axis.

    Args:
        h: vectors of length W, ``[B, ..., W]``.
        matrix: the matrices, ``[B, W, U]``: each makes a vector of length U from one of length W.
    """
    return (h.flatten(1, -2) @ matrix).reshape(*h.shape[:-1], matrix.shape[-1])


@dataclass(frozen=True)
class RecurrentPolicy(Policy):
    """A policy that remembers the earlier tokens in a vector h: an Elman network.

    ``h_1 = tanh(prompts_p)``
    ``h_(t+1) = tanh(tokens_(x_t) + h_t recurrent)``
    ``logits_t = h_t output``

    x_t is token t, and p one of P prompts. The weights are ``prompts``, ``[P, W]``, ``tokens``, ``[V, W]``,
    ``recurrent``, ``[W, W]``, and ``output``, ``[W, V]``. ``prompts_p`` is row p of ``prompts``, ``tokens_v`` row v of
    ``tokens``.

    Args:
        vocabulary: V, the number of tokens, at least 2; token 0 is the end of a sequence.
        width: W, the length of h, at least 1.

    Reference: Elman 1990.
    """

    width: int = 16

    def __post_init__(self) -> None:
        self._at_least(vocabulary=2, width=1)

    @property
    def widest(self) -> int:
        """The largest number of elements of any intermediate tensor, for one token of one sequence.

        The number is ``width`` or ``vocabulary``, whichever is larger.
        """
        return max(self.width, self.vocabulary)

    def shapes(self, prompts: int, length: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights ``prompts``, ``tokens``, ``recurrent`` and ``output``.

        Args:
            prompts: P, the number of prompts, which is the number of rows of the weight of this name.
            length: ignored.
        """
        w = self.width
        return {
            "prompts": (prompts, w),
            "tokens": (self.vocabulary, w),
            "recurrent": (w, w),
            "output": (w, self.vocabulary),
        }

    def step(self, weights: Weights, last: Tensor | None, cache: Any, points: int) -> tuple[Tensor, Any]:
        """Return the logits of the next token, ``[B, N, P, V]``, and the vector h, ``[B, N, P, W]``.

        The W numbers of h are what the network remembers of the earlier tokens. The shapes are for B sets of weights, N
        sequences, P prompts and V tokens.

        Args:
            weights: the weights, each ``[B, *own shape]``.
            last: the token before, ``[B, N, P]``; None for the first token.
            cache: the h that this method returned for the token before; None for the first token.
            points: N, the number of sequences for each prompt.
        """
        if last is None:
            h = weights["prompts"].tanh().unsqueeze(1).expand(-1, points, -1, -1)
        else:
            h = (looked_up(weights["tokens"], last) + times(cache, weights["recurrent"])).tanh()
        return times(h, weights["output"]), h
