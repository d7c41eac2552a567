"""Checks of parameters and integrands; each raises one sentence: what came, what was expected, what to do."""

import math

import torch
from torch import Tensor

from estimators._fields import named_type
from estimators._integrand import Integrand
from estimators._protocol import Estimator
from estimators._refusals import InvalidParameter, NotDifferentiable, Refusal
from estimators._transforms import vmapped

MOST = 2**31 - 1
"""Largest number of samples, or of any other count, that an estimator takes."""


def at_least(estimator: Estimator, least: int, advice: str = "", field: str = "n") -> None:
    """Raise ``InvalidParameter`` unless a field of the estimator is a whole number from ``least`` to 2^31 - 1.

    Args:
        estimator: the estimator.
        least: the smallest valid value.
        advice: the end of the message for a value below ``least``, such as ``". Use RLOO(n=2)."``; if empty, the
            message recommends ``least`` itself.
        field: the name of the field.
    """
    n, name = getattr(estimator, field), type(estimator).__name__
    use = f". Use {name}({field}={least})."
    if isinstance(n, bool) or not isinstance(n, int):
        raise InvalidParameter(f"{name} needs a whole number {field} (got {field}={n!r}{named_type(n, int)}){use}")
    if n < least:
        raise InvalidParameter(f"{name} needs {field} >= {least} (got {field}={n}){advice or use}")
    if n > MOST:
        raise InvalidParameter(f"{name} needs {field} <= {MOST} (got {field}={n}){use}")


def even(estimator: Estimator, because: str = "its samples are pairs", fields: str = "", other: str = "") -> None:
    """Raise ``InvalidParameter`` unless the estimator's n, its number of samples, is even and at least 2.

    For n = 3, the message ends in "needs an even n: its samples are pairs (got n=3). Use DisARM(n=4)."

    Args:
        estimator: the estimator.
        because: why n must be even: the text after the colon.
        fields: further fields of the recommended instance, written after n. For example, ``", noise='antithetic'"``
            leads to "Reparameterization(n=4, noise='antithetic')".
        other: another recommendation, put before the final full stop, such as ``" or ScoreFunction(n=3)"``.
    """
    name = type(estimator).__name__
    at_least(estimator, 2, f". Use {name}(n=2{fields}).")
    n: int = estimator.n  # type: ignore[attr-defined]
    if n % 2:
        raise InvalidParameter(f"{name} needs an even n: {because} (got n={n}). Use {name}(n={n + 1}{fields}){other}.")


def is_finite(value: object) -> bool:
    """Return whether a value is a finite number. A bool is no number here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def is_positive(value: object) -> bool:
    """Return whether a value is a positive, finite number. A bool is no number here."""
    return isinstance(value, int | float) and is_finite(value) and value > 0


def finite(estimator: Estimator, field: str) -> None:
    """Raise ``InvalidParameter`` unless the estimator's ``field`` is a finite number."""
    value, name = getattr(estimator, field), type(estimator).__name__
    if not is_finite(value):
        raise InvalidParameter(
            f"{name} needs a finite number as {field} (got {field}={value!r}{named_type(value, int, float)}). "
            f"Use {name}({field}={getattr(type(estimator), field)})."
        )


def positive(estimator: Estimator, field: str) -> None:
    """Raise ``InvalidParameter`` unless the estimator's ``field`` is a positive, finite number."""
    value, name = getattr(estimator, field), type(estimator).__name__
    if not is_positive(value):
        came = f"{field}={value!r}{named_type(value, int, float)}"
        raise InvalidParameter(f"{name} needs {field} > 0 and finite (got {came}). Use {name}({field}=1.0).")


def one_of(estimator: Estimator, field: str, *words: str) -> None:
    """Raise ``InvalidParameter`` unless the estimator's ``field`` is one of ``words``."""
    value, name = getattr(estimator, field), type(estimator).__name__
    if value not in words:
        *others, last = map(repr, words)
        raise InvalidParameter(
            f"{name} needs {field}={', '.join(others)} or {last} (got {field}={value!r}{named_type(value, str)}). "
            f"Use {name}({field}={words[0]!r})."
        )


def true_or_false(estimator: Estimator, field: str) -> None:
    """Raise ``InvalidParameter`` unless the estimator's ``field`` is True or False."""
    value, name = getattr(estimator, field), type(estimator).__name__
    if not isinstance(value, bool):
        raise InvalidParameter(
            f"{name} needs {field}=True or False (got {field}={value!r}{named_type(value)}). "
            f"Use {name}({field}={getattr(type(estimator), field)})."
        )


def evaluate_path(estimator: Estimator, f: Integrand, x: Tensor) -> Tensor:
    """Return f(x), ``[n, *batch]``; raise ``NotDifferentiable`` unless the graph of the result reaches x.

    The message names ``estimator``. Nothing is checked if x does not require a gradient, or in inference mode.
    """
    fx = f(x)
    needs_gradient(estimator, fx, x)
    return fx


def needs_gradient(estimator: Estimator, fx: Tensor, x: Tensor) -> None:
    """Raise ``NotDifferentiable``, with a message that names ``estimator``, unless the graph of ``fx`` reaches ``x``.

    ``fx`` holds the values f(x). An f that uses x only as ``x.detach()`` or ``x > 0`` fails. An f with a step and a
    smooth part passes, although its gradient misses the step. Nothing is checked if ``x`` does not require a gradient,
    or in inference mode.
    """
    if not x.requires_grad or torch.is_inference_mode_enabled():
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
        stack.extend(before for before, _ in node.next_functions)
    raise no_gradient(estimator)


def no_gradient(estimator: Estimator) -> NotDifferentiable:
    """Return the exception for an f that has no gradient in x; its message names ``estimator``."""
    return NotDifferentiable(
        f"{estimator!r} needs df/dx, and f(x) does not depend on x differentiably. "
        "Use ScoreFunction or RLOO, which only evaluate f."
    )


def holds(condition: Tensor, who: object) -> bool:
    """Return the bool tensor ``condition``, of one element, as a Python bool.

    Raises:
        Refusal: ``torch.func.vmap`` is active, which hides the value. The message names ``who``, the caller.
    """
    if vmapped():
        name = who if isinstance(who, str) else repr(who)
        raise Refusal(f"{name} looks at values, and vmap hides them. Give q a batch of rows instead of using vmap.")
    return bool(condition)
