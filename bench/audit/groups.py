"""The groups of samples that can be drawn: how many there are, and the list of all."""

import functools
import itertools
import math

import torch
from torch import Tensor


def number_of_groups(kinds: int, size: int, *, ordered: bool) -> int:
    """Return the number of different groups of ``size`` samples. Each sample is one of ``kinds`` sequences.

    Args:
        kinds: number of different sequences.
        size: number of samples in a group.
        ordered: whether groups that differ only in the order of their samples count as different.
    """
    return kinds**size if ordered else math.comb(kinds + size - 1, size)


@functools.lru_cache(4)
def all_groups(kinds: int, size: int, *, ordered: bool) -> tuple[Tensor, Tensor]:
    """Return every group, ``[groups, size]``, and the log of the number of ways to order its samples, ``[groups]``.

    A sample is given by the number of its sequence. The logs are 0 if ``ordered``.

    Args:
        kinds: number of different sequences, which are numbered from 0.
        size: number of samples in a group.
        ordered: whether each order of the samples is a group of its own. If not, the samples of a group are sorted.
    """
    if ordered:
        index = torch.tensor([*itertools.product(range(kinds), repeat=size)])
        return index, torch.zeros(len(index), dtype=torch.float64)
    index = torch.tensor([*itertools.combinations_with_replacement(range(kinds), size)])
    counts = torch.zeros(len(index), kinds, dtype=torch.float64).scatter_add_(
        1, index, torch.ones(index.shape, dtype=torch.float64)
    )
    return index, math.lgamma(size + 1) - torch.lgamma(counts + 1).sum(1)
