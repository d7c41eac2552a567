"""Estimators as text: the words that name an estimator in a field of another one, such as ``rloo:n=4``."""

import contextlib
import dataclasses
import types
import typing
from typing import Any

from estimators._catalogue import catalogue
from estimators._protocol import Estimator, command_line_name
from estimators._refusals import InvalidParameter


def spelled(estimator: Estimator) -> str:
    """Return the text of an estimator: its command-line name and the fields that differ from their defaults.

    The fields follow behind colons: ``rloo``, or ``score-function:n=4:baseline=0.5``.
    """
    changed = [
        f"{field.name}={_text(value)}"
        for field in dataclasses.fields(estimator)  # type: ignore[arg-type]
        if (value := getattr(estimator, field.name)) != field.default
    ]
    return ":".join([command_line_name(type(estimator)), *changed])


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def estimator_of(text: str, owner: str) -> Estimator:
    """Return the estimator that a text such as ``rloo:n=4`` names.

    The name is looked up in the catalogue first, then among all other classes of estimators that are loaded. ``owner``
    is the name of the class that has this text in a field, for messages.

    Raises:
        InvalidParameter: there is no such estimator, field or value.
    """
    name, *given = text.split(":")
    found = {known: cls for cls in (*_derived(Estimator), *catalogue().values()) for known in _names(cls)}
    cls = found.get(name.lower().replace("_", "-"))
    if cls is None:
        raise InvalidParameter(
            f"{owner} names an estimator, with any fields behind colons, as in rloo:n=4 (got {text!r}). "
            "Use a name that `bench list estimators` prints, or pass the estimator itself."
        )
    hints, fields = typing.get_type_hints(cls), dict[str, Any]()
    known = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    for pair in given:
        key, _, value = pair.partition("=")
        if key not in known:
            raise InvalidParameter(f"{owner}: {name} has no field {key!r} (it has {', '.join(known) or 'none'}).")
        if key in fields:
            raise InvalidParameter(f"{owner}: {text!r} has the field {key!r} twice. Give one value.")
        fields[key] = _value(value, hints[key])
    try:
        return cls(**fields)
    except ValueError as error:
        raise InvalidParameter(f"{owner}: {error}") from error


def _names(cls: type[Estimator]) -> tuple[str, ...]:
    return (command_line_name(cls), *cls.aliases)


def _derived(cls: type[Any]) -> typing.Iterator[type[Estimator]]:
    for each in cls.__subclasses__():
        yield each
        yield from _derived(each)


def _value(text: str, hint: Any) -> Any:
    """Return the value of a field of this type that a text spells; the text itself if it spells none."""
    types_ = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if text in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text]
    for number in (int, float):
        if number in types_:
            with contextlib.suppress(ValueError):
                return number(text)
    if any(tuple in (each, typing.get_origin(each)) for each in types_):
        return tuple(_value(part, int | float | str) for part in text.split("/"))
    return text
