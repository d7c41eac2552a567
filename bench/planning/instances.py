"""From selectors to instances: a grid of parameters, and their values out of texts. Loading the class imports torch."""

import contextlib
import dataclasses
import math
import re
import types
import typing
from itertools import product
from typing import Any

from bench.planning.catalogue import Kind, did_you_mean, type_text
from bench.planning.loading import load
from bench.planning.selectors import Selector, Unloadable, UsageError
from bench.planning.user_code import Ended, contained, printing_to_stderr
from bench.records.identity import fields_of
from bench.records.labels import value_text
from bench.records.text import described

MOST_INSTANCES = 1_000_000
"""The most estimators or objectives that one selector may name."""


def expand(selector: Selector, kind: Kind) -> list[Any]:
    """Return the estimators, or the objectives, that a selector spells: two for ``rloo:n=2,4``.

    There is one for each combination of the parameters' values; the value of the first parameter varies slowest.
    ``kind`` says whether the selector names estimators or objectives.

    Raises:
        UsageError: unknown name, parameter or value.
    """
    cls = load(selector, kind)
    hints, fields = typing.get_type_hints(cls), _parameters(cls)
    for key in selector.params:
        if key not in fields:
            has = ", ".join(fields) or "none"
            raise UsageError(f"{selector.name} has no parameter {key!r} (it has {has}).{did_you_mean(key, fields)}")
    if math.prod(map(len, selector.params.values())) > MOST_INSTANCES:
        raise UsageError(f"{selector.name} with all these values is more than {MOST_INSTANCES:,} {kind}s.")
    grid = [[_convert(v, hints[key], f"{selector.name}:{key}") for v in vs] for key, vs in selector.params.items()]
    return [_make(cls, dict(zip(selector.params, values, strict=True)), selector) for values in product(*grid)]


def has_parameter(selector: Selector, kind: Kind, key: str) -> bool:
    """Return whether the class that a selector names has a parameter ``key``: True for ``rloo`` and ``n``.

    ``kind`` says whether the class is an estimator or an objective.
    """
    return key in _parameters(load(selector, kind))


def _parameters(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init]


def _make(cls: type, params: dict[str, Any], selector: Selector) -> Any:
    try:
        with contained(), printing_to_stderr():
            instance = cls(**params)
            getattr(instance, "contents", None)  # reads the files that fields name
    except (ValueError, TypeError) as error:
        raise UsageError(f"{selector.name}: {error}") from error
    except Exception as error:  # a user's class may raise anything
        how = str(error) if isinstance(error, Ended) else described(error)
        raise Unloadable(f"{selector.name} cannot be created: {how}.") from error
    for key, value in fields_of(instance).items():
        if not _is_plain(value):
            needs = "plain values (numbers, printable text, tuples) in its fields"
            raise UsageError(f"{selector.name} needs {needs} (got {key}={value!r}).")
    return instance


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(v) for v in value)
    if isinstance(value, str):
        return value.isprintable()  # it is part of every label
    return value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _convert(text: str, hint: Any, where: str) -> Any:
    try:
        return _value(text, hint)
    except ValueError:
        several = re.search(r"\.\.|[][(){}]", text)
        syntax = f" Several values are joined by commas, as in {where.partition(':')[2]}=2,4,8." if several else ""
        syntax += " The largest is 2^63 - 1." if text.lstrip("+-").isdecimal() and len(text) > 18 else ""
        raise UsageError(f"{where} needs {_expected(hint)} (got {text[:100]!r}).{syntax}") from None


def _value(text: str, hint: Any) -> Any:
    """Convert a text to a value of a type, or raise ``ValueError``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for narrower in sorted(arguments, key=_breadth):
            with contextlib.suppress(ValueError):
                return _value(text, narrower)
        return _refuse(text)
    if origin is typing.Literal:
        return {value_text(v): v for v in arguments}[text] if text in map(value_text, arguments) else _refuse(text)
    if origin is tuple:
        parts = text.split("/")
        inner = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(part, t) for part, t in zip(parts, inner, strict=True))
    if hint is bool:
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _refuse(text)
    if hint is float:
        value = float(text)
        return value if math.isfinite(value) else _refuse(text)
    if hint is int:
        value = int(text)
        return value if abs(value) < 2**63 else _refuse(text)
    if hint is type(None):
        return None if text.lower() == "none" else _refuse(text)
    return text if hint is str else _refuse(text)


def _breadth(hint: Any) -> int:
    """Rank types so that the narrowest reading of a text comes first: ``4`` is an int before it is a float or a str."""
    order = (type(None), bool, int, float)
    return order.index(hint) if hint in order else len(order) + (hint is str)


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _expected(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_expected(t) for t in arguments)
    if origin is typing.Literal:
        return " or ".join(value_text(v) for v in arguments)
    if origin is tuple:
        return f"values joined by '/', each {_expected(arguments[0])}"
    plain = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", type(None): "none"}
    return plain.get(hint, f"a value of type {type_text(hint)}, which selectors cannot spell")
