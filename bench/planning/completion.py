"""What may follow the beginning of a selector, such as ``rloo:`` or ``mine.py::``; no file is executed."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from bench.planning.catalogue import Kind, aliases, canonical_name, catalogue

Choices = dict[str, list[str]]
"""Parameter -> the words that it takes; no words for a number."""


def completions(kind: Kind, text: str) -> dict[str, str]:
    """Return the selectors that begin with ``text``: the keys are the selectors, the values are lines of help.

    A selector names an estimator or an objective, as ``kind`` says. If ``text`` has no colon, the results are names of
    files and of the catalogue's classes, such as ``rloo`` for ``rl``. After a colon, a parameter or a value is added:
    ``rloo:n=`` for ``rloo:``. For a user's files, and for all in them, the line of help is empty.
    """
    file, colons, rest = text.partition("::")
    if not colons and (file.startswith((".", "~")) or os.sep in file):
        return dict.fromkeys(_files(file), "")
    if colons:
        found = _definitions(Path(file).expanduser(), kind)
        name, colon, _ = rest.partition(":")
        if not colon:
            return {f"{file}::{each}": "" for each in found if each.startswith(name)}
        return _parameters(text, found.get(name, {}), dict.fromkeys(found.get(name, {}), ""))
    name, colon, _ = text.partition(":")
    if not colon:
        known = {each: each for each in catalogue(kind)} | aliases(kind)
        helps = {word: catalogue(kind)[each]["description"] for word, each in known.items() if word.startswith(text)}
        return helps or dict.fromkeys(_files(text), "")
    fields = catalogue(kind).get(canonical_name(kind, name) or "", {"fields": {}})["fields"]
    choices = {key: field["choices"] for key, field in fields.items()}
    return _parameters(text, choices, {key: field["meaning"] for key, field in fields.items()})


def _parameters(text: str, choices: Choices, helps: dict[str, str]) -> dict[str, str]:
    """Return what the last parameter or value in a text may become; the text has a colon behind its name."""
    head, _, params = text.rpartition(":")
    *before, last = params.split(",")
    begin = ",".join([f"{head}:{before[0]}", *before[1:], ""]) if before else f"{head}:"
    keys = [token.partition("=")[0] for token in before if "=" in token]
    key, equals, value = last.partition("=")
    if equals:
        return {f"{begin}{key}={word}": helps.get(key, "") for word in choices.get(key, ()) if word.startswith(value)}
    given = [token.rpartition("=")[2] for token in before]
    words = [word for word in choices.get(keys[-1], ()) if word not in given] if keys else []
    found = {f"{begin}{word}": helps.get(keys[-1], "") for word in words if word.startswith(last)}
    left = [field for field in choices if field not in keys and field.startswith(last)]
    return found | {f"{begin}{field}=": helps[field] for field in left}


def _files(text: str) -> Iterator[str]:
    """Yield the Python files, followed by two colons, and the folders whose paths begin with a text."""
    folder, slash, begin = text.rpartition(os.sep)
    try:
        paths = sorted(Path(folder + slash).expanduser().iterdir())
    except OSError:
        return
    for path in paths:
        if path.name.startswith(begin) and (begin or not path.name.startswith(".")):
            if path.suffix == ".py":
                yield f"{folder}{slash}{path.name}::"
            elif path.is_dir():
                yield f"{folder}{slash}{path.name}{os.sep}"


# names in a file


def _definitions(path: Path, kind: Kind) -> dict[str, Choices]:
    """Return the estimators or objectives that a file seems to define, each with its parameters.

    These are dataclasses and, for objectives, also expectations at the top of the file and functions that return one.
    """
    try:
        body = ast.parse(path.read_text(encoding="utf-8-sig")).body
    except (OSError, ValueError, SyntaxError):
        return {}
    found = dict[str, Choices]()
    for node in body:
        if isinstance(node, ast.ClassDef) and _is_dataclass(node, kind):
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            found[node.name] = {ast.unparse(each.target): _words(each.annotation) for each in fields}
        elif kind == "objective" and isinstance(node, ast.FunctionDef) and _makes(node):
            found[node.name] = {each.arg: _words(each.annotation) for each in node.args.args}
        elif kind == "objective" and isinstance(node, ast.Assign) and _makes(node.value):
            found |= {each.id: {} for each in node.targets if isinstance(each, ast.Name)}
    return {name: fields for name, fields in found.items() if not name.startswith("_")}


def _is_dataclass(node: ast.ClassDef, kind: Kind) -> bool:
    """Return whether a class is a dataclass that is not derived from the base class of the other kind."""
    other = "Estimator" if kind == "objective" else "Objective"
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    return other not in bases and any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def _makes(node: ast.AST) -> bool:
    """Return whether a piece of code calls ``Expectation``."""
    calls = [ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)]
    return any(call.rpartition(".")[2] == "Expectation" for call in calls)


def _words(annotation: ast.expr | None) -> list[str]:
    return ["true", "false"] if isinstance(annotation, ast.Name) and annotation.id == "bool" else []
