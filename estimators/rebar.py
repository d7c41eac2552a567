"""REBAR: the score function with a relaxation of f as control variate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import average, over_samples
from estimators._checks import at_least, needs_gradient, one_value_each, positive
from estimators._densities import logits, row_probs
from estimators._noise import uniform
from estimators._protocol import Estimator, Integrand, InvalidParameter, State, inner
from estimators._relaxations import harden, squash
from estimators._rows import one, parameters
from estimators._surrogate import inject_at


class ControlVariate(State):
    """What REBAR learns: the logarithm of the temperature, and the coefficient; two scalars."""

    def __init__(self, temperature: float, coefficient: float, like: Tensor) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(like.new_tensor(math.log(temperature)))
        self.coefficient = nn.Parameter(like.new_tensor(coefficient))


@dataclass(frozen=True)
class REBAR(Estimator):
    """REBAR: score function + relaxed - conditional relaxed.

    ``g = (1/n) sum_k (f(x) - coefficient c(z')) grad log q(x) + coefficient (grad c(z) - grad c(z'))``
    ``c(z) = f(softmax(z / temperature))``,  ``z = logits + noise``,  ``x = onehot(argmax z)``,  z' ~ p(z | x); for
    Bernoulli logistic noise, x = 1[z > 0] and a sigmoid

    Unbiased for every temperature and coefficient. z' is differentiated too: it is made of noise v that is independent
    of x, by a transformation that depends on the logits. Here v is the noise for which z' = z, as its independence of x
    allows, and only the derivatives differ: for a bit of ``z = logit p + logit u``, ``dz' = (1 - (1-p) / u) dlogit``
    where x = 1 and ``(1 - p / (1-u)) dlogit`` where x = 0; for categories ``dz'_j = (1 - exp(z_j - max z)) dlog p_j``.
    So one evaluation of c serves both. Needs df/dx, and an f that makes sense and is continuous off the support of q.
    Cost: 2n evaluations of f, n of its gradient (with noise of its own for z' it would be 3n and 2n).

    ``adapt`` learns temperature and coefficient; without a state they are those given. Where f is the same at both
    values of a bit and another between them, as (b - 1/2)^2 is, c is no control variate, and the coefficient goes to 0.

    Args:
        n: samples.
        temperature: of the relaxation, positive; where learning begins.
        coefficient: of the control variate, finite; where learning begins. At 0 REBAR is ScoreFunction.

    Reference: Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein 2017, section 3.
    """

    n: int = 1
    temperature: float = 0.5
    coefficient: float = 1.0

    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    needs_relaxed_f = True
    needs_state = True
    reference: ClassVar[str] = "Tucker et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)
        positive(self, "temperature")
        c = self.coefficient
        if isinstance(c, bool) or not isinstance(c, int | float) or not math.isfinite(c):
            raise InvalidParameter(
                f"REBAR needs a finite number as coefficient (got coefficient={c!r}). Use REBAR(coefficient=1.0)."
            )

    def init(self, q: Distribution, generator: Generator | None = None) -> ControlVariate:
        """Return the temperature and the coefficient given, ready to learn."""
        return ControlVariate(self.temperature, self.coefficient, next(iter(parameters(q).values())).detach())

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``."""
        self.check(q)
        learned = cast(ControlVariate | None, state)
        temperature = self.temperature if learned is None else learned.log_temperature.exp()
        coefficient = self.coefficient if learned is None else learned.coefficient
        p = row_probs(q)
        u, z = _perturbed(q, self.n, generator)
        x = harden(q, z)
        fx = f(x)
        one_value_each(fx, x, q.batch_shape)
        c, slope = self._relaxed(f, q, z, temperature)
        weight = (fx.detach() - coefficient * c) / self.n
        spread = weight.reshape(weight.shape + (1,) * (x.dim() - fx.dim()))
        relaxed = _untied(q, p, x, u, z, slope).mul_(coefficient / self.n)
        gradient = over_samples(relaxed.addcmul_(x - p, spread))
        return average(fx) + inject_at(q.batch_shape, [(gradient, logits(q))])

    def _relaxed(self, f: Integrand, q: Distribution, z: Tensor, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return c(z) and dc/dz, attached to the temperature while that learns, and to nothing else that matters."""
        learning = isinstance(temperature, Tensor) and temperature.requires_grad
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            y = squash(q, z, temperature)
            fy = f(y)
            needs_gradient(self, fy, y)
            (slope,) = torch.autograd.grad(fy.sum(), z, create_graph=learning)
        return (fy if learning else fy.detach()), slope


def _perturbed(q: Distribution, n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Return uniforms, and q's logits plus the logistic or Gumbel noise made of them, ``[n, *batch, *event]`` each."""
    own = one(logits(q).detach()).clamp_min(-1e4)  # 0 times the infinity of an impossible category is none
    u = uniform(Size((n, *q.batch_shape, *q.event_shape)), own, generator)
    noise = u.logit() if isinstance(inner(q), Bernoulli) else u.log().neg_().log_().neg_()
    return u, noise.add_(own)


def _untied(q: Distribution, p: Tensor, x: Tensor, u: Tensor, z: Tensor, slope: Tensor) -> Tensor:
    """Return the slope times ``dz - dz'``, the part of z's derivative in the logits that z' does not have."""
    if isinstance(inner(q), Bernoulli):
        other = torch.addcmul(p, x, 1 - 2 * p)  # 1 - p where x is 1, else p
        return other.div_((1 - x).sub_(u).abs_()).mul_(slope)
    each = slope * (z - z.amax(-1, keepdim=True)).exp()
    return each - p * each.sum(-1, keepdim=True)  # the logits of q are normalised
