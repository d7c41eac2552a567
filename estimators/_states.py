"""The list of all joint states of a Bernoulli or categorical q, or of all sequences of a ``TokenSequence``."""

import math

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical
from torch.nn import functional

from estimators._axes import one_hot
from estimators._densities import logits
from estimators._laws import inner
from estimators._parameters import parameters
from estimators._protocol import Estimator
from estimators._refusals import Refusal
from estimators._rows import one
from estimators._transforms import no_derivatives
from estimators.token_sequence import TokenSequence


def count(estimator: Estimator, q: Distribution, limit: int) -> int:
    """Return the number of joint states of a Bernoulli or categorical q, or of sequences of a ``TokenSequence``.

    Raises:
        Refusal: there are more than ``limit`` states. The message names ``estimator``.
    """
    base = inner(q)
    if isinstance(base, TokenSequence):
        if base.support_size > limit:
            raise Refusal(
                f"{type(estimator).__name__} lists at most {limit:,} sequences (got {base.support_size:,}). "
                f"Use RLOO, or lower the length of {base.length} or the vocabulary of {base.vocabulary}."
            )
        return base.support_size
    variables, classes = _shape(q)
    if variables * math.log(classes) > math.log(limit) * (1 + 1e-12):
        raise Refusal(
            f"{type(estimator).__name__} lists at most {limit:,} states (got {classes}^{variables}). "
            "Use RLOO, or a q of fewer variables."
        )
    return int(classes**variables)


def support(q: Distribution) -> Tensor:
    """Return every joint state of a Bernoulli or categorical q, ``[states, *event]``.

    For a ``TokenSequence``, the states are the sequences.
    """
    base = inner(q)
    if isinstance(base, TokenSequence):
        return base.enumerate_support(expand=False).reshape(-1, *q.event_shape)
    digits, like = _digits(q), logits(q)
    if isinstance(inner(q), OneHotCategorical):
        x = one_hot(digits, like.shape[-1], like.dtype)
    else:
        x = digits.to(like.dtype) if isinstance(inner(q), Bernoulli) else digits
    return x.reshape(-1, *q.event_shape)


def log_mass(q: Distribution) -> Tensor:
    """Return the log-probability of every joint state or sequence of q, ``[*batch, states]``, without a graph.

    If q was made from probabilities, a 0 among them counts as the smallest positive number of the dtype. The result is
    then float64, because float32 cannot hold the product of several such numbers. If q is the result of ``rows``, its
    first batch axis holds copies of one distribution. The result then has length 1 along this axis.
    """
    base = inner(q)
    if isinstance(base, TokenSequence):
        with no_derivatives():
            return base.first_row().log_prob(base.enumerate_support(expand=False)).movedim(0, -1)
    own = one(logits(q).detach(), q)  # if rows are views of one row, only this is computed: the first axis has length 1
    own = own.double() if "probs" in parameters(q) else own
    if isinstance(inner(q), Bernoulli):
        each = torch.stack([functional.logsigmoid(-own), functional.logsigmoid(own)], -1)
    else:
        each = own.log_softmax(-1)
    digits = _digits(q)
    each = each.reshape(*each.shape[: len(q.batch_shape)], *_shape(q))
    return each[..., torch.arange(digits.shape[-1], device=digits.device), digits].sum(-1)


def _shape(q: Distribution) -> tuple[int, int]:
    """Return the number of variables in an event, and the number of values of a variable."""
    if isinstance(inner(q), Bernoulli):
        return math.prod(q.event_shape), 2
    hot = isinstance(inner(q), OneHotCategorical)
    return math.prod(q.event_shape[:-1] if hot else q.event_shape), logits(q).shape[-1]


def _digits(q: Distribution) -> Tensor:
    """Return the index of each variable's value in every state, ``[states, variables]``."""
    variables, classes = _shape(q)
    device = logits(q).device
    place = classes ** torch.arange(variables, device=device)
    return (torch.arange(classes**variables, device=device).unsqueeze(-1) // place) % classes
