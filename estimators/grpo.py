"""Group-relative advantages: f minus the mean of its group, over the standard deviation of the group."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, positive, true_or_false
from estimators._densities import score
from estimators._draws import draw
from estimators._protocol import Estimator, Integrand, State
from estimators._surrogate import joined


@dataclass(frozen=True)
class GRPO(Estimator):
    """Score function with group-relative advantages, as in group relative policy optimization (GRPO).

    ``g = (1/n) sum_k A_k grad log q(x_k)``,  x_k ~ q

    ``A_k = (f(x_k) - mean f) / (sd f + epsilon)``

    mean f and sd f are the mean and the standard deviation (with n - 1) of the n values. Biased in two ways. The mean
    contains the own sample, which makes the expected gradient (n - 1)/n times as long. The division scales it by a
    factor that depends on q and f; a weight that depends on the sample also turns it, unless f has two values only.
    Needs a q with ``log_prob``; f may be a black box. Cost: n evaluations of f.

    ``normalise=False`` leaves the division out, as Dr. GRPO does: ``A_k = f(x_k) - mean f``. The expected gradient is
    then (n - 1)/n times the exact one: RLOO divides by that factor and is unbiased.

    The method for language models has more parts, which are not here: the clipped ratio of two policies, a penalty on
    the distance from a reference policy, and the length of a sequence.

    Args:
        n: number of samples in the group, at least 2.
        normalise: whether the advantages are divided by the standard deviation.
        epsilon: a small number that is added to the standard deviation.

    Reference: Shao et al. 2024 ("DeepSeekMath", 2402.03300), section 4.1; without the division, Liu et al. 2025
    (2503.20783).
    """

    n: int = 2
    normalise: bool = True
    epsilon: float = 1e-4

    unbiased = False
    aliases: ClassVar[tuple[str, ...]] = ("group-relative",)
    reference: ClassVar[str] = "Shao et al. 2024"

    def __post_init__(self) -> None:
        at_least(self, 2, ": a group has at least two samples. Use ScoreFunction(n=1) or GRPO(n=2).")
        true_or_false(self, "normalise")
        positive(self, "epsilon")

    @property
    def linear_in_f(self) -> bool:  # type: ignore[override]
        """Whether a multiple of f has that multiple of the gradient: not if the deviation of f is divided out."""
        return not self.normalise

    @property
    def gradient_scale(self) -> float | None:  # type: ignore[override]
        """The factor (n - 1)/n of the expected gradient; None if the advantages are divided by their deviation."""
        return None if self.normalise else (self.n - 1) / self.n

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        x = draw(q, self.n, generator)
        fx = f(x)
        value = fx.mean(0)
        advantage = (fx - value).detach()
        if self.normalise:
            advantage = advantage / (advantage.square().sum(0) / (self.n - 1)).sqrt().add(self.epsilon)
        return joined(value, score(q, x, advantage / self.n, self), self)
