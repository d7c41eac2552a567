"""Comparisons of numbers that should be equal: exactly, up to rounding, or in the mean over samples."""

import math

import torch
from torch import Tensor

FAILURE_RATE = 1e-6
"""Probability, over seeds, that a comparison with samples rejects a correct objective (Bonferroni over coordinates)."""
DOMINATED = 0.02
"""A mean is not judged if one sample makes up more than this share, and 8 / samples, of the sum of squares."""
EXACT = 1e-5
"""Relative difference of two exact numbers that counts as rounding, also of an f that computes in float32."""


def column_apart(samples: Tensor, expected: Tensor, error: float) -> int | None:
    """Return the index of the first column whose mean surely differs from its expected number; None if there is none.

    ``samples`` are ``[R, k]``: R samples of each of k columns. ``expected`` has a number for each column, ``[k]``; each
    number may be wrong by ``error``. Let L = log(2 k / 1e-6). A mean surely differs from its expected number if their
    distance, less ``error``, exceeds the empirical Bernstein bound::

        sqrt(2 variance L / R) + 7 range L / (3 (R - 1))

    The variance and the range are those of the samples of the column. The range is the largest sample minus the
    smallest. Rare values outside this range are part of the true mean, although no sample shows them. Unless the tail
    is very heavy, with an index below 1.03, they change the mean by less than the second term. Two kinds of columns are
    not judged: columns in which one sample dominates the variance, and constant columns, such as a rare reward that no
    sample has earned.

    Reference: Maurer & Pontil 2009 (Empirical Bernstein bounds), theorem 4.
    """
    count, columns = samples.shape
    samples = samples.double()
    level = math.log(2 * columns / FAILURE_RATE)
    squares = (samples - samples.mean(0)).square()
    width = samples.amax(0) - samples.amin(0)
    bound = (2 * samples.var(0) * level / count).sqrt() + 7 * width * level / (3 * (count - 1))
    off = (samples.mean(0) - expected).abs() - bound - error - EXACT * samples.abs().mean(0)
    judged = samples.isfinite().all(0) & (
        squares.amax(0) <= max(DOMINATED, 8 / count) * squares.sum(0).clamp(min=1e-300)
    )
    surely = judged & (width > 0) & (off > 0)
    return int(surely.nonzero()[0]) if surely.any() else None


def _near(a: Tensor, b: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Return which elements agree within ``near``, relative to their size, and which are no typical value in a and b.

    The typical value is the median. Where f is mostly constant, as a rare reward is, the other values tell its errors.
    """
    a, b = a.detach().double(), b.detach().double()
    scale = torch.cat([a.flatten(), b.flatten()]).nan_to_num(0.0, 0.0, 0.0).abs().mean()
    same = ((a - b).abs() <= near * torch.maximum(scale, a.abs())) | (a == b) | (a.isnan() & b.isnan())
    rare = [(t - t.nanmedian()).abs() > near * torch.maximum(scale, t.nanmedian().abs()) for t in (a, b)]
    return same, rare[0] & rare[1]


def all_equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have one shape, and all their elements agree up to a relative difference of 1e-5."""
    return a.shape == b.shape and (not a.numel() or bool(_near(a, b, EXACT)[0].all()))


def mostly_equal(a: Tensor, b: Tensor, near: float) -> bool:
    """Return whether most elements of two tensors of values of f agree up to the relative difference ``near``.

    More than half of all elements must agree. If f has the same value at most samples, as with a rare reward, the other
    values are also judged alone: more than half of the elements that differ from the median in both tensors must agree.
    Rounding is tolerated. It moves all elements a little, and a few of them far if f has jumps. Samples from different
    distributions, or different data in f, move all elements far.
    """
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    same, rare = _near(a, b, near)
    return all(part.double().mean().item() > 0.5 for part in (same, same[rare]) if part.numel())
