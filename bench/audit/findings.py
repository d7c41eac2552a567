"""The numbers that an audit finds."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.audit.compare import Comparison

Comparisons = tuple[Comparison, ...]
"""One comparison for each policy."""


@dataclass(frozen=True)
class Point:
    """One of the policies of an audit.

    Let pi be this policy, ref the reference policy, and mu an older policy that writes the samples of off-policy
    batches.

    Args:
        seed: seed of pi.
        distance: distance of ref and of mu from pi: 0 is pi itself, 1 an unrelated policy.
        kl: KL(pi||ref), averaged over the prompts.
        success: probability of reward 1 under pi for each prompt.
    """

    seed: int
    distance: float
    kl: float
    success: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """The numbers of an audit, for every policy and target.

    All gradients of the loss are multiplied by −1, so that a step along them lowers the loss. r is the reward, pi one
    of the policies, and ref the reference policy.

    Args:
        loss: the name of the loss.
        takes: the names of the loss's arguments, such as ``("logp", "rewards")``.
        group: number of samples for each prompt.
        prompts: number of prompts of a batch.
        vocabulary: number of different tokens.
        length: the largest number of tokens of a sequence.
        is_exact: True if the expected gradients are sums over all batches, False if batches were sampled.
        batches: number of batches that were summed or sampled for each policy. If ``factor`` is a number, a batch has
            one prompt, and the number is that of each prompt.
        is_vectorised: whether the loss could be computed for many batches at once.
        points: the policies.
        targets: for each target that applies, by name, such as "reward": one comparison of gradients for each policy.
        beta: weight of KL(pi||ref) in the target ``penalised-reward``; None if there is no such target.
        is_fitted: whether ``beta`` was found by least squares, and not given.
        variance: for each policy, the variance of the gradient of a batch, as a multiple of the variance of RLOO. The
            gradient is first divided by its scale: its component along the gradient of the target, in units of the
            length of this gradient. The target is ``E r - beta KL(pi||ref)`` or, for a loss without rewards,
            ``-KL(pi||ref)``. None if the scale is not positive, or a prompt has one sample.
        factor: the factor by which the gradient of a batch exceeds the mean of the gradients of its single prompts;
            None if it differs from batch to batch.
        pieces: for each policy, a comparison of the expected gradient of a batch with the mean of the gradients of its
            single prompts. Empty if ``factor`` is a number, or if such a mean is 0.
        signs: what else was noticed: names in ``bench.audit.signs.SIGNS``.
    """

    loss: str
    takes: tuple[str, ...]
    group: int
    prompts: int
    vocabulary: int
    length: int
    is_exact: bool
    batches: int
    is_vectorised: bool
    points: tuple[Point, ...]
    targets: Mapping[str, Comparisons]
    beta: float | None
    is_fitted: bool
    variance: tuple[float | None, ...]
    factor: float | None
    pieces: Comparisons
    signs: tuple[str, ...]
