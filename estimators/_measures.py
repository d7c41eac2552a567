"""The derivatives of q as differences of densities: a constant c and samples x+ and x- for each parameter.

``dq/dtheta_i = c (q+ - q-)`` (Pflug 1996). x+ is a sample of q+ and x- of q-. If q+ or q- can be chosen as q, its
sample is x itself.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Distribution, Normal, Poisson, Weibull

from estimators._coordinates import neighbour
from estimators._densities import row_probs
from estimators._draws import draw
from estimators._laws import inner
from estimators._noise import normal, uniform
from estimators._parameters import parameters
from estimators._refusals import Refusal
from estimators._rows import one
from estimators._transforms import transformed


class Pair(NamedTuple):
    """A constant c and two samples, from which the derivatives of E_q[f] in one parameter of q are estimated.

    Let x be a sample of q. The parameter has an entry for each coordinate. For entry i, f is evaluated at two points: x
    with coordinate i from ``plus``, and x with coordinate i from ``minus``. The first value minus the second, times c,
    estimates the derivative. ``plus`` and ``minus`` are ``[n, *batch, *event]``, and c broadcasts against them. If
    ``plus`` or ``minus`` is None, its point is x itself.
    """

    c: Tensor
    plus: Tensor | None
    minus: Tensor | None


def pairs(q: Distribution, n: int, coupled: bool, generator: Generator | None) -> tuple[Tensor, dict[str, Pair]]:
    """Return n samples x of q, ``[n, *batch, *event]``, and the ``Pair`` of each parameter of q, by name.

    A ``Pair`` holds a constant and two samples, from which the derivatives of E_q[f] in the parameter are estimated. If
    no pair is known for a parameter, as for the concentration of a Gamma, the parameter is left out.

    Args:
        q: a distribution of independent coordinates.
        n: number of samples.
        coupled: whether the two samples of a pair share their noise with each other or with x. If False, each sample
            has noise of its own.
        generator: source of all noise; torch's global generator if None.
    """
    base = inner(q)
    own = {name: one(value.detach(), q) for name, value in parameters(q).items()}
    if isinstance(base, Normal):
        return _normal(q, n, own["loc"], own["scale"], coupled, generator)
    x = draw(q, n, generator)
    if isinstance(base, Bernoulli):
        p = row_probs(q)
        slope = torch.ones_like(p) if "probs" in own else p * (1 - p)
        return x, {next(iter(own)): Pair((1 - 2 * x) * slope, 1 - x, None)}
    start = x if coupled else draw(q, n, generator)
    if isinstance(base, Poisson):
        above, c = neighbour(start, 1, torch.ones_like(own["rate"]))
        if not coupled and not (transformed() or x.is_meta) and c.numel() and c.min() < 1:
            raise Refusal(
                f"MeasureValued(coupled=False) has no samples x + 1: a count of {start.max().item():.0f} plus 1 is no "
                f"other number in {str(x.dtype).removeprefix('torch.')}. Use MeasureValued(), or a q in float64."
            )
        return x, {"rate": Pair(c, above, None)}
    further = -uniform(x.shape, x, generator).log()  # a standard exponential
    if isinstance(base, Weibull):  # torch's rate is scale^-concentration
        scale, k = own["scale"], own["concentration"]
        return x, {"scale": Pair(k / scale, scale * ((start / scale) ** k + further) ** (1 / k), None)}
    rate = own["rate"]  # Exponential is the Gamma of concentration 1
    return x, {"rate": Pair(own.get("concentration", torch.ones_like(rate)) / rate, None, start + further / rate)}


def _normal(
    q: Distribution, n: int, loc: Tensor, scale: Tensor, coupled: bool, generator: Generator | None
) -> tuple[Tensor, dict[str, Pair]]:
    """Return samples and pairs of a Normal.

    The samples are ``x = loc + scale U M``, because a uniform times a double-sided Maxwell variable is normal.
    """
    shape = Size((n, *q.batch_shape, *q.event_shape))
    w, m = _rayleigh_and_maxwell(shape, loc, generator)
    x = loc + scale * uniform(shape, loc, generator) * m
    other_w, m = (w, m) if coupled else _rayleigh_and_maxwell(shape, loc, generator)
    return x, {
        "loc": Pair(1 / (scale * math.sqrt(2 * math.pi)), loc + scale * w, loc - scale * other_w),
        "scale": Pair(1 / scale, loc + scale * m, None),
    }


def _rayleigh_and_maxwell(shape: Size, like: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Return a Rayleigh variable W and a double-sided Maxwell variable M, made from W and a normal N.

    ``M = sign(N) sqrt(W^2 + N^2)``
    """
    square = -2 * uniform(shape, like, generator).log()
    z = normal(shape, like, generator)
    return square.sqrt(), torch.copysign((square + z.square()).sqrt(), z)
