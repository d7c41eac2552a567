"""The class of an objective: what it needs, and which values the facts may have that it declares."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.distributions import Distribution

from bench.objectives._protocol import Objective
from estimators import Estimator


class _Fact(NamedTuple):
    """Whether a value fits, what is expected, in words, and a line that declares such a value."""

    fits: Callable[[Any], bool]
    expected: str
    line: str = ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_COUNT = "a whole number of at least 1"
FACTS = {
    "family": _Fact(
        lambda v: isinstance(v, type) and issubclass(v, Distribution), "a class of distributions", "family = Bernoulli"
    ),
    "dim": _Fact(_is_count, _COUNT, "dim = 1"),
    "row_elements": _Fact(_is_count, _COUNT),
    "particles": _Fact(lambda v: v is None or _is_count(v), f"None or {_COUNT}"),
    "exact_error": _Fact(lambda v: isinstance(v, int | float) and v >= 0, "a number of at least 0"),
    "reference_estimator": _Fact(
        lambda v: v is None or isinstance(v, Estimator),
        "None or an instance of an estimator, such as Reparameterization(n=8)",
    ),
    **{
        name: _Fact(lambda v: isinstance(v, bool), "True or False")
        for name in ("differentiable", "relaxable", "bound", "costs", "sets", "maximise", "has_exact")
    },
}
"""The declared facts of an objective, by the name of the attribute."""
NO_FIELDS = ("family", "reference_estimator")
"""Facts that cannot be fields, whose values are numbers, text or tuples."""
BUILD = 'def build(self, dtype=torch.float32, device="cpu"):'


def wrong_class(owner: Objective | type) -> list[str]:
    """Return what is wrong with the class of an objective: base class, decorator, ``build`` and declared facts.

    ``owner`` is an objective or its class. Each entry is a sentence without its subject, followed by the line that
    mends the fault: "is not a frozen dataclass: put `@dataclass(frozen=True)` above class Mine." The list is empty if
    there is no fault.
    """
    wrong, cls = list[str](), owner if isinstance(owner, type) else type(owner)
    if not issubclass(cls, Objective):
        wrong.append(f"is not derived from bench.objectives.Objective: write `class {cls.__name__}(Objective):`.")
    parameters = vars(cls).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        wrong.append(f"is not a frozen dataclass: put `@dataclass(frozen=True)` above class {cls.__name__}.")
    wrong += [
        f"makes {name} a parameter: write `{name} = ...`, without a type behind the name."
        for name in NO_FIELDS
        if name in vars(cls).get("__annotations__", {})
    ]
    build = getattr(cls, "build", None)
    if build is None or build is Objective.build:
        wrong.append(f"does not define build, which returns Problem(theta, q, integrand, exact): add `{BUILD}`.")
    elif not _takes(build, None) or not _takes(build, None, torch.float64, "cpu"):
        wrong.append(f"has a build that cannot be called with dtype and device: write `{BUILD}`.")
    return wrong + wrong_declarations(owner)


def _takes(function: Callable[..., Any], *arguments: Any) -> bool:
    """Return whether a function can be called with these arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # its signature is not known
        return True
    return True


def wrong_declarations(owner: Objective | type) -> list[str]:
    """Return what is wrong with the facts, such as ``dim``, that an objective or its class declares.

    Each entry is a sentence without its subject, such as "does not declare dim, ...". The list is empty if there is no
    fault. If ``owner`` is a class, some facts are known only of its instances: properties, and fields without a
    default. These facts count as right.
    """
    fields: set[str] = {f.name for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    wrong = list[str]()
    for name, fact in FACTS.items():
        default = getattr(Objective, name, _MISSING)
        value = getattr(type(owner) if _is_measured(owner, name) else owner, name, default)
        if value is _MISSING:
            wrong += [] if name in fields else [f"does not declare {name}, {fact.expected}: add `{fact.line}`."]
        elif not hasattr(type(value), "__get__") and not fact.fits(value):
            wrong.append(f"declares {name} = {value!r}, which must be {fact.expected}.")
    return wrong


def _is_measured(owner: Objective | type, name: str) -> bool:
    """Return whether a fact is ``row_elements`` of an instance whose class does not declare it."""
    return name == "row_elements" and getattr(type(owner), name, None) is Objective.row_elements


_MISSING = object()
