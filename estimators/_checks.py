"""Checks of parameters and integrands; each raises one sentence: what came, what was expected, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from estimators._protocol import InvalidParameter, NotDifferentiable, Refusal

if TYPE_CHECKING:
    from estimators._protocol import Estimator


def at_least(estimator: Estimator, least: int, advice: str = "", field: str = "n") -> None:
    """Raise ``InvalidParameter`` unless the named field is a whole number of at least ``least``."""
    n = getattr(estimator, field)
    name = type(estimator).__name__
    if isinstance(n, bool) or not isinstance(n, int):
        raise InvalidParameter(f"{name} needs a whole number {field} (got {field}={n!r}). Use {name}({field}={least}).")
    if n < least:
        raise InvalidParameter(
            f"{name} needs {field} >= {least} (got {field}={n}){advice or f'. Use {name}({field}={least}).'}"
        )


def positive(estimator: Estimator, field: str) -> None:
    """Raise ``InvalidParameter`` unless the named field is a positive, finite number."""
    value = getattr(estimator, field)
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    if not good:
        name = type(estimator).__name__
        raise InvalidParameter(f"{name} needs {field} > 0 and finite (got {field}={value!r}). Use {name}({field}=1.0).")


def one_value_each(fx: Tensor, x: Tensor, batch_shape: torch.Size) -> None:
    """Raise ``Refusal`` unless f gave one value per sample and batch element: it did not sum over the event axes."""
    expected = (*x.shape[:1], *batch_shape)
    if fx.shape != expected:
        raise Refusal(
            f"f returned shape {list(fx.shape)} for samples of shape {list(x.shape)}: expected {list(expected)}, "
            "one value per sample and batch element. Sum f over the event axes."
        )


def needs_gradient(estimator: Estimator, fx: Tensor, x: Tensor) -> None:
    """Raise ``NotDifferentiable`` unless the graph of ``fx`` reaches ``x``.

    A step plus a smooth part passes (its gradient exists, and is wrong); ``x.detach()`` or ``x > 0`` alone do not.
    Where nothing of ``x`` is differentiated, f owes no gradient.
    """
    if not x.requires_grad:
        return
    target = x.grad_fn or torch.autograd.graph.get_gradient_edge(x).node
    seen = set()
    stack = [fx.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if node is target:
            return
        seen.add(node)
        for before, _ in node.next_functions:
            stack.append(before)
    raise NotDifferentiable(
        f"{estimator!r} needs df/dx, and f(x) does not depend on x differentiably. "
        "Use ScoreFunction or RLOO, which only evaluate f."
    )
