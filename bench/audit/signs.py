"""Signs of common mistakes in a loss, which scale and angle do not name."""

import torch
from torch import Tensor

from bench.audit.loss import SAME, Batch, Loss
from bench.planning.selectors import UsageError

SIGNS = {
    "padding": "It reads log-probabilities after the end of a sequence, which are 0 here but not in a trainer: "
    "multiply by the mask.",
    "tokens": "No token of a sequence has a gradient, as with an inverted mask.",
    "first": "The first token of a sequence never has a gradient, as with a shifted mask.",
    "last": "The last token of a sequence never has a gradient, as with a shifted mask.",
    "end": "The token that ends a sequence never has a gradient: the mask should hold it.",
    "rewards": "It does not depend on the rewards.",
    "mixed": "The gradient for a prompt depends on the rewards of other prompts: axis 0 of rewards is prompts, axis 1 "
    "their samples.",
    "order": "It depends on the order of the samples of a prompt.",
    "rest": "With rewards of 0, and the policy itself as reference, a gradient is left: that of an entropy bonus, "
    "or of advantages that are not detached.",
}
"""What can be noticed about a loss, by name, in words."""
PADDING = {"logp": -0.7, "old_logp": -1.1, "ref_logp": -1.6}
"""What a trainer could have after the end of a sequence: log-probabilities that mean nothing."""


def signs_of(loss: Loss, batches: Batch, weights: Tensor, *, ordered: bool, mixes: bool) -> tuple[str, ...]:
    """Return the signs of common mistakes that a loss shows, by their names in ``SIGNS``.

    Args:
        loss: the loss.
        batches: the arguments of several batches, by name, each ``[batches, ...]``.
        weights: minus the derivatives of the loss with respect to the log-probability of each token,
            ``[batches, prompts, samples of a prompt, length]``.
        ordered: whether the gradient depends on the order of the samples of a prompt.
        mixes: whether the gradient of a prompt depends on the samples of other prompts.
    """
    mask, tokens, small = batches["mask"], batches["tokens"], SAME * float(weights.abs().amax())
    other = {"rewards": 1 - batches["rewards"]}
    last = mask & ~torch.cat([mask[..., 1:], torch.zeros_like(mask[..., :1])], -1)
    live = (weights.abs() > small) & mask
    found = []
    if _reads_padding(loss, batches, weights, small):
        found.append("padding")
    for name, part in {"tokens": mask, "first": mask[..., :1], "last": last, "end": mask & (tokens == 0)}.items():
        if not (live[..., : part.shape[-1]] & part).any():
            found.append(name)
            break
    if "rewards" in loss:
        if _near(loss.weights({**batches, **other}), weights, small):
            found.append("rewards")
        elif mixes:
            other["rewards"][:, 0] = batches["rewards"][:, 0]
            if not _near(loss.weights({**batches, **other})[:, 0], weights[:, 0], small):
                found.append("mixed")
    return (*found, *["order"] * ordered)


def _reads_padding(loss: Loss, batches: Batch, weights: Tensor, small: float) -> bool:
    """Return whether the gradient, or a token after the end, is another one if there are numbers after the end."""
    mask = batches["mask"]
    filled = {name: batches[name].masked_fill(~mask, value) for name, value in PADDING.items()}
    try:
        return not _near(loss.weights({**batches, **filled}), weights.masked_fill(~mask, 0), small)
    except UsageError:  # such as a loss that is not finite
        return True


def _near(first: Tensor, second: Tensor, small: float) -> bool:
    return torch.allclose(first, second, rtol=0, atol=small)
