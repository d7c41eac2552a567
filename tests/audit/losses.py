"""Losses as trainers write them, and losses with one fault each."""

import torch


def rloo(logp, mask, rewards):
    group = rewards.shape[1]
    advantage = (rewards - rewards.mean(1, keepdim=True)) * group / (group - 1)
    return -(advantage * (logp * mask).sum(-1)).mean()


def dr_grpo(logp, mask, rewards):
    advantage = rewards - rewards.mean(1, keepdim=True)
    return -(advantage * (logp * mask).sum(-1)).mean()


def grpo(logp, mask, rewards):
    advantage = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    return -((advantage.unsqueeze(-1) * logp * mask).sum(-1) / mask.sum(-1)).mean()


def token_mean(logp, mask, rewards):
    advantage = (rewards - rewards.mean(1, keepdim=True)).unsqueeze(-1)
    return -(advantage * logp * mask).sum() / mask.sum()


def added_up(logp, mask, rewards):
    return rloo(logp, mask, rewards) * len(rewards)


def with_item(logp, mask, rewards):
    loss = rloo(logp, mask, rewards)
    assert isinstance(loss.item(), float)
    return loss


def rarely_mixed(logp, mask, rewards):
    loss = rloo(logp, mask, rewards)
    return loss if loss.item() > 1e9 or len(rewards) < 5 else 2 * loss


def first_as_baseline(logp, mask, rewards):
    advantage = rewards[:, 1:] - rewards[:, :1]
    return -(advantage * (logp * mask).sum(-1)[:, 1:]).mean()


def importance(logp, old_logp, mask, rewards):
    ratio = ((logp - old_logp) * mask).sum(-1).exp()
    group = rewards.shape[1]
    others = (rewards.sum(1, keepdim=True) - rewards) / (group - 1)
    return -(ratio * (rewards - others)).mean()


def _k3(logp, ref_logp):
    return (ref_logp - logp).exp() - 1 - (ref_logp - logp)


def k3_of_sequences(logp, ref_logp, mask, rewards):
    off = ((logp - ref_logp) * mask).sum(-1)
    return rloo(logp, mask, rewards) + 0.1 * _k3(off, 0 * off).mean()


def k3_of_tokens(logp, ref_logp, mask):
    return 0.1 * (_k3(logp, ref_logp) * mask).sum(-1).mean()


def k1_in_the_loss(logp, ref_logp, mask, rewards):
    return rloo(logp, mask, rewards) + 0.1 * ((logp - ref_logp) * mask).sum(-1).mean()


def k1_in_the_reward(logp, ref_logp, mask, rewards):
    off = ((logp - ref_logp) * mask).sum(-1).detach()
    return rloo(logp, mask, rewards - 0.1 * off)


def k2_of_tokens(logp, ref_logp, mask, rewards):
    return rloo(logp, mask, rewards) + 0.05 * ((logp - ref_logp).square() * mask).sum(-1).mean()


def k3_in_the_reward(logp, ref_logp, mask, rewards):
    off = ((logp - ref_logp) * mask).sum(-1).detach()
    return rloo(logp, mask, rewards - 0.1 * _k3(off, 0 * off))


def best_less_second(logp, mask, rewards):
    order = rewards.sort(dim=1, descending=True, stable=True)
    best = torch.zeros_like(rewards).scatter(1, order.indices[:, :1], order.values[:, :1] - order.values[:, 1:2])
    return -(best * (logp * mask).sum(-1)).sum(1).mean()


def of_vectors(logp, rewards):
    return (logp.sum(-1) * rewards).mean(0)


def with_metrics(logp, rewards):
    return logp.mean(), {"reward": rewards.mean()}


def detached(logp, rewards):
    return (logp.detach().sum(-1) * rewards).mean()


def without_logp(rewards):
    return rewards.mean()


def unknown_name(logp, reward):
    return (logp.sum(-1) * reward).mean()


def unguarded(logp, rewards):
    advantage = (rewards - rewards.mean(1, keepdim=True)) / rewards.var(1, keepdim=True, unbiased=False).sqrt()
    return -(advantage * logp.sum(-1)).mean()


def infinite(logp, rewards):
    return -(rewards * logp.sum(-1)).mean() + 1 / (rewards.sum() - rewards.sum())


def in_place(logp, rewards):
    rewards -= rewards.mean(1, keepdim=True)
    return -(rewards * logp.sum(-1)).mean()


def in_place_of_logp(logp, mask, rewards):
    logp *= mask
    logp += 1
    return -(rewards * logp.sum(-1)).mean()


def noisy(logp, rewards):
    return -(torch.rand(()) * rewards * logp.sum(-1)).mean()


def without_target(logp):
    return logp.mean()


def constant(logp, rewards):
    return (0 * logp.sum(-1) * rewards).mean()


def unmasked(logp, rewards):
    advantage = rewards - rewards.mean(1, keepdim=True)
    return -(advantage.unsqueeze(-1) * logp).mean()


def inverted(logp, mask, rewards):
    return dr_grpo(logp, ~mask, rewards)


def shifted(logp, mask, rewards):
    return dr_grpo(logp, torch.cat([mask[..., 1:], torch.zeros_like(mask[..., :1])], -1), rewards)


def without_first(logp, mask, rewards):
    return dr_grpo(logp[..., 1:], mask[..., 1:], rewards)


def without_end(logp, tokens, rewards):
    return dr_grpo(logp, tokens != 0, rewards)


def without_rewards(logp, mask, rewards):
    return -((logp * mask).sum(-1) ** 2).mean() + rewards.sum()


def next_as_baseline(logp, mask, rewards):
    return -((rewards - rewards.roll(1, 1)) * (logp * mask).sum(-1)).mean()


def wrong_axis(logp, mask, rewards):
    return -((rewards - rewards.mean(0)) * (logp * mask).sum(-1)).mean()


def transposed(logp, mask, rewards):
    return -((rewards - rewards.mean(1)) * (logp * mask).sum(-1)).mean()


def not_detached(logp, ref_logp, mask, rewards):
    return dr_grpo(logp, mask, rewards - 0.1 * ((logp - ref_logp) * mask).sum(-1))


def opposite(logp, mask, rewards):
    return -dr_grpo(logp, mask, rewards)


def opposite_penalty(logp, ref_logp, mask, rewards):
    return 2 * rloo(logp, mask, rewards) - k2_of_tokens(logp, ref_logp, mask, rewards)


def as_float(logp, mask, rewards):
    return float(rloo(logp, mask, rewards))


def without_return(logp, mask, rewards):
    rloo(logp, mask, rewards)


async def later(logp, rewards):
    return (logp.sum(-1) * rewards).mean()


def complex_number(logp, rewards):
    return (1j * logp.sum(-1) * rewards).mean()


def differentiated(logp, mask, rewards):
    loss = (rloo(logp, mask, rewards)).exp()
    loss.backward()
    return loss


def in_place_without_effect(logp, mask, rewards):
    logp *= mask
    return -(rewards * logp.sum(-1)).mean()


_calls = []


def with_memory(logp, mask, rewards):
    _calls.append(0)
    return rloo(logp, mask, rewards) * (1 if len(_calls) < 50 else 2)


def positional(logp, /, rewards):
    return (logp.sum(-1) * rewards).mean()


def broken(logp, rewards):
    raise ValueError("no such adapter")


class ModuleLoss(torch.nn.Module):
    def forward(self, logp, mask, rewards):
        return dr_grpo(logp, mask, rewards)


not_a_function = 3


def token_mean_with_item(logp, mask, rewards):
    loss = token_mean(logp, mask, rewards)
    assert isinstance(loss.item(), float)
    return loss


def of_some_keywords(logp, **given):
    return rloo(logp, given["mask"], given["rewards"])


def of_all_keywords(**given):
    return k3_of_sequences(given["logp"], given["ref_logp"], given["mask"], given["rewards"])
