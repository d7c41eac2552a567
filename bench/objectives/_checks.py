"""Checks of constructor arguments. A message says what came, what was expected and what to use instead."""

import math

from bench.objectives._protocol import Objective


def at_least(objective: Objective, /, **least: int) -> None:
    """Raise ``ValueError`` unless each named field is a whole number of at least the given value.

    For example, ``at_least(self, dim=1, seed=0)`` demands dim >= 1 and seed >= 0.
    """
    for name, low in least.items():
        value = getattr(objective, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise error(objective, name, f"a whole number {name} >= {low}")


def finite(objective: Objective, *names: str) -> None:
    """Store each named field as a float. Raise ``ValueError`` if a field is not a finite number."""
    for name in names:
        if not math.isfinite(_number(objective, name)):
            raise error(objective, name, f"a finite number {name}")


def between(objective: Objective, /, **limits: tuple[float, float]) -> None:
    """Store each named field as a float. Raise ``ValueError`` if a field is not a number within its limits.

    For example, ``between(self, discount=(0, 1))`` demands 0 <= discount <= 1.
    """
    for name, (low, high) in limits.items():
        if not low <= _number(objective, name) <= high:
            raise error(objective, name, f"a number {name} from {low:g} to {high:g}")


def positive(objective: Objective, *names: str) -> None:
    """Store each named field as a float. Raise ``ValueError`` if a field is not a finite number above 0."""
    for name in names:
        if not 0 < _number(objective, name) < math.inf:
            raise error(objective, name, f"a finite number {name} > 0")


def one_of(objective: Objective, name: str, *choices: str) -> None:
    """Raise ``ValueError`` unless the field ``name`` holds one of the choices."""
    if getattr(objective, name) not in choices:
        *most, last = choices
        raise error(objective, name, f"{name} to be {', '.join(most)} or {last}")


def _number(objective: Objective, name: str) -> float:
    """Return the named field as a float, or NaN if it is not a number.

    The float replaces the field's value, so ``mean=1`` and ``mean=1.0`` are one objective with one identity.
    """
    value = getattr(objective, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    object.__setattr__(objective, name, float(value))
    return float(value)


def error(objective: Objective, name: str, expected: str) -> ValueError:
    """Return the ``ValueError`` for a field whose value is not as expected.

    The message is, for example, "GaussianQuadratic needs a whole number dim >= 1 (got dim=0). Use dim=10." If the value
    has an unexpected type, such as a list, the message also names the type.

    Args:
        objective: the objective.
        name: the name of the field.
        expected: what was expected, such as "a whole number dim >= 1".
    """
    came, default, owner = getattr(objective, name), getattr(type(objective), name), type(objective).__name__
    kind = "" if type(came) in (type(default), int) else f", of type {type(came).__name__}"
    return ValueError(f"{owner} needs {expected} (got {name}={came!r}{kind}). Use {name}={default!r}.")
