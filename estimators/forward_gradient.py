"""Forward gradients: directional derivatives along random tangents, without a backward pass through f."""

import warnings
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Size, Tensor
from torch.autograd import forward_ad
from torch.distributions import Distribution, Normal

from estimators._axes import spread
from estimators._checks import at_least, no_gradient, one_of
from estimators._integrand import Integrand
from estimators._noise import normal, uniform
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators._rows import one
from estimators._surrogate import inject, joined
from estimators._transforms import forward_mode, tangent_of, transformed


@dataclass(frozen=True)
class ForwardGradient(Estimator):
    """Forward gradient: the derivative along a random tangent of q's parameters, times that tangent.

    ``g = (1/n) sum_k (grad f(x_k)^T dx_k) v_k``
    ``x_k = mean + scale e_k``,  a draw from q with e_k standard normal
    ``dx_k = v_k^mean + v_k^scale e_k``

    The tangent v_k = (v_k^mean, v_k^scale) has one random entry for each mean and each scale of q. Since E v v^T = I, g
    is unbiased whenever Reparameterization is. The derivative comes from one forward-mode pass; no backward pass and
    none of its memory are needed. Let h be the Reparameterization gradient of one sample, in all means and scales. At n
    = 1, the tangent adds the mean of |h|^2 + h_i^2 (normal) or |h|^2 - h_i^2 (sign) to the variance of g_i. Both grow
    with the number of parameters. Needs df/dx in forward mode, and a Normal q. Cost: n evaluations of f, n of its
    gradient.

    Args:
        n: number of samples, each with its own tangent.
        tangent: "normal" or "sign", the distribution of the entries of v_k.

    Reference: Baydin, Pearlmutter, Syme, Wood & Torr 2022 ("Gradients without backpropagation"), section 3. Departure:
    the function differentiated is f at a reparameterized sample.
    """

    n: int = 1
    tangent: str = "normal"

    families = (Normal,)
    needs_df = True
    reference: ClassVar[str] = "Baydin et al. 2022"

    def __post_init__(self) -> None:
        at_least(self, 1)
        one_of(self, "tangent", "normal", "sign")

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        own = parameters(q)
        tangents = {name: self._tangent(Size((self.n, *t.shape)), t, generator) for name, t in own.items()}
        noise = normal(Size((self.n, *q.batch_shape, *q.event_shape)), own["loc"], generator)
        x = one(own["loc"].detach(), q) + one(own["scale"].detach(), q) * noise
        dx = tangents["loc"] + tangents["scale"] * noise
        fx, slope = self._along(f, x, dx)
        weight = slope.detach() / self.n
        gradients = {name: (spread(weight, v) * v).sum(0) for name, v in tangents.items()}
        return joined(fx.mean(0), inject(q, self, **gradients), self)

    def _along(self, f: Integrand, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x) and its derivative along dx, both ``[n, *batch]``.

        The derivative is 0 where forward mode is switched off: in inference mode, and where another estimator, whose
        integrand calls this one, needs values alone.
        """

        def path(x: Tensor) -> Tensor:
            fx = f(x)
            if tangent_of(fx) is None:
                raise no_gradient(self)
            return fx

        compiled = torch.compiler.is_compiling()
        if not forward_ad._is_fwd_grad_enabled():
            fx = f(x)
            return fx, torch.zeros_like(fx)
        if compiled:
            raise Refusal(f"{self!r} does not run inside torch.compile, which loses tangents. Compile f alone.")
        if forward_mode() and not transformed():
            raise Refusal(f"{self!r} works in no other forward mode: torch nests none. Use Reparameterization.")
        if transformed():
            return cast(tuple[Tensor, Tensor], torch.func.jvp(path, (x,), (dx,)))
        with forward_ad.dual_level():
            return cast(tuple[Tensor, Tensor], forward_ad.unpack_dual(path(_dual(x, dx))))  # type: ignore[no-untyped-call]

    def _tangent(self, shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
        if self.tangent == "sign":
            return uniform(shape, like, generator).sub_(0.5).sign_()
        return normal(shape, like, generator)


def _dual(primal: Tensor, tangent: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own use of torch.jit at the first call
        return cast(Tensor, forward_ad.make_dual(primal, tangent))  # type: ignore[no-untyped-call]
