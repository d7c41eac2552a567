"""The objective that two functions and a point make."""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Self, cast

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.distributions import Distribution
from torch.utils.data import TensorDataset

from bench.expectation.arguments import called_with, checked, tensors_of
from bench.expectation.conversion import Point, converted, unify
from bench.expectation.facts import (
    coordinates_of,
    enumeration_of,
    is_differentiable,
    is_enumerable,
    is_relaxable,
    names_in_f,
    names_used,
    reference_for,
)
from bench.expectation.identity import pieces
from bench.expectation.mapping import mapped, mapping_for
from bench.expectation.trial import Function, q_of
from bench.objectives import Objective, Problem, Theta
from bench.records.seeds import draw_seed
from bench.records.text import listed
from estimators import Bound, Layers, Return, SetFunction, inner


@dataclass(frozen=True)
class _Parts:
    """What an expectation is made of, and what trial calls have found out about it."""

    q: Function
    f: Function
    theta: Mapping[str, Tensor] | nn.Module
    exact: Function | None
    data: tuple[Tensor, ...]
    batch_size: int
    particles: int | None
    extra: Mapping[str, Tensor] | nn.Module | None
    seed: int = 0
    names: tuple[str, ...] | None = None
    mapping: str | None = None
    axes: int = 0
    is_summed: bool = False


class Forms(NamedTuple):
    """The forms in which an expectation's arguments were given.

    ``theta`` is "module" or "dict". ``extra`` is "module" or "dict", or None if it was not given. ``batch_size`` is the
    number of rows of ``data`` in a batch; None if there are no data.
    """

    theta: str
    extra: str | None
    batch_size: int | None


@dataclass(frozen=True, eq=False, init=False)
class Expectation(Objective):
    """Your own expectation E_{x~q}[f(x)], to be measured at a point theta.

    ``measure(RLOO(n=4), Expectation(lambda t: Bernoulli(logits=t["logits"]), f, {"logits": logits}))``

    A few trial calls find out the rest: the family and the size of q, whether f has a gradient, and whether f is
    defined between the states of q. If q has at most 65,536 states, the exact gradient is computed from the sum over
    all states. If it has more, a long run of an unbiased estimator takes the place of the exact gradient. A module
    given as ``theta`` is copied, so that yours never changes. If the measurement has another dtype or device than
    ``theta``, tensors that your functions close over are converted, too.

    Args:
        q: maps theta to a distribution of batch shape ``[*batch]``. If ``data`` is given, q is called as
            ``q(theta, *rows_of_data)``.
        f: maps samples ``[..., *batch, *event]`` to values ``[..., *batch]``. If both ``extra`` and ``data`` are given,
            f is called as ``f(x, extra, *rows_of_data)``; if only one is given, the other is left out of the call. If f
            cannot take several samples at once, it is mapped over the samples. f does not get theta: only the gradient
            through q is measured.
        theta: named tensors, or a module, whose parameters are the point. q gets a dict of tensors, or a copy of the
            module. Parameters of the module that q does not use are left out.
        log_joint: log p(x) up to a constant, in place of f. The integrand is then the evidence lower bound
            ``log p(x) - log q(x)`` or, if ``particles`` is given, the importance-weighted bound.
        particles: number K of particles, the length of q's first event axis; only with ``log_joint``.
        exact: maps theta, as q gets it, to E_q[f], averaged over the batch: a differentiable scalar.
        extra: named tensors, or a module, that f uses and that training trains too, such as a decoder. f gets a dict,
            or a copy of the module, as its second argument. Tensors that f closes over stay constant in training.
        data: a tensor, several tensors or numpy arrays with equally many rows, or a ``TensorDataset``. A measurement
            uses the first ``batch_size`` rows, training uses random rows.
        batch_size: number of rows of the data in a batch; None for all rows.
        maximise: whether training maximises the expectation. A bound is always maximised.
        name: the name in tables.

    Raises:
        ValueError: an argument cannot be used. The message says which one, and why.
    """

    name: str = "expectation"
    _parts: _Parts = field(init=False, repr=False)

    def __init__(
        self,
        q: Function,
        f: Function | None = None,
        theta: Mapping[str, Tensor] | nn.Module | None = None,
        *,
        log_joint: Function | None = None,
        particles: int | None = None,
        exact: Function | None = None,
        extra: Mapping[str, Tensor] | nn.Module | None = None,
        data: Tensor | NDArray[Any] | TensorDataset | Sequence[Tensor | NDArray[Any]] = (),
        batch_size: int | None = None,
        maximise: bool = False,
        name: str = "expectation",
    ) -> None:
        data = tensors_of(data)
        whole = checked(q, f, log_joint, theta, particles, exact, extra, data, batch_size, name)
        size = batch_size or (len(data[0]) if data else 0)
        parts = _Parts(q, whole, cast(Any, theta), exact, data, size, particles, extra)
        self._set(name=name, _parts=parts, maximise=maximise, bound=f is None, particles=particles)
        problem, own = self._trial()
        self._set(family=type(inner(own)), dim=coordinates_of(own))
        self._set(layer_families=own.families if isinstance(own, Layers) else (), costs=isinstance(f, Return))
        self._set(sets=isinstance(f, SetFunction))
        found = replace(
            parts,
            names=names_used(problem, own, parts.theta),
            mapping=mapping_for(problem, own, called_with("extra", parts.extra, data)),
        )
        axes = len(own.batch_shape) + len(own.event_shape)
        self._set(_parts=replace(found, axes=axes, is_summed=exact is None and is_enumerable(own)))
        problem, own = self._trial()
        self._set(shared=names_in_f(parts.f, parts.theta, parts.extra, own, problem))
        if self.shared:
            warnings.warn(
                f"f uses {listed(self.shared)}, which is in theta, and not only through q. What is measured is the "
                "gradient through q: f sees the numbers that you gave, as constants.",
                stacklevel=2,
            )
        self._set(differentiable=is_differentiable(problem, own), relaxable=is_relaxable(problem, own))
        self._set(has_exact=problem.exact is not None)
        self._set(reference_estimator=None if self.has_exact else reference_for(problem, own, self.differentiable))

    @property
    def forms(self) -> Forms:
        """Whether theta and extra were given as modules or as dicts, and how many rows of data a batch has.

        The result has three fields: ``theta`` and ``extra`` are "module" or "dict", and ``batch_size`` is the number of
        rows. ``extra`` is None if none was given, and ``batch_size`` is None if there are no data.
        """
        theta, extra = (
            None if given is None else "module" if isinstance(given, nn.Module) else "dict"
            for given in (self._parts.theta, self._parts.extra)
        )
        return Forms(str(theta), extra, self._parts.batch_size if self._parts.data else None)

    def _set(self, **attributes: Any) -> None:
        for key, value in attributes.items():
            object.__setattr__(self, key, value)

    def _trial(self) -> tuple[Problem, Distribution]:
        problem = self.build(torch.float64)
        return problem, q_of(problem, called_with("theta", self._parts.theta, self._parts.data))

    @functools.cached_property
    def contents(self) -> dict[str, str]:
        """A digest, under the key "content", of all that makes up the expectation.

        The digest is of the sources of the functions, what they close over, theta, the data and the other arguments.
        """
        parts, found = self._parts, hashlib.sha256()
        given = (parts.q, parts.f, parts.exact, parts.theta, parts.data, parts.batch_size, parts.particles, parts.extra)
        for piece in pieces(given, set()):
            found.update(piece)
        return {"content": found.hexdigest()[:16]}

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        parts, point = self._parts, Point(self._parts.theta, self._parts.names, dtype, device)
        data = tuple(converted(t, dtype, torch.device(device)) for t in parts.data)
        more = None if parts.extra is None else Point(parts.extra, None, dtype, device)
        extra = {} if more is None else more.theta
        for t in extra.values():
            t.requires_grad_(False)
        count, size = len(data[0]) if data else 0, parts.batch_size

        def on(*batch: Tensor) -> Problem:
            """Return the problem on some rows of the data."""

            def q(theta: Theta) -> Distribution:
                with point.converting():
                    own = point.call(parts.q, theta, *batch)
                if isinstance(own, Distribution) and not point.is_native:
                    unify(own, dtype, point.device)
                if isinstance(own, Layers):
                    own.layers = [point.wrapped(layer) for layer in own.layers]
                return cast(Distribution, own)

            def called(function: Function) -> Function:
                def f(x: Tensor) -> Any:
                    return function(x, *batch) if more is None else more.call(partial(function, x), extra, *batch)

                return point.wrapped(f)

            def integrand(own: Distribution) -> Any:
                if isinstance(parts.f, Return | SetFunction):
                    return parts.f.through(called, own)
                whole = mapped(called(parts.f), parts.mapping, parts.axes)
                return Bound(whole, own, self.particles) if self.bound else whole

            def summed(theta: Theta) -> Tensor:
                own = q(theta)
                return enumeration_of(own)(integrand(own), own).mean()

            def known(theta: Theta) -> Tensor:
                with point.converting():
                    return cast(Tensor, point.call(cast(Function, parts.exact), theta))

            exact = summed if parts.is_summed else known if parts.exact is not None else None
            return Problem(point.theta, q, integrand, exact, extra)

        def minibatch(i: int) -> Problem:
            epoch, at = divmod(i, max(1, count // size))
            shuffle = Generator().manual_seed(draw_seed(parts.seed, "minibatches", None, epoch))
            order = torch.randperm(count, generator=shuffle)[at * size : (at + 1) * size]
            return on(*(t[order.to(t.device)] for t in data))

        problem = on(*(t[:size] for t in data))
        if size == count:
            return problem
        return replace(problem, minibatch=minibatch)

    def restarted(self, seed: int) -> Self:
        """Return a copy of the expectation whose order of minibatches follows from ``seed``.

        theta and extra stay as they were given. For seed 0, the result is this expectation itself.
        """
        if seed == 0:
            return self
        other = copy.copy(self)
        other._set(_parts=replace(self._parts, seed=seed))
        return other
