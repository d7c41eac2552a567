"""The arguments of an expectation: which values they may have, and what the user's functions are called with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from bench.expectation.trial import Function, got


def checked(
    q: Any,
    f: Any,
    log_joint: Any,
    theta: Any,
    particles: Any,
    exact: Any,
    extra: Any,
    data: tuple[Tensor, ...],
    batch_size: Any,
    name: Any,
) -> Function:
    """Check the arguments of ``Expectation``, and return the function to integrate: ``f`` or ``log_joint``.

    The arguments are those of ``Expectation``, but ``data`` is already a tuple of tensors, and empty if there are no
    data.

    Raises:
        ValueError: an argument has a wrong type or value, or both or neither of ``f`` and ``log_joint`` are given.
    """
    for key, function in (("q", q), ("f", f), ("log_joint", log_joint), ("exact", exact)):
        if function is not None and not callable(function):
            raise ValueError(f"{key} must be a function ({got(function)}).")
    if (f is None) == (log_joint is None):
        raise ValueError(f"Expectation takes either f or log_joint (got {'neither' if f is None else 'both'}).")
    if particles is not None and log_joint is None:
        raise ValueError(f"particles belong to a bound: give log_joint in place of f (got particles={particles!r}).")
    if particles is not None and not _is_count(particles):
        raise ValueError(f"particles must be a whole number from 1 (got {particles!r}).")
    _check_named("theta", theta)
    if extra is not None:
        _check_named("extra", extra)
    if isinstance(theta, nn.Module) and not any(t.requires_grad for t in theta.parameters()):
        raise ValueError(f"theta, a {type(theta).__name__}, has no parameter that requires gradients.")
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise ValueError(f"name must be printable text (got {name!r}).")
    most = len(data[0]) if data else 0
    if batch_size is not None and not data:
        raise ValueError(
            f"batch_size is the number of rows of data in a batch: give data (got batch_size={batch_size!r})."
        )
    if batch_size is not None and not (_is_count(batch_size) and batch_size <= most):
        raise ValueError(
            f"batch_size must be a whole number from 1 to {most}, the rows of the data (got {batch_size!r})."
        )
    return cast(Function, log_joint if f is None else f)


def _is_count(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and given >= 1


def _check_named(what: str, given: Any) -> None:
    """Raise ``ValueError`` unless an argument is a module or a dict of named tensors of floating-point numbers."""
    if isinstance(given, torch.jit.ScriptModule):
        raise ValueError(f"{what} must be an ordinary module: a ScriptModule cannot be copied for other dtypes.")
    if isinstance(given, nn.Module):
        if lazy := [name for name, t in given.named_parameters() if nn.parameter.is_lazy(t)]:
            raise ValueError(
                f"{what} has parameters without a shape ({', '.join(lazy)}). Call the lazy module once first."
            )
        return
    if not (isinstance(given, Mapping) and given and all(isinstance(t, Tensor) for t in given.values())):
        raise ValueError(
            f"{what} must be a module or a dict of named tensors, as in {what}={{'logits': torch.zeros(3)}} "
            f"({got(given)})."
        )
    for name, t in given.items():
        if not t.is_floating_point():
            raise ValueError(f"{what}[{name!r}] must hold floating-point numbers (got {t.dtype}).")


def tensors_of(data: Any) -> tuple[Tensor, ...]:
    """Return the data as tensors, all with equally many rows.

    Raises:
        ValueError: the data are neither tensors nor arrays, or their numbers of rows differ.
    """
    if isinstance(data, TensorDataset):
        return data.tensors
    given = (data,) if isinstance(data, Tensor | np.ndarray) else data
    if not isinstance(given, tuple | list) or not all(isinstance(each, Tensor | np.ndarray) for each in given):
        raise ValueError(
            f"data must be a tensor, an array, or a tuple of them ({got(data)}). Give the tensors that a loader loads, "
            "as in data=(inputs, labels), and batch_size."
        )
    found = tuple(torch.as_tensor(each) for each in given)
    rows = [f"{len(t)} rows" if t.dim() else "one number" for t in found]
    if len(set(rows)) > 1 or "one number" in rows:
        raise ValueError(f"data must hold tensors of equally many rows (got {', '.join(rows)}).")
    return found


def called_with(what: str, given: Mapping[str, Tensor] | nn.Module | None, data: tuple[Tensor, ...]) -> str:
    """Return in words what a user's function is called with, besides the samples that f gets.

    The words are such as ``theta, a dict with the key 'logits', and 2 tensors of data``.

    Args:
        what: name of the function's first argument besides samples: "theta" for q, "extra" for f.
        given: value of this argument; None if the function is called with the data alone.
        data: the tensors that are the further arguments; empty if there are none.
    """
    rows = f"{len(data)} tensor{'s' if len(data) > 1 else ''} of data" if data else ""
    if isinstance(given, nn.Module):
        first = f"{what}, a copy of your {type(given).__name__}"
    elif given is not None:
        keys = f"the key{'s' if len(given) > 1 else ''} {', '.join(map(repr, given))}"
        first = f"{what}, a dict with {keys} (a module, if {what} is one)"
    else:
        first = ""
    return ", and ".join(filter(None, (first, rows)))
