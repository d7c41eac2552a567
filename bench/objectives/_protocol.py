"""The objective protocol: what is measured, at which point, and its exact gradient where mathematics gives one."""

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


@dataclass(frozen=True, eq=False)
class Problem:
    """An objective made concrete in one dtype and on one device.

    Args:
        theta: the point at which the gradient is measured: named leaf tensors that require gradients.
        q: theta to the distribution, batch shape ``[*batch]``, built as a user would build it.
        integrand: q to f (or a ``Bound``). f may depend on theta only through the q that it is given.
        exact: theta to the mean over batch of E_q[f], a differentiable scalar; None where there is no exact value.
        extra: named tensors that only f uses (a decoder); trained by pass-through, not measured.
        minibatch: i = 0, 1, 2 ... to the same problem, made of the same theta and extra, on the i-th minibatch of the
            data; all have one batch shape. Only for training; None where the problem is its own only minibatch.
        held_out: the same problem, made of the same theta and extra, on data that are in no minibatch, where there are.
        pictures: what a person may look at, drawn with a generator: names to stacks of grey images, ``[..., h, w]``
            from 0 to 1; the axes before the last two are how they are laid out.
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

    Subclasses are frozen dataclasses of numbers, strings and tuples, which are their identity. The class attributes are
    the declared facts that planning reads without computing anything.
    """

    family: ClassVar[type[Distribution]]
    """Type of q, without ``Independent``."""
    dim: int
    """Number of random coordinates: a field, or a constant of the class."""
    differentiable: bool = True
    """Does f have a gradient in x?"""
    relaxable: bool = True
    """Does f make sense off the support of q?"""
    bound: bool = False
    """Is f a ``Bound``? Its value is to be maximised."""
    maximise: bool = False
    """Is the value of what is no bound to be maximised? Else training minimises it."""
    particles: int | None = None
    """Particles of the bound, the first event axis of q; None for no such axis."""
    has_exact: bool = True
    """Is there an exact gradient (closed form, enumeration, quadrature)?"""
    exact_error: float = 0.0
    """Absolute error of the exact gradient beyond rounding, in its Euclidean norm."""
    reference_estimator: Estimator | None = None
    """An unbiased estimator whose long run stands in for the exact gradient where there is none."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names on the command line."""
    reference: ClassVar[str] = ""
    """Where the problem comes from, in a few words."""

    @property
    def contents(self) -> dict[str, str]:
        """Digests of the files that fields name: in the identity they stand for those fields."""
        return {}

    @property
    def row_elements(self) -> int:
        """Elements of one row's largest tensor, for one sample."""
        return self.dim

    @abc.abstractmethod
    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Make the problem in a dtype, on a device."""

    def restarted(self, seed: int) -> Self:
        """Return the same objective at another starting point, and with its minibatches in another order.

        Where there is nothing of the kind to choose, it is this very objective. Seed 0 is always this very objective.
        """
        return self
