"""Selectors: the words that name estimators and objectives, as ``rloo:n=2,4`` or ``mine.py::Mine:scale=0.5``.

Commas separate the tokens after the name. A token with ``=`` starts a parameter; a token without ``=`` is a further
value of that parameter, so a selector is a grid. The values of a tuple are joined by ``/``. A value may itself be an
estimator, with its fields behind colons: ``nested:outer=rloo:n=4,inner=disarm``. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from bench.planning.catalogue import Kind, aliases, canonical_name, catalogue, did_you_mean, kebab
from bench.records.identity import changed_fields, fields_of
from bench.records.labels import changed_keys, spelled, value_text

_MODULE_CLASS = re.compile(r"(?P<name>[A-Za-z_][\w.]*:[A-Za-z_]\w*)(?:(?P<colon>:)(?P<params>.*))?", re.DOTALL)


class UsageError(ValueError):
    """The user's request is invalid. The message is one sentence: what came, what was expected, what to do."""


class Unloadable(UsageError):
    """A user's file, module or class raises an exception, or ends the program, before anything can be measured."""


class Forbidden(UsageError):
    """A selector names a file or a module of a user, and the user has said that none is to be imported."""


class NothingFits(Exception):
    """No estimator fits its objective, so nothing can be measured. The message is one sentence with the reasons."""

    def __init__(self, reasons: Iterable[str]) -> None:
        first = [*dict.fromkeys(reasons)][:3]
        super().__init__(f"No cell could be measured, because no estimator fits its objective: {' '.join(first)}")


@dataclass(frozen=True)
class Selector:
    """The name of a class, and a grid of values for its parameters, as in ``rloo:n=2,4``.

    Args:
        name: a name or an alias in the catalogue, ``path/to/file.py::Class``, ``path/to/file.py`` for the only class in
            the file, or ``package.module:Class``.
        params: the values of each parameter, as text, by the name of the parameter.
    """

    name: str
    params: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        params = ",".join(f"{key}={','.join(values)}" for key, values in self.params.items())
        return f"{self.name}:{params}" if params else self.name

    @property
    def file(self) -> tuple[str, str] | None:
        """The path of the user's file and the name of the class in it; None if the selector names no file.

        The name of the class is empty if the selector has only the path. The file then has only one class.
        """
        path, separator, cls = self.name.partition("::")
        return (path, cls) if separator or path.endswith(".py") else None

    @property
    def is_own(self) -> bool:
        """Whether the selector names a class of the user's, in a file or in a module."""
        return self.file is not None or ":" in self.name

    def anchored(self, folder: Path) -> Selector:
        """Return the selector with the path of a user's file made absolute; relative paths start at ``folder``.

        A selector that names no file is returned unchanged.
        """
        return self._with_path(lambda path: str((folder / path).resolve()))

    def relative_to(self, folder: Path) -> Selector:
        """Return the selector with the path of a user's file made relative to ``folder``.

        A selector that names no file is returned unchanged.
        """
        return self._with_path(lambda path: os.path.relpath(path, folder))

    def _with_path(self, change: Callable[[str], str]) -> Selector:
        if self.file is None:
            return self
        path, cls = self.file
        return replace(self, name=f"{change(path)}::{cls}" if cls else change(path))


Named = Sequence[tuple[Selector, Kind]]
"""Selectors, each with its kind."""


def parse(text: str) -> Selector:
    """Return the selector that a text such as ``rloo:n=2,4`` spells: a name, and values for its parameters.

    Raises:
        UsageError: the text is not a selector.
    """
    text = text.strip()
    if "\0" in text:
        raise UsageError(f"A selector holds no null character (got {text!r}).")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # how Python spells bytes of a name that are not UTF-8
        raise UsageError(f"A selector is text in UTF-8, as its records are (got {text!r}). Rename the file.")
    path, end, rest = text.partition("::") if "::" in text else text.partition(".py:")
    if end:
        cls, colon, params = rest.partition(":")
        if "=" in cls or not cls:  # the only class of the file
            cls, colon, params = "", ":" if rest else "", rest.removeprefix(":")
        path = path if end == "::" else f"{path}.py"
        name = f"{path}::{cls}" if cls else path
    elif text.endswith(".py"):
        name, colon, params = text, "", ""
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
        if ":" in start:  # a further value that is an estimator, such as rloo:n=4
            start, equals, value = token.strip(), "", ""
        if equals and start in found:
            raise UsageError(f"{text!r} gives {start} twice. Write its values with commas, as in {start}=1,2.")
        key, value = (start, value) if equals else (key, start)
        if not key or not value:
            raise UsageError(f"{text!r} is not a selector: it needs key=value after the colon, as in rloo:n=2,4.")
        found[key] = (*found.get(key, ()), value)
    return found


def from_table(table: dict[str, Any]) -> Selector:
    """Return the selector that a TOML table spells: ``{name = "rloo", n = [2, 4]}`` for ``rloo:n=2,4``.

    A list holds several values of a parameter; a list inside that list is one value, a tuple.

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
        if not values or any("," in v or "=" in v.partition(":")[0] for v in params[key]):
            raise UsageError(f"{name!r} needs plain values for {key}, without commas and equals signs (got {value!r}).")
    return Selector(base.name, params)


def label(instance: Any) -> str:
    """Return the shortest text that names an estimator or an objective on the command line, such as ``rloo:n=4``.

    The text consists of the name of the class and the fields that differ from their defaults.
    """
    from estimators import command_line_name

    return spelled(command_line_name(type(instance)), changed_fields(instance))


def full_label(instance: Any) -> str:
    """Return the text that names an estimator or an objective in reports, such as ``rloo:n=2``.

    The text consists of the name of the class, n if the class has this field, and all other fields that differ from
    their defaults.
    """
    from estimators import command_line_name

    changed = changed_fields(instance)
    return spelled(
        command_line_name(type(instance)),
        {key: value for key, value in fields_of(instance).items() if key == "n" or key in changed},
    )


def names(text: str, record: Mapping[str, Any]) -> bool:
    """Return whether a text names the estimator of a record or, in the form ``ESTIMATOR on OBJECTIVE``, its cell.

    A cell is an estimator on an objective. Each name is a selector, such as ``rloo:n=4``, in any spelling: as an alias,
    as the name of a class, and with or without a field that has its default. The name of a user's class may include its
    file or module; no file is read.
    """
    estimator, on, objective = text.partition(" on ")
    return _names(estimator, record, "estimator") and (not on or _names(objective, record, "objective"))


def selects(text: str, record: Mapping[str, Any], kind: Kind) -> bool:
    """Return whether a selector covers the estimator, or the objective, of a record. ``kind`` says which of the two.

    The selector ``text`` is a name with values for its parameters: ``rloo:n=2,4`` covers RLOO with n=2 and with n=4.
    Fields that the selector leaves out may have any value.

    Raises:
        UsageError: the text is not a selector.
    """
    selector, params = parse(text), record[f"{kind}_params"]
    return _recorded_name(selector, kind) == record[f"{kind}_name"] and all(
        key in params and any(_spelt(params[key]) in _spellings(value) for value in values)
        for key, values in selector.params.items()
    )


def covering(texts: Iterable[str], records: Iterable[Mapping[str, Any]], kind: Kind) -> dict[str, list[str]]:
    """Return the selectors that cover the estimators, or the objectives, of some records.

    ``kind`` says whether estimators or objectives are meant. ``rloo:n=4`` covers RLOO with n=4, whatever its other
    fields. Each key of the result is the text that names an estimator or an objective in the records. The value is the
    list of the selectors that cover it, which is empty if none does.

    ``texts`` are the selectors to choose from. Every parameter in them has one value; ``rloo:n=2,4`` is not allowed.
    """
    index = defaultdict[Hashable, list[str]](list)
    parameters = defaultdict[str, dict[tuple[str, ...], None]](dict)
    for text in texts:
        selector = parse(text)
        name, keys = _recorded_name(selector, kind), tuple(selector.params)
        parameters[name][keys] = None
        for values in product(*(_spellings(value) for (value,) in selector.params.values())):
            index[name, keys, values].append(text)
    found = dict[str, list[str]]()
    for record in records:
        if record[kind] not in found:
            name, params = record[f"{kind}_name"], record[f"{kind}_params"]
            held = [keys for keys in parameters.get(name, ()) if params.keys() >= set(keys)]
            places = [(name, keys, tuple(_spelt(params[key]) for key in keys)) for keys in held]
            found[record[kind]] = [text for place in places for text in index.get(place, ())]
    return found


def _recorded_name(selector: Selector, kind: Kind) -> str:
    """Return the name that the records of a selector's class have."""
    name = selector.name.rpartition(":")[2]
    return canonical_name(kind, name) or kebab(name)


def _names(text: str, record: Mapping[str, Any], kind: Kind) -> bool:
    try:
        given = parse(text).params
        single = all(len(values) == 1 for values in given.values())
        return single and selects(text, record, kind) and not changed_keys(record[kind]) - given.keys()
    except UsageError:
        return False


def _spelt(value: object) -> float | str:
    """Return the value of a field as ``_spellings`` has it for a text that spells it: a number, or a text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else value_text(value).lower()


def _spellings(text: str) -> tuple[float | str, ...]:
    """Return what a text may spell: itself, and the number that it reads as."""
    try:
        return text.lower(), float(text)
    except ValueError:
        return (text.lower(),)


def _is_catalogued(name: str) -> bool:
    return any(canonical_name(kind, name) for kind in get_args(Kind))


def check_name(selector: Selector, kind: Kind) -> Selector:
    """Return the selector with its name as the command line writes it: ``RLOO:n=2`` becomes ``rloo:n=2``.

    The name may be an alias or the name of a class. A selector that names a user's class is returned unchanged.
    ``kind`` says whether the class is an estimator or an objective.

    Raises:
        UsageError: the catalogue has no such name of this kind.
    """
    name = selector.name
    if ":" in name or selector.file:
        return selector
    if known := canonical_name(kind, name):
        return replace(selector, name=known)
    if "," in name:
        option, words = f"-{kind[0]}", [word.strip() for word in name.split(",")]
        raise UsageError(f"{name!r} is not one {kind}. Repeat {option}: {' '.join(f'{option} {w}' for w in words)}.")
    if _is_catalogued(name):
        other = "objective" if kind == "estimator" else "estimator"
        raise UsageError(f"{name!r} is an {other}, not an {kind}: give it with --{other}.")
    hint = did_you_mean(name, [*catalogue(kind), *aliases(kind)])
    raise UsageError(f"Unknown {kind} {name!r}.{hint or f' See `bench list {kind}s`.'}")
