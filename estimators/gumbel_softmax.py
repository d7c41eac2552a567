"""Gumbel-softmax relaxations of discrete draws."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import average
from estimators._checks import at_least, evaluate_path, positive
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._relaxations import harden, perturbed, race, relaxed
from estimators._surrogate import through


@dataclass(frozen=True)
class GumbelSoftmax(Estimator):
    """Gumbel-softmax (Concrete) relaxation: the gradient of f through a relaxed sample.

    ``g = (1/n) sum_k grad f(y_k)``
    ``y = softmax((logits + G) / temperature)``,  G Gumbel
    ``y = sigmoid((logit + L) / temperature)``,  L logistic, for Bernoulli

    grad is the gradient in q's logits, through y. Biased: g estimates the gradient of E[f(y)], and the returned value
    estimates E[f(y)]. As the temperature goes to 0, the bias vanishes and the variance grows without limit. Needs df/dx
    and an f that is defined off the support of q. Cost: n evaluations of f, n of its gradient.

    Args:
        n: number of samples.
        temperature: temperature of the relaxation, positive.

    Reference: Jang, Gu & Poole 2017, section 2; Maddison, Mnih & Teh 2017.
    """

    n: int = 1
    temperature: float = 1.0

    unbiased = False
    value_unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    needs_relaxed_f = True
    aliases: ClassVar[tuple[str, ...]] = ("concrete",)
    reference: ClassVar[str] = "Jang et al. 2017; Maddison et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)
        positive(self, "temperature")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        raced = self.temperature == 1 and isinstance(inner(q), OneHotCategorical)
        y = race(q, self.n, generator) if raced else relaxed(q, perturbed(q, self.n, generator), self.temperature)
        return average(evaluate_path(self, f, y))


@dataclass(frozen=True)
class StraightThroughGumbelSoftmax(Estimator):
    """Straight-through Gumbel-softmax: discrete sample in the forward pass, relaxed sample in the backward pass.

    ``g = (1/n) sum_k J(y_k)^T grad f(x_k)``
    ``x = onehot(argmax(logits + G))``,  G Gumbel
    ``y = softmax((logits + G) / temperature)``

    J is the Jacobian of y in the logits, with G held fixed; grad f is the gradient of f in x. For Bernoulli, the noise
    is logistic, x = 1[logit + noise > 0], and a sigmoid replaces the softmax. Biased at every temperature; for a linear
    f, the bias vanishes as the temperature goes to 0. Needs df/dx, but only on the support of q. Cost: n evaluations of
    f, n of its gradient.

    Args:
        n: number of samples.
        temperature: temperature of the relaxation, positive.

    Reference: Jang, Gu & Poole 2017, section 2.2.
    """

    n: int = 1
    temperature: float = 1.0

    unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("st-gumbel-softmax",)
    reference: ClassVar[str] = "Jang et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)
        positive(self, "temperature")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        z = perturbed(q, self.n, generator)
        x = through(harden(q, z), relaxed(q, z, self.temperature), self)
        return average(evaluate_path(self, f, x))
