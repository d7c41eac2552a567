"""Expected gradients of a loss on one policy: exact, over all batches of samples, or from a sample of batches."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from bench.audit.groups import all_groups, number_of_groups
from bench.audit.loss import SAME, Batch, Loss
from bench.audit.policies import AuditPolicy
from bench.audit.signs import signs_of
from bench.planning.selectors import UsageError
from estimators.policy_gradient import PolicyGradient

MOST_BATCHES = 100_000
"""Most batches over which an expectation is summed; if there are more, batches are sampled."""
SAMPLES = 10_000
"""Batches that are sampled for each policy, unless another number is asked for."""
FEWER = 1_000
"""Batches that are sampled, or summed over at most, if each takes a call of the loss and no number is asked for."""
MOST_KEPT = 2**23
"""Most numbers in the gradients of sampled batches, which are kept in memory."""
TRIALS = 32
"""Batches of each policy with which it is found out whether a loss mixes prompts."""
Weigh = Callable[[Batch], Tensor]
"""From many batches to the weights of their log-probabilities, ``[batches, prompts, group, length]``."""


@dataclass(frozen=True)
class Traits:
    """What has to be known of a loss before its expected gradient is computed.

    Args:
        ordered: whether the gradient depends on the order of the samples of a prompt.
        pieces: the factor by which the gradient of a batch of several prompts exceeds the mean of the gradients of its
            single prompts. 1 for a loss that averages over prompts. None if no single factor exists, because the loss
            mixes prompts: the gradient for a prompt depends on the other prompts of its batch.
        signs: the signs of common mistakes that the loss shows, by their names in ``SIGNS``.
    """

    ordered: bool
    pieces: float | None
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """An expected gradient with respect to D parameters: exact, or estimated from the gradients of sampled batches.

    Args:
        mean: the gradient, ``[D]``.
        variance: the total variance of the gradient of one batch: the trace of its covariance.
        rows: the gradients of sampled batches, ``[rows, D]``; None if the mean is exact.
    """

    mean: Tensor
    variance: float
    rows: Tensor | None = None

    def minus(self, other: "Estimate") -> "Estimate":
        """Return the difference of two estimates on the same batches. Its ``variance`` is NaN."""
        rows = None if self.rows is None or other.rows is None else self.rows - other.rows
        return Estimate(self.mean - other.mean, math.nan, rows)

    def steadied(self, control: "Estimate", known: Tensor) -> "Estimate":
        """Return the estimate with less noise, by a control variate. An exact estimate is returned unchanged.

        A row is the gradient of one sampled batch. The control variate is the row of ``control`` minus ``known``. A
        multiple of it is subtracted from the row of this estimate. The multiple is the slope of a regression of the
        rows of this estimate on the rows of ``control``.

        Args:
            control: another estimate on the same batches.
            known: the expectation of the control, one number for each parameter.
        """
        if self.rows is None or control.rows is None:
            return self
        off = control.rows - control.mean
        square = off.square().sum()
        slope = (self.rows * off).sum() / square if square > 0 else 0.0
        rows = self.rows - slope * (control.rows - known)
        return Estimate(rows.mean(0), self.variance, rows)


class Batches:
    """The batches that a policy's sequences can form: all of them with their probabilities, or a sample.

    Args:
        policy: the policy.
        group: number of samples for each prompt.
        traits: what is known of the loss. Unless the gradient for a prompt depends on the other prompts, each prompt is
            a batch of its own.
        samples: number of batches that are sampled, if more than ``most`` different batches are possible; fewer if all
            of their gradients would need too much memory.
        off_policy: whether an older policy, mu, writes the samples. If not, the policy itself writes them.
        most: largest number of batches over which an expectation is summed; None for 100,000.
    """

    def __init__(
        self,
        policy: AuditPolicy,
        group: int,
        traits: Traits,
        samples: int,
        *,
        off_policy: bool,
        most: int | None = None,
    ) -> None:
        self.policy, self.off_policy = policy, off_policy
        P, S = policy.prompts, len(policy.tokens)
        self.units = [list(range(P))] if traits.pieces is None else [[p] for p in range(P)]
        self.probabilities: list[Tensor] | None = None
        self.is_exact = number_of_batches(S, P, group, traits) <= (most or MOST_BATCHES)
        log_law = (policy.old_logp if off_policy else policy.logp).sum(-1)
        if self.is_exact:
            self.index, self.probabilities = _all_batches(log_law, self.units, group, ordered=traits.ordered)
            return
        widest = max(P * policy.scores.shape[2], P * group * policy.tokens.shape[1])
        samples = min(samples, MOST_KEPT // widest)
        generator = Generator().manual_seed(policy.seed)
        self.index = [_drawn(log_law[unit], group, samples, generator) for unit in self.units]

    def in_pieces(self) -> "Batches":
        """Return the sampled batches cut into single prompts: each prompt becomes a batch of its own."""
        (whole,), pieces = self.index, copy.copy(self)
        pieces.units = [[p] for p in self.units[0]]
        pieces.index = [whole[:, [p]] for p in self.units[0]]
        return pieces

    def estimate(self, weigh: Weigh, factor: float = 1.0, *, plain: bool = False) -> Estimate:
        """Return the expected gradient of a loss on one batch with all prompts.

        The loss is given by its weights. If the batches of this object have one prompt each, the result is ``factor``
        times the mean of the expected gradients for the single prompts.

        Args:
            weigh: maps batches to the weights of their log-probabilities,
                ``[batches, prompts, samples of a prompt, length]``. The gradient of a batch is the sum of the weighted
                gradients of the log-probabilities.
            factor: 1 if the loss averages over prompts, or if each batch has all prompts. The number of prompts if the
                loss sums over prompts, and each batch has one prompt.
            plain: whether the policy itself takes the place of the reference policy.
        """
        each = self._gradients(weigh, factor / len(self.units), plain)
        if self.probabilities is None:
            rows = torch.cat([*each], 1)
            return Estimate(rows.mean(0), float(rows.var(0).sum()), rows)
        means, variance = list[Tensor](), 0.0
        for rows, probability in zip(each, self.probabilities, strict=True):
            means.append(probability @ rows)
            variance += float(probability @ (rows - means[-1]).square().sum(1))
        return Estimate(torch.cat(means), variance)

    def _gradients(self, weigh: Weigh, share: float, plain: bool) -> Iterator[Tensor]:
        """Yield the gradients, times ``share``, at the parameters of each unit of prompts, ``[batches, size]``."""
        for unit, index in zip(self.units, self.index, strict=True):
            weights = weigh(self.policy.batch(index, unit, off_policy=self.off_policy, plain=plain))
            yield share * self.policy.gradients(weights, index, unit)


def number_of_batches(sequences: int, prompts: int, group: int, traits: Traits) -> int:
    """Return the number of batches over which an exact expectation is summed.

    If the loss mixes prompts, which means that the gradient for a prompt depends on the other prompts, a batch has all
    prompts. If not, a batch has one prompt, and each prompt has the returned number of batches.

    Args:
        sequences: number of different sequences.
        prompts: number of prompts.
        group: number of samples for each prompt.
        traits: whether the loss depends on the order of samples, and whether it mixes prompts.
    """
    groups = number_of_groups(sequences, group, ordered=traits.ordered)
    return groups**prompts if traits.pieces is None else groups


def _all_batches(
    log_law: Tensor, units: Sequence[list[int]], group: int, *, ordered: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Return all batches of each unit, ``[batches, prompts, group]``, and their probabilities, ``[batches]``."""
    groups, orders = all_groups(log_law.shape[1], group, ordered=ordered)
    index, probabilities = list[Tensor](), list[Tensor]()
    for unit in units:
        which = torch.cartesian_prod(*(torch.arange(len(groups)) for _ in unit)).reshape(-1, len(unit))
        logs = log_law[unit][:, groups].sum(-1) + orders
        index.append(groups[which])
        probabilities.append(logs.gather(1, which.T).sum(0).exp())
    return index, probabilities


def rloo(group: int, reward: float = 1.0, beta: float = 0.0) -> Weigh:
    """Return a function from batches to the weights by which RLOO multiplies the gradients of log-probabilities.

    With these weights, the gradient is unbiased for ``reward * E r - beta * KL(pi||ref)``. r is the reward, pi the
    policy and ref the reference. If an older policy wrote the samples, the weights contain importance weights.

    Args:
        group: number of samples for each prompt, at least 2.
        reward: the factor of the rewards.
        beta: the factor of KL(pi||ref).
    """
    unbiased = PolicyGradient(n=group)

    def weigh(batch: Batch) -> Tensor:
        parts = (batch[name] for name in ("logp", "ref_logp", "old_logp", "mask"))
        return unbiased.weights(reward * batch["rewards"], *parts, beta=beta) / batch["logp"].shape[1]

    return weigh


def traits_of(loss: Loss, policies: Sequence[AuditPolicy], group: int) -> Traits:
    """Check a loss on sampled batches, and return what has to be known of it before its expected gradient is computed.

    One trait is whether the gradient depends on the order of the samples in a group. Another one is whether the
    gradient for a prompt depends on the other prompts. The third is a list of the signs of common mistakes.

    Args:
        loss: the loss.
        policies: the policies that write the batches.
        group: number of samples for each prompt.

    Raises:
        UsageError: the loss is at fault, or its gradient is always 0.
        Exception: whatever the loss raises.
    """
    batches = _trial(policies, group)
    loss.try_out(batches)
    _try_other_prompts(loss, batches)
    whole = loss.weights(batches)
    prompts = whole.shape[1]
    pieces = loss.weights({name: value.flatten(0, 1).unsqueeze(1) for name, value in batches.items()})
    pieces = pieces.reshape(whole.shape) / prompts
    if not bool(whole.any() | pieces.any()):
        raise UsageError(f"{loss.name} has a gradient of 0 for each of {len(whole)} batches: look for a detach().")
    factor = float((whole * pieces).sum() / pieces.square().sum())
    small = SAME * float(whole.abs().amax())
    mixes = not torch.allclose(whole, factor * pieces, rtol=0, atol=small)
    if prompts > 1 and not mixes:
        loss.averages = True if abs(factor - 1) < SAME else False if abs(factor - prompts) < SAME else None
    order = torch.rand(whole.shape[:3], generator=Generator().manual_seed(0)).argsort(
        -1
    )  # of each prompt's own samples

    def shuffled(value: Tensor) -> Tensor:
        return value.take_along_dim(order if value.dim() == order.dim() else order.unsqueeze(-1), 2)

    found = loss.weights({name: shuffled(value) for name, value in batches.items()})
    ordered = not torch.allclose(found, shuffled(whole), rtol=0, atol=small)
    signs = signs_of(loss, batches, whole, ordered=ordered, mixes=mixes)
    return Traits(ordered, None if mixes else round(factor, 6), signs)


def _try_other_prompts(loss: Loss, batches: Batch) -> None:
    """Check that a loss permits a number of prompts that is no other number of the batch's shape.

    If there are as many prompts as samples, a mistake in the axes would be no error.

    Raises:
        UsageError: the loss raises an exception.
    """
    prompts, group, length = batches["logp"].shape[1:]
    number = next(n for n in (2, 3, 4) if n not in (group, length))
    try:
        loss.weights({name: value.flatten(0, 1)[None, :number] for name, value in batches.items()})
    except UsageError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
        raise UsageError(
            f"{loss.name} permits {prompts} prompts with {group} samples each, and with {number} prompts raises {why}. "
            "Axis 0 of its arguments is prompts, axis 1 their samples."
        ) from error


def _trial(policies: Sequence[AuditPolicy], group: int) -> Batch:
    """Return batches of all prompts, on-policy and off-policy, of every policy."""
    found = list[Batch]()
    for policy in policies:
        generator, prompts = Generator().manual_seed(policy.seed), range(policy.prompts)
        for off_policy in (False, True):
            law = (policy.old_logp if off_policy else policy.logp).sum(-1)
            index = _drawn(law, group, TRIALS // 2, generator)
            found.append(policy.batch(index, prompts, off_policy=off_policy, plain=False))
    return {name: torch.cat([batch[name] for batch in found]) for name in found[0]}


def _drawn(log_law: Tensor, group: int, samples: int, generator: Generator) -> Tensor:
    """Return sampled batches, ``[samples, prompts, group]``.

    ``log_law`` has the log-probability of each sequence, ``[prompts, S]``.
    """
    found = torch.multinomial(log_law.exp(), samples * group, replacement=True, generator=generator)
    return found.reshape(len(log_law), samples, group).transpose(0, 1)
