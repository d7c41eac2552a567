"""Sticking the landing: the evidence lower bound, differentiated through the sample alone."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, needs_gradient
from estimators._densities import score
from estimators._draws import rdraw
from estimators._first_order import first_order
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators.bound import needed
from estimators.reparameterization import no_path


@dataclass(frozen=True)
class StickingTheLanding(Estimator):
    """Sticking the landing: the path derivative of the evidence lower bound, without the score of q.

    ``g = (1/n) sum_k (dx_k/dtheta)^T grad_x [log p(x_k) - log q(x_k)]``
    ``x_k = T(e_k; theta)``,  the sample x_k ~ q as a function of noise e_k and of q's parameters theta

    Unbiased. The full derivative of ``log p(x) - log q(x; theta)`` along the path also has the term ``-grad log q(x)``
    at a fixed x. This term has mean 0, and is left out here. The variance is 0 if q is the posterior, p divided by its
    integral. If not, it can be higher than with Reparameterization. f is a ``Bound`` over q, ``log p(x) - log q(x)``
    for a joint density p. A ``Bound`` whose samples are sets of several particles is refused: the mean of the omitted
    term would not be 0. Needs df/dx, and a q with ``rsample`` and ``log_prob``. Cost: n evaluations of f, n of its
    gradient.

    Args:
        n: number of samples.

    Reference: Roeder, Wu & Duvenaud 2017, section 3, equation 8.
    """

    n: int = 1

    needs_df = True
    needs_bound = True
    aliases: ClassVar[tuple[str, ...]] = ("stl",)
    reference: ClassVar[str] = "Roeder et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def refuses(self, family: type[Distribution]) -> str | None:
        return no_path(self, family)

    def refuses_particles(self, particles: int | None) -> str | None:
        if particles is None or particles < 2:
            return None
        return (
            f"{self!r} is biased for a Bound of more than one particle (got {particles}). "
            "Use DoublyReparameterized, or a Bound without particles and a larger n."
        )

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        bound = needed(self, f, q)
        x = rdraw(q, self.n, generator)
        weights = bound.log_weights(x)
        if reason := self.refuses_particles(weights.shape[-1]):
            raise Refusal(reason)
        fx = weights.squeeze(-1)
        needs_gradient(self, fx, x)
        return first_order(fx.mean(0) + score(q, x, fx.new_full(fx.shape, 1 / self.n), self), self)
