"""Selectors: the words that name estimators and objectives, as ``rloo:n=2,4`` or ``mine.py::Mine:scale=0.5``.

Commas separate the tokens after the name. A token with ``=`` starts a parameter; a token without ``=`` is a further
value of that parameter, so a selector is a grid. The values of a tuple are joined by ``/``. Imports no torch.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from bench.planning.catalogue import Kind, aliases, catalogue, did_you_mean
from bench.records.identity import changed_fields

_MODULE_CLASS = re.compile(r"(?P<name>[A-Za-z_][\w.]*:[A-Za-z_]\w*)(?:(?P<colon>:)(?P<params>.*))?", re.DOTALL)


class UsageError(ValueError):
    """The user's request is invalid. The message is one sentence: what came, what was expected, what to do."""


@dataclass(frozen=True)
class Selector:
    """The name of a class, and a grid of values for its parameters.

    Args:
        name: a catalogue name or alias, ``path/to/file.py::Class``, or ``package.module:Class``.
        params: name of a parameter -> its values, as text.
    """

    name: str
    params: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        params = ",".join(f"{key}={','.join(values)}" for key, values in self.params.items())
        return f"{self.name}:{params}" if params else self.name

    def anchored(self, folder: Path) -> Selector:
        """Return the selector with the path of a user's file made absolute; relative paths start at ``folder``."""
        path, separator, cls = self.name.partition("::")
        return replace(self, name=f"{(folder / path).resolve()}::{cls}") if separator else self

    def relative_to(self, folder: Path) -> Selector:
        """Return the selector with the path of a user's file made relative to ``folder``."""
        path, separator, cls = self.name.partition("::")
        return replace(self, name=f"{os.path.relpath(path, folder)}::{cls}") if separator else self


def parse(text: str) -> Selector:
    """Return the selector that a text such as ``rloo:n=2,4`` spells.

    Raises:
        UsageError: the text is not a selector.
    """
    text = text.strip()
    if "::" in text:
        path, _, rest = text.partition("::")
        cls, colon, params = rest.partition(":")
        name = f"{path}::{cls}"
    elif (match := _MODULE_CLASS.fullmatch(text)) and not _is_catalogued(text.partition(":")[0]):
        name, colon, params = match["name"], match["colon"], match["params"]
    else:
        name, colon, params = text.partition(":")
    if not name:
        raise UsageError(f"A selector needs a name (got {text!r}), as in rloo or rloo:n=4.")
    return Selector(name, _parse_params(params, text) if colon else {})


def _parse_params(params: str, text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    key = ""
    for token in params.split(","):
        start, equals, value = (part.strip() for part in token.partition("="))
        if equals and start in found:
            raise UsageError(f"{text!r} gives {start} twice. Write its values with commas, as in {start}=1,2.")
        key, value = (start, value) if equals else (key, start)
        if not key or not value:
            raise UsageError(f"{text!r} is not a selector: it needs key=value after the colon, as in rloo:n=2,4.")
        found[key] = (*found.get(key, ()), value)
    return found


def from_table(table: dict[str, Any]) -> Selector:
    """Return the selector that a TOML table such as ``{name = "rloo", n = [2, 4]}`` spells; an inner list is a tuple.

    Raises:
        UsageError: the table has no name, or a value that a selector cannot hold.
    """
    name = table.get("name")
    if not isinstance(name, str):
        raise UsageError('The table of a selector needs a name, as in {name = "rloo", n = [2, 4]}.')
    base = parse(name)
    params = dict(base.params)
    for key, value in ((key, value) for key, value in table.items() if key != "name"):
        if key in params:
            raise UsageError(f"{name!r} gives {key} twice: in the name and in the table.")
        values = value if isinstance(value, list) else [value]
        params[key] = tuple(value_text(v) for v in values)
        if not values or any("," in v or "=" in v for v in params[key]):
            raise UsageError(f"{name!r} needs plain values for {key}, without commas and equals signs (got {value!r}).")
    return Selector(base.name, params)


def value_text(value: object) -> str:
    """Return the text of a field's value in a selector: 2.0 becomes ``2``, True ``true``, and (1, 2) ``1/2``."""
    match value:
        case bool() | None:
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case tuple() | list():
            return "/".join(value_text(v) for v in value)
        case _:
            return str(value)


def label(instance: Any) -> str:
    """Return the canonical selector of one instance: its name and the fields that differ from their defaults."""
    from estimators import command_line_name

    params = ",".join(f"{key}={value_text(value)}" for key, value in changed_fields(instance).items())
    name = command_line_name(type(instance))
    return f"{name}:{params}" if params else name


def _is_catalogued(name: str) -> bool:
    return any(name in catalogue(kind) or name in aliases(kind) for kind in get_args(Kind))


def check_name(selector: Selector, kind: Kind) -> None:
    """Raise ``UsageError`` unless a selector names a class of the catalogue or has the form of a user's class."""
    name = selector.name
    if ":" in name or name in catalogue(kind) or name in aliases(kind):
        return
    if _is_catalogued(name):
        other = "objective" if kind == "estimator" else "estimator"
        raise UsageError(f"{name!r} is an {other}, not an {kind}: give it with --{other}.")
    hint = did_you_mean(name, [*catalogue(kind), *aliases(kind)])
    raise UsageError(f"Unknown {kind} {name!r}.{hint or f' See `bench list {kind}s`.'}")
