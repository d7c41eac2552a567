"""Doubly reparameterized gradients of importance-weighted bounds."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._axes import spread
from estimators._checks import at_least, needs_gradient
from estimators._densities import untransformed
from estimators._draws import rdraw
from estimators._first_order import first_order
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators._supports import refuse_unseen
from estimators._surrogate import inject_at, scaled
from estimators._transforms import is_differentiated, tangent_of
from estimators.bound import log_mean_exp, needed
from estimators.reparameterization import no_path


@dataclass(frozen=True)
class DoublyReparameterized(Estimator):
    """Doubly reparameterized gradient (DReG): path derivative of an importance-weighted bound, without the score of q.

    ``g = sum_k w_k^2 (dx_k/dtheta)^T grad_x log(p(x_k) / q(x_k))``,  averaged over n samples
    ``x_k = T(e_k; theta)``,  the particle x_k ~ q as a function of noise e_k and of q's parameters theta

    A sample is a set of K particles, and f is a ``Bound``: the log of the mean of p(x_k)/q(x_k) over the particles, for
    a joint density p. ``w_k = (p(x_k)/q(x_k)) / sum_j p(x_j)/q(x_j)`` is the normalised weight of particle x_k.
    Unbiased: the full derivative has a term with the score of q. This term is reparameterized as well, which turns the
    weights w_k into w_k^2. For one particle, g is the path derivative of StickingTheLanding. With many particles,
    Reparameterization has more noise than gradient; this estimator does not. Parameters of log p alone, such as those
    of a decoder, get the gradient of the bound, with weights w_k. Needs df/dx, and a q with ``rsample`` and
    ``log_prob``. Cost: n evaluations of f, n of its gradient, each of K log-joints.

    Args:
        n: number of samples, each a set of K particles.

    Reference: Tucker, Lawson, Gu & Maddison 2019 ("Doubly reparameterized gradient estimators for Monte Carlo
    objectives"), section 3, equation 6.
    """

    n: int = 1

    needs_df = True
    needs_bound = True
    aliases: ClassVar[tuple[str, ...]] = ("dreg",)
    reference: ClassVar[str] = "Tucker et al. 2019"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def refuses(self, family: type[Distribution]) -> str | None:
        return no_path(self, family)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        bound = needed(self, f, q)
        refuse_unseen(q)
        x = rdraw(q, self.n, generator)
        log_w = bound.log_weights(x)
        needs_gradient(self, log_w, x)
        w = log_w.detach().softmax(-1)
        if tangent_of(x) is not None:
            raise Refusal(f"{self!r} has no forward mode. Use Reparameterization, or reverse mode.")
        if not x.requires_grad and is_differentiated(x):
            raise Refusal(f"{self!r} does not work under vmap inside of grad. Use vmap around torch.func.grad.")
        if x.requires_grad:  # the bound weights the path of particle k by w_k; DReG needs w_k^2
            of_x = spread(w.squeeze(-1) if bound.particles is None else w, x).to(x.dtype)
            x.register_hook(lambda cotangent: scaled(cotangent, of_x))  # type: ignore[no-untyped-call]
        below, z = untransformed(q, x)
        target = bound.log_q(z, below)
        score = inject_at(q.batch_shape, [((w / self.n).movedim(0, -1), target.movedim(0, -1))], self)
        value = log_mean_exp(log_w)
        return first_order(value.mean(0) + score, self)  # the score cancels the bound's gradient at q for fixed x
