"""Checks of constructor arguments. A message says what came, what was expected and what to use instead."""

import math

from bench.objectives._protocol import Objective


def at_least(objective: Objective, /, **least: int) -> None:
    """Raise ``ValueError`` unless each named field is a whole number that is at least the given one."""
    for name, low in least.items():
        value = getattr(objective, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise _error(objective, name, f"a whole number {name} >= {low}")


def finite(objective: Objective, *names: str) -> None:
    """Raise ``ValueError`` unless each named field is a finite number; store it as a float."""
    for name in names:
        if not math.isfinite(_number(objective, name)):
            raise _error(objective, name, f"a finite number {name}")


def between(objective: Objective, /, **limits: tuple[float, float]) -> None:
    """Raise ``ValueError`` unless each named field is a number within the given limits; store it as a float."""
    for name, (low, high) in limits.items():
        if not low <= _number(objective, name) <= high:
            raise _error(objective, name, f"a number {name} from {low:g} to {high:g}")


def positive(objective: Objective, *names: str) -> None:
    """Raise ``ValueError`` unless each named field is a finite number above zero; store it as a float."""
    for name in names:
        if not 0 < _number(objective, name) < math.inf:
            raise _error(objective, name, f"a finite number {name} > 0")


def one_of(objective: Objective, name: str, *choices: str) -> None:
    """Raise ``ValueError`` unless the named field is one of the choices."""
    if getattr(objective, name) not in choices:
        *most, last = choices
        raise _error(objective, name, f"{name} to be {', '.join(most)} or {last}")


def _number(objective: Objective, name: str) -> float:
    """Return the named field as a float, or NaN if it is not a number.

    The frozen instance stores the float, so that ``mean=1`` and ``mean=1.0`` are one objective with one identity.
    """
    value = getattr(objective, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    object.__setattr__(objective, name, float(value))
    return float(value)


def _error(objective: Objective, name: str, expected: str) -> ValueError:
    came, default, owner = getattr(objective, name), getattr(type(objective), name), type(objective).__name__
    return ValueError(f"{owner} needs {expected} (got {name}={came!r}). Use {name}={default!r}.")
