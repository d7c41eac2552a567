"""Selectors: the words that name estimators and objectives, such as ``rloo:n=2,4`` or ``mine.py::Mine:scale=0.5``.

A token with ``=`` starts a parameter; one without is a further value of the parameter before it, so that a selector is
a grid. The values of a tuple are joined by ``/``. Nothing here imports torch until an instance is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import math
import os
import re
import sys
import traceback
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import names, record
from bench.names import Kind, did_you_mean

_MODULE_CLASS = re.compile(r"(?P<name>[A-Za-z_][\w.]*:[A-Za-z_]\w*)(?::(?P<params>.*))?", re.DOTALL)


class UsageError(ValueError):
    """What the user asked for cannot be done. The message is one sentence: what came, what was expected, what to do."""


@dataclass(frozen=True)
class Selector:
    """A class and a grid of its parameters.

    Args:
        name: a catalogue name or alias, ``path/to/file.py::Class``, or ``package.module:Class``.
        params: parameter -> its values, as text.
    """

    name: str
    params: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        params = ",".join(f"{key}={','.join(values)}" for key, values in self.params.items())
        return f"{self.name}:{params}" if params else self.name

    def anchored(self, folder: Path) -> Selector:
        """Return the selector with the path of a user's file made absolute, read from ``folder``."""
        path, separator, cls = self.name.partition("::")
        return dataclasses.replace(self, name=f"{(folder / path).resolve()}::{cls}") if separator else self

    def relative_to(self, folder: Path) -> Selector:
        """Return the selector with the path of a user's file written as seen from ``folder``."""
        path, separator, cls = self.name.partition("::")
        return dataclasses.replace(self, name=f"{os.path.relpath(path, folder)}::{cls}") if separator else self


def parse(text: str) -> Selector:
    """Return the selector that a text spells.

    Raises:
        UsageError: the text is not a selector.
    """
    text = text.strip()
    if "::" in text:
        path, _, rest = text.partition("::")
        cls, colon, params = rest.partition(":")
        name = f"{path}::{cls}"
    elif (match := _MODULE_CLASS.fullmatch(text)) and not _is_catalogued(text.partition(":")[0]):
        name, params = match["name"], match["params"] or ""
        colon = ":" if match["params"] is not None else ""
    else:
        name, colon, params = text.partition(":")
    if not name:
        raise UsageError(f"A selector needs a name (got {text!r}), as in rloo or rloo:n=4.")
    return Selector(name, _parse_params(params, text) if colon else {})


def _parse_params(params: str, text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    key = ""
    for token in (token.strip() for token in params.split(",")):
        start, equals, value = (part.strip() for part in token.partition("="))
        if equals and start in found:
            raise UsageError(f"{text!r} gives {start} twice. Write its values with commas, as in {start}=1,2.")
        if equals:
            key = start
        else:
            value = token
        if not key or not value:
            raise UsageError(f"{text!r} is not a selector: it needs key=value after the colon, as in rloo:n=2,4.")
        found[key] = (*found.get(key, ()), value)
    return found


def from_table(table: dict[str, Any]) -> Selector:
    """Return the selector of a TOML table such as ``{name = "rloo", n = [2, 4]}``; an inner list is a tuple.

    Raises:
        UsageError: the table has no name, or a value that a selector cannot hold.
    """
    name = table.get("name")
    if not isinstance(name, str):
        raise UsageError('A table of a selector needs a name, as in {name = "rloo", n = [2, 4]}.')
    base = parse(name)
    params = dict(base.params)
    for key, value in table.items():
        if key == "name":
            continue
        if key in params:
            raise UsageError(f"{name!r} gives {key} twice: in the name and in the table.")
        values = value if isinstance(value, list) else [value]
        params[key] = tuple(value_text(v) for v in values)
        if not values or any("," in v or "=" in v for v in params[key]):
            raise UsageError(f"{name!r} needs plain values for {key}, without commas and equals signs (got {value!r}).")
    return Selector(base.name, params)


def value_text(value: object) -> str:
    """Return a field's value as selectors write it: 2.0 as ``2``, True as ``true``, (1, 2) as ``1/2``."""
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
    from estimators._protocol import command_line_name

    params = ",".join(f"{key}={value_text(value)}" for key, value in record.changed_fields(instance).items())
    name = command_line_name(type(instance))
    return f"{name}:{params}" if params else name


def _is_catalogued(name: str) -> bool:
    kinds: tuple[Kind, ...] = ("estimator", "objective")
    return any(name in names.catalogue(kind) or name in names.aliases(kind) for kind in kinds)


def check_name(selector: Selector, kind: Kind) -> None:
    """Raise ``UsageError`` if a selector names neither an entry of the catalogue nor a user's class. Needs no torch."""
    name = selector.name
    if ":" in name or name in names.catalogue(kind) or name in names.aliases(kind):
        return
    other: Kind = "objective" if kind == "estimator" else "estimator"
    if name in names.catalogue(other) or name in names.aliases(other):
        raise UsageError(f"{name!r} is an {other}, not an {kind}: give it with --{other}.")
    hint = did_you_mean(name, [*names.catalogue(kind), *names.aliases(kind)])
    raise UsageError(f"Unknown {kind} {name!r}.{hint or f' See `bench list {kind}s`.'}")


def expand(selector: Selector, kind: Kind) -> list[Any]:
    """Return the instances of a selector's grid; the first parameter varies slowest.

    Raises:
        UsageError: the name, a parameter or a value is not one that there is.
    """
    cls = load(selector, kind)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in selector.params:
        if key not in fields:
            has = ", ".join(fields) or "none"
            raise UsageError(f"{selector.name} has no parameter {key!r} (it has {has}).{did_you_mean(key, fields)}")
    grid = [[_convert(v, hints[key], f"{selector.name}:{key}") for v in vs] for key, vs in selector.params.items()]
    return [
        _make(cls, dict(zip(selector.params, values, strict=True)), selector) for values in itertools.product(*grid)
    ]


def has_parameter(selector: Selector, kind: Kind, key: str) -> bool:
    """Tell whether the class of a selector has a field of this name."""
    return any(f.name == key for f in dataclasses.fields(load(selector, kind)) if f.init)


def _make(cls: type, params: dict[str, Any], selector: Selector) -> Any:
    try:
        instance = cls(**params)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{selector.name}: {error}") from error
    for key, value in record.fields_of(instance).items():
        if not _is_plain(value):
            raise UsageError(
                f"{selector.name} needs plain values (numbers, text, tuples) in its fields (got {key}={value!r})."
            )
    return instance


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


# text to values


def _convert(text: str, hint: Any, where: str) -> Any:
    try:
        return _value(text, hint)
    except ValueError:
        raise UsageError(f"{where} needs {_words(hint)} (got {text!r}).") from None


def _value(text: str, hint: Any) -> Any:
    """Return the value of a type that a text spells, or raise ``ValueError``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first(text, sorted(arguments, key=_breadth))
    if origin is typing.Literal:
        return {value_text(v): v for v in arguments}[text] if text in map(value_text, arguments) else _no(text)
    if origin is tuple:
        parts = text.split("/")
        inner = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(part, t) for part, t in zip(parts, inner, strict=True))
    if hint is bool:
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _no(text)
    if hint is float:
        value = float(text)
        return value if math.isfinite(value) else _no(text)
    if hint is int:
        return int(text)
    if hint is type(None):
        return None if text.lower() == "none" else _no(text)
    return text if hint is str else _no(text)


def _first(text: str, hints: Sequence[Any]) -> Any:
    for hint in hints:
        try:
            return _value(text, hint)
        except ValueError:
            continue
    return _no(text)


def _breadth(hint: Any) -> int:
    """Rank types so that the narrowest reading of a text comes first: ``4`` is an int before it is a float or a str."""
    order = (type(None), bool, int, float)
    return order.index(hint) if hint in order else len(order) + (hint is str)


def _no(text: str) -> Any:
    raise ValueError(text)


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(t) for t in arguments)
    if origin is typing.Literal:
        return " or ".join(value_text(v) for v in arguments)
    if origin is tuple:
        return f"values joined by '/', each {_words(arguments[0])}"
    plain = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", type(None): "none"}
    return plain.get(hint, f"a value of type {names.type_text(hint)}, which selectors cannot spell")


# names to classes


def load(selector: Selector, kind: Kind) -> type:
    """Return the class that a selector names.

    Raises:
        UsageError: there is none, or it is not a frozen dataclass of the right kind.
    """
    check_name(selector, kind)
    name = selector.name
    if ":" not in name:
        facts = names.catalogue(kind)[names.aliases(kind).get(name, name)]
        module, _, cls = facts["class"].partition(":")
        return typing.cast(type, getattr(importlib.import_module(module), cls))
    source, _, cls = name.rpartition("::") if "::" in name else name.rpartition(":")
    return _checked(_module(source, is_file="::" in name), cls, name, kind)


def _module(source: str, *, is_file: bool) -> types.ModuleType:
    folder = str(Path(source).resolve().parent) if is_file else str(Path.cwd())
    sys.path.insert(0, folder)  # what lies beside the user's code can be imported by it
    try:
        return _from_file(Path(source)) if is_file else importlib.import_module(source)
    except UsageError:
        raise
    except Exception as error:  # whatever a user's module raises is told in one sentence
        raise UsageError(f"{source} cannot be loaded: {_told(error, source)}") from error
    finally:
        sys.path.remove(folder)


def _told(error: Exception, source: str) -> str:
    """Return an error's type and message, with the line of the user's file where it came from."""
    path = str(Path(source).resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}{f' (line {lines[-1]})' if lines else ''}."


def _from_file(path: Path) -> types.ModuleType:
    """Load a file as a module of its own name, once."""
    if not path.is_file():
        raise UsageError(f"There is no file {str(path)!r}. Give the path of a Python file, as in mine.py::Mine.")
    path = path.resolve()
    name = f"_bench_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{str(path)!r} is not a Python file. Give one that ends in .py, as in mine.py::Mine.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _checked(module: types.ModuleType, cls: str, name: str, kind: Kind) -> type:
    from bench.objectives import Objective
    from estimators import Estimator
    from estimators._protocol import command_line_name

    base: type = Estimator if kind == "estimator" else Objective
    found = getattr(module, cls, None)
    if not inspect.isclass(found):
        own = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, base)]
        raise UsageError(f"{name}: there is no class {cls!r} in it.{did_you_mean(cls, own)}")
    if not issubclass(found, base):
        raise UsageError(
            f"{name} is not an {kind}. Derive {cls} from {base.__module__.partition('._')[0]}.{base.__name__}."
        )
    parameters = vars(found).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise UsageError(f"{name} is not a frozen dataclass. Put @dataclass(frozen=True) above {cls}.")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise UsageError(f"{name} does not define {', '.join(missing)}, which every {kind} needs.")
    known = names.catalogue(kind).get(command_line_name(found))
    if known and getattr(importlib.import_module(known["class"].partition(":")[0]), cls, None) is not found:
        raise UsageError(f"{name} has the name of the catalogue's own {cls}, and records would mix them. Rename it.")
    return found
