"""Distributions of several choices in a row, each made given the choices before it."""

import abc
import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from estimators._axes import over_event
from estimators._densities import log_prob
from estimators._laws import has_law, inner
from estimators.distributions import Drawable


class Chain(Drawable):
    """A distribution of T choices in a row: the base class for policies, token sequences and layered models.

    ``q(x) = prod_t q_t(x_t | x_<t)``

    x_t is choice t, and x_<t are the choices before it. A sample x holds all T choices. A subclass stores every
    constructor argument under the argument's name, and defines ``draw`` and ``log_probs``. A subclass may hold the
    weights of a network as a mapping of tensors. A weight may have extra axes on the left of its own shape, ``[*lead,
    *own]``, for several networks. The batch shape of q then begins with ``*lead``. The function ``rows`` makes one copy
    of every weight for each independent estimate. The copies lie along one new axis on the left, so the network must
    use batched products.

    The choices lie along the first axis of the event: choice t is ``x[..., t]``, or ``x[..., t, :]`` if a choice has
    several coordinates. A subclass whose choices differ in size overrides ``widths``.
    """

    @abc.abstractmethod
    def log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each of the T choices given the earlier choices, ``[..., *batch, T]``.

        A choice after the end of a sequence has the log-probability 0.

        Args:
            value: samples, ``[..., *batch, *event]``.
        """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log q at ``value``, ``[..., *batch]``: the sum of ``log_probs`` over the choices.

        Args:
            value: samples, ``[..., *batch, *event]``.
        """
        return self.log_probs(value).sum(-1)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of entries that each of T choices takes up along the first axis of the event; here all are 1."""
        return (1,) * self.event_shape[0]


def widths(q: Distribution) -> tuple[int, ...]:
    """Return how many entries each choice of q has along the first axis of q's event.

    A ``Chain`` has its own ``widths``. Each coordinate of a ``MultivariateNormal`` is a choice, and so is each entry
    along the first event axis of an ``Independent``. Any other q is one choice; if it has no event, the result is
    ``(1,)``.
    """
    base = inner(q)
    if isinstance(base, Chain):
        return base.widths
    if has_law(type(base), MultivariateNormal) or (isinstance(q, Independent) and _independent(q)):
        return (1,) * q.event_shape[0]
    return (q.event_shape[0] if q.event_shape else 1,)


def _independent(q: Distribution) -> int:
    """Return the number of event axes along which the coordinates of q are independent."""
    return len(inner(q).batch_shape) - len(q.batch_shape)


def log_probs(q: Distribution, x: Tensor) -> Tensor:
    """Return the log-probability of each of q's T choices given the earlier choices, ``[..., *batch, T]``.

    The result is differentiable in q's parameters. A ``Chain`` says itself what its choices are. Each coordinate of a
    ``MultivariateNormal`` is a choice, and so is each entry along the first event axis of an ``Independent``. Any other
    q is one choice, T = 1. For coordinate d of a ``MultivariateNormal`` with Cholesky factor L, the conditional law is

    ``x_d | x_<d ~ N(loc_d + sum_{j < d} L_dj z_j, L_dd^2)``,  z the solution of ``L z = x - loc``

    Args:
        q: the distribution, batch shape ``[*batch]``.
        x: samples, ``[..., *batch, *event]``.
    """
    base = inner(q)
    if isinstance(base, Chain):
        return base.log_probs(x)
    if has_law(type(base), MultivariateNormal):
        assert isinstance(base, MultivariateNormal)
        scale = base.scale_tril
        off = (x - base.loc).reshape(-1, *base.loc.shape).movedim(0, -1)
        z = torch.linalg.solve_triangular(scale, off, upper=False).movedim(-1, 0).reshape(x.shape)
        each: Tensor = z.square() / -2 - scale.diagonal(dim1=-2, dim2=-1).log() - math.log(2 * math.pi) / 2
        return each
    if isinstance(q, Independent) and (axes := _independent(q)):
        return over_event(log_prob(base, x), axes - 1)
    return log_prob(q, x).unsqueeze(-1)
