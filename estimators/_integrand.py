"""The integrand: what it is called with, what it returns, and the checks of both in every evaluation."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from estimators._laws import inner
from estimators._parameters import first_parameter
from estimators._refusals import InvalidIntegrand, NotDifferentiable, Refusal
from estimators._transforms import is_differentiated, transformed, unwrapped


class Integrand(Protocol):
    """The integrand f: it maps ``[..., *batch, *event]`` to ``[..., *batch]``, for any number of leading axes.

    f must not change x in place, nor write over a tensor that it returned before. If the estimator uses df/dx, the
    values of f must be a tensor that autograd can differentiate in x. If the estimator does not use df/dx, the values
    may be whole numbers or bools as well. They may then come as a numpy array, as a list or, for a single point, as a
    Python number.
    """

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return f(x), ``[..., *batch]``, for points x, ``[..., *batch, *event]``."""


WIDE = frozenset((torch.float32, torch.float64))
"""The dtypes in which values of f are used as they come; others are converted."""


class Checked:
    """Base class of integrands that check their own values, for samples of the distribution ``q``.

    Subclasses are ``Bound``, ``Return``, ``PolicyReturn``, ``SetFunction`` and ``CheckedFunction``. An estimator wraps
    any other integrand in a ``CheckedFunction``. In a ``Return``, a ``PolicyReturn`` or a ``SetFunction``, ``q`` may be
    None. An estimator then works with a copy that has the q of its call.
    """

    __slots__ = ()
    q: Distribution

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return f(x), ``[..., *batch]``, for points x, ``[..., *batch, *event]``."""
        raise NotImplementedError

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution) -> "Checked":
        """Return an integrand of the same kind that computes and checks ``around(f)`` in place of f.

        Args:
            around: maps a function to a function, such as f to 2 f.
            q: the distribution whose samples the new integrand takes.
        """
        raise NotImplementedError


class CheckedFunction(Checked):
    """A function that calls f, and checks whether f changed its argument and what f returned.

    Args:
        f: the function.
        q: the distribution of the samples. Values that are not tensors of float32 or float64 are converted to the dtype
            of q, or to float32 if q has half precision.
        axes: number of event axes of the samples; if None, the number of event axes of q.
        name: the name of f in messages.
        columns: whether f returns several numbers for each sample, along one more axis on the right. If not, f returns
            one number.
    """

    __slots__ = ("axes", "columns", "f", "kept", "name", "q")

    def __init__(
        self, f: Integrand, q: Distribution, axes: int | None = None, name: str = "f", *, columns: bool = False
    ) -> None:
        self.f, self.q, self.name, self.columns = f, q, name, columns
        self.axes = len(q.event_shape) if axes is None else axes
        self.kept: Tensor | None = None  # the last values, of which the estimator may still hold a view

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return f(x), ``[...]``, in float32 or float64, one number for each point x, ``[..., *event]``.

        A change of x, or of the values that f returned last, is found by torch's version counter: torch counts how
        often a tensor or one of its views was changed in place. Under vmap the counter of the wrapped tensor is read.
        In inference mode nothing is counted.

        Raises:
            InvalidIntegrand: f changed x in place, wrote over the values of its last call, or returned nothing, no
                numbers or a wrong shape. Changes of x that torch does not count are seen in the calls in which
                ``_compared`` keeps a copy.
            NotDifferentiable: x is differentiated, and f returned whole numbers, bools or values outside torch.
        """
        is_wrapped, last = transformed(), self.kept
        sample = unwrapped(x) if is_wrapped else x
        count = None if sample.is_inference() else sample._version
        last_count = None if last is None else last._version
        copy = _compared(self.f, x)  # torch does not count what numpy and x.data change
        points = x.shape[: -self.axes] if self.axes else x.shape
        try:
            fx = self.f(x)
        except Refusal:
            raise
        except Exception as error:
            if isinstance(error, RuntimeError) and _changes_a_copy(self.f, x):  # torch may refuse to change x itself
                raise _changed(self.name) from error
            error.add_note(
                f"{self.name} was called with samples of shape {list(x.shape)}, the axis of samples on the left, and "
                f"must return values of shape {list(points)}."
            )
            raise
        if count is not None and sample._version != count:
            raise _changed(self.name)
        if copy is not None and not _is_equal(x, copy):
            _CALLS[_source(self.f)] = None  # whoever calls it again, as a notebook does, is told again
            raise _changed(self.name)
        if not isinstance(fx, Tensor):
            _CALLS[_source(self.f)] = None
        if not isinstance(fx, Tensor) or fx.dtype not in WIDE or fx.layout != torch.strided or fx.is_nested:
            fx = _floating(fx, x, self.q, self.name)
        if self.columns:
            _check_columns(fx, x, points, self.name)
        elif fx.shape != points:
            fx = _of_shape(fx, x, points, self.name)
        if last is not None and last._version != last_count:
            raise InvalidIntegrand(
                f"{self.name} wrote over the values of its last call, but the estimator still needs them. Return a new "
                "tensor in every call, such as values.clone()."
            )
        last = unwrapped(fx) if is_wrapped else fx
        self.kept = None if last.requires_grad or last.is_inference() else last
        return fx

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution) -> Checked:
        return CheckedFunction(around(self.f), q)


def _of_shape(fx: Tensor, x: Tensor, points: Size, name: str) -> Tensor:
    """Return one number for one point in the shape of the point; raise ``InvalidIntegrand`` for every other shape."""
    if fx.dim() == 0 and points.numel() == 1:
        return fx.reshape(points)
    raise InvalidIntegrand(
        f"{name} returned shape {list(fx.shape)} for samples of shape {list(x.shape)}: expected {list(points)}, "
        f"one value per sample and batch element. {_advice_on_shape(fx.shape, points, x.dim() - len(points))}"
    )


def _check_columns(fx: Tensor, x: Tensor, points: Size, name: str) -> None:
    """Raise ``InvalidIntegrand`` unless fx has one more axis than the points."""
    if fx.dim() != len(points) + 1 or fx.shape[:-1] != points:
        raise InvalidIntegrand(
            f"{name} returned shape {list(fx.shape)} for samples of shape {list(x.shape)}: expected {list(points)} and "
            "one more axis, the costs. Keep all axes on the left, and do not sum over the costs."
        )


_CALLS: dict[object, int | None] = {}
"""Number of calls of every function that was an integrand; None if it has returned values from outside torch, or has
changed its argument."""


COMPARED = 3
"""In its first calls, as many as this, an integrand's argument is compared with a copy."""


def _source(f: Integrand) -> object:
    """Return what stands for a function in ``_CALLS``: functions of one source are one."""
    f = getattr(f, "__wrapped__", f)
    while isinstance(f, functools.partial):
        f = f.func
    return getattr(f, "__code__", type(f))


def _compared(f: Integrand, x: Tensor) -> Tensor | bytes | None:
    """Return a copy of x, with which it is compared after this call of f; None if it is not.

    It is in the first calls, and in those whose number is 1 more than a power of two. If f has ever changed its
    argument, or has returned an array, a list or a number, and so may hold x as an array of numpy, it is in every call.
    Later copies are bytes, outside torch, so that they do not appear in the memory that is measured, and are made on a
    CPU only.
    """
    if torch.compiler.is_compiling() or transformed() or x.is_meta:
        return None
    calls = _CALLS.setdefault(source := _source(f), 0)
    if calls is not None:
        _CALLS[source] = calls + 1
        if calls < COMPARED:
            return x.detach().clone()
        if calls & (calls - 1):
            return None
    return _bytes(x) if x.is_cpu and x.dtype != torch.bfloat16 else None  # numpy cannot hold others


def _bytes(x: Tensor) -> bytes:
    return bytes(x.detach().numpy().tobytes())


def _is_equal(x: Tensor, copy: Tensor | bytes) -> bool:
    """Return whether x has the numbers of an earlier copy."""
    if isinstance(copy, bytes):
        return _bytes(x) == copy
    return torch.allclose(x.detach(), copy, rtol=0, atol=0, equal_nan=True)


def _changes_a_copy(f: Integrand, x: Tensor) -> bool:
    """Return whether f changes a copy of x, which has memory of its own and no graph."""
    copy = x.detach().clone(memory_format=torch.contiguous_format)
    counted = unwrapped(copy)
    before = counted._version
    with contextlib.suppress(Exception), torch.no_grad():
        f(copy)
    return bool(counted._version != before)


def _changed(name: str) -> InvalidIntegrand:
    return InvalidIntegrand(
        f"{name} changes its argument x in place, but the estimator still needs the sample x. Work on a copy, such as "
        "x.clone() or x.numpy().copy(), or use operations that make a new tensor, such as x.clamp(0, 1)."
    )


def _advice_on_shape(got: Size, points: Size, axes: int) -> str:
    if got == (*points, 1):
        return "Squeeze the last axis."
    if got[: len(points)] == points:
        return "Sum over the event axes."
    if len(got) and not axes and got == points[: len(got)]:
        return f"q has no event axes: if its last axes are one event, use Independent(q, {len(points) - len(got)})."
    return "Keep all axes on the left, and sum over the event axes only."


def _floating(value: Any, x: Tensor, q: Distribution, name: str) -> Tensor:
    """Return the values of f in float32 or float64 on the device of x, with their graph if they have one."""
    if value is None:
        raise InvalidIntegrand(f"{name} returned None: expected one value per sample. Add a `return`.")
    held = (
        t.dtype
        for t in (x, *vars(inner(q)).values(), first_parameter(q))
        if isinstance(t, Tensor) and t.is_floating_point()
    )
    dtype = torch.promote_types(next(held, torch.get_default_dtype()), torch.float32)  # half precision loses counts
    try:
        found = _as_tensor(value, dtype).to(x.device)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        raise InvalidIntegrand(
            f"{name} returned {article(value)}: expected real numbers, one per sample and batch element, in a tensor, "
            f"an array or a list. The cause: {str(error).splitlines()[0]}"
        ) from error
    smooth = is_differentiated(found) or (isinstance(value, Tensor) and value.is_floating_point())
    if is_differentiated(x) and not smooth:  # in a Bound, log q(x) would hide it
        kind = str(value.dtype) if isinstance(value, Tensor) else article(value)
        raise NotDifferentiable(
            f"The estimator needs df/dx, and {name} returned {kind}, which has no gradient in x. Use ScoreFunction or "
            "RLOO, which only evaluate f."
        )
    return found


def _as_tensor(value: Any, dtype: torch.dtype) -> Tensor:
    """Return a value as a tensor of the given dtype; a tensor of float32 or float64 is returned as it is."""
    if isinstance(value, tuple):
        raise TypeError("a tuple is not an array. Return the values alone.")
    if isinstance(value, list) and not all(isinstance(each, int | float) for each in value):
        return torch.stack([_as_tensor(each, dtype) for each in value])
    if isinstance(value, int | float | list):
        return torch.tensor(value, dtype=dtype)
    if isinstance(value, Tensor):
        if value.is_nested or value.layout != torch.strided:
            raise TypeError("the tensor is sparse or nested. Return a dense tensor, for example by to_dense().")
        found = value
    else:
        try:
            found = torch.tensor(value)  # a copy: f may use its array again
        except (TypeError, ValueError):
            if not hasattr(value, "tolist"):
                raise
            return _as_tensor(value.tolist(), dtype)  # an array of objects, of another byte order or read backwards
    if found.is_complex():
        raise TypeError("the numbers are complex.")
    return found if found is value and found.dtype in WIDE else found.to(dtype)


def article(value: object) -> str:
    """Return the type of a value with an article, for a message, such as ``a list``; ``None`` for None."""
    return "None" if value is None else f"a {type(value).__name__}"
