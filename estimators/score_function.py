"""Score function: weights the score of each sample by the integrand minus a baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._families import draw, score
from estimators._protocol import Estimator, Integrand, State
from estimators._refusals import InvalidParameter, at_least
from estimators._rows import parameters


class MovingAverage(State):
    """Exponential moving average of the loss; the t-th loss weighs 1/t while that is more: nothing pulls it towards 0.

    Buffers: ``mean`` (the baseline, 0 before the first update) and ``steps``.
    """

    decay: ClassVar[float] = 0.9

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros((), dtype=like.dtype, device=like.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=like.device))

    def update(self, loss: Tensor) -> None:
        """Move the mean towards that of ``loss`` (any shape)."""
        mean, steps = cast(Tensor, self.mean), cast(Tensor, self.steps)
        steps += 1
        mean += (loss.detach().mean() - mean) * (torch.ones_like(mean) / steps).clamp(min=1 - self.decay)


def _mean(state: State | None) -> Tensor | float:
    return 0.0 if state is None else cast(Tensor, state.mean)


@dataclass(frozen=True)
class ScoreFunction(Estimator):
    """Score function estimator (REINFORCE, likelihood ratio).

    ``g = (1/n) sum_k (f(x_k) - b) grad log q(x_k)``,  x_k ~ q

    Unbiased for every baseline b that does not depend on the x_k. Needs a q with ``log_prob``; f is a black box.
    Cost: n evaluations of f. The variance grows with the square of any constant in f.

    ``baseline="moving-average"`` is the state of ``init``: call ``state.update(loss)`` after each step, so that the
    baseline never contains the sample that it multiplies. Without a state it is 0, which is how the state begins.

    Args:
        n: samples.
        baseline: a number, or "moving-average".

    Reference: Williams 1992 (Machine Learning 8), section 4; Mohamed et al. 2020 (JMLR 21), section 4.
    """

    n: int = 1
    baseline: float | str = 0.0

    aliases: ClassVar[tuple[str, ...]] = ("reinforce",)
    reference: ClassVar[str] = "Williams 1992"

    def __post_init__(self) -> None:
        at_least(self, 1)
        b = self.baseline
        number = isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b)
        if not number and b != "moving-average":
            raise InvalidParameter(
                f"ScoreFunction needs a baseline that is a finite number or 'moving-average' (got baseline={b!r}). "
                "Use ScoreFunction(baseline=0.0)."
            )

    @property
    def needs_state(self) -> bool:  # type: ignore[override]
        """True for the moving average."""
        return isinstance(self.baseline, str)

    def init(self, q: Distribution, generator: Generator | None = None) -> MovingAverage | None:  # noqa: ARG002
        """Return a moving average that has seen nothing, or None for a constant baseline."""
        return MovingAverage(next(iter(parameters(q).values()))) if self.needs_state else None

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``."""
        x = draw(q, self.n, generator)
        fx = f(x)
        b = self.baseline if isinstance(self.baseline, int | float) else _mean(state)
        return fx.mean(0) + score(q, x, (fx.detach() - b) / self.n)
