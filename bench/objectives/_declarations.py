"""The facts that the class of an objective declares: which values they may have."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.distributions import Distribution

from bench.objectives._protocol import Objective
from estimators import Estimator


class _Fact(NamedTuple):
    """Whether a value fits, and what is expected, in words."""

    fits: Callable[[Any], bool]
    expected: str


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_COUNT = "a whole number of at least 1"
FACTS = {
    "family": _Fact(lambda v: isinstance(v, type) and issubclass(v, Distribution), "a class of distributions"),
    "dim": _Fact(_is_count, _COUNT),
    "row_elements": _Fact(_is_count, _COUNT),
    "particles": _Fact(lambda v: v is None or _is_count(v), f"None or {_COUNT}"),
    "exact_error": _Fact(lambda v: isinstance(v, int | float) and v >= 0, "a number of at least 0"),
    "reference_estimator": _Fact(
        lambda v: v is None or isinstance(v, Estimator),
        "None or an instance of an estimator, such as Reparameterization(n=8)",
    ),
    **{
        name: _Fact(lambda v: isinstance(v, bool), "True or False")
        for name in ("differentiable", "relaxable", "bound", "maximise", "has_exact")
    },
}
"""The declared facts of an objective, by the name of the attribute."""


def wrong_declarations(owner: Objective | type[Objective]) -> list[str]:
    """Return the faults in the declared facts of an objective or its class; an empty list if there are none.

    Each entry is a sentence without its subject, such as "does not declare dim, ...".

    If ``owner`` is a class, facts that only an instance knows (properties, and fields without a default) count as
    right.
    """
    fields: set[str] = {f.name for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    wrong = list[str]()
    for name, fact in FACTS.items():
        value = getattr(type(owner) if _is_measured(owner, name) else owner, name, _MISSING)
        if value is _MISSING:
            wrong += [] if name in fields else [f"does not declare {name}, {fact.expected}."]
        elif not hasattr(type(value), "__get__") and not fact.fits(value):
            wrong.append(f"declares {name} = {value!r}, which must be {fact.expected}.")
    return wrong


def _is_measured(owner: Objective | type[Objective], name: str) -> bool:
    """Return whether a fact is ``row_elements`` of an instance whose class does not declare it."""
    return name == "row_elements" and getattr(type(owner), name, None) is Objective.row_elements


_MISSING = object()
