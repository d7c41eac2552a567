"""Expected gradients of policy gradients, exact: sums over all groups of all sequences of a small vocabulary."""

import functools
import itertools
import math
from dataclasses import dataclass

import torch

from estimators import PolicyGradient, TablePolicy, TokenSequence

V, T = 3, 3
PREFIXES = 7


def policy(logits):
    return TokenSequence({"logits": logits}, TablePolicy(V), logits.shape[0], T)


def logits(seed, prompts=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(prompts, PREFIXES, V, generator=generator, dtype=torch.float64)


def real(prompts=1):
    return torch.randn(15, prompts, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def binary(prompts=1):
    return (torch.arange(15 * prompts) * 7 % 5 < 2).double().reshape(15, prompts)


@functools.cache
def multisets(group):
    """Return all multisets of G of the 15 sequences, ``[N, G]``, and in how many orders each can be drawn, ``[N]``."""
    sets = torch.tensor(list(itertools.combinations_with_replacement(range(15), group)))
    same = torch.nn.functional.one_hot(sets, 15).sum(1).double()
    return sets, math.factorial(group) / (same + 1).lgamma().exp().round().prod(-1)


@dataclass(frozen=True, eq=False)
class World:
    """15 sequences, their rewards ``[15, P]``, and the policies: q, its reference and its sampler, as logits."""

    rewards: torch.Tensor
    pi: torch.Tensor
    ref: torch.Tensor | None = None
    mu: torch.Tensor | None = None
    beta: float = 0.0

    @property
    def prompts(self):
        return self.pi.shape[0]

    @functools.cached_property
    def x(self):
        return policy(self.pi).enumerate_support()

    @functools.cached_property
    def seen(self):
        """What ``weights`` gets, for each sequence alone: rewards ``[15, P]``, the others ``[15, P, T]``."""
        q = policy(self.pi)
        return {
            "rewards": self.rewards,
            "logp": q.log_probs(self.x),
            "log_ref": None if self.ref is None else policy(self.ref).log_probs(self.x),
            "log_mu": None if self.mu is None else policy(self.mu).log_probs(self.x),
            "mask": q.mask(self.x),
            "squares": q.logits(self.x).softmax(-1).square().sum(-1),
        }

    @functools.cached_property
    def greedy(self):
        """The reward of greedy decoding, ``[P]``."""
        found = (self.x == policy(self.pi).mode).all(-1).double()
        return (found * self.rewards).sum(0)

    def weights(self, estimator, index):
        """Return the weights of groups of sequences, ``[N, P, G, T]``, by their numbers, ``[N, P, G]``."""
        of = torch.arange(self.prompts)[:, None]
        seen = {name: t if t is None else t[index, of] for name, t in self.seen.items()}
        greedy = self.greedy.expand(index.shape[:-1])
        return estimator.weights(**seen, greedy=greedy, beta=self.beta)

    def expected(self, estimator, group):
        """Return the expected gradient at the logits, flat, of the sum over the prompts."""
        index, probability = self.groups(group)
        weights = probability[:, None, None, None] * self.weights(estimator, index)
        total = torch.zeros(15, self.prompts, T, dtype=torch.float64)
        of = torch.arange(self.prompts)[:, None].expand(index.shape)
        total.index_put_((index, of), weights, accumulate=True)
        return total.flatten() @ self.scores

    def groups(self, group):
        """Return every group of every prompt as a multiset, ``[N, P, G]``, and its probability, ``[N]``."""
        drawn = policy(self.pi if self.mu is None else self.mu).log_prob(self.x).exp()
        sets, orders = multisets(group)
        numbers = torch.cartesian_prod(*[torch.arange(len(sets))] * self.prompts).reshape(-1, self.prompts)
        probability = torch.ones(len(numbers), dtype=torch.float64)
        for p in range(self.prompts):
            each = orders * drawn[:, p][sets].prod(-1)
            probability *= each[numbers[:, p]]
        return sets[numbers], probability

    @functools.cached_property
    def scores(self):
        """The score of each token of each sequence at the logits, ``[15 P T, size]``."""
        leaf = self.pi.clone().requires_grad_()
        logp = policy(leaf).log_probs(self.x).flatten()
        return torch.stack([torch.autograd.grad(each, leaf, retain_graph=True)[0].flatten() for each in logp])

    def gradient(self, value):
        """Return the gradient at the logits, flat, of a function of the log-probabilities ``[15, P, T]``."""
        leaf = self.pi.clone().requires_grad_()
        return torch.autograd.grad(value(policy(leaf).log_probs(self.x)), leaf)[0].flatten()

    def kl(self, reverse=False):
        """Return the gradient of KL(pi || ref), or in reverse of KL(ref || pi)."""
        log_ref = self.seen["log_ref"].sum(-1)

        def divergence(logp):
            off = logp.sum(-1) - log_ref
            return -(log_ref.exp() * off).sum() if reverse else (logp.sum(-1).exp() * off).sum()

        return self.gradient(divergence)

    def prefix_kl(self, reverse=False):
        """Return ``sum_t E grad KL`` of the token's law given the prefix, whose probability is frozen."""
        leaf = self.pi.clone().requires_grad_()
        a, b = (policy(t).logits(self.x).log_softmax(-1) for t in (leaf, self.ref))
        each = (b.exp() * (b - a) if reverse else a.exp() * (a - b)).sum(-1)
        live = self.seen["mask"] * self.seen["logp"].sum(-1, keepdim=True).exp()
        return torch.autograd.grad((each * live).sum(), leaf)[0].flatten()

    @functools.cached_property
    def target(self):
        """The gradient of ``E r - beta KL(pi || ref)``, summed over the prompts."""
        reward = self.gradient(lambda logp: (logp.sum(-1).exp() * self.rewards).sum())
        return reward - self.beta * self.kl() if self.beta else reward


def scale(g, target):
    return float(g @ target / target.square().sum())


def angle(g, target):
    """Return the angle between two gradients in degrees."""
    away = g - scale(g, target) * target
    return math.degrees(math.atan2(float(away.norm()), float(g @ target / target.norm())))


def family(**fields):
    """Return a member of the family without penalty."""
    return PolicyGradient(**{"kl": "none"} | fields)
