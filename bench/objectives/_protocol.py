"""The protocol of objectives: an expectation, the point where its gradient is measured, and its exact value."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.objectives._row_elements import largest_of_a_row
from estimators import Estimator, Integrand, PlainFields, parameters

Theta = dict[str, Tensor]
MEASURED = "_row_elements"
"""Key of the measured ``row_elements`` in an instance's ``__dict__``: it travels with the instance to a worker."""


def point(dim: int, dtype: torch.dtype, device: torch.device | str, **values: float) -> Theta:
    """Return theta: for each name, a leaf tensor ``[dim]`` that requires gradients, filled with one number.

    For example, ``mean=1.0`` gives the tensor "mean" of ``dim`` ones.
    """
    return {k: torch.full((dim,), x, dtype=dtype, device=device, requires_grad=True) for k, x in values.items()}


@dataclass(frozen=True, eq=False)
class Problem:
    """The tensors and functions of an objective in one dtype, on one device.

    Args:
        theta: the point at which the gradient is measured: named leaf tensors that require gradients.
        q: maps theta to the distribution q, of batch shape ``[*batch]``, without an axis for replicates.
        integrand: maps q to the function f, which may be a ``Bound``. f may depend on theta only through this q.
        exact: maps theta to E_q[f], averaged over the batch: a differentiable scalar. None if no exact value is known.
        extra: named tensors that only f uses, such as a decoder's weights. They are trained too, but the gradient with
            respect to them is not measured.
        minibatch: maps i = 0, 1, 2 ... to the problem on minibatch i of the data, for training. These problems share
            theta and extra with this problem, and have one batch shape. If None, every step trains on this problem
            itself.
        held_out: the problem on data that no minibatch contains; it shares theta and extra with this problem. None if
            there is no such data.
        pictures: maps a random generator to pictures for people to look at: named tensors ``[..., h, w]`` of grey
            levels from 0 to 1. The leading axes say how the images are laid out. None if there are no pictures.
    """

    theta: Theta
    q: Callable[[Theta], Distribution]
    integrand: Callable[[Distribution], Integrand]
    exact: Callable[[Theta], Tensor] | None = None
    extra: Theta = field(default_factory=dict)
    minibatch: Callable[[int], Problem] | None = None
    held_out: Problem | None = None
    pictures: Callable[[Generator], dict[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        """Raise ``TypeError`` if a value stands where a function is needed."""
        for name, of in (("exact", "theta"), ("minibatch", "i"), ("pictures", "a generator")):
            if (value := getattr(self, name)) is not None and not callable(value):
                raise TypeError(f"{name} must be a function of {of}, or None (got {type(value).__name__})")


class Objective(PlainFields, abc.ABC):
    """An expectation E_{x~q}[f(x)]. Its gradient with respect to theta, the parameters behind q, is to be estimated.

    A subclass is a frozen dataclass. Its fields (numbers, strings and tuples) are its identity. Its class attributes,
    such as ``family``, declare facts about it, which can be read before anything is computed.
    """

    family: ClassVar[type[Distribution]]
    """Class of the distribution q; if q is an ``Independent``, the class of its base distribution."""
    dim: int
    """Number of random coordinates of q; a subclass makes it a field, a constant or a property."""
    differentiable: bool = True
    """Whether f has a gradient with respect to the sample x."""
    relaxable: bool = True
    """Whether f is also defined at points outside the support of q."""
    bound: bool = False
    """Whether f is a ``Bound``, such as an evidence lower bound."""
    costs: bool = False
    """Whether f is a ``Return``, which shows its costs."""
    sets: bool = False
    """Whether f is a ``SetFunction`` of several samples, which lie along q's first event axis."""
    maximise: bool = False
    """Whether training maximises the expectation instead of minimising it. (A bound is always maximised.)"""
    particles: int | None = None
    """Number of particles of the bound, which is the length of q's first event axis; None without such an axis."""
    layer_families: tuple[type[Distribution], ...] = ()
    """Families of the layers of q, in order, if q is a ``Layers``; empty for any other q."""
    has_exact: bool = True
    """Whether the exact gradient can be computed (by closed form, enumeration or quadrature)."""
    exact_error: float = 0.0
    """Euclidean norm of the error in the exact gradient, not counting rounding."""
    reference_estimator: Estimator | None = None
    """Unbiased estimator whose mean over a long run stands in for an exact gradient that cannot be computed."""
    shared: tuple[str, ...] = ()
    """Names of tensors in theta that f uses too, as constants: only the gradient through q is measured."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the objective on the command line."""
    reference: ClassVar[str] = ""
    """Source of the problem, in a few words."""

    @property
    def contents(self) -> dict[str, str]:
        """Digests of files, by the name of the field that names the file; empty if no field names a file.

        For example, ``at`` can be the path of a file of weights. In the identity of the objective, the digest of the
        file then stands in place of the path.
        """
        return {}

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample.

        The number limits how many estimates are computed at a time. If a subclass does not declare the number, two
        trial calls of f measure it, once for each instance. If a trial call raises an exception, the number is ``dim``.
        The later measurement then raises and reports the exception.
        """
        if MEASURED not in self.__dict__:
            try:
                self.remember_row_elements(self.measured_row_elements())
            except Exception:
                return self.dim
        return int(self.__dict__[MEASURED])

    def measured_row_elements(self, *, with_theta: bool = True) -> int:
        """Measure the number of elements in the largest tensor of one estimate; return it rounded up to a power of two.

        The parameters of q count among the tensors, because an estimate computes gradients with respect to them. The
        tensors of theta count only if ``with_theta`` is True.
        """
        problem = self.build()
        q = problem.q(problem.theta)
        held = [*parameters(q).values(), *(problem.theta.values() if with_theta else ())]
        return largest_of_a_row(q, problem.integrand, held)

    @property
    def known_row_elements(self) -> int | None:
        """``row_elements`` if it was measured or set before, else None. Nothing is measured now.

        ``row_elements`` is the number of elements in the largest tensor of one estimate with one sample.
        """
        return self.__dict__.get(MEASURED)

    def remember_row_elements(self, count: int) -> None:
        """Set ``row_elements`` to ``count``, so that it is not measured."""
        self.__dict__[MEASURED] = count

    @abc.abstractmethod
    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

    def restarted(self, seed: int) -> Self:
        """Return the objective for another training run, with new initial weights and a new order of minibatches.

        The weights and the order follow from ``seed``. The result equals this objective if ``seed`` is 0, or if the
        objective has no random initial weights.
        """
        return self


def is_own(objective: Objective) -> bool:
    """Return whether an objective is the user's own: whether its class is defined outside of ``bench.objectives``."""
    return not f"{type(objective).__module__}.".startswith("bench.objectives.")
