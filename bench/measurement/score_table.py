"""The score table of a token policy: gradients of weighted tokens by look-up, without autograd.

The score of a token depends on the tokens before it and on the prompt alone, so a small policy has few distinct scores.
They are computed once. The gradient of a loss is a weighted sum of scores. The weight of a token is the derivative of
the loss at the log-probability of this token.
"""

from dataclasses import replace
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bench.measurement.sequences import look_up
from bench.records.lines import Lost
from estimators import Refusal, TokenSequence, parameters, rows

MOST_BYTES = 2 * 10**9
"""Bytes of the largest score table that is made."""
SCORES = 256
"""Number of scores that one pass of autograd computes."""


class ScoreTable:
    """The scores of all tokens that a ``TokenSequence`` can write, and their sums over each of its sequences.

    ``score(p, x_<t, x_t) = grad log pi(x_t | p, x_<t)``

    pi is the probability that q gives token t of the sequence x, after the prompt p and the earlier tokens x_<t. The
    gradient is with respect to q's parameters. If a parameter has a slice for each prompt, ``[P, ...]``, a token's
    score is 0 in the slices of all other prompts; the table holds the slice of its own prompt only. q has S possible
    sequences. Sequence s, as an answer to prompt p, has the number ``p S + s``.

    Args:
        q: the distribution, of batch shape ``[P]`` for P prompts.

    Raises:
        Lost: the table would take more than 2 GB, and the message says which number to lower; or the weights of q
            cannot be cut into one policy for each prompt.
    """

    def __init__(self, q: TokenSequence) -> None:
        check_size(q)
        x = q.enumerate_support(expand=False).reshape(q.support_size, q.length)
        inside, number = q.mask(x), _numbers(x, q.vocabulary)
        distinct, first = torch.unique(number[inside], return_inverse=True)
        count = len(distinct)
        examples = _examples(x, inside, first, count)
        alone = _prompts(q, x)
        self.prompts, self.shapes = q.prompts, [t.shape for t in parameters(q).values() if t.requires_grad]
        own = [t for t in parameters(alone[0]).values() if t.requires_grad]
        self.slices = [shape != t.shape for shape, t in zip(self.shapes, own, strict=True)]
        self.of_tokens = [t.new_empty((q.prompts * count, t.numel())) for t in own]
        for p, one in enumerate(alone):
            _write_scores(one, *examples, [table[p * count : (p + 1) * count] for table in self.of_tokens])
        token = torch.zeros_like(number).masked_scatter(inside, first)
        prompt = torch.arange(q.prompts, device=x.device)[:, None, None]
        self.inside = inside.repeat(q.prompts, 1)
        self.token = (token + count * prompt).flatten(0, 1)
        share = self.inside.to(self.of_tokens[0].dtype)
        self.of_sequences = [embedding_bag(self.token, t, mode="sum", per_sample_weights=share) for t in self.of_tokens]

    def gradients(self, numbers: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """Return sums of weighted scores, ``[R, *shape of the parameter]`` for each of q's parameters.

        ``g_r = sum_p sum_k sum_t w_rpkt score(p, x_<t, x_t)``

        g_r is the result for row r, and x is the sequence with the number ``numbers[r, p, k]``. x_t is its token t, and
        x_<t are the tokens before. The score is the gradient of log q(x_t | p, x_<t), where p is the prompt.

        Args:
            numbers: numbers of sequences, for R rows, P prompts and G samples, ``[R, P, G]``.
            weights: w, the weight of each of T tokens, ``[R, P, G, T]``, or of all tokens of a sequence,
                ``[R, P, G, 1]``. Weights after the end of a sequence are not read.
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


def _write_scores(q: TokenSequence, x: Tensor, position: Tensor, tables: list[Tensor]) -> None:
    """Write the scores of one token in each sequence, for a q of one prompt.

    Args:
        q: the distribution, batch shape ``[1]``.
        x: sequences, ``[M, T]``.
        position: the positions of the tokens, ``[M]``.
        tables: the memory for each parameter, ``[M, size]``.
    """
    starts = range(0, len(x), SCORES)
    for lines in (slice(start, start + SCORES) for start in starts):
        r = rows(q, len(x[lines]))
        assert isinstance(r, TokenSequence)
        own = [t for t in parameters(r).values() if t.requires_grad]
        chosen = r.log_probs(x[lines].unsqueeze(1)).gather(-1, position[lines, None, None])
        for table, g in zip(tables, torch.autograd.grad(chosen.sum(), own, materialize_grads=True), strict=True):
            table[lines] = g.flatten(1)


def _prompts(q: TokenSequence, x: Tensor) -> list[TokenSequence]:
    """Return q for each of its prompts alone, of batch shape ``[1]``; x is all sequences, ``[S, T]``.

    A weight whose shape depends on the number of prompts is cut into slices.

    Raises:
        Lost: the log-probabilities of q for one prompt are not those of its slices.
    """
    shapes = q.policy.shapes(1, q.length)
    with torch.no_grad():
        together = q.log_prob(x.unsqueeze(1)).unbind(-1)
    found = []
    for p, expected in enumerate(together):
        own = {name: w if tuple(w.shape) == shapes[name] else w[p : p + 1] for name, w in q.weights.items()}
        try:
            one = TokenSequence(own, q.policy, 1, q.length, validate_args=False)
            with torch.no_grad():
                same = torch.allclose(one.log_prob(x.unsqueeze(1)).squeeze(-1), expected, rtol=1e-3, atol=1e-3)
        except Refusal:
            same = False
        if not same:
            raise Lost(f"The prompts of {q.policy!r} cannot be told apart: a slice of its weights is another policy.")
        found.append(one)
    return found


def size_in_bytes(q: TokenSequence, **other: int) -> int:
    """Return the number of bytes of the table with the scores of all tokens that q can write.

    Numbers in ``other`` replace those of q: ``vocabulary``, ``length`` or ``prompts``.
    """
    n = {"vocabulary": q.vocabulary, "length": q.length, "prompts": q.prompts} | other
    going: list[int] = [pow(n["vocabulary"] - 1, t) for t in range(n["length"] + 1)]  # beginnings, without end
    lines = sum(going[:-1]) * n["vocabulary"] + sum(going)
    shapes = replace(q.policy, vocabulary=n["vocabulary"]).shapes(1, n["length"])
    size = sum(prod(shapes[name]) for name, w in q.weights.items() if w.requires_grad)
    item: int = next(iter(q.weights.values())).element_size()
    return item * n["prompts"] * lines * size


def check_size(q: TokenSequence) -> None:
    """Check, before memory is taken, that the table with the scores of all tokens that q can write is not too large.

    The limit is the constant ``MOST_BYTES`` of this module, 2 GB.

    Raises:
        Lost: the table would take more; the message says which number to lower, and how far.
    """
    if (size := size_in_bytes(q)) <= MOST_BYTES:
        return
    lower = []
    for name, value, least in (("length", q.length, 1), ("prompts", q.prompts, 1), ("vocabulary", q.vocabulary, 2)):
        fits = [n for n in range(least, value) if size_in_bytes(q, **{name: n}) <= MOST_BYTES]
        lower += [f"{name} from {value} to {fits[-1]}"] if fits else []
    raise Lost(
        f"The score table of {q.policy!r} with prompts={q.prompts} and length={q.length} would take "
        f"{size / 1e9:,.1f} GB (at most {MOST_BYTES / 1e9:g}). "
        f"Lower {' or '.join(lower) or 'the size of the policy'}."
    )
