"""Gapped straight-through: relaxes logits that were moved to agree with the sample."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._checks import at_least, evaluate_path, is_positive, positive
from estimators._densities import logits, row_probs
from estimators._draws import draw
from estimators._fields import named_type
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter
from estimators._relaxations import squash
from estimators._rows import one
from estimators._surrogate import grad_only, through


@dataclass(frozen=True)
class GappedStraightThrough(Estimator):
    """Gapped straight-through (GST): relaxes logits that are moved until the sampled category leads by a gap.

    ``g = (1/n) sum_k J(y_k)^T grad f(x_k)``,  x_k ~ q
    ``y_k = softmax(z_k / temperature)``
    ``z_i = max logits``,  i the category that was sampled
    ``z_j = min(logits_j, max logits - gap)``,  j every other category

    J is the Jacobian of y in the logits, with the shifts from logits to z held fixed; grad f is the gradient of f in x.
    A bit is a variable of two categories, with logits ``logit`` and 0. The estimator imitates straight-through
    Gumbel-softmax, but uses no noise beyond the sample. Biased. Needs df/dx, but only on the support of q. Cost: n
    evaluations of f, n of its gradient.

    Args:
        n: number of samples.
        temperature: temperature of the softmax, positive.
        gap: a positive number (GST-1.0), or "expected" (GST-p): ``-log(1 - p_i) / p_i``, the mean lead of category i,
            of probability p_i, given that Gumbel noise made its logit the largest.

    Reference: Fan, Chi, Rudnicky & Ramadge 2022 ("Training discrete deep generative models via gapped straight-through
    estimator"), section 3.
    """

    n: int = 1
    temperature: float = 1.0
    gap: float | str = 1.0

    unbiased = False
    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("gst",)
    reference: ClassVar[str] = "Fan et al. 2022"

    def __post_init__(self) -> None:
        at_least(self, 1)
        positive(self, "temperature")
        if not is_positive(self.gap) and self.gap != "expected":
            raise InvalidParameter(
                f"GappedStraightThrough needs a gap that is a positive number or 'expected' "
                f"(got gap={self.gap!r}{named_type(self.gap, int, float, str)}). "
                "Use GappedStraightThrough(gap=1.0)."
            )

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = draw(q, self.n, generator)
        theta = logits(q).clamp_min(torch.finfo(x.dtype).min)  # infinity minus infinity is NaN
        z = self._moved(x, q, one(theta.detach(), q))
        x = through(x, squash(q, z + grad_only(theta), self.temperature), self)
        return evaluate_path(self, f, x).mean(0)

    def _moved(self, x: Tensor, q: Distribution, theta: Tensor) -> Tensor:
        """Return the logits, moved so that x is their argmax, ``[n, *batch, *event]``."""
        p = row_probs(q)
        if isinstance(inner(q), Bernoulli):  # categories 1 and 0, with logits theta and 0
            sign = 2 * x - 1
            return sign * torch.maximum(sign * theta, self._gap(torch.where(x > 0, p, 1 - p)))
        highest = theta.amax(-1, keepdim=True)
        return torch.where(x > 0, highest, torch.minimum(theta, highest - self._gap((x * p).sum(-1, keepdim=True))))

    def _gap(self, p: Tensor) -> Tensor:
        """Return the gap for a sample of probability p."""
        return -torch.log1p(-p) / p if isinstance(self.gap, str) else torch.full_like(p, self.gap)
