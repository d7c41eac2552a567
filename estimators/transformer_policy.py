"""A small causal transformer as a policy."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from estimators._refusals import InvalidParameter
from estimators.policies import Policy, Weights, looked_up, times

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values of the positions before, for each block, ``[B, N, P, heads, positions, W / heads]``."""


@dataclass(frozen=True)
class TransformerPolicy(Policy):
    """A policy that attends to the prompt and to all earlier tokens: a small causal transformer.

    ``h_t = tokens_(x_(t-1)) + positions_t``, with ``prompts_p`` in place of the token for t = 1
    ``h = h + attention(norm(h))``, then ``h = h + gelu(norm(h) up) down``, in each block
    ``logits_t = norm(h_t) output``

    Here x_t is token t, and p one of P prompts. ``prompts_p``, ``tokens_v`` and ``positions_t`` are rows of the weights
    of these names. The norm is the root mean square norm with a weight for each coordinate. No product has a bias. A
    sequence has at most T tokens. The weights are:

    - for the inputs: ``prompts``, ``[P, W]``, ``tokens``, ``[V, W]``, and ``positions``, ``[T, W]``;
    - for the attention of all blocks: ``attention_norm``, ``[blocks, W]``, ``attention``, ``[blocks, W, 3 W]``
      (queries, keys, values), and ``projection``, ``[blocks, W, W]``;
    - for the step with gelu in all blocks: ``mlp_norm``, ``[blocks, W]``, ``up``, ``[blocks, W, 4 W]``, and ``down``,
      ``[blocks, 4 W, W]``;
    - for the logits: ``norm``, ``[W]``, and ``output``, ``[W, V]``.

    The default has about 20,000 numbers in its weights. Keys and values are kept while a sequence is written, so a new
    token does not repeat the work for earlier positions.

    Args:
        vocabulary: V, the number of tokens, at least 2; token 0 is the end of a sequence.
        width: W, the length of h, a multiple of ``heads``.
        heads: number of attention heads, at least 1.
        blocks: number of blocks, at least 1.

    Reference: Vaswani et al. 2017; norms in front: Radford et al. 2019; Zhang & Sennrich 2019 (root mean square).
    """

    width: int = 28
    heads: int = 2
    blocks: int = 2

    def __post_init__(self) -> None:
        self._at_least(vocabulary=2, heads=1, blocks=1, width=1)
        if self.width % self.heads:
            raise InvalidParameter(
                f"TransformerPolicy needs a width that is a multiple of heads={self.heads} (got width={self.width})."
            )

    @property
    def widest(self) -> int:
        """The largest number of elements of any intermediate tensor, for one token of one sequence.

        The number is ``4 * width`` or ``vocabulary``, whichever is larger.
        """
        return max(4 * self.width, self.vocabulary)

    def shapes(self, prompts: int, length: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight by name, for a number of prompts and a largest length of sequences."""
        w, blocks = self.width, self.blocks
        return {
            "prompts": (prompts, w),
            "tokens": (self.vocabulary, w),
            "positions": (length, w),
            "attention_norm": (blocks, w),
            "attention": (blocks, w, 3 * w),
            "projection": (blocks, w, w),
            "mlp_norm": (blocks, w),
            "up": (blocks, w, 4 * w),
            "down": (blocks, 4 * w, w),
            "norm": (w,),
            "output": (w, self.vocabulary),
        }

    def step(self, weights: Weights, last: Tensor | None, cache: Any, points: int) -> tuple[Tensor, Cache]:
        """Return the logits of the next token, ``[B, N, P, V]``, and the keys and values of all positions.

        The shape is for B sets of weights, N sequences, P prompts and V tokens.

        Args:
            weights: the weights, each ``[B, *own shape]``.
            last: the token before, ``[B, N, P]``; None for the first token.
            cache: keys and values of the earlier positions; None for the first token.
            points: N, the number of sequences for each prompt.
        """
        h = _first(weights, points) if last is None else looked_up(weights["tokens"], last)
        position = cache[0][0].shape[-2] if cache else 0
        h = h + weights["positions"][:, None, None, position]
        logits, cache = self._attended(weights, h.unsqueeze(-2), cache)
        return logits.squeeze(-2), cache

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Return the logits of every token given the earlier tokens, ``[B, N, P, T, V]``, for a vocabulary of V.

        Args:
            weights: B sets of weights, each ``[B, *own shape]``.
            x: N sequences of T tokens for each of P prompts, ``[B, N, P, T]``.
        """
        before = looked_up(weights["tokens"], x[..., :-1])
        h = torch.cat([_first(weights, x.shape[1]).unsqueeze(-2), before], -2)
        return self._attended(weights, h + weights["positions"][:, None, None, : x.shape[-1]], None)[0]

    def _attended(self, weights: Weights, h: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Return the logits at positions that follow those of the cache, and a cache with the new ones too.

        Args:
            weights: the weights, each ``[B, *own shape]``.
            h: what enters the first block, ``[B, N, P, positions, W]``; a single position if there is a cache.
            cache: keys and values of the positions before; None if there are none.
        """
        names = ("attention_norm", "attention", "projection", "mlp_norm", "up", "down")
        kept: Cache = []
        for i, block in enumerate(zip(*(weights[name].unbind(1) for name in names), strict=True)):
            attention_norm, attention, projection, mlp_norm, up, down = block
            both = times(_normed(h, attention_norm), attention).reshape(
                *h.shape[:-1], 3, self.heads, self.width // self.heads
            )
            query, key, value = both.transpose(-2, -4).unbind(-3)  # each [B, N, P, heads, positions, W / heads]
            if cache:
                key, value = (torch.cat(pair, -2) for pair in zip(cache[i], (key, value), strict=True))
            kept.append((key, value))
            seen = functional.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
            h = h + times(seen.transpose(-2, -3).flatten(-2), projection)
            h = h + times(functional.gelu(times(_normed(h, mlp_norm), up)), down)
        return times(_normed(h, weights["norm"]), weights["output"]), kept


def _first(weights: Weights, points: int) -> Tensor:
    """Return the vectors of the prompts, ``[B, N, P, W]``."""
    return weights["prompts"].unsqueeze(1).expand(-1, points, -1, -1)


def _normed(h: Tensor, weight: Tensor) -> Tensor:
    """Return h, ``[B, N, P, positions, W]``, of root mean square 1, times a weight per coordinate, ``[B, W]``."""
    return functional.rms_norm(h, h.shape[-1:]) * weight[:, None, None, None]
