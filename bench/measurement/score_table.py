"""The score table of a token policy: gradients of weighted tokens by look-up, without autograd.

The score of a token depends on the tokens before it and on the prompt alone, so a small policy has few distinct scores.
They are computed once. If the derivative of a loss at the log-probability of each token is known, the gradient of the
loss is the sum of the scores with these derivatives as weights.
"""

from dataclasses import replace
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bench.measurement.sequences import look_up
from bench.records.lines import Lost
from estimators import TokenSequence, parameters, rows

MOST_BYTES = 2 * 10**9
"""Bytes of the largest score table that is made."""
SCORES = 256
"""Number of scores for each prompt that one pass of autograd computes."""


class ScoreTable:
    """The scores of all tokens that a ``TokenSequence`` can write, and their sums over each of its sequences.

    ``score(p, x_<t, x_t) = grad log pi(x_t | p, x_<t)``

    The gradient is that at q's own parameters. A parameter that has a slice for each prompt, ``[P, ...]``, has a
    gradient in one slice alone; the table holds that slice.

    A sequence has a number, ``p S + s``, if it is the answer s in the support of q to prompt p.

    Args:
        q: the distribution, batch shape ``[P]``.

    Raises:
        Lost: the table would take more than ``MOST_BYTES``; the message says which number to lower.
    """

    def __init__(self, q: TokenSequence) -> None:
        own = [t for t in parameters(q).values() if t.requires_grad]
        check_size(q, [t.shape[:1] == (q.prompts,) for t in own])  # before ``has_slices`` makes gradients
        self.slices = has_slices(q)
        check_size(q, self.slices)
        x = q.enumerate_support(expand=False).reshape(q.support_size, q.length)
        inside, number = q.mask(x), _numbers(x, q.vocabulary)
        self.prompts, self.shapes = q.prompts, [t.shape for t in own]
        distinct, first = torch.unique(number[inside], return_inverse=True)
        scores = _scores(q, *_examples(x, inside, first, len(distinct)), self.slices)
        token = torch.zeros_like(number).masked_scatter(inside, first)
        prompt = torch.arange(q.prompts, device=x.device)[:, None, None]
        self.inside = inside.repeat(q.prompts, 1)
        self.token = (token + len(distinct) * prompt).flatten(0, 1)
        self.of_tokens = scores
        share = self.inside.to(scores[0].dtype)
        self.of_sequences = [embedding_bag(self.token, t, mode="sum", per_sample_weights=share) for t in scores]

    def gradients(self, numbers: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Return sums of weighted scores at each of q's parameters, for R rows of sequences: each ``[R, *own shape]``.

        ``g_r = sum_p sum_g sum_t w_rpgt score(p, x_<t, x_t)``,  x the sequence of number ``numbers[r, p, g]``

        Args:
            numbers: numbers of sequences, for R rows, P prompts and G samples, ``[R, P, G]``.
            weights: the weight of each token, ``[R, P, G, T]``, those after the end of a sequence are not read; or one
                weight for all tokens of a sequence, ``[R, P, G, 1]``.
        """
        of_sequence = weights[..., :1]
        if weights.shape[-1] > 1:
            inside = look_up(self.inside, numbers)
            weights = torch.where(inside, weights, 0)
            if not torch.equal(weights, torch.where(inside, of_sequence, 0)):
                return self._summed(self.of_tokens, look_up(self.token, numbers), weights)
        return self._summed(self.of_sequences, numbers.unsqueeze(-1), of_sequence)

    def _summed(self, tables: list[Tensor], lines: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Return weighted sums of lines of the tables; ``lines`` and ``weights`` are ``[R, P, G, ...]``."""
        count, out = len(lines), []
        for table, shape, sliced in zip(tables, self.shapes, self.slices, strict=True):
            bags = (count * self.prompts, -1) if sliced else (count, -1)
            found = embedding_bag(
                lines.reshape(bags), table, mode="sum", per_sample_weights=weights.reshape(bags).to(table.dtype)
            )
            out.append(found.view(count, *shape))
        return tuple(out)


def _numbers(x: Tensor, vocabulary: int) -> Tensor:
    """Return a number for each token with the tokens before it, ``[S, T]``, equal where these tokens are equal."""
    number, out = torch.zeros_like(x[:, 0]), []
    for token in x.unbind(-1):
        number = number * vocabulary + token + 1
        out.append(number)
    return torch.stack(out, -1)


def _examples(x: Tensor, inside: Tensor, which: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return a sequence for each distinct token, ``[count, T]``, and the position of the token in it, ``[count]``.

    ``which`` is the number of each token that is inside a sequence.
    """
    sequence, position = inside.nonzero(as_tuple=True)
    place = torch.empty(count, dtype=torch.long, device=x.device).scatter_(
        0, which, torch.arange(len(which), device=x.device)
    )
    return x[sequence[place]], position[place]


def _scores(q: TokenSequence, x: Tensor, position: Tensor, slices: list[bool]) -> list[Tensor]:
    """Return the scores of one token in each sequence, for each prompt; one tensor ``[P M, size]`` for each parameter.

    Args:
        q: the distribution, batch shape ``[P]``.
        x: sequences, ``[M, T]``.
        position: the positions of the tokens, ``[M]``.
        slices: for each parameter, whether only the slice of the prompt is kept.
    """
    found: list[list[list[Tensor]]] = [[[] for _ in range(q.prompts)] for _ in slices]
    for some, at in zip(torch.split(x, SCORES), torch.split(position, SCORES), strict=True):
        r = rows(q, len(some))
        assert isinstance(r, TokenSequence)
        own = [t for t in parameters(r).values() if t.requires_grad]
        each = r.log_probs(some.unsqueeze(1).expand(-1, q.prompts, -1))
        chosen = each.gather(-1, at[:, None, None].expand(-1, q.prompts, 1)).squeeze(-1)
        for p in range(q.prompts):
            gradients = torch.autograd.grad(chosen[:, p].sum(), own, retain_graph=True, materialize_grads=True)
            for table, g, sliced in zip(found, gradients, slices, strict=True):
                table[p].append((g[:, p] if sliced else g).flatten(1))
    return [torch.cat([part for parts in table for part in parts]) for table in found]


def has_slices(q: TokenSequence) -> list[bool]:
    """Return for each of q's parameters that requires gradients whether it has a slice for every prompt, ``[P, ...]``.

    It has if the log-probability of a longest sequence, given a prompt, has a gradient in that prompt's slice alone.
    """
    r = rows(q, q.prompts)
    own = [t for t in parameters(r).values() if t.requires_grad]
    longest = torch.ones((), dtype=torch.long, device=own[0].device).expand(*r.batch_shape, q.length)
    of_prompt = r.log_prob(longest).diagonal().sum()  # row p has the gradient of prompt p
    others = ~torch.eye(q.prompts, dtype=torch.bool, device=own[0].device)
    gradients = torch.autograd.grad(of_prompt, own, materialize_grads=True)
    return [t.shape[1:2] == (q.prompts,) and not g[others].any() for t, g in zip(own, gradients, strict=True)]


def size_in_bytes(q: TokenSequence, slices: list[bool], **other: int) -> int:
    """Return the number of bytes of the score table of q, or of a q with another vocabulary, length or prompts."""
    n = {"vocabulary": q.vocabulary, "length": q.length, "prompts": q.prompts} | other
    going: list[int] = [
        pow(n["vocabulary"] - 1, t) for t in range(n["length"] + 1)
    ]  # beginnings of t tokens, without end
    lines = sum(going[:-1]) * n["vocabulary"] + sum(going)
    shapes = replace(q.policy, vocabulary=n["vocabulary"]).shapes(n["prompts"], n["length"])
    own = {name.partition(".")[2]: t for name, t in parameters(q).items() if t.requires_grad}
    size = sum(prod(shapes[name][sliced:]) for name, sliced in zip(own, slices, strict=True))
    item: int = next(iter(own.values())).element_size()
    return item * n["prompts"] * lines * size


def check_size(q: TokenSequence, slices: list[bool]) -> None:
    """Check, before memory is taken, that the score table of q takes at most ``MOST_BYTES``.

    Raises:
        Lost: it would take more; the message says which number to lower, and how far.
    """
    if (size := size_in_bytes(q, slices)) <= MOST_BYTES:
        return
    lower = []
    for name, value, least in (("length", q.length, 1), ("prompts", q.prompts, 1), ("vocabulary", q.vocabulary, 2)):
        fits = [n for n in range(least, value) if size_in_bytes(q, slices, **{name: n}) <= MOST_BYTES]
        lower += [f"{name} from {value} to {fits[-1]}"] if fits else []
    raise Lost(
        f"The score table of {q.policy!r} for {q.prompts} prompts and {q.length} tokens would take "
        f"{size / 1e9:,.1f} GB (at most {MOST_BYTES / 1e9:g}). "
        f"Lower {' or '.join(lower) or 'the size of the policy'}."
    )
