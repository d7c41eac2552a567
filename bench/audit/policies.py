"""The policies on which losses are audited: small enough that all of their sequences can be listed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bench.audit.loss import Batch
from bench.objectives import Verifier
from bench.objectives.policy_targets import policy_targets
from bench.planning.selectors import UsageError
from estimators import PolicyReturn, TablePolicy, TokenSequence

SEEDS = (0, 1, 2)
"""Seeds of the policies."""
DISTANCES = (0.25, 0.5, 1.0)
"""Distances of the reference, and of the older policy mu, from the policy: 0 is the policy, 1 is another one."""
MOST = 64
"""Largest vocabulary, length and number of prompts."""
MOST_NUMBERS = 2**24
"""Most numbers in the table of the scores of all sequences."""


@dataclass(frozen=True)
class AuditPolicy:
    """A policy pi with all S sequences of at most T tokens, for each of P prompts.

    There are two more policies: the reference, and the older policy mu, which writes the samples of off-policy batches.
    Each of them lies between pi and an unrelated policy. Each prompt has parameters of its own; D is the number of all
    parameters.

    Args:
        seed: seed of the policy.
        distance: distance of the reference and of mu from pi: 0 is pi itself, 1 an unrelated policy.
        kl: KL(pi||ref), averaged over the prompts.
        tokens: the sequences, ``[S, T]``.
        mask: whether each token belongs to its sequence, ``[S, T]``.
        logp: log-probability of each token under pi, ``[P, S, T]``.
        ref_logp: log-probability of each token under the reference, ``[P, S, T]``.
        old_logp: log-probability of each token under mu, ``[P, S, T]``.
        rewards: the reward of each sequence, ``[P, S]``.
        scores: the gradient of each entry of ``logp`` with respect to the parameters of its prompt,
            ``[P, S T, D / P]``.
        targets: the gradients that a loss may be meant to have, by name, ``[D]`` each.
    """

    seed: int
    distance: float
    kl: float
    tokens: Tensor
    mask: Tensor
    logp: Tensor
    ref_logp: Tensor
    old_logp: Tensor
    rewards: Tensor
    scores: Tensor
    targets: Mapping[str, Tensor]

    @property
    def prompts(self) -> int:
        """P, the number of prompts."""
        return len(self.logp)

    @property
    def success(self) -> Tensor:
        """The expected reward for each of the P prompts, ``[P]``."""
        return (self.logp.sum(-1).exp() * self.rewards).sum(-1)

    def batch(self, index: Tensor, prompts: Sequence[int], *, off_policy: bool, plain: bool) -> Batch:
        """Return the arguments of a loss for many batches, each ``[batches, prompts, group, ...]``, by name.

        Args:
            index: the sequences of each batch, by their numbers from 0, ``[batches, prompts, group]``. ``group`` is the
                number of samples for each prompt.
            prompts: the indices of the prompts; all batches have the same ones.
            off_policy: whether the sequences were written by an older policy, mu. If not, this policy has written them.
            plain: whether this policy itself serves as the reference policy.
        """
        rows = torch.tensor(list(prompts))[:, None]
        ref, old = self.logp if plain else self.ref_logp, self.old_logp if off_policy else self.logp
        return {
            "logp": self.logp[rows, index],
            "old_logp": old[rows, index],
            "ref_logp": ref[rows, index],
            "mask": self.mask[index],
            "rewards": self.rewards[rows, index],
            "tokens": self.tokens[index],
        }

    def gradients(self, weights: Tensor, index: Tensor, prompts: Sequence[int]) -> Tensor:
        """Return the gradient of ``sum weights * logp`` for each of many batches, ``[batches, size]``.

        ``logp`` are the log-probabilities of the tokens of a batch. The gradient is with respect to the parameters of
        the given prompts: every prompt has parameters of its own, and ``size`` is their number for all given prompts.

        Args:
            weights: the weight of each token, ``[batches, prompts, group, length]``. ``group`` is the number of samples
                for each prompt.
            index: the sequences of each batch, by their numbers from 0, ``[batches, prompts, group]``.
            prompts: the indices of the prompts; all batches have the same ones.
        """
        T = self.tokens.shape[1]
        token = (index.unsqueeze(-1) * T + torch.arange(T)).flatten(2)
        weights = weights.to(self.scores).flatten(2)
        parts = [
            embedding_bag(token[:, k], self.scores[p], per_sample_weights=weights[:, k], mode="sum")
            for k, p in enumerate(prompts)
        ]
        return torch.cat(parts, 1)


def audit_policies(prompts: int, vocabulary: int, length: int, k: int) -> list[AuditPolicy]:
    """Return the nine policies of an audit: three seeds, each at three distances from the reference.

    Args:
        prompts: number of prompts.
        vocabulary: number of different tokens; token 0 ends a sequence.
        length: the largest number of tokens of a sequence.
        k: number of attempts of the target "pass@k".

    Raises:
        UsageError: the policies have too many sequences to be listed. Nothing has been allocated.
    """
    _check_size(prompts, vocabulary, length)
    verifier = Verifier(policy="table", vocabulary=vocabulary, length=length, prompts=prompts)
    return [_policy(replace(verifier, drift=d, off_policy=d, seed=s), k) for s in SEEDS for d in DISTANCES]


def _check_size(prompts: int, vocabulary: int, length: int) -> None:
    """Raise ``UsageError`` if the scores of all sequences are more than ``MOST_NUMBERS``."""
    given = {"length": length, "vocabulary": vocabulary, "prompts": prompts}
    for (name, value), least in zip(given.items(), (1, 2, 1), strict=True):
        if not least <= value <= MOST:
            raise UsageError(f"An audit needs {name} from {least} to {MOST} (got {name}={value:,}).")
    if _size(**given) <= MOST_NUMBERS:
        return
    lower = []
    for name, least in (("length", 1), ("vocabulary", 2), ("prompts", 1)):
        fits = [n for n in range(least, given[name]) if _size(**given | {name: n}) <= MOST_NUMBERS]
        lower += [f"{name} from {given[name]} to {fits[-1]}"] if fits else []
    raise UsageError(
        f"A policy with vocabulary={vocabulary}, length={length} and prompts={prompts} is too large: the scores of all "
        f"its sequences are more than {MOST_NUMBERS:,} numbers. Lower "
        f"{' or '.join(lower) or 'length, vocabulary and prompts'}."
    )


def _size(prompts: int, vocabulary: int, length: int) -> int:
    """Return the number of entries of ``AuditPolicy.scores``."""
    policy = TablePolicy(vocabulary)
    (shape,) = policy.shapes(prompts, length).values()
    return policy.sequences(length) * length * math.prod(shape)


def _policy(objective: Verifier, k: int) -> AuditPolicy:
    problem = objective.build(torch.float64)
    q = problem.q(problem.theta)
    f = problem.integrand(q)
    assert isinstance(q, TokenSequence)
    assert isinstance(f, PolicyReturn)
    assert f.reference is not None
    assert f.sampler is not None
    (logits,), x = problem.theta.values(), q.enumerate_support()
    logp = q.log_probs(x).transpose(0, 1)
    with torch.no_grad():
        ref_logp, old_logp = (other.log_probs(x).transpose(0, 1) for other in (f.reference, f.sampler))
    one_each = torch.eye(x[:, 0].numel(), dtype=logp.dtype)
    of_tokens = logp.sum(0).flatten()  # no prompt's own parameters change the others
    (scores,) = torch.autograd.grad(of_tokens, logits, one_each, retain_graph=True, is_grads_batched=True)
    values = policy_targets(q, f, k)
    targets = {name: torch.autograd.grad(v, logits, retain_graph=True)[0].flatten() for name, v in values.items()}
    return AuditPolicy(
        seed=objective.seed,
        distance=objective.drift,
        kl=float(values["reverse-kl"].detach()),
        tokens=x[:, 0],
        mask=q.mask(x[:, 0]),
        logp=logp.detach(),
        ref_logp=ref_logp,
        old_logp=old_logp,
        rewards=f.reward(x).transpose(0, 1),
        scores=scores.flatten(2).transpose(0, 1).contiguous(),
        targets=targets,
    )
