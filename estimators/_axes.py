"""Sums and means over samples and categories, in as few passes over the data as possible."""

import torch
from torch import Tensor

SHORT = 64
"""Number of categories below which torch's softmax on a CPU is several times slower than the formula written out."""


def over_categories(x: Tensor) -> Tensor:
    """Return the sum of x, ``[..., C]``, over its last axis, as an axis of length 1: ``[..., 1]``."""
    short = x.shape[-1] < SHORT and not x.is_cuda  # then torch's sum takes several times as long as a product
    return (x @ x.new_ones(x.shape[-1])).unsqueeze(-1) if short else x.sum(-1, keepdim=True)


def totals(x: Tensor) -> Tensor:
    """Return the sums of x, ``[..., C]``, over its last axis, each repeated C times: a tensor of the shape of x."""
    return over_categories(x).expand_as(x).contiguous()  # torch multiplies slowly by a short axis of stride 0


def spread(weight: Tensor, x: Tensor) -> Tensor:
    """Return ``weight`` with axes of length 1 appended, so that it broadcasts against x.

    For example, ``weight`` is ``[n, *batch]`` and x is ``[n, *batch, *event]``. The result has as many axes as x.
    """
    axes = x.dim() - weight.dim()
    return weight.reshape(*weight.shape, *(1,) * axes) if axes else weight  # numbers: torch reads a torch.Size slowly


def one_hot(index: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return the one-hot vectors, ``[..., classes]``, of integer indices, ``[...]``, without checking the indices.

    ``torch.nn.functional.one_hot`` checks them, and makes the CPU wait for a GPU.
    """
    return (index.contiguous().unsqueeze(-1) == torch.arange(classes, device=index.device)).to(dtype)


def over_event(x: Tensor, axes: int) -> Tensor:
    """Return the sum of x over its last ``axes`` axes. If ``axes`` is 0, return x itself."""
    return x.sum(tuple(range(-axes, 0))) if axes else x


def over_samples(x: Tensor) -> Tensor:
    """Return the sum of x, ``[n, ...]``, over its first axis. For n = 1 the result is a view of x."""
    return x.squeeze(0) if x.shape[0] == 1 else x.sum(0)


FEW = 8
"""Largest number of samples that ``weighted_sum`` adds one by one, without storing all products at once."""


def weighted_sum(weight: Tensor, x: Tensor) -> Tensor:
    """Return ``sum_k weight_k x_k``: the sum over the first axis. The shapes of ``weight`` and x must broadcast."""
    if len(x) > FEW:
        return (weight * x).sum(0)
    (w, first), *others = zip(weight.unbind(), x.unbind(), strict=True)
    total = w * first
    for w, each in others:
        total.addcmul_(w, each)
    return total


def average(x: Tensor) -> Tensor:
    """Return the mean of x, ``[n, ...]``, over its first axis. For n = 1 the result is a view of x."""
    return x.squeeze(0) if x.shape[0] == 1 else x.mean(0)


def share(x: Tensor) -> Tensor:
    """Return x, ``[n, ...]``, divided by n, the length of its first axis. For n = 1, return x itself."""
    return x if x.shape[0] == 1 else x / x.shape[0]
