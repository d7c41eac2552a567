"""The objective protocol: an expectation, the point of measurement and, if mathematics gives one, an exact value."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators import Estimator, Integrand

Theta = dict[str, Tensor]


def point(dim: int, dtype: torch.dtype, device: torch.device | str, **values: float) -> Theta:
    """Return theta: a leaf ``[dim]`` that requires gradients for each name, with the given number everywhere."""
    return {k: torch.full((dim,), x, dtype=dtype, device=device, requires_grad=True) for k, x in values.items()}


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective made concrete in one dtype and on one device.

    Args:
        theta: the point at which the gradient is measured: named leaf tensors that require gradients.
        q: maps theta to the distribution, batch shape ``[*batch]``, built as a user would build it.
        integrand: maps q to f, or to a ``Bound``. f may depend on theta only through this q.
        exact: maps theta to the mean over the batch of E_q[f], a differentiable scalar; None without an exact value.
        extra: named tensors that only f uses, such as a decoder; they are trained by pass-through and not measured.
        minibatch: maps i = 0, 1, 2 ... to the problem on the i-th minibatch of the data, with this theta and extra; all
            minibatches have one batch shape. Only for training; None if the problem is its own only minibatch.
        held_out: the problem on data that no minibatch contains, with this theta and extra; None without such data.
        pictures: maps a generator to pictures for a person to look at: named stacks of grey images, ``[..., h, w]``
            from 0 to 1, laid out along the axes before the last two; None without pictures.
    """

    theta: Theta
    q: Callable[[Theta], Distribution]
    integrand: Callable[[Distribution], Integrand]
    exact: Callable[[Theta], Tensor] | None = None
    extra: Theta = field(default_factory=dict)
    minibatch: Callable[[int], Problem] | None = None
    held_out: Problem | None = None
    pictures: Callable[[Generator], dict[str, Tensor]] | None = None


class Objective(abc.ABC):
    """An expectation E_{x~q}[f(x)] whose gradient is to be estimated.

    A subclass is a frozen dataclass. Its fields, numbers, strings and tuples, are its identity. Its class attributes
    declare facts that planning reads without computing anything.
    """

    family: ClassVar[type[Distribution]]
    """Type of q, or of its base if q is an ``Independent``."""
    dim: int
    """Number of random coordinates: a field, or a constant of the class."""
    differentiable: bool = True
    """Whether f has a gradient in x."""
    relaxable: bool = True
    """Whether f is defined off the support of q."""
    bound: bool = False
    """Whether f is a ``Bound``."""
    maximise: bool = False
    """Whether training maximises the value. (Bounds always are maximised.)"""
    particles: int | None = None
    """Number of particles of the bound, the first event axis of q; None without such an axis."""
    has_exact: bool = True
    """Whether there is an exact gradient (closed form, enumeration or quadrature)."""
    exact_error: float = 0.0
    """Absolute error of the exact gradient beyond rounding, in the Euclidean norm."""
    reference_estimator: Estimator | None = None
    """An unbiased estimator; without an exact gradient, a long run of it is the reference."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names on the command line."""
    reference: ClassVar[str] = ""
    """Source of the problem, in a few words."""

    @property
    def contents(self) -> dict[str, str]:
        """Digests of the files that fields name; in the identity they replace the values of these fields."""
        return {}

    @property
    def row_elements(self) -> int:
        """Number of elements of one row's largest tensor, for one sample."""
        return self.dim

    @abc.abstractmethod
    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return the problem in the given dtype, on the given device."""

    def restarted(self, seed: int) -> Self:
        """Return the objective at another starting point, with its minibatches in another order.

        Seed 0 returns this objective; so does every seed if the objective has no such choice.
        """
        return self
