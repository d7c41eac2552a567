"""Objectives to measure: one whose q is made by a network, one without an exact gradient."""

from dataclasses import dataclass

import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from bench.objectives import BernoulliVAE, Objective, Problem
from estimators import Enumeration, PolicyReturn, RecurrentPolicy, TablePolicy, TokenSequence, TransformerPolicy

VAE = BernoulliVAE(dim=13, hidden=3, batch=2)
"""An objective with too many states for an exact gradient."""
SELECTOR = "bernoulli-vae:dim=13,hidden=3,batch=2"
"""The selector of this objective."""


@dataclass(frozen=True)
class Network(Objective):
    """q's logits come from a small network with a batch: nothing of theta is held by q."""

    dim: int = 3
    batch: int = 4
    family = Bernoulli
    has_exact = True

    def build(self, dtype=torch.float32, device="cpu"):
        g = torch.Generator().manual_seed(1)
        x = torch.randn(self.batch, 5, generator=g, dtype=torch.float64).to(dtype)
        w = torch.randn(5, self.dim, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
        b = torch.zeros(self.dim, dtype=dtype).requires_grad_()

        def f(z):
            return (z.sum(-1) - 1.2) ** 3

        def exact(theta):
            return Enumeration()(f, q(theta)).mean()

        def q(theta):
            return Independent(
                Bernoulli(logits=torch.tanh(x.to(theta["w"]) @ theta["w"]) + theta["b"], validate_args=False), 1
            )

        return Problem({"w": w, "b": b}, q, lambda _q: f, exact)


@dataclass(frozen=True)
class RareCategories(Objective):
    """Three one-hot variables of ten categories; the rarer a category, the larger f, which is at most 1."""

    dim = 3
    family = OneHotCategorical

    def build(self, dtype=torch.float32, device="cpu"):
        k = torch.arange(10, dtype=dtype)

        def f(x):
            return ((x @ k).sum(-1) / 27) ** 2

        def q(theta):
            return Independent(OneHotCategorical(logits=theta["logits"], validate_args=False), 1)

        theta = {"logits": (-k).repeat(3, 1).requires_grad_()}
        return Problem(theta, q, lambda _q: f, lambda theta: Enumeration()(f, q(theta)))


POLICIES = {
    "table": TablePolicy(3),
    "recurrent": RecurrentPolicy(3, width=3),
    "transformer": TransformerPolicy(3, width=4, heads=2, blocks=1),
}


@dataclass(frozen=True)
class Answers(Objective):
    """Sequences of tokens whose rewards are real and depend on the prompt, with a reference policy and a sampler."""

    policy: str = "table"
    prompts: int = 2
    length: int = 3
    beta: float = 0.3
    off_policy: bool = True
    family = TokenSequence
    differentiable = False
    relaxable = False
    has_exact = False

    @property
    def dim(self):
        return self.length

    def build(self, dtype=torch.float32, device="cpu"):
        policy, like = POLICIES[self.policy], torch.zeros((), dtype=dtype)

        def weights(seed):
            generator = torch.Generator().manual_seed(seed)
            return policy.initial(self.prompts, self.length, generator, like)

        def q(theta):
            return TokenSequence(theta, policy, self.prompts, self.length)

        def reward(x):
            place = torch.arange(1, self.length + 1) + torch.arange(self.prompts)[:, None]
            return (x * place).sum(-1).to(dtype).cos()

        theta = {name: t.requires_grad_() for name, t in weights(0).items()}
        reference, sampler = q(weights(1)), q(weights(2)) if self.off_policy else None
        return Problem(theta, q, lambda q: PolicyReturn(reward, reference, sampler, self.beta, q))
