"""Policies: what gives the logits of the next token of a sequence, from its weights and the tokens before."""

import abc
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


@dataclass(frozen=True)
class Policy(PlainFields, abc.ABC):
    """How a ``TokenSequence`` makes the logits of its next token: the base class of policies.

    A policy holds plain numbers only. Its weights are arguments of its methods, because they are the parameters of the
    distribution. There may be B sets of weights, one for each row, and all of them are used at once. Token 0 ends a
    sequence. Prompts are numbers from 0.

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

    def initial(self, prompts: int, length: int, generator: Generator, like: Tensor) -> dict[str, Tensor]:
        """Return random weights of these shapes, in the dtype and on the device of ``like``.

        A matrix has normal entries of variance 1 / (number of its rows). A vector has ones.

        Args:
            prompts: P, the number of prompts.
            length: T, the largest number of tokens of a sequence.
            generator: source of the random numbers.
            like: a tensor.
        """
        return {
            name: normal(torch.Size(shape), like, generator) / shape[-2] ** 0.5
            if len(shape) > 1
            else like.new_ones(shape)
            for name, shape in self.shapes(prompts, length).items()
        }

    @abc.abstractmethod
    def step(self, weights: Weights, last: Tensor | None, cache: Any, points: int) -> tuple[Tensor, Any]:
        """Return the logits of the next token, ``[B, N, P, V]``, and a cache for the token after it.

        Args:
            weights: the weights, each ``[B, *own shape]``.
            last: the token before, ``[B, N, P]``; None for the first token.
            cache: what this method returned for the token before; None for the first token.
            points: N, the number of sequences for each prompt.
        """

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits of every token given those before it, ``[B, N, P, T, V]``; x is ``[B, N, P, T]``."""
        found, cache, last = [], None, None
        for token in x.unbind(-1):
            each, cache = self.step(weights, last, cache, x.shape[1])
            found.append(each)
            last = token
        return torch.stack(found, -2)


@dataclass(frozen=True)
class TablePolicy(Policy):
    """A policy with its own logits for every prompt and every beginning of a sequence: it can be any distribution.

    The weight is ``logits``, ``[P, prefixes, V]``. Prefixes are the beginnings that have not ended, and there are
    ``1 + (V - 1) + ... + (V - 1)^(T - 1)`` of them. Prefix 0 is empty. Prefix i, followed by token v > 0, is prefix
    ``i (V - 1) + v``.

    Args:
        vocabulary: V, the number of tokens, at least 2; token 0 is the end of a sequence.
    """

    def shapes(self, prompts: int, length: int) -> dict[str, tuple[int, ...]]:
        """Return ``{"logits": (P, prefixes, V)}``."""
        prefixes = sum((self.vocabulary - 1) ** t for t in range(length))
        return {"logits": (prompts, prefixes, self.vocabulary)}

    def initial(self, prompts: int, length: int, generator: Generator, like: Tensor) -> dict[str, Tensor]:
        """Return standard normal logits, in the dtype and on the device of ``like``, drawn from ``generator``."""
        shapes = self.shapes(prompts, length)
        return {name: normal(torch.Size(shape), like, generator) for name, shape in shapes.items()}

    def step(self, weights: Weights, last: Tensor | None, cache: Any, points: int) -> tuple[Tensor, Any]:
        """Return the logits of the next token, ``[B, N, P, V]``, and the number of the prefix, ``[B, N, P]``.

        Args:
            weights: the weight ``logits``, ``[B, P, prefixes, V]``.
            last: the token before, ``[B, N, P]``; None for the first token.
            cache: the number of the prefix before that token; None for the first token.
            points: N, the number of sequences for each prompt.
        """
        table = weights["logits"]
        sets, prompts = table.shape[:2]
        if last is None:
            prefix = torch.zeros((sets, points, prompts), dtype=torch.long, device=table.device)
        else:
            prefix = cache * (self.vocabulary - 1) + last
        return _looked_up(table, prefix), prefix

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits of every token given those before it, ``[B, N, P, T, V]``; x is ``[B, N, P, T]``."""
        prefix = [torch.zeros_like(x[..., 0])]
        for token in x.unbind(-1)[:-1]:
            prefix.append(prefix[-1] * (self.vocabulary - 1) + token)
        return _looked_up(weights["logits"], torch.stack(prefix, -1))


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """Return the rows of a table, ``[B, P, rows, V]``, at given numbers, ``[B, N, P, ...]``: ``[B, N, P, ..., V]``."""
    sets, prompts = table.shape[:2]
    flat = index.transpose(1, 2).reshape(sets, prompts, -1, 1).expand(-1, -1, -1, table.shape[-1])
    found = table.gather(2, flat).reshape(sets, prompts, index.shape[1], *index.shape[3:], -1)
    return found.transpose(1, 2)
