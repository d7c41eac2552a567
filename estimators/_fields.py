"""Fields of estimators and objectives: plain Python values, because they are the identity of their owner."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor


class PlainFields:
    """Base class of dataclasses with plain fields: numbers of numpy become Python's before any check.

    So ``RLOO(n=numpy.int64(4))`` has the repr of ``RLOO(n=4)``, and is equal to it. A tensor in a field is not
    converted, because the gradient with respect to it would be lost; the checks of the class refuse it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the subclass convert its fields before its own ``__post_init__`` checks them."""
        super().__init_subclass__(**kwargs)
        if own := vars(cls).get("__post_init__"):
            cls.__post_init__ = _after_conversion(own)  # type: ignore[assignment, method-assign]

    def __post_init__(self) -> None:
        """Convert numpy's numbers in the fields to Python's.

        Raises:
            ValueError: a whole number needs more than 64 bits, so that it fits into no tensor.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if (plain := plain_value(value)) is not value:
                object.__setattr__(self, field.name, plain)
            if isinstance(plain, int) and not -(2**63) <= plain < 2**63:
                raise ValueError(f"{type(self).__name__} needs {field.name} within 64 bits (got {field.name}={plain}).")


def _after_conversion(own: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(own)
    def convert_and_check(self: PlainFields) -> None:
        PlainFields.__post_init__(self)
        own(self)

    return convert_and_check


def plain_value(value: Any) -> Any:
    """Return a numpy scalar as a Python number or string, also inside a tuple; return any other value unchanged."""
    if isinstance(value, tuple):
        plain = tuple(map(plain_value, value))
        return value if all(a is b for a, b in zip(plain, value, strict=True)) else plain
    if isinstance(value, Tensor) or getattr(value, "shape", None) != ():
        return value
    return value.item()


def named_type(value: object, *right: type) -> str:
    """Return a few words for the type of a value, to end a message: ``", of type str"`` behind ``"got n='4'"``.

    The result is an empty string if the type of the value is one of ``right``.
    """
    return "" if type(value) in right else f", of type {type(value).__name__}"
