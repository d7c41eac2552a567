"""The von Mises distribution, with samples that are differentiable in its parameters."""

import functools
import math
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import VonMises

from estimators._checks import holds
from estimators._first_order import first_order
from estimators._noise import uniform
from estimators._surrogate import grad_only
from estimators._transforms import is_differentiated, no_derivatives
from estimators.distributions import Drawable

NODES = 48  # of the quadrature
REACH = 40.0  # the largest fall of the log-density within the range of the quadrature


class ReparameterizedVonMises(Drawable, VonMises):
    """Von Mises with implicit reparameterization; a drop-in replacement for torch's ``VonMises``.

    ``dx/dloc = 1``
    ``dx/dconcentration = -dF(x)/dconcentration / q(x)``

    F(x) is the integral of q from loc to x. Samples are angles in radians in [-pi, pi). f should be periodic: if it
    jumps between -pi and pi, the gradient in loc is biased. ``log_prob`` is exact to rounding (torch's to about 1e-7).

    Args:
        loc: the mean angle in radians, any real number; ``[*batch]``.
        concentration: positive; ``[*batch]``.
        validate_args: whether torch checks the arguments.

    Reference: Figurnov, Mohamed & Mnih 2018, sections 3 and 5.1. Departure: the derivative of F is computed as an
    integral, by Gauss-Legendre quadrature, and not from a series. Sampler: Best & Fisher 1979.
    """

    has_rsample: ClassVar[bool] = True  # type: ignore[misc]

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return random angles in radians, ``[*sample_shape, *batch]``, without a graph.

        If ``generator`` is None, torch's global generator draws.
        """
        return _wrapped(self._turn(sample_shape, generator) + self.loc.detach())

    def rdraw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return angles in radians, ``[*sample_shape, *batch]``, differentiable once in loc and concentration.

        If ``generator`` is None, torch's global generator draws.
        """
        turn = self._turn(sample_shape, generator)
        if is_differentiated(self.concentration):
            path = turn + speed(turn, self.concentration.detach()) * grad_only(self.concentration)
            turn = first_order(path, "ReparameterizedVonMises")
        return _wrapped(turn + self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density at the angles ``value`` in radians; both have the shape ``[..., *batch]``."""
        if self._validate_args:
            self._validate_sample(value)
        fall: Tensor = -2 * self.concentration * ((value - self.loc) / 2).sin().square()
        log_bessel: Tensor = torch.special.i0e(self.concentration).log()
        return fall - math.log(2 * math.pi) - log_bessel

    def _turn(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return angles around 0: wrapped Cauchy proposals are drawn until every element has accepted one."""
        with no_derivatives():
            shape, k = self._extended_shape(sample_shape), self.concentration.detach().double()
            root = (1 + 4 * k.square()).sqrt()
            cauchy = 2 * k / (root + 1) / (1 + (2 / (1 + root)).sqrt())
            ratio = k / (2 * cauchy)
            turn, pending = k.new_zeros(shape), torch.ones(shape, dtype=torch.bool, device=k.device)
            while holds(pending.any(), "ReparameterizedVonMises"):
                tangent = ((uniform(shape, k, generator) - 0.5) * math.pi).tan()
                proposal = 2 * ((1 - cauchy) / (1 + cauchy) * tangent).atan()
                w = ratio * ((1 - cauchy).square() + 4 * cauchy * (proposal / 2).sin().square())
                accepted = uniform(shape, k, generator).log() < 1 + w.log() - w
                turn = torch.where(pending & accepted, proposal, turn)
                pending &= ~accepted
            return turn.to(self.concentration.dtype)


def speed(turn: Tensor, concentration: Tensor) -> Tensor:
    """Return the derivative of von Mises samples in the concentration, in radians, of the shape of ``turn``.

    ``turn`` is the angle from loc to a sample, -pi to pi. For a negative angle, the result is the negative of that for
    the positive one, so let x be an angle from 0 to pi. q is the density of the angle. F' is the derivative of its
    distribution function in the concentration, and A the mean of cos t under q.

    ``dx/dconcentration = -F'(x) / q(x)``
    ``F'(x) = int_0^x (cos t - A) q(t) dt``
    ``F'(x) = -int_x^pi (cos t - A) q(t) dt``

    The two integrals for F' are equal, as the integral over [0, pi] is 0. The first is used for x below arccos A, the
    second for x above. So the integrand has one sign and never overflows.
    """
    x, k = turn.abs().double(), concentration.double()
    spread = 1 - torch.special.i1e(k) / torch.special.i0e(k)  # 1 - A
    inside = 2 * (x / 2).sin().square() < spread
    low, high = torch.where(inside, 0.0, x), torch.where(inside, x, (x.cos() - REACH / k).clamp_min(-1).acos())
    high = torch.maximum(high, low)  # acos is inexact if q is narrow
    total = torch.zeros_like(x)
    for node, weight in _gauss_legendre():
        t = low + (high - low) * node
        slope = spread - 2 * (t / 2).sin().square()  # cos t - A
        total += weight * slope * (2 * k * ((x + t) / 2).sin() * ((x - t) / 2).sin()).exp()
    return (turn.sign() * torch.where(inside, -total, total) * (high - low)).to(turn.dtype)


@functools.cache
def _gauss_legendre() -> list[tuple[float, float]]:
    """Return pairs of node and weight on [0, 1], from the eigenvectors of the Jacobi matrix (Golub & Welsch 1969)."""
    k = torch.arange(1, NODES, dtype=torch.float64)
    beside = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return list(zip(((nodes + 1) / 2).tolist(), vectors[0].square().tolist(), strict=True))


def _wrapped(angle: Tensor) -> Tensor:
    """Return an angle in [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
