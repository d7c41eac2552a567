"""The parts of a policy gradient: penalties, baselines, whitening, importance ratios and means, without a graph.

Tensors are ``[..., P, G, T]``: P prompts, G samples of each prompt (its group) and T tokens. An axis has length 1 if
all entries along it are equal. ``mask`` is 1 for the tokens of a sequence and 0 after its end.
"""

from collections.abc import Callable

import torch
from torch import Tensor

PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda d: d,
    "k2": lambda d: d.square() / 2,
    "k3": lambda d: torch.expm1(-d) + d,
}
"""Estimates of KL(q || ref) from samples of q, as functions of d = log q(x) - log ref(x)."""

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": torch.ones_like,
    "k2": lambda d: d,
    "k3": lambda d: -torch.expm1(-d),
}
"""The derivatives of ``PENALTIES`` in d."""


def to_go(costs: Tensor) -> Tensor:
    """Return the cost to go of each of T tokens, ``[..., T]``: the sum of its own cost and of all later costs."""
    return costs.flip(-1).cumsum(-1).flip(-1)


def ratios(kind: str, log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Return the importance weights of tokens that a sampler drew, ``[..., P, G, T]``.

    The last axis has length 1 if all tokens of a sequence have the same weight. Let w_t be the probability of token t
    under the policy, divided by its probability under the sampler. The weight of token t is:

    - "none": 1;
    - "token": w_t;
    - "sequence": the product of w_1 ... w_L, for a sequence of L tokens;
    - "geometric": the L-th root of this product;
    - "cumulative" or "per-decision": the product of w_1 ... w_t.

    Args:
        kind: "none", "token", "sequence", "geometric", "cumulative" or "per-decision".
        log_ratio: log w_t, 0 after the end of a sequence, ``[..., P, G, T]``, for P prompts and G samples of each.
        mask: 1 for the tokens of a sequence and 0 after its end, ``[..., P, G, T]``; T is the largest number of tokens.
    """
    match kind:
        case "none":
            return torch.ones_like(log_ratio[..., :1])
        case "token":
            return log_ratio.exp()
        case "sequence":
            return log_ratio.sum(-1, keepdim=True).exp()
        case "geometric":
            return (log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)).exp()
        case _:
            return log_ratio.cumsum(-1).exp()


def baselines(returns: Tensor, mass: Tensor, leave_one_out: bool) -> Tensor:
    """Return the baseline b of each return, ``[..., P, G, T]``: a weighted mean of the returns in its group.

    ``b_i = sum_j mass_j R_j / sum_j mass_j``

    The group of sample i is the G samples of its prompt. j runs over the group, without i if ``leave_one_out``. The
    formula holds at each of the T tokens. The baseline is 0 if all masses in the sum are 0. In both arguments, the axis
    of the tokens may have length 1.

    Args:
        returns: the returns R, ``[..., P, G, T]``, for P prompts and G samples of each.
        mass: the weights of the mean, at least 0, ``[..., P, G, T]``.
        leave_one_out: whether the mean for sample i leaves i out.
    """
    group = returns.shape[-2]
    everyone = returns.new_ones(group, group)
    others = everyone - torch.eye(group, dtype=returns.dtype, device=returns.device)
    among = others if leave_one_out else everyone
    return torch.where(others @ mass > 0, (among @ (mass * returns)) / (among @ mass), 0)


def whitened(advantages: Tensor, mask: Tensor, epsilon: float) -> Tensor:
    """Return the advantages, shifted and scaled to mean 0 and variance 1 over all tokens of the batch.

    ``(A - mean A) / sqrt(var A + epsilon^2)``

    var A is the sum of the squares of A - mean A, divided by the number of tokens minus 1. After the end of a sequence,
    the result is 0.

    Args:
        advantages: the advantages A, ``[..., P, G, T]`` or ``[..., P, G, 1]``.
        mask: 1 for the tokens of a sequence and 0 after its end, ``[..., P, G, T]``, for P prompts, G samples of each
            and at most T tokens.
        epsilon: a small number, so that nothing is divided by 0.
    """
    axes = (-3, -2, -1)
    count = mask.sum(axes, keepdim=True)
    off = (advantages - (mask * advantages).sum(axes, keepdim=True) / count) * mask
    variance = off.square().sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    return off / (variance + epsilon**2).sqrt()


def shares(reduction: str, mask: Tensor) -> Tensor:
    """Return the factor of each token in the loss of its prompt, in a shape that broadcasts to ``[..., P, G, T]``.

    The loss of a prompt is a weighted sum over its tokens, and the loss of the batch is the mean over the P prompts.
    With the factors, the loss of the batch becomes:

    - "sum": the sum over the tokens of a sample, averaged over the samples;
    - "sequence-mean": the mean over the tokens of a sample, averaged over the samples;
    - "token-mean": the mean over all tokens of the batch;
    - "constant": "sum" divided by T, the largest length.

    Args:
        reduction: "sum", "sequence-mean", "token-mean" or "constant".
        mask: 1 for the tokens of a sequence and 0 after its end, ``[..., P, G, T]``, for G samples of each prompt.
    """
    prompts, group, length = mask.shape[-3:]
    each = mask.new_full((1, 1, 1), 1 / group)
    match reduction:
        case "sum":
            return each
        case "sequence-mean":
            return each / mask.sum(-1, keepdim=True)
        case "token-mean":
            return prompts / mask.sum((-3, -2, -1), keepdim=True)
        case _:
            return each / length
