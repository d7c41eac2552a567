"""The arguments of an expectation: which values they may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from bench.expectation.trial import Function


def checked(
    q: Any, f: Any, log_joint: Any, theta: Any, particles: Any, exact: Any, data: tuple[Any, ...], batch_size: Any
) -> Function:
    """Check the arguments of an expectation, and return ``f`` or ``log_joint``, whichever is given.

    Raises:
        ValueError: an argument is of the wrong kind, or both or neither of ``f`` and ``log_joint`` are given.
    """
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
