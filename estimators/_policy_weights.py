"""What policy gradients are made of: penalties, baselines, scales, ratios, clips and means, as numbers.

Tensors are ``[..., P, G, T]``: prompts, the samples of a prompt (its group) and tokens. An axis of length 1 stands for
equal entries. ``mask`` is 1 for the tokens of a sequence and 0 after its end, in the dtype of the other tensors.
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
    """Return the sum of the costs of each token and of those after it."""
    return costs.flip(-1).cumsum(-1).flip(-1)


def ratios(kind: str, log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Return the importance weights of tokens that another policy drew, ``[..., P, G, T]`` or ``[..., P, G, 1]``.

    With w_t the ratio of the probabilities of token t under the two policies, the weight of token t is:

    - "none": 1;
    - "token": w_t;
    - "sequence": the product of all w of the sequence;
    - "geometric": the L-th root of this product;
    - "cumulative" and "per-decision": the product of w_1 ... w_t.

    Args:
        kind: one of these words.
        log_ratio: log w_t, 0 after the end.
        mask: the mask.
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
    """Return the mean of the returns of a group, weighted by ``mass``: a baseline for each sample.

    ``b_i = sum_j mass_j R_j / sum_j mass_j``,  j over the group, or over the others in it

    It is 0 where the other samples have no mass.

    Args:
        returns: the returns R.
        mass: the weights of the mean, at least 0.
        leave_one_out: whether the own sample is left out.
    """
    group = returns.shape[-2]
    everyone = returns.new_ones(group, group)
    others = everyone - torch.eye(group, dtype=returns.dtype, device=returns.device)
    among = others if leave_one_out else everyone
    return torch.where(others @ mass > 0, (among @ (mass * returns)) / (among @ mass), 0)


def whitened(advantages: Tensor, mask: Tensor, epsilon: float) -> Tensor:
    """Return the advantages, less their mean over all tokens of the batch, over the deviation of these tokens.

    ``(A - mean A) / sqrt(var A + epsilon^2)``,  var with the number of tokens less 1

    Args:
        advantages: the advantages A.
        mask: the mask, whose tokens count.
        epsilon: a small number.
    """
    axes = (-3, -2, -1)
    count = mask.sum(axes, keepdim=True)
    off = (advantages - (mask * advantages).sum(axes, keepdim=True) / count) * mask
    variance = off.square().sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    return off / (variance + epsilon**2).sqrt()


def shares(reduction: str, mask: Tensor) -> Tensor:
    """Return the share of each token in the loss of its prompt.

    The mean of these losses over the P prompts is the loss of the batch:

    - "sum": the sum over the tokens, and the mean over the samples;
    - "sequence-mean": the mean over the tokens of each sample, and the mean over the samples;
    - "token-mean": the mean over all tokens of the batch;
    - "constant": the "sum" over T, the largest length.
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
