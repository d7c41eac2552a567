"""What is found about a loss on one policy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.audit.compare import NOTHING, Comparison, compare
from bench.audit.loss import SAME, Batch, Loss
from bench.audit.measure import FEWER, SAMPLES, Batches, Estimate, Traits, rloo
from bench.audit.policies import AuditPolicy


class Found:
    """The expected gradients of a loss on one policy, in two parts: the reward's part and the penalty's part.

    The loss is computed on a batch of sequences that the policy samples. An expected gradient is the sum of the
    gradients on all possible batches, weighted by their probabilities. If there are too many batches, some are sampled
    instead. The gradient of RLOO on the same samples then serves as a control variate, because its expectation is
    known. All gradients of the loss are multiplied by −1, so that a step along them lowers the loss.

    A loss may penalise the distance between the policy and a reference policy. The reward's part is the expected
    gradient with the policy itself as the reference, when there is no penalty. The penalty's part is the rest.

    Args:
        loss: the loss.
        policy: the policy.
        group: number of samples for each prompt.
        traits: whether the loss depends on the order of samples, and whether the gradient for a prompt depends on other
            prompts.
        samples: number of batches that are sampled if more than 100,000 are possible; None for 10,000. If None is given
            and each batch takes a call of the loss, 1,000 are sampled if more than 1,000 are possible.
    """

    def __init__(self, loss: Loss, policy: AuditPolicy, group: int, traits: Traits, samples: int | None) -> None:
        self.loss, self.policy, self.group, self.traits = loss, policy, group, traits
        fewer = samples is None and loss.is_called_for_each
        self.samples, self.most = samples or (FEWER if fewer else SAMPLES), FEWER if fewer else None
        self.factor = traits.pieces or 1.0
        self.rewarded = "rewards" in loss
        self._controls = dict[tuple[float, float], Estimate]()
        self.batches = self._batches(traits, off_policy=False)
        self.whole = self.batches.estimate(loss.weights, self.factor)
        self.reward = self.penalty = self.whole
        if self.rewarded and "ref_logp" in loss:
            self.reward = self.batches.estimate(loss.weights, self.factor, plain=True)
            self.penalty = self.whole.minus(self.reward)

    def _batches(self, traits: Traits, *, off_policy: bool) -> Batches:
        return Batches(self.policy, self.group, traits, self.samples, off_policy=off_policy, most=self.most)

    def target(self, reward: float, beta: float) -> Tensor:
        """Return the gradient of ``reward * E r - beta * KL(pi||ref)`` with respect to all parameters of the policy.

        pi is the policy, ref the reference and r the reward. The result is one vector.
        """
        return reward * self.policy.targets["reward"] - beta * self.policy.targets["reverse-kl"]

    def of_reward(self, name: str) -> Comparison:
        """Compare the reward's part of the expected gradient with one of the policy's target gradients.

        The reward's part is the expected gradient of the loss if the reference is the policy itself. A penalty for
        leaving the reference is then 0. ``name`` is the name of the target gradient: "reward" is the gradient of the
        expected reward.
        """
        return compare(self._steadied(self.reward, 1.0, 0.0), self.policy.targets[name])

    def of_penalty(self, name: str) -> Comparison:
        """Compare the penalty's part of the loss's expected gradient with minus the gradient of a divergence.

        The penalty's part is the expected gradient minus the one with the policy itself in the place of the reference.
        It is compared with minus a gradient, because a step down the loss should lower the divergence. ``name`` is the
        name of the divergence, such as "reverse-kl".
        """
        return compare(self._steadied(self.penalty, 0.0, 1.0), -self.policy.targets[name])

    def of_both(self, beta: float) -> Comparison:
        """Compare the loss's expected gradient with the gradient of ``E r - beta * KL(pi||ref)``.

        r is the reward, pi the policy and ref the reference.
        """
        return compare(self._steadied(self.whole, 1.0, beta), self.target(1.0, beta))

    def off_policy(self) -> Comparison:
        """Compare the loss's expected gradient on samples of an older policy with the gradient of the expected reward.

        The penalty for leaving the reference is switched off: the policy itself takes the place of the reference.
        """
        older = self._batches(self.traits, off_policy=True)
        found, target = older.estimate(self.loss.weights, self.factor, plain=True), self.policy.targets["reward"]
        if found.rows is not None and self.group > 1:
            found = found.steadied(older.estimate(rloo(self.group)), target)
        return compare(found, target)

    def in_pieces(self) -> Comparison | None:
        """Compare the expected gradient of a batch with the mean of the gradients of its single prompts.

        The expectation for a prompt is summed over all groups of samples that the prompt can have. If there are too
        many groups, both gradients come from the same sampled batches. The comparison then has intervals, which cover
        the noise of both gradients. The result is None if the mean is 0.
        """
        one = self._batches(Traits(self.traits.ordered, 1.0), off_policy=False)
        pieces = (one if one.is_exact else self.batches.in_pieces()).estimate(self.loss.weights)
        if pieces.mean.norm() <= NOTHING * self.whole.mean.norm():
            return None
        if pieces.rows is None or self.whole.rows is None:
            return compare(self._steadied(self.whole, *self._terms(1.0)), pieces.mean)
        scale = self.whole.mean @ pieces.mean / pieces.mean.square().sum()
        rows = self.whole.rows - scale * (pieces.rows - pieces.mean)
        return compare(Estimate(rows.mean(0), math.nan, rows), pieces.mean)

    def leaves_a_rest(self) -> bool:
        """Return whether the expected gradient differs from 0 even without rewards and without a penalty.

        All rewards are then 0, and the reference is the policy itself. The result is False if the expected gradient was
        estimated from sampled batches, or if the loss uses no rewards.
        """
        if not self.rewarded or self.whole.rows is not None:
            return False

        def weigh(batch: Batch) -> Tensor:
            return self.loss.weights({**batch, "rewards": torch.zeros_like(batch["rewards"])})

        rest = self.batches.estimate(weigh, self.factor, plain=True)
        return float(rest.mean.norm()) > SAME * float(self.whole.mean.norm())

    def variance(self, beta: float | None) -> float | None:
        """Return the variance of the gradient of a batch, relative to the variance of the gradient of RLOO.

        The target is ``E r - beta * KL(pi||ref)`` or, if the loss uses no rewards, ``-KL(pi||ref)``. r is the reward,
        pi the policy and ref the reference. RLOO is an unbiased estimator of the target's gradient. Before its variance
        is computed, the gradient of the loss is divided by its scale. The scale is the component of the expected
        gradient along the target's gradient, divided by the length of the target's gradient. The result is None if the
        scale is not positive, or if each prompt has one sample.

        Args:
            beta: the weight of KL(pi||ref) in the target, if the loss uses rewards; None for 0.
        """
        terms = self._terms(beta)
        target = self.target(*terms)
        scale = float(self.whole.mean @ target / target.square().sum())
        if scale <= NOTHING or self.group == 1:
            return None
        return self.whole.variance / scale**2 / self._rloo(*terms).variance

    def _terms(self, beta: float | None) -> tuple[float, float]:
        return (1.0, beta or 0.0) if self.rewarded else (0.0, 1.0)

    def _steadied(self, estimate: Estimate, reward: float, beta: float) -> Estimate:
        if estimate.rows is None or self.group == 1:
            return estimate
        return estimate.steadied(self._rloo(reward, beta), self.target(reward, beta))

    def _rloo(self, reward: float, beta: float) -> Estimate:
        """Return RLOO on the batches of the loss."""
        if (found := self._controls.get((reward, beta))) is None:
            found = self._controls[reward, beta] = self.batches.estimate(rloo(self.group, reward, beta))
        return found


def fitted(found: Sequence[Found]) -> float | None:
    """Return the beta with which the gradient of ``E r - beta * KL(pi||ref)`` fits a loss's expected gradient best.

    r is the reward, pi the policy and ref the reference. The lengths of the two gradients may differ by any factor. The
    fit is by least squares over all policies; ``found`` has one entry for each. The result is None if no positive beta
    fits.
    """

    def slope(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
        return float(sum(a @ b for a, b in pairs)) / float(sum(b @ b for _, b in pairs))

    reward = slope([(each.reward.mean, each.target(1.0, 0.0)) for each in found])
    penalty = slope([(each.penalty.mean, each.target(0.0, 1.0)) for each in found])
    return penalty / reward if penalty * reward > 0 else None
