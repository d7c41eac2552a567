"""Checks of constructor arguments. A message says what came, what was expected and what to use instead."""

import math

from bench.objectives._protocol import Objective


def whole(objective: Objective, name: str, least: int) -> None:
    """Raise ``ValueError`` unless the named field is a whole number of at least ``least``."""
    value = getattr(objective, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(_sentence(objective, name, f"a whole number {name} >= {least}"))


def finite(objective: Objective, *names: str) -> None:
    """Raise ``ValueError`` unless each named field is a finite number; store it as a float."""
    for name in names:
        if not math.isfinite(_number(objective, name)):
            raise ValueError(_sentence(objective, name, f"a finite number {name}"))


def between(objective: Objective, name: str, least: float, most: float) -> None:
    """Raise ``ValueError`` unless the named field is a number from ``least`` to ``most``; store it as a float."""
    if not least <= _number(objective, name) <= most:
        raise ValueError(_sentence(objective, name, f"a number {name} from {least:g} to {most:g}"))


def positive(objective: Objective, *names: str) -> None:
    """Raise ``ValueError`` unless each named field is a finite number above zero; store it as a float."""
    for name in names:
        if not 0 < _number(objective, name) < math.inf:
            raise ValueError(_sentence(objective, name, f"a finite number {name} > 0"))


def one_of(objective: Objective, name: str, *choices: str) -> None:
    """Raise ``ValueError`` unless the named field is one of the choices."""
    if getattr(objective, name) not in choices:
        *most, last = choices
        raise ValueError(_sentence(objective, name, f"{name} to be {', '.join(most)} or {last}"))


def _number(objective: Objective, name: str) -> float:
    """Return the named field as a float, or NaN if it is not a number.

    The frozen instance stores the float, so that ``mean=1`` and ``mean=1.0`` are one objective with one identity.
    """
    value = getattr(objective, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    object.__setattr__(objective, name, float(value))
    return float(value)


def _sentence(objective: Objective, name: str, expected: str) -> str:
    cls = type(objective)
    return (
        f"{cls.__name__} needs {expected} (got {name}={getattr(objective, name)!r}). Use {name}={getattr(cls, name)!r}."
    )
