"""The tensors that a user gave for theta, converted to one dtype and device; a user's functions, called with them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from bench.expectation.trial import Function
from bench.objectives import Theta


class Point:
    """The tensors of theta in one dtype and on one device, and a way to call a user's function with them.

    The attribute ``theta`` has the tensors by name. The method ``call`` calls the function.

    Args:
        given: theta as the user gave it: a dict of tensors, or a module, which is copied.
        names: the names of the tensors to put into ``theta``; None for all.
        dtype: the dtype of ``theta``.
        device: the device of ``theta``.
    """

    def __init__(self, given: Any, names: Sequence[str] | None, dtype: torch.dtype, device: torch.device | str) -> None:
        self.dtype, self.device = dtype, torch.device(device)
        self.module: nn.Module | None = None
        if isinstance(given, nn.Module):
            self.module = copy.deepcopy(given).to(dtype=dtype, device=device)
            own: Theta = {name: t for name, t in self.module.named_parameters() if t.requires_grad}
            native = [t for t in given.parameters() if t.is_floating_point()]
            for layer in self.module.modules():  # some layers compare dtypes themselves, as recurrent ones do
                layer.register_forward_pre_hook(lambda _layer, args: Converting(self.dtype, self.device).convert(args))
        else:
            own = {name: t.detach().to(device, dtype, copy=True).requires_grad_() for name, t in given.items()}
            native = list(given.values())
        self.theta = {name: own[name] for name in (own if names is None else names)}
        self.is_native = all(t.dtype == dtype and t.device == self.device for t in native)

    def call(self, function: Function, theta: Theta, *rest: Tensor) -> Any:
        """Return what a user's function returns for ``theta`` and the ``rest`` of its arguments.

        ``theta`` has the tensors by name. The function gets them in the form in which the user gave theta: as a dict,
        or as a module with these parameters.
        """
        if self.module is None:
            return function(theta, *rest)
        if all(theta[name] is t for name, t in self.theta.items()):
            return function(self.module, *rest)
        given = {f"module.{name}": t for name, t in theta.items()}
        return functional_call(_Caller(self.module), given, (function, *rest))

    def converting(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which a user's function may mix theta with tensors of its own.

        A tensor that the user made in float32, on the CPU, is converted when it meets theta in float64 or on a GPU. If
        the user gave theta in the dtype and on the device of this ``Point``, the context does nothing.
        """
        return contextlib.nullcontext() if self.is_native else Converting(self.dtype, self.device)

    def wrapped(self, function: Function) -> Function:
        """Return a function that calls ``function`` inside the context that the method ``converting`` returns."""
        if self.is_native:
            return function

        def called(*args: Any) -> Any:
            with self.converting():
                return function(*args)

        return called


class _Caller(nn.Module):
    """Calls any function with a module, so that ``functional_call`` can replace the module's parameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Function, *rest: Tensor) -> Any:
        """Call the function."""
        return function(self.module, *rest)


class Converting(TorchFunctionMode):
    """A context that converts the tensors of an operation of torch to one dtype and device if they are mixed.

    If at least one floating-point tensor of an operation has the context's dtype and device, the others are converted
    to both. Tensors of integers are moved to the device, and keep their dtype. Operations in place convert nothing.
    """

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
        """Return a value with its tensors on the context's device and, if they hold floats, in the context's dtype.

        Tensors inside lists, tuples and dicts are converted too.
        """
        if isinstance(value, Tensor):
            return converted(value, self.dtype, self.device)
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


def converted(t: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor on a device and, if it holds floating-point numbers, in a dtype."""
    return t.to(device=device, dtype=dtype if t.is_floating_point() else t.dtype)


def unify(q: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Convert the floating-point tensors of a distribution to one dtype and device, in place.

    The tensors of distributions inside it are converted, too. A distribution can be made of tensors of several dtypes,
    such as the mean and the covariance of a ``MultivariateNormal``. Without the conversion, such a distribution cannot
    be sampled.
    """
    for name, value in vars(q).items():
        vars(q)[name] = _unified(value, dtype, device)


def _unified(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a value with its tensors converted; a distribution is converted in place."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return converted(value, dtype, device)
    if isinstance(value, Distribution):
        unify(value, dtype, device)
    if type(value) is dict:
        return {key: _unified(each, dtype, device) for key, each in value.items()}
    return type(value)(_unified(each, dtype, device) for each in value) if type(value) in (list, tuple) else value
