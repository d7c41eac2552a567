"""Reparameterization: differentiates through the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution, OneHotCategoricalStraightThrough, Wishart

from estimators._families import rdraw
from estimators._protocol import Estimator, Integrand, State
from estimators._refusals import at_least, needs_gradient


@dataclass(frozen=True)
class Reparameterization(Estimator):
    """Reparameterization (pathwise) estimator.

    ``g = (1/n) sum_k grad f(T(e_k; parameters))``,  x_k = T(e_k; parameters) ~ q

    Unbiased if f is absolutely continuous along the paths: a jump in f makes it biased, silently. Needs df/dx and a q
    with ``rsample`` (Gamma, Beta and Dirichlet by torch's implicit gradients, which are approximations with relative
    errors up to 0.5 %). Cost: n evaluations of f, n of its gradient.

    Args:
        n: samples.

    Reference: Kingma & Welling 2014, section 2.4; Rezende, Mohamed & Wierstra 2014; implicit: Figurnov, Mohamed & Mnih
    2018.
    """

    n: int = 1

    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("pathwise",)
    reference: ClassVar[str] = "Kingma & Welling 2014"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def refuses(self, family: type[Distribution]) -> str | None:
        """Return why a family has no reparameterization, or None."""
        if issubclass(family, OneHotCategoricalStraightThrough):
            return (
                "torch's OneHotCategoricalStraightThrough is not reparameterized. "
                "Use StraightThrough on OneHotCategorical."
            )
        if issubclass(family, Wishart):
            return "torch's Wishart samples cannot be differentiated (its backward raises). Use ScoreFunction or RLOO."
        if family.has_rsample:
            return None
        return (
            f"Reparameterization needs samples that are differentiable in q's parameters, and {family.__name__} has "
            "none (torch's has_rsample is False). Use ScoreFunction, RLOO or, for Bernoulli and OneHotCategorical, "
            "GumbelSoftmax."
        )

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``."""
        self.check(q)
        x = rdraw(q, self.n, generator)
        fx = f(x)
        needs_gradient(self, fx, x)
        return fx.mean(0)
