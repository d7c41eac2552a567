"""The best of k draws, and other functions of k draws: objectives that judge a set of samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from bench.objectives._checks import at_least, finite, one_of
from bench.objectives._protocol import Objective, Problem, Theta
from estimators import Repeated, SetFunction

MOST_SETS = 2**16
"""Largest number of sets in the exact sum."""


@dataclass(frozen=True)
class BestOfK(Objective):
    """A function of the rewards of k independent answers of a model, such as the largest of these rewards.

    ``f(x_1, ..., x_k) = F(r(x_1), ..., r(x_k))``
    ``x_i ~ Categorical(softmax(logits))``
    ``E f = sum over all (x_1, ..., x_k) of q(x_1) ... q(x_k) F``

    An answer x_i is a category c, with the reward ``r(c) = c / (classes - 1)``. Let r_i = r(x_i). ``of`` names F:

    - "best": the largest of the k rewards;
    - "pass": 1 if the best category is among the k answers, else 0, as in pass@k;
    - "cvar": the mean of the lower half of the rewards, their conditional value at risk;
    - "risk": the entropic risk ``-(1/a) log((1/k) sum_i exp(-a r_i))`` with a = 3;
    - "bound": ``log((1/k) sum_i exp(r_i))``, an importance-weighted bound with log-weights r_i.

    The gradient is taken in theta: ``logits``, ``[classes]``, falling from ``slope`` to 0, so that good categories are
    rare. The objective is maximised. f is a ``SetFunction``, and q is ``Repeated``. Exact value: the sum over all
    ``classes^k`` sets of answers. Bad arguments raise ``ValueError``.

    Args:
        k: number of answers, at least 1; ``classes^k`` must not exceed 65,536.
        classes: number of categories, at least 2.
        of: "best", "pass", "cvar", "risk" or "bound".
        slope: logit of the worst category; the logit of the best category is 0.

    Reference: synthetic; the objectives are those of Tang et al. 2025 (2503.19595) and Walder & Karkhanis 2025
    (2505.15201).
    """

    k: int = 3
    classes: int = 8
    of: str = "best"
    slope: float = 2.0

    family = Repeated
    differentiable = False
    relaxable = False
    sets = True
    maximise = True
    reference = "synthetic"
    risk: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        at_least(self, k=1, classes=2)
        finite(self, "slope")
        one_of(self, "of", *self._functions)
        if self.classes**self.k > MOST_SETS:
            raise ValueError(
                f"best-of-k sums over classes^k = {self.classes}^{self.k} sets, and the limit is {MOST_SETS:,}. "
                "Lower k or classes."
            )

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Number of random variables in one sample of q: k, the number of answers that are judged together."""
        return self.k

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate: all logits for each of the k answers."""
        return self.k * self.classes

    @property
    def _functions(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """F by its name: functions of the rewards of a set, ``[..., k] -> [...]``."""
        half = (self.k + 1) // 2
        return {
            "best": lambda r: r.amax(-1),
            "pass": lambda r: (r >= 1).any(-1).to(r),
            "cvar": lambda r: r.sort(-1).values[..., :half].mean(-1),
            "risk": lambda r: ((-self.risk * r).logsumexp(-1) - math.log(self.k)) / -self.risk,
            "bound": lambda r: r.logsumexp(-1) - math.log(self.k),
        }

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        logits = torch.linspace(self.slope, 0, self.classes, dtype=torch.float64).to(device, dtype).requires_grad_()
        combine = self._functions[self.of]

        def q(theta: Theta) -> Distribution:
            return Repeated(Categorical(logits=theta["logits"], validate_args=False), self.k)

        def f(q: Distribution) -> SetFunction:
            reward = torch.linspace(0, 1, self.classes, dtype=dtype, device=device)
            return SetFunction(lambda x: reward[x], combine, q)

        def exact(theta: Theta) -> Tensor:
            sets = q(theta)
            x = sets.enumerate_support()
            return (sets.log_prob(x).exp() * f(sets)(x)).sum()

        return Problem({"logits": logits}, q, f, exact)
