"""What the losses of language models may be meant to follow: exact values, by a sum over all sequences."""

import torch
from torch import Tensor

from estimators import Policy, PolicyReturn, Refusal, TokenSequence

ENUMERATED = 2**23
"""Number of elements in the largest tensor of a sum over all sequences, at most: 64 MiB of float64."""


def elements(policy: Policy, prompts: int, length: int) -> int:
    """Return the number of elements in the largest tensor that a sum over all sequences of a policy needs.

    ``prompts`` is the number of prompts, and ``length`` the largest number of tokens of a sequence.
    """
    return policy.sequences(length) * prompts * length * policy.widest


def refuse_large(q: TokenSequence) -> None:
    """Raise ``Refusal`` if q has too many sequences to sum over; nothing is computed yet."""
    if (came := elements(q.policy, q.prompts, q.length)) > ENUMERATED:
        raise Refusal(
            f"{q.policy!r} has {q.support_size:,} sequences of up to {q.length} tokens, too many to sum over for "
            f"{q.prompts} prompts: tensors of {came:,} elements (at most {ENUMERATED:,}). Lower the length from "
            f"{q.length}, or the vocabulary from {q.vocabulary}."
        )


def penalised_reward(q: TokenSequence, f: PolicyReturn) -> Tensor:
    """Return ``E reward - beta KL(q || reference)``, averaged over the prompts: a differentiable scalar.

    Args:
        q: the policy, of batch shape ``[P]`` for P prompts.
        f: the reward, the reference and beta.

    Raises:
        Refusal: q has too many sequences to sum over.
    """
    refuse_large(q)
    x = q.enumerate_support()
    log_q, value = q.log_prob(x), f.reward(x)
    if f.beta and f.reference is not None:
        value = value - f.beta * (log_q - f.reference.log_prob(x))
    return (log_q.exp() * value).sum(0).mean()


def policy_targets(q: TokenSequence, f: PolicyReturn, k: int = 2) -> dict[str, Tensor]:
    """Return the targets whose gradients a policy-gradient estimator may follow, by name: differentiable scalars.

    Let pi be the policy, ref the reference, r the reward and p the probability of a reward of 1. E is the expectation
    under pi, even if the samples of an estimator come from another policy. For each prompt, E, KL and p are exact: sums
    over all sequences. A target is the mean over the prompts of one of the expressions below. In ``token-kl`` and
    ``token-forward-kl``, x_<t are the tokens before token t, and their probabilities are constants for autograd.

    - ``reward``: ``E r``;
    - ``penalised-reward``: ``E r - beta KL(pi || ref)``;
    - ``reverse-kl``: ``KL(pi || ref)``;
    - ``forward-kl``: ``KL(ref || pi)``;
    - ``token-kl``: ``sum_t E KL(pi(. | x_<t) || ref(. | x_<t))``;
    - ``token-forward-kl``: ``sum_t E KL(ref(. | x_<t) || pi(. | x_<t))``;
    - ``arcsine``: ``2 arcsin sqrt(p)``;
    - ``log``: ``log p``;
    - ``pass@k``: ``1 - (1 - p)^k``.

    ``arcsine``, ``log`` and ``pass@k`` are returned only if every reward is 0 or 1. The targets with ref are returned
    only if f has a reference.

    Args:
        q: the policy, of batch shape ``[P]`` for P prompts; its weights require gradients.
        f: the reward, the reference and beta.
        k: the number of attempts of ``pass@k``, at least 1.

    Raises:
        Refusal: q has too many sequences to sum over.
    """
    refuse_large(q)
    x = q.enumerate_support()
    logits, reward = q.logits(x).log_softmax(-1), f.reward(x)
    log_q = q.log_prob(x)
    mass, p = log_q.exp(), (log_q.exp() * reward).sum(0)
    found = {"reward": p}
    if f.reference is not None:
        with torch.no_grad():
            log_ref, of_ref = f.reference.log_prob(x), f.reference.logits(x).log_softmax(-1)
            going = mass.unsqueeze(-1) * q.mask(x)
        off = logits - of_ref
        reverse = (mass * (log_q - log_ref)).sum(0)
        found |= {
            "penalised-reward": p - f.beta * reverse,
            "reverse-kl": reverse,
            "forward-kl": (log_ref.exp() * (log_ref - log_q)).sum(0),
            "token-kl": (going * (logits.exp() * off).sum(-1)).sum((0, -1)),
            "token-forward-kl": (going * (of_ref.exp() * -off).sum(-1)).sum((0, -1)),
        }
    if bool(((reward == 0) | (reward == 1)).all()):
        found |= {"arcsine": 2 * p.sqrt().arcsin(), "log": p.log(), "pass@k": 1 - (1 - p) ** k}
    return {name: value.mean() for name, value in found.items()}
