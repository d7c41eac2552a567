"""The weights of the presets against losses as trainers of language models write them, differentiated by autograd.

The losses are minimised; the weights maximise. Sequences are rows, ``[B, T]``, group after group, as in the trainers.
"""

from dataclasses import replace

import pytest
import torch

from estimators import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    OPO,
    PPO,
    DrGRPO,
    OptimalTokenBaseline,
    PolicyGradient,
    ReinforcePlusPlus,
    ReMax,
)
from tests.estimators.groups import World, logits, real

P, G, BETA = 2, 3, 0.3
WORLD = World(real(P), logits(4, P), ref=logits(5, P), mu=logits(6, P), beta=BETA)
INDEX = torch.randint(15, (40, P, G), generator=torch.Generator().manual_seed(2))


def grouped(r):
    return r.reshape(-1, G)


def per_group(r):
    """Return the mean and the deviation of the group of each row, ``[B, 1]``."""
    return (t.repeat_interleave(G)[:, None] for t in (grouped(r).mean(1), grouped(r).std(1)))


def grpo_advantages(r, epsilon=1e-4):
    mean, sd = per_group(r)
    return (r[:, None] - mean) / (sd + epsilon)


def loo(r):
    return (r - (grouped(r).sum(1).repeat_interleave(G) - r) / (G - 1))[:, None]


def clipped(ratio, advantages, low=0.2, high=0.2):
    return -torch.min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def token_mean(loss, mask):
    return (loss * mask).sum() / mask.sum()


def sequence_mean(loss, mask):
    return ((loss * mask).sum(-1) / mask.sum(-1)).mean()


def sequence_sum(loss, mask):
    return (loss * mask).sum(-1).mean()


def k3(logp, ref):
    return (ref - logp).exp() - (ref - logp) - 1


def trl_grpo(logp, ref, old, mask, r, **_):
    loss = clipped((logp - old).exp(), grpo_advantages(r)) + BETA * k3(logp, ref)
    return sequence_mean(loss, mask)


def trl_grpo_corrected(logp, ref, old, mask, r, **_):
    """With ``use_bias_correction_kl``."""
    ratio = (logp - old).exp()
    return sequence_mean(clipped(ratio, grpo_advantages(r)) + BETA * k3(logp, ref) * ratio, mask)


def trl_dapo(logp, ref, old, mask, r, **_):
    return token_mean(clipped((logp - old).exp(), grpo_advantages(r), high=0.28), mask)


def trl_batch(logp, ref, old, mask, r, **_):
    """With ``scale_rewards="batch"``."""
    advantages = (r[:, None] - next(per_group(r))) / (r.std() + 1e-4)
    return token_mean(clipped((logp - old).exp(), advantages), mask)


def trl_dr_grpo(logp, ref, old, mask, r, **_):
    advantages = r[:, None] - next(per_group(r))
    return (clipped((logp - old).exp(), advantages) * mask).sum() / (len(r) * mask.shape[1])


def trl_gspo(logp, ref, old, mask, r, **_):
    ratio = (((logp - old) * mask).sum(-1) / mask.sum(-1)).exp().unsqueeze(-1)
    return sequence_mean(clipped(ratio, grpo_advantages(r), 3e-4, 4e-4), mask)


def verl_gspo(logp, ref, old, mask, r, **_):
    ratio = ((logp - old) * mask).sum(-1) / mask.sum(-1)
    ratio = (logp - logp.detach() + ratio.detach().unsqueeze(-1)).exp()
    return sequence_mean(clipped(ratio, grpo_advantages(r), 3e-4, 4e-4), mask)


def trl_cispo(logp, ref, old, mask, r, **_):
    return token_mean(-(logp - old).exp().clamp(max=5.0).detach() * grpo_advantages(r) * logp, mask)


def trl_rloo(logp, ref, old, mask, r, **_):
    r = r - BETA * ((old - ref) * mask).sum(-1)
    ratio = ((logp - old) * mask).sum(-1).exp()
    return clipped(ratio, loo(r).squeeze(1)).mean()


def verl_ppo(logp, ref, old, mask, r, **_):
    """With its dual clip, and the penalty in the reward."""
    advantages = loo(r - BETA * ((old - ref) * mask).sum(-1))
    first = clipped((logp - old).exp(), advantages)
    return token_mean(torch.where(advantages < 0, torch.min(-advantages * 1.5, first), first), mask)


def verl_remax(logp, ref, old, mask, r, greedy, **_):
    return sequence_sum(-(r - greedy)[:, None] * logp, mask)


def verl_opo(logp, ref, old, mask, r, **_):
    lengths = mask.sum(-1)
    baseline = grouped(lengths * r).sum(1) / grouped(lengths).sum(1)
    return sequence_sum(-(r - baseline.repeat_interleave(G))[:, None] * logp, mask)


def verl_optimal_token_baseline(logp, ref, old, mask, r, squares, **_):
    w = ((1 - 2 * logp.detach().exp() + squares) * mask).cumsum(-1)
    baselines = torch.zeros_like(w)
    for begin in range(0, len(r), G):
        rows = slice(begin, begin + G)
        for t in range(w.shape[1]):
            alive = [i for i in range(begin, begin + G) if mask[i, t]]
            if len(alive) > 1:
                baselines[rows, t] = sum(w[i, t] * r[i] for i in alive) / sum(w[i, t] for i in alive)
    return sequence_sum(-(r[:, None] - baselines) * logp, mask)


def verl_reinforce_plus_plus(logp, ref, old, mask, r, first=False, **_):
    costs = -BETA * (old - ref) * mask
    returns = r[:, None] + costs.flip(-1).cumsum(-1).flip(-1)
    if first:
        returns = returns - grouped(returns.mT.flatten()).mean(1).repeat_interleave(G).reshape(returns.mT.shape).mT
    each = returns[mask]
    advantages = (returns - each.mean()) * torch.rsqrt(each.var() + 1e-8)
    return token_mean(clipped((logp - old).exp(), advantages), mask)


def verl_reinforce_plus_plus_baseline(**seen):
    return verl_reinforce_plus_plus(**seen, first=True)


def sequence_weight(logp, ref, old, mask, r, **_):
    """Truncated importance weights of sequences, not differentiated."""
    weight = ((logp - old) * mask).sum(-1, keepdim=True).exp().clamp(max=2).detach()
    return sequence_sum(-weight * loo(r) * logp, mask)


PLAIN = {"kl": "none", "ratio": "none"}
LOSSES = [
    (trl_grpo, GRPO(G).of_tokens),
    (trl_grpo_corrected, replace(GRPO(G).of_tokens, kl_ratio=True)),
    (trl_dapo, DAPO(G)),
    (trl_batch, DAPO(G, scaling="batch", clip_high=0.2)),
    (trl_dr_grpo, DrGRPO(G, reduction="constant", kl="none", ratio="token", clipping="ppo")),
    (trl_gspo, GSPO(G)),
    (verl_gspo, GSPO(G)),
    (trl_cispo, CISPO(G)),
    (trl_rloo, PolicyGradient(G, kl_of="sampler", clipping="ppo")),
    (verl_ppo, PPO(G, clip_dual=1.5)),
    (verl_remax, ReMax(G, **PLAIN)),
    (verl_opo, OPO(G, **PLAIN)),
    (verl_optimal_token_baseline, OptimalTokenBaseline(G, **PLAIN)),
    (verl_reinforce_plus_plus, ReinforcePlusPlus(G)),
    (verl_reinforce_plus_plus_baseline, ReinforcePlusPlus(G, baseline="mean")),
    (sequence_weight, PolicyGradient(G, clipping="truncate", clip_low=1.0, clip_high=1.0, kl="none")),
]


@pytest.mark.parametrize(("loss", "estimator"), LOSSES, ids=lambda v: getattr(v, "__name__", ""))
def test_weights_are_the_derivatives_of_the_loss(loss, estimator):
    """``weight = -P d loss / d logp``, since the loss is a mean over the prompts."""
    expected = []
    for index in INDEX:
        of = torch.arange(P)[:, None]
        seen = {k: t[index, of].flatten(0, 1) for k, t in WORLD.seen.items() if k != "rewards"}
        logp = seen["logp"].detach().requires_grad_()
        value = loss(
            logp=logp,
            ref=seen["log_ref"],
            old=seen["log_mu"],
            mask=seen["mask"],
            r=WORLD.rewards[index, of].flatten(),
            greedy=WORLD.greedy.repeat_interleave(G),
            squares=seen["squares"],
        )
        expected.append(-P * torch.autograd.grad(value, logp)[0].reshape(P, G, -1))
    got = WORLD.weights(estimator, INDEX)
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "estimator"), LOSSES[:1])
def test_another_loss_has_other_derivatives(loss, estimator):
    with pytest.raises(AssertionError, match="not close"):
        test_weights_are_the_derivatives_of_the_loss(trl_grpo_corrected, estimator)
    with pytest.raises(AssertionError, match="not close"):
        test_weights_are_the_derivatives_of_the_loss(loss, replace(estimator, epsilon=1e-2))
