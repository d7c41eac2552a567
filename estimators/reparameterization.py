"""Reparameterization: differentiates through the sample."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import (
    Distribution,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategoricalStraightThrough,
    VonMises,
    Wishart,
)

from estimators._axes import average
from estimators._checks import at_least, evaluate_path, even, one_of
from estimators._couplings import antithetic, location_scale, sobol
from estimators._draws import rdraw
from estimators._integrand import Integrand
from estimators._laws import has_law, has_path
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter

OWN = {VonMises: "ReparameterizedVonMises", MixtureSameFamily: "ReparameterizedMixture"}
"""Families without a differentiable sampler in torch, each with the class of this library that has one."""


def no_path(estimator: Estimator, family: type[Distribution]) -> str | None:
    """Return why ``estimator`` gets no differentiable samples of a family of distributions; None if it gets them."""
    if issubclass(family, OneHotCategoricalStraightThrough):
        return (
            "torch's OneHotCategoricalStraightThrough is not reparameterized. Use StraightThrough on OneHotCategorical."
        )
    if issubclass(family, Wishart):
        return "torch's Wishart samples cannot be differentiated (its backward raises). Use ScoreFunction or RLOO."
    if has_path(family):
        return None
    if family.has_rsample:
        return (
            f"{family.__name__} has its own sampler, but the rsample of its parent, which draws from another law. Use "
            f"ScoreFunction or RLOO, or write the rsample of {family.__name__}."
        )
    if own := next((own for torchs, own in OWN.items() if issubclass(family, torchs)), None):
        return f"torch's {family.__name__} has no reparameterization. Use estimators.{own} for q, or RLOO."
    return (
        f"{type(estimator).__name__} needs samples that are differentiable in q's parameters, and "
        f"{family.__name__} has none (torch's has_rsample is False). Use ScoreFunction, RLOO or, for Bernoulli and "
        "OneHotCategorical, GumbelSoftmax."
    )


@dataclass(frozen=True)
class Reparameterization(Estimator):
    """Reparameterization (pathwise) estimator: the gradient of f through the sample.

    ``g = (1/n) sum_k grad f(T(e_k; parameters))``
    ``x_k = T(e_k; parameters)``,  x_k ~ q

    T makes the sample x_k from noise e_k and q's parameters, and grad is the gradient in these parameters. A path is
    the sample as a function of the parameters. Unbiased if f is absolutely continuous along the paths; a jump in f
    causes a bias, without a warning. Needs df/dx and a q with ``rsample``. (For Gamma, Beta and Dirichlet, torch's
    implicit gradients are approximations, with relative errors up to 0.5 %.) Cost: n evaluations of f, n of its
    gradient.

    For a Normal or MultivariateNormal the noise e_k need not be independent. ``"antithetic"`` pairs e with -e. This
    removes the part of the gradient of f that is odd in e: for a quadratic f, all variance of the gradient in the mean.
    But it can *raise* the variance of the gradient in the scale. ``"sobol"`` spreads the n samples by Sobol points
    under a random digital shift, one shift for each batch element. With either noise, each single sample is still a
    draw of q, so the estimator is unbiased.

    Args:
        n: number of samples; even for antithetic noise, a power of two for Sobol noise.
        noise: "iid", "antithetic" or "sobol".

    Reference: Kingma & Welling 2014, section 2.4; Rezende, Mohamed & Wierstra 2014; implicit: Figurnov, Mohamed & Mnih
    2018; Sobol: Buchholz, Wenzel & Mandt 2018, section 3, who scramble the points for each call.
    """

    n: int = 1
    noise: str = "iid"

    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("pathwise",)
    reference: ClassVar[str] = "Kingma & Welling 2014"

    def __post_init__(self) -> None:
        at_least(self, 1)
        one_of(self, "noise", "iid", "antithetic", "sobol")
        if self.noise == "antithetic":
            even(self, "antithetic noise comes in pairs", fields=", noise='antithetic'")
        if self.noise == "sobol" and self.n & (self.n - 1):
            raise InvalidParameter(
                f"Sobol points are balanced if their number is a power of two (got n={self.n}). "
                f"Use Reparameterization(n={2 ** self.n.bit_length()}, noise='sobol')."
            )

    @property
    def families(self) -> tuple[type[Distribution], ...] | None:  # type: ignore[override]
        """Normal and MultivariateNormal; if ``noise`` is "iid", None, which means every family with ``rsample``."""
        return None if self.noise == "iid" else (Normal, MultivariateNormal)

    def refuses(self, family: type[Distribution]) -> str | None:
        if reason := no_path(self, family):
            return reason
        if self.families and not has_law(family, *self.families):
            return (
                f"{self!r} makes its noise for Normal and MultivariateNormal, and q is {family.__name__}. "
                f"Use Reparameterization(n={self.n}), whose noise is independent, or RLOO."
            )
        return None

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        if self.noise == "iid":
            x = rdraw(q, self.n, generator)
        else:
            coupled = antithetic if self.noise == "antithetic" else sobol
            x = location_scale(q, coupled(self.n, q, generator))
        return average(evaluate_path(self, f, x))
