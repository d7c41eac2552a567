"""A language model in small: a policy answers prompts with tokens, and a verifier says right or wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.objectives._checks import at_least, between, error, finite, one_of
from bench.objectives._protocol import Objective, Problem, Theta
from bench.objectives.policy_targets import ENUMERATED, elements, penalised_reward
from estimators import (
    RLOO,
    Estimator,
    Integrand,
    Policy,
    PolicyReturn,
    RecurrentPolicy,
    Repeated,
    SetFunction,
    TablePolicy,
    TokenSequence,
    TransformerPolicy,
)

POLICIES: Mapping[str, type[Policy]] = {
    "table": TablePolicy,
    "recurrent": RecurrentPolicy,
    "transformer": TransformerPolicy,
}
"""The policies by the name in ``policy=``."""
MODULUS = 97
"""The checksum is a remainder modulo this prime, as in an IBAN."""
HARDEST, EASIEST = 0.01, 0.9
"""Probability of a right answer to the first and to the last prompt, if all tokens are equally probable."""
LONGEST = 64
"""Largest length."""
MOST_ANSWERS = 64
"""Largest number of answers that are judged together."""
WEIGHTS = 2**20
"""Largest number of weights: each of the estimates computed at a time has a gradient of this size."""


@dataclass(frozen=True)
class Verifier(Objective):
    """Probability that a language model answers a prompt rightly, minus a penalty for leaving a reference model.

    ``f(x) = r(x) - kl (log q(x) - log ref(x))``
    ``E f = P(r = 1) - kl KL(q || ref)``

    An answer x is a sequence of at most ``length`` tokens. It ends with the token 0, unless it has the full length. The
    tokens, with zeros after the end, are the ``length`` digits of a number to the base ``vocabulary``. The checksum is
    the remainder of this number modulo 97. Some checksums are right for a prompt: the reward r is 1 for these, else 0.
    If all tokens are equally probable, the probability of a right answer is about .01 for the first prompt and .9 for
    the last. In between its log-odds rise in equal steps. q is a ``TokenSequence``, and the gradient is taken in theta,
    the weights of its policy, which are random. The objective is maximised.

    The reference policy ref is fixed: its weights are the initial weights of q, moved by the share ``drift`` towards
    other random weights. A third policy, the sampler, is fixed too; its weights are moved by the share ``off_policy``.
    The samples of a ``PolicyGradient`` and of ``GRPO`` come from the sampler, those of every other estimator from q.

    If k is above 1, k answers to a prompt are judged together: f is 1 if at least one of them is right (pass@k). q is
    then a ``Repeated``, and f a ``SetFunction``. ``kl`` and ``off_policy`` must then be 0.

    ``E f = 1 - (1 - P(r = 1))^k``

    Exact value: the sum over all sequences, if they are few enough, else a Monte Carlo reference, the mean of a long
    run. Bad arguments raise ``ValueError``.

    Args:
        policy: "table" (logits for every beginning of a sequence), "recurrent" or "transformer" (about 20,000 weights).
        vocabulary: number of different tokens, at least 2; token 0 is the end.
        length: largest number of tokens, from 1 to 64.
        prompts: number of prompts, at least 1; they are the batch of q.
        kl: weight of the penalty.
        drift: distance of the reference policy from the initial policy: 0 is the initial policy itself, 1 an unrelated
            one.
        off_policy: distance of the sampler from the initial policy: 0 is the initial policy itself, 1 an unrelated one.
        k: number of answers that are judged together, from 1 to 64.
        seed: seed of all weights; the right answers do not depend on it.

    Reference: rewards that can be verified: Lambert et al. 2024 (Tulu 3); synthetic.
    """

    policy: str = "table"
    vocabulary: int = 5
    length: int = 4
    prompts: int = 4
    kl: float = 0.0
    drift: float = 0.5
    off_policy: float = 0.0
    k: int = 1
    seed: int = 0

    differentiable = False
    relaxable = False
    maximise = True
    reference = "synthetic"

    def __post_init__(self) -> None:
        one_of(self, "policy", *POLICIES)
        at_least(self, vocabulary=2, length=1, prompts=1, k=1, seed=0)
        finite(self, "kl")
        between(self, drift=(0.0, 1.0), off_policy=(0.0, 1.0))
        if self.length > LONGEST:
            raise error(self, "length", f"a whole number length <= {LONGEST}")
        if self.k > MOST_ANSWERS:
            raise error(self, "k", f"a whole number k <= {MOST_ANSWERS}")
        if self.k > 1 and (self.kl or self.off_policy):
            raise error(self, "k", f"k=1 with kl={self.kl} and off_policy={self.off_policy}")
        if (count := sum(self._sizes())) > WEIGHTS:
            raise ValueError(
                f"Verifier needs a policy of at most {WEIGHTS:,} weights (got {count:,} with policy={self.policy!r}, "
                f"length={self.length}, vocabulary={self.vocabulary} and prompts={self.prompts}). Lower "
                f"{'length' if self.policy == 'table' else 'vocabulary or prompts'}."
            )

    @property
    def family(self) -> type[Distribution]:  # type: ignore[override]
        """Class of q: ``TokenSequence``, or ``Repeated`` if several answers are judged together."""
        return TokenSequence if self.k == 1 else Repeated

    @property
    def sets(self) -> bool:  # type: ignore[override]
        """Whether several answers to a prompt are judged together, as in pass@k."""
        return self.k > 1

    @property
    def network(self) -> Policy:
        """The policy as a function from weights to logits; it holds no weights."""
        return POLICIES[self.policy](self.vocabulary)

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Largest number of tokens in one sample: ``length`` for each of the k answers."""
        return self.k * self.length

    def _sizes(self) -> list[int]:
        """Return the number of numbers in each weight of the policy."""
        return [math.prod(shape) for shape in self.network.shapes(self.prompts, self.length).values()]

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample.

        This tensor is one that the policy computes for all tokens or, if larger, one of the policy's weights.
        """
        return max([*self._sizes(), self.k * self.prompts * self.length * self.network.widest])

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the exact value is known: only if there are few enough sequences to sum over all of them."""
        return elements(self.network, self.prompts, self.length) <= ENUMERATED

    @property
    def reference_estimator(self) -> Estimator | None:  # type: ignore[override]
        """Estimator whose mean over a long run stands in for the exact gradient: ``RLOO(n=8)``.

        None if the exact gradient is a sum over all sequences, because they are few enough.
        """
        return None if self.has_exact else RLOO(n=8)

    def restarted(self, seed: int) -> "Verifier":
        """Return the objective with ``seed`` added to its own seed. The weights change; the right answers stay."""
        return replace(self, seed=self.seed + seed)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        own, reference, sampler = (
            {name: w.to(device, dtype) for name, w in weights.items()} for weights in self._weights()
        )
        digits = torch.tensor([pow(self.vocabulary, t, MODULUS) for t in reversed(range(self.length))], device=device)
        right, prompt = right_checksums(self).to(device, dtype), torch.arange(self.prompts, device=device)
        if self.k > 1:
            prompt = prompt.unsqueeze(-1)

        def reward(x: Tensor) -> Tensor:
            return right[prompt, (x * digits).sum(-1) % MODULUS]

        def q(theta: Theta) -> Distribution:
            return self._with(theta) if self.k == 1 else Repeated(self._with(theta), self.k)

        drawn = self._with(sampler) if self.off_policy else None
        of_one = PolicyReturn(reward, self._with(reference), drawn, self.kl)

        def f(q: Distribution) -> Integrand:
            if self.k > 1:
                return SetFunction(reward, lambda rewards: rewards.amax(-1), q)
            return replace(of_one, q=q)

        def exact(theta: Theta) -> Tensor:
            if self.k > 1:
                answers = self._with(theta)
                x = answers.enumerate_support()
                p = (answers.log_prob(x).exp() * reward(x.unsqueeze(-2)).squeeze(-1)).sum(0)
                return (1 - (1 - p) ** self.k).mean()
            return penalised_reward(self._with(theta), of_one)

        theta = {name: w.clone().requires_grad_() for name, w in own.items()}
        return Problem(theta, q, f, exact if self.has_exact else None)

    def _with(self, weights: Theta) -> TokenSequence:
        """Return the distribution of answers for given weights of the policy."""
        return TokenSequence(weights, self.network, self.prompts, self.length, validate_args=False)

    def _weights(self) -> tuple[Theta, Theta, Theta]:
        """Return the weights of the policy, of the reference and of the policy that draws, in float64."""
        generator, like = Generator().manual_seed(self.seed), torch.zeros((), dtype=torch.float64)
        own, *others = (self.network.initial(self.prompts, self.length, generator, like) for _ in range(3))
        moved = (
            {name: w + share * (other[name] - w) for name, w in own.items()}
            for share, other in zip((self.drift, self.off_policy), others, strict=True)
        )
        return own, *moved  # type: ignore[return-value]


def right_checksums(objective: Verifier) -> Tensor:
    """Return whether each checksum is right for each prompt, boolean, ``[prompts, 97]``.

    The checksum of an answer is a number from 0 to 96. The answer is right if its checksum is right for the prompt.
    Each prompt has a target, from .01 to .9, for the probability of a right answer if all tokens are equally probable.
    The checksums are tried one after the other, in an order that differs from prompt to prompt. A checksum becomes
    right if the probability of a right answer then does not exceed the target. If every checksum alone would exceed the
    target, the least probable one is right.
    """
    mass = _of_checksums(objective.vocabulary, objective.length)
    ends = torch.tensor([HARDEST, EASIEST], dtype=torch.float64).logit()
    steps = (
        torch.linspace(0, 1, objective.prompts, dtype=torch.float64) if objective.prompts > 1 else torch.tensor([0.5])
    )
    right = torch.zeros(objective.prompts, MODULUS, dtype=torch.bool)
    for i, target in enumerate((ends[0] + steps * (ends[1] - ends[0])).sigmoid().tolist()):
        total = 0.0
        for c in sorted(range(MODULUS), key=lambda c: (i + 1) * 37 * c % MODULUS):
            if mass[c] > 0 and total + mass[c] <= target:
                total, right[i, c] = total + mass[c], True
        if not total:
            right[i, min((c for c in range(MODULUS) if mass[c]), key=mass.__getitem__)] = True
    return right


def _of_checksums(vocabulary: int, length: int) -> list[float]:
    """Return the probability of each checksum if every token has the probability 1 / vocabulary."""
    going, ended = torch.zeros(MODULUS, dtype=torch.float64), torch.zeros(MODULUS, dtype=torch.float64)
    going[0] = 1
    for t in reversed(range(length)):
        digit = pow(vocabulary, t, MODULUS)
        ended += going / vocabulary
        going = torch.stack([going.roll(v * digit) for v in range(1, vocabulary)]).sum(0) / vocabulary
    return (ended + going).tolist()
