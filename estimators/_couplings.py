"""Coupled noise and bits: each one alone is an ordinary draw, but together they spread better than independent ones."""

import functools
import math

import torch
from torch import Generator, Size, Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.distributions import Distribution, MultivariateNormal, Normal
from torch.quasirandom import SobolEngine

from estimators._densities import row_probs
from estimators._laws import inner
from estimators._noise import normal, uniform
from estimators._parameters import first_parameter
from estimators._refusals import Refusal
from estimators._transforms import transformed, vmapped

DIGITS = SobolEngine.MAXBIT  # the number of binary digits of torch's Sobol points


def antithetic(n: int, q: Distribution, generator: Generator | None) -> Tensor:
    """Return n standard normals, ``[n, *batch, *event]``, for an even n: n/2 draws, then their negatives.

    ``*batch`` and ``*event`` are the shapes of q. If ``generator`` is None, torch's global generator draws.
    """
    half = normal(Size((n // 2, *q.batch_shape, *q.event_shape)), first_parameter(q), generator)
    return torch.cat([half, -half])


def antithetic_bits(n: int, q: Distribution, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Return uniforms u, ``[n/2, *batch, *event]``, and bits made from them, ``[n, *batch, *event]``.

    ``b = 1[u < p]``
    ``b' = 1[1 - u < p]``

    p are the probabilities of q. The first half of the bits are b, the second half their antithetic partners b'. If
    ``generator`` is None, torch's global generator draws.
    """
    p, pairs = row_probs(q), n // 2
    u = uniform(Size((pairs, *q.batch_shape, *q.event_shape)), p, generator)
    if transformed():
        return u, torch.cat([u < p, u > 1 - p]).to(u.dtype)
    x = u.new_empty((n, *u.shape[1:]))  # comparing into it takes an eighth of the time of cat and to
    torch.lt(u, p, out=x[:pairs])
    torch.gt(u, 1 - p, out=x[pairs:])
    return u, x


def sobol(n: int, q: Distribution, generator: Generator | None) -> Tensor:
    """Return n standard normals, ``[n, *batch, *event]``: Sobol points under a random digital shift.

    ``*batch`` and ``*event`` are the shapes of q. The n Sobol points in [0, 1)^D, for D coordinates, are fixed. For
    each batch element, a random shift is added to all of them. So every single point is uniform, and the n points of
    one batch element are spread evenly. The first binary digit of a coordinate becomes the sign of the normal. The
    other digits are read as a probability p, which determines the absolute value a of the normal: ``P(|Z| > a) = p``
    for a standard normal Z. So no digits are lost in the tails. (The quantile function would need a uniform, and
    float32 rounds a uniform near 1 to 1.) If ``generator`` is None, torch's global generator draws the shifts.

    Raises:
        Refusal: an event has more coordinates than torch's Sobol engine (21,201), or ``torch.func.vmap`` is active.
    """
    like = first_parameter(q)
    shape, dim = Size((*q.batch_shape, *q.event_shape)), math.prod(q.event_shape)
    if dim > SobolEngine.MAXDIM:
        raise Refusal(
            f"torch's Sobol points have at most {SobolEngine.MAXDIM:,} coordinates (got {dim:,} in one event). "
            "Use Reparameterization(n=2, noise='antithetic')."
        )
    if vmapped():
        raise Refusal("torch's Sobol points do not work under vmap. Use Reparameterization(n=2, noise='antithetic').")
    shift = torch.randint(2**DIGITS, shape, generator=generator, device=like.device)
    digits = _points(n, dim, like.device).reshape(n, *(1 for _ in q.batch_shape), *q.event_shape) ^ shift
    last = uniform(shape, like, generator)  # the shift's further digits: the points have none
    tail = ((digits & (2 ** (DIGITS - 1) - 1)) + last) / 2 ** (DIGITS - 1)
    distance = torch.special.ndtri(tail / 2)
    return torch.where(digits >= 2 ** (DIGITS - 1), -distance, distance)


@functools.lru_cache(maxsize=8)
def _points(n: int, dim: int, device: torch.device) -> Tensor:
    """Return the fixed points as integers, ``[n, dim]``; scrambled once, as the bare sequence is coarse at small n."""
    with temporarily_clear_interpreter_stack():  # torch's engine does not work inside of torch.func
        engine = SobolEngine(dim, scramble=True, seed=0)  # type: ignore[no-untyped-call]
        points: Tensor = engine.draw(n, dtype=torch.float64) * 2**DIGITS
        return points.to(torch.int64).to(device)


def location_scale(q: Distribution, noise: Tensor) -> Tensor:
    """Return samples of a Normal or MultivariateNormal q, ``[n, *batch, *event]``, differentiable in q's parameters.

    The samples are made from ``noise``, standard normals ``[n, *batch, *event]``.
    """
    base = inner(q)
    if isinstance(base, MultivariateNormal):
        return base.loc + (base.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    assert isinstance(base, Normal)
    return torch.addcmul(base.loc, noise, base.scale)
