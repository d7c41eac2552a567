"""Your own expectation, from two functions and a point; every other fact about it is derived."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Distribution, OneHotCategorical
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from bench.objectives import Objective, Problem, Theta
from bench.records.seeds import draw_seed
from estimators import (
    RLOO,
    Bound,
    Enumeration,
    Estimator,
    Refusal,
    Reparameterization,
    draw,
    inner,
    parameters,
    rows,
)

NUMBERS = 2**24
"""The exact value is a sum over the joint states of q only if these hold at most this many numbers in all."""
STEP, SLOPE = 1e-4, 1e-2
"""Step of a finite difference; its relative difference from df/dx that counts as rounding."""
Function = Callable[..., Any]


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


@dataclass(frozen=True, eq=False, init=False)
class Expectation(Objective):
    """Your own expectation E_{x~q}[f(x)], to be measured at a point theta.

    ``measure(RLOO(n=4), Expectation(lambda t: Bernoulli(logits=t["logits"]), f, {"logits": logits}))``

    Trial calls derive the rest: the family and the size of q, whether f has a gradient, and whether f is defined
    between the states of q. The exact gradient is the gradient of the sum over all states of q, if there are at most
    65,536; otherwise a long run of an unbiased estimator stands in for the exact gradient. A module given as ``theta``
    is copied, so that yours never changes. Tensors that your functions close over are converted if they meet another
    dtype or device.

    Args:
        q: maps theta to the distribution q of batch shape ``[*batch]``; if ``data`` is given, it is called as
            ``q(theta, *rows_of_data)``.
        f: maps samples ``[..., *batch, *event]`` to values ``[..., *batch]``; if ``extra`` or ``data`` is given, it is
            called as ``f(x, extra, *rows_of_data)``. If f fails on the axes before ``*batch``, or mixes these axes, f
            is mapped over the samples. f does not get theta: the gradient through q is measured.
        theta: named tensors, or a module, whose parameters are the point. q gets a dict of tensors, or a copy of the
            module. Parameters of the module that q does not use are left out.
        log_joint: log p(x) up to a constant, in place of f. The expectation is then that of the evidence lower bound
            ``log p(x) - log q(x)``, or of the importance-weighted bound if ``particles`` is given.
        particles: number K of particles, the length of q's first event axis; only with ``log_joint``.
        exact: maps theta, as q gets it, to E_q[f], averaged over the batch: a differentiable scalar.
        extra: named tensors, or a module, that f uses and training trains too, such as a decoder. f gets a dict or a
            copy of the module as its second argument. What f closes over stays constant in training.
        data: tensors with equally many rows. A measurement uses the first ``batch_size`` rows; training, random rows.
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
        data: Sequence[Tensor] | Tensor = (),
        batch_size: int | None = None,
        maximise: bool = False,
        name: str = "expectation",
    ) -> None:
        data = (data,) if isinstance(data, Tensor) else tuple(data)
        whole = _checked(q, f, log_joint, theta, particles, exact, data, batch_size)
        size = batch_size or (len(data[0]) if data else 0)
        parts = _Parts(q, whole, cast(Any, theta), exact, data, size, particles, extra)
        self._set(name=name, _parts=parts, maximise=maximise, bound=f is None, particles=particles)
        problem, own = self._trial()
        self._set(family=type(inner(own)), dim=max(1, own.event_shape.numel()))
        found = replace(parts, names=_used(problem, own, parts.theta), mapping=_mapping(problem, own))
        axes = len(own.batch_shape) + len(own.event_shape)
        self._set(_parts=replace(found, axes=axes, is_summed=exact is None and _is_enumerable(own)))
        problem, own = self._trial()
        if used := _also_in(parts.f, parts.theta, own, problem):
            warnings.warn(
                f"f uses {used}, which is in theta, and not only through q. What is measured is the gradient through "
                "q: f sees the numbers that you gave, as constants.",
                stacklevel=2,
            )
        self._set(differentiable=_is_differentiable(problem, own), relaxable=_is_relaxable(problem, own))
        self._set(has_exact=problem.exact is not None)
        self._set(reference_estimator=None if self.has_exact else _reference(problem, own, self.differentiable))

    def _set(self, **attributes: Any) -> None:
        for key, value in attributes.items():
            object.__setattr__(self, key, value)

    def _trial(self) -> tuple[Problem, Distribution]:
        problem = self.build(torch.float64)
        return problem, _built(problem)

    @functools.cached_property
    def contents(self) -> dict[str, str]:
        """A digest of the sources of the functions, of what they close over, of theta and of the data."""
        parts, found = self._parts, hashlib.sha256()
        given = (parts.q, parts.f, parts.exact, parts.theta, parts.data, parts.batch_size, parts.particles, parts.extra)
        for piece in _pieces(given, set()):
            found.update(piece)
        return {"content": found.hexdigest()[:16]}

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return the problem in the given dtype, on the given device."""
        parts, point = self._parts, _Point(self._parts.theta, self._parts.names, dtype, device)
        data = tuple(_converted(t, dtype, torch.device(device)) for t in parts.data)
        more = None if parts.extra is None else _Point(parts.extra, None, dtype, device)
        extra = {} if more is None else more.theta
        for t in extra.values():
            t.requires_grad_(False)
        count, size = len(data[0]) if data else 0, parts.batch_size

        def on(*batch: Tensor) -> Problem:
            """Return the problem on some rows of the data."""

            def q(theta: Theta) -> Distribution:
                with point.converting():
                    return cast(Distribution, point.call(parts.q, theta, *batch))

            def f(x: Tensor) -> Any:
                with point.converting():
                    return parts.f(x, *batch) if more is None else more.call(partial(parts.f, x), extra, *batch)

            def integrand(own: Distribution) -> Any:
                mapped = _mapped(f, parts.mapping, parts.axes)
                return Bound(mapped, own, self.particles) if self.bound else mapped

            def summed(theta: Theta) -> Tensor:
                own = q(theta)
                return Enumeration()(integrand(own), own).mean()

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
        """Return the expectation with another order of minibatches; theta and extra stay as they were given."""
        if seed == 0:
            return self
        other = copy.copy(self)
        other._set(_parts=replace(self._parts, seed=seed))
        return other


class _Point:
    """Theta in one dtype, on one device, and how to call a user's function with it."""

    def __init__(self, given: Any, names: Sequence[str] | None, dtype: torch.dtype, device: torch.device | str) -> None:
        self.dtype, self.device = dtype, torch.device(device)
        self.module: nn.Module | None = None
        if isinstance(given, nn.Module):
            self.module = copy.deepcopy(given).to(dtype=dtype, device=device)
            own: Theta = {name: t for name, t in self.module.named_parameters() if t.requires_grad}
            native = [t for t in given.parameters() if t.is_floating_point()]
            for layer in self.module.modules():  # some layers compare dtypes themselves, as recurrent ones do
                layer.register_forward_pre_hook(lambda _layer, args: _Converting(self.dtype, self.device).convert(args))
        else:
            own = {name: t.detach().to(device, dtype, copy=True).requires_grad_() for name, t in given.items()}
            native = list(given.values())
        self.theta = {name: own[name] for name in (own if names is None else names)}
        self.is_native = all(t.dtype == dtype and t.device == self.device for t in native)

    def call(self, function: Function, theta: Theta, *rest: Tensor) -> Any:
        """Call a user's function with theta as it expects it: a dict, or the module with these parameters."""
        if self.module is None:
            return function(theta, *rest)
        if all(theta[name] is t for name, t in self.theta.items()):
            return function(self.module, *rest)
        given = {f"module.{name}": t for name, t in theta.items()}
        return functional_call(_Caller(self.module), given, (function, *rest))

    def converting(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a user's function runs."""
        return contextlib.nullcontext() if self.is_native else _Converting(self.dtype, self.device)


class _Caller(nn.Module):
    """Calls any function with a module, so that ``functional_call`` can replace the module's parameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Function, *rest: Tensor) -> Any:
        """Call the function."""
        return function(self.module, *rest)


class _Converting(TorchFunctionMode):
    """A context in which tensors of another floating dtype or device are converted where they meet the right ones."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.dtype, self.device = dtype, device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        in_place = name.startswith(("__i", "__set")) or (name.endswith("_") and not name.endswith("__"))
        met = [t for t in _tensors((args, kwargs)) if t.is_floating_point()]
        right = [t for t in met if t.dtype == self.dtype and t.device == self.device]
        if in_place or not right or len(right) == len(met):
            return func(*args, **kwargs)
        return func(*self.convert(args), **self.convert(kwargs))

    def convert(self, value: Any) -> Any:
        """Return a value with the tensors in it converted."""
        if isinstance(value, Tensor):
            return _converted(value, self.dtype, self.device)
        if isinstance(value, dict):
            return {key: self.convert(each) for key, each in value.items()}
        return type(value)(self.convert(each) for each in value) if type(value) in (list, tuple) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _converted(t: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return t.to(device=device, dtype=dtype if t.is_floating_point() else t.dtype)


# Arguments ------------------------------------------------------------------------------------------------------------


def _checked(
    q: Any, f: Any, log_joint: Any, theta: Any, particles: Any, exact: Any, data: tuple[Any, ...], batch_size: Any
) -> Function:
    """Return f or the log-joint, whichever is given; raise ``ValueError`` for arguments of the wrong kind."""
    for name, function in (("q", q), ("f", f), ("log_joint", log_joint), ("exact", exact)):
        if function is not None and not callable(function):
            raise ValueError(f"{name} must be a function (got a {type(function).__name__}).")
    if (f is None) == (log_joint is None):
        raise ValueError(f"Expectation takes either f or log_joint (got {'neither' if f is None else 'both'}).")
    if particles is not None and log_joint is None:
        raise ValueError(f"particles belong to a bound: give log_joint in place of f (got particles={particles!r}).")
    if not isinstance(theta, nn.Module):
        named = isinstance(theta, Mapping) and theta and all(isinstance(t, Tensor) for t in theta.values())
        if not named:
            kinds = sorted({type(t).__name__ for t in theta.values()}) if isinstance(theta, Mapping) else []
            held = f"a dict of {', '.join(kinds) or 'nothing'}" if isinstance(theta, Mapping) else type(theta).__name__
            raise ValueError(
                "theta must be a module or a dict of named tensors, as in theta={'logits': torch.zeros(3)} "
                f"(got {held})."
            )
        whole = [name for name, t in theta.items() if not t.is_floating_point()]
        if whole:
            raise ValueError(f"theta[{whole[0]!r}] must hold floating-point numbers (got {theta[whole[0]].dtype}).")
    elif not any(t.requires_grad for t in theta.parameters()):
        raise ValueError(f"theta, a {type(theta).__name__}, has no parameter that requires gradients.")
    if not all(isinstance(t, Tensor) and t.dim() for t in data) or len({len(t) for t in data}) > 1:
        raise ValueError("data must hold tensors whose first axes have the same length.")
    most = len(data[0]) if data else 0
    if batch_size is not None and not data:
        raise ValueError(
            f"batch_size is the number of rows of data in a batch: give data (got batch_size={batch_size!r})."
        )
    if batch_size is not None and (not isinstance(batch_size, int) or not 1 <= batch_size <= most):
        raise ValueError(
            f"batch_size must be a whole number from 1 to {most}, the rows of the data (got {batch_size!r})."
        )
    return cast(Function, log_joint if f is None else f)


def _built(problem: Problem) -> Distribution:
    """Return q at theta; raise ``ValueError`` if it is no distribution, or another one in the next call."""
    try:
        q: Any = problem.q(problem.theta)
    except Exception as error:
        raise ValueError(f"q fails: {_said(error)}.") from error
    if not isinstance(q, Distribution):
        raise ValueError(f"q must return a torch distribution (got a {type(q).__name__}).")
    again = parameters(problem.q(problem.theta))
    for name, t in parameters(q).items():
        if t.shape != again[name].shape or not torch.equal(t, again[name]):
            raise ValueError(
                f"q differs between two calls with one theta, in {name}: it draws random numbers, as dropout does in "
                "training mode. Call net.eval(), and draw other random numbers beforehand."
            )
    return q


def _used(problem: Problem, q: Distribution, given: Any) -> tuple[str, ...]:
    """Return the names in theta that q depends on; raise ``ValueError`` for none, or for a dict if any is unused."""
    outputs = [t.sum() for t in parameters(q).values() if t.requires_grad] or [q.log_prob(_samples(q)).sum()]
    theta = problem.theta
    found: Sequence[Tensor | None] = [None] * len(theta)
    if any(t.requires_grad for t in outputs):
        found = torch.autograd.grad(sum(outputs), list(theta.values()), allow_unused=True)  # type: ignore[arg-type]
    unused = [name for name, g in zip(theta, found, strict=True) if g is None]
    if len(unused) == len(theta) or (unused and not isinstance(given, nn.Module)):
        what = "theta" if len(unused) == len(theta) else f"theta[{unused[0]!r}]"
        raise ValueError(
            f"q does not depend on {what}. Let q compute its parameters from the theta that it is called with, without "
            ".detach()."
        )
    return tuple(name for name in theta if name not in unused)


def _also_in(f: Function, theta: Any, q: Distribution, problem: Problem) -> str:
    """Return what of theta f uses itself, in words, or nothing: found in the graph of f(x) or in what f closes over."""
    given = dict(theta.named_parameters()) if isinstance(theta, nn.Module) else dict(theta)
    trained = {name: t for name, t in given.items() if t.requires_grad}
    with torch.enable_grad():
        fx = _values(problem, q)(_samples(q))
    if trained and isinstance(fx, Tensor) and fx.requires_grad:
        found = torch.autograd.grad(fx.sum(), list(trained.values()), allow_unused=True)
        used = [name for name, g in zip(trained, found, strict=True) if g is not None and name in problem.theta]
        return ", ".join(used)
    closed = inspect.getclosurevars(f) if inspect.isfunction(f) else None
    held = [*closed.nonlocals.values(), *closed.globals.values(), *(f.__defaults__ or ())] if closed else []
    return ", ".join(name for name, t in given.items() if any(t is each for each in held))


# f on the axes on the left --------------------------------------------------------------------------------------------


def _mapped(f: Function, mapping: str | None, axes: int) -> Function:
    """Return f as a function of ``[..., *batch, *event]``, where the point ``[*batch, *event]`` has ``axes`` axes."""
    if mapping is None:
        return f

    def each(x: Tensor) -> Tensor:
        left = x.shape[: x.dim() - axes]
        flat = x.reshape(-1, *x.shape[len(left) :])
        fx = vmap(f)(flat) if mapping == "vmap" else torch.stack([torch.as_tensor(f(point)) for point in flat])
        return fx.reshape(*left, *fx.shape[1:])

    return each


def _mapping(problem: Problem, q: Distribution) -> str | None:
    """Return how f is mapped over samples: None if it need not be, "vmap", or "loop" for one call per sample.

    Raises:
        ValueError: f fails on a single sample too, or returns another shape.
    """
    x, f, axes = _samples(rows(q, 2), 3), _values(problem, q), len(q.batch_shape) + len(q.event_shape)
    expected = x.shape[: x.dim() - axes] + _value_shape(problem, q)
    points = x.reshape(-1, *x.shape[x.dim() - axes :])

    def tried(call: Callable[[], Any]) -> Tensor | Exception:
        """Return the values that a call returns, or the exception that it raises."""
        try:
            with torch.no_grad():
                found = call()
                if found is None:
                    raise TypeError("f returned None. Add a `return`")
                found = torch.as_tensor(found)
                if found.is_complex():
                    raise TypeError("f returned complex numbers. Return real ones")
                return found.double()
        except Exception as error:
            return error

    def one_by_one() -> Tensor | Exception:
        return tried(lambda: torch.stack([torch.as_tensor(f(point)) for point in points]).reshape(expected))

    def agree(one: Tensor | Exception, two: Tensor | Exception) -> bool:
        if isinstance(one, Exception) or isinstance(two, Exception):
            return False
        return torch.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True)

    whole, begin = tried(lambda: f(x)), time.perf_counter()
    single = one_by_one()
    seconds = (time.perf_counter() - begin) / len(points)
    is_noisy = isinstance(single, Tensor) and not agree(single, one_by_one())
    fits = isinstance(whole, Tensor) and whole.shape == expected
    if fits and (is_noisy or isinstance(single, Exception) or agree(whole, single)):
        return None
    if isinstance(single, Exception):
        if isinstance(whole, Exception):
            raise ValueError(f"f fails on samples of shape {list(x.shape)}: {_said(whole)}.") from whole
        raise ValueError(
            f"f returned shape {list(whole.shape)} for samples of shape {list(x.shape)}: expected {list(expected)}, "
            "one value per sample and batch element."
        )
    mapped = tried(lambda: vmap(f)(points).reshape(expected))
    if agree(mapped, single) and not fits:
        return "vmap"
    why = f"f fails on the axes on the left ({_said(whole)})" if isinstance(whole, Exception) else "f mixes its samples"
    warnings.warn(
        f"{why}, so it is called for each sample alone: 10,000 samples take about {1e4 * seconds:.1g} s. Let f keep "
        "all axes on the left, [..., *batch, *event] -> [..., *batch], and compute each value from its own sample.",
        stacklevel=4,
    )
    return "loop"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


# Facts found by trial -------------------------------------------------------------------------------------------------


def _samples(q: Distribution, n: int = 2) -> Tensor:
    return draw(q, n, Generator().manual_seed(0))


def _values(problem: Problem, q: Distribution) -> Function:
    """Return f, or the log-joint of a bound."""
    f = problem.integrand(q)
    return f.log_joint if isinstance(f, Bound) else f


def _value_shape(problem: Problem, q: Distribution) -> torch.Size:
    f = problem.integrand(q)
    return torch.Size((*q.batch_shape, f.particles)) if isinstance(f, Bound) and f.particles else q.batch_shape


def _slope(f: Function, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return f(x) and df/dx, or None if f has no gradient at x."""
    x = x.detach().clone().requires_grad_()
    try:
        fx = f(x)
    except Exception:  # as ``x.numpy()`` raises, which works without a graph
        return None
    if not isinstance(fx, Tensor) or not fx.requires_grad:
        return None
    (g,) = torch.autograd.grad(fx.sum(), x, allow_unused=True)
    return None if g is None else (fx.detach(), g)


def _is_differentiable(problem: Problem, q: Distribution) -> bool:
    """Return whether df/dx exists, is not 0, and agrees with a finite difference for most of 16 samples."""
    x, f = _samples(q, 16), _values(problem, q)
    found = _slope(f, x) if x.is_floating_point() else None
    if found is None or not found[1].any():
        return False
    fx, g = found
    way = torch.randint(0, 2, x.shape, generator=Generator().manual_seed(0)).to(x.dtype) * 2 - 1
    try:
        with torch.no_grad():
            difference = (f(x + STEP * way) - f(x - STEP * way)) / (2 * STEP)
    except Exception:
        return True  # f is defined at the states of q only
    if not difference.isfinite().all():
        return True
    along = (g * way).flatten(fx.dim()).sum(-1) if g.dim() > fx.dim() else g * way
    near = (difference - along).abs() <= SLOPE * (difference.abs() + along.abs()) + 1e-9 * fx.abs().amax() / STEP
    return bool(near.double().mean() > 0.5)


def _is_relaxable(problem: Problem, q: Distribution) -> bool:
    """Return whether f is finite and has a finite gradient at two points between the states of a discrete q."""
    base, x = inner(q), _samples(q)
    if not isinstance(base, Bernoulli | OneHotCategorical):
        return x.is_floating_point()
    noise = torch.randn(x.shape, dtype=x.dtype, generator=Generator().manual_seed(0))
    try:
        found = _slope(_values(problem, q), noise.sigmoid() if isinstance(base, Bernoulli) else noise.softmax(-1))
    except Exception:
        return False
    return found is not None and all(bool(t.isfinite().all()) for t in found)


def _is_enumerable(q: Distribution) -> bool:
    """Return whether q has few enough joint states to sum over."""
    if Enumeration().refuses(type(inner(q))):
        return False
    try:
        states = Enumeration().points(q)
    except Refusal:
        return False
    return bool(states * math.prod((*q.batch_shape, *q.event_shape)) <= NUMBERS)


def _reference(problem: Problem, q: Distribution, differentiable: bool) -> Estimator | None:
    """Return an unbiased estimator that works on q and f, or None if none is found."""
    for estimator in (Reparameterization(n=8), RLOO(n=8)):
        if estimator.refuses(type(inner(q))) or (estimator.needs_df and not differentiable):
            continue
        with contextlib.suppress(Refusal, NotImplementedError):
            r = rows(q, 2)
            estimator(problem.integrand(r), r, Generator().manual_seed(0))
            return estimator
    return None


# Identity -------------------------------------------------------------------------------------------------------------


def _pieces(value: Any, seen: set[int]) -> Iterator[bytes]:
    """Yield what identifies a value: numbers of tensors, sources of functions and what these close over.

    ``seen`` holds the ids of the functions and objects that were visited before.
    """
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        yield repr((tuple(value.shape), str(value.dtype))).encode()
        yield flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""
    elif isinstance(value, str | int | float | bool | bytes | None):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield repr(key).encode()
            yield from _pieces(each, seen)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _pieces(each, seen)
    elif inspect.isclass(value) or inspect.ismodule(value) or id(value) in seen:
        yield value.__name__.encode() if hasattr(value, "__name__") else b"seen"
    elif isinstance(value, nn.Module):
        seen.add(id(value))
        yield repr(value).encode()
        yield from (_source(type(layer)) for layer in value.modules())
        yield from _pieces(dict(value.state_dict()), seen)
    elif inspect.isfunction(value):
        seen.add(id(value))
        yield _source(value)
        if not str(value.__module__).startswith("torch"):
            closed = inspect.getclosurevars(value)
            yield from _pieces([closed.nonlocals, closed.globals, value.__defaults__, value.__kwdefaults__], seen)
    else:
        seen.add(id(value))
        yield _source(type(value))
        yield from _pieces(getattr(value, "__dict__", {}), seen)


def _source(defined: Any) -> bytes:
    """Return the source of a function or a class; its name if there is no source."""
    try:
        return inspect.getsource(defined).encode()
    except (OSError, TypeError):
        return str(defined.__qualname__).encode()
