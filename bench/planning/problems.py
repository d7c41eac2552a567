"""Objectives that a user's file makes: ``-o mine.py::problem`` for an objective, or for a function that returns one."""

import copy
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch

from bench.objectives import Objective, Problem


def class_of(module: types.ModuleType, name: str) -> type[Objective] | None:
    """Return a class that creates the objective ``name`` of a user's module; None if the module has no such objective.

    ``name`` is the name of an objective in the module, or of a function that returns one. The function's arguments
    become the fields of the class, so that a selector (the text after ``-o``) can set them, as in ``problem:dim=3``.
    The type of a field is the annotation of the argument, or else the type of its default.
    """
    found = getattr(module, name, None)
    if not isinstance(found, Objective) and not inspect.isfunction(found):
        return None
    title = f"_Made_{name}"
    if known := vars(module).get(title):
        return known  # type: ignore[no-any-return]
    fields = list[Any]()
    for key, argument in (inspect.signature(found).parameters if inspect.isfunction(found) else {}).items():
        default = argument.default
        hint = type(default) if argument.annotation is argument.empty else argument.annotation
        fields.append((key, hint) if default is argument.empty else (key, hint, dataclasses.field(default=default)))
    namespace = {
        "command_name": name.replace("_", "-"),
        "make": staticmethod(found if inspect.isfunction(found) else functools.partial(_itself, found)),
        "__module__": module.__name__,
    }
    cls = dataclasses.make_dataclass(title, fields, bases=(Made,), frozen=True, namespace=namespace)
    setattr(module, title, cls)  # where pickle looks for it
    return cls


def _itself(objective: Objective) -> Objective:
    return objective


class Made(Objective):
    """An objective from a user's file: one that the file defines, or one that a function in the file returns.

    The fields of ``Made`` are the arguments of the function, if there is one. A pickle holds these fields and the
    name of the file's module, but no tensors. The process that reads the pickle must be able to import the module, and
    makes the objective again.
    """

    make: ClassVar[Callable[..., Objective]]
    """The function that makes it from its fields."""
    command_name: ClassVar[str]
    """Its name on the command line."""
    made: Objective
    """The objective that the function returned."""

    def __post_init__(self) -> None:
        made: Any = type(self).make(**fields_of(self))
        if not isinstance(made, Objective):
            raise ValueError(
                f"{self.command_name} returned a {type(made).__name__}. Return an objective, such as bench.Expectation."
            )
        for fact in FACTS:
            object.__setattr__(self, fact, getattr(made, fact))
        object.__setattr__(self, "made", made)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), fields_of(self), self.contents, self.known_row_elements)

    @property
    def contents(self) -> dict[str, str]:
        """Digests of what identifies the objective besides its fields: ``{"content": "1a2b3c4d..."}``.

        A ``bench.Expectation`` has one digest, with the key "content", of all that defines it, such as the sources of
        its functions and the numbers in theta. Any other objective has a digest of each file that a field names; the
        key is the name of the field. Two objectives with different digests are different objectives.
        """
        return self.made.contents

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample."""
        return self.made.row_elements

    @property
    def known_row_elements(self) -> int | None:
        """``row_elements`` if it is known already, else None. Nothing is measured.

        ``row_elements`` is the number of elements in the largest tensor of one estimate with one sample.
        """
        return self.made.known_row_elements

    def remember_row_elements(self, count: int) -> None:
        """Store the number of elements in the largest tensor of one estimate with one sample.

        From then on, ``row_elements`` returns ``count`` and measures nothing.
        """
        self.made.remember_row_elements(count)

    def measured_row_elements(self, *, with_theta: bool = True) -> int:
        """Measure the number of elements in the largest tensor of one estimate; return it rounded up to a power of two.

        The parameters of q count among the tensors, because an estimate computes gradients with respect to them. The
        tensors of theta count only if ``with_theta`` is True.
        """
        return self.made.measured_row_elements(with_theta=with_theta)

    def restarted(self, seed: int) -> Self:
        """Return the objective with the initial weights and the order of minibatches that follow from ``seed``.

        For seed 0, the result is this objective.
        """
        if seed == 0:
            return self
        other = copy.copy(self)
        object.__setattr__(other, "made", self.made.restarted(seed))
        return other

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact E_q[f], in ``dtype`` and on ``device``."""
        return self.made.build(dtype, device)


FACTS = (
    *("family", "dim", "differentiable", "relaxable", "bound", "maximise", "particles"),
    *("has_exact", "exact_error", "reference_estimator", "shared", "layer_families", "costs"),
)
"""The declared facts of an objective that ``Made`` takes from the one that was made."""


def fields_of(made: Made) -> dict[str, Any]:
    """Return the arguments with which a function in a user's file made an objective, by name: ``{"dim": 3}``.

    The result is empty if the file made the objective without a function.
    """
    return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}  # type: ignore[arg-type]


def _made_again(cls: type[Made], fields: dict[str, Any], contents: dict[str, str], row_elements: int | None) -> Made:
    """Make an objective again, in another process."""
    made = cls(**fields)
    if made.contents != contents:
        raise ValueError(
            f"{cls.command_name} differs between two loads of its file: it draws random numbers. Seed them, as by "
            "torch.manual_seed(0) at the top of the file."
        )
    if row_elements is not None:
        made.remember_row_elements(row_elements)
    return made
