"""Labels of records for people: a class's name, its n, and every field in which the records differ."""

from collections.abc import Mapping, Sequence
from typing import Any

HALVES = ("estimator", "objective")


def value_text(value: object) -> str:
    """Return the text of a field's value in a selector: ``2`` for 2.0, ``true`` for True, and ``1/2`` for (1, 2)."""
    match value:
        case bool() | None:
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case tuple() | list():
            return "/".join(value_text(v) for v in value)
        case _:
            return str(value)


def spelled(name: str, params: Mapping[str, object]) -> str:
    """Return the text that names a class with these parameters on the command line, such as ``rloo:n=4``."""
    return f"{name}:{','.join(f'{key}={value_text(value)}' for key, value in params.items())}" if params else name


def changed_keys(label: str) -> set[str]:
    """Return the names of the parameters in a label, such as ``{"n", "dim"}`` for ``x:n=4,dim=2``.

    The label of a record has exactly the fields that differ from their defaults.
    """
    return {token.partition("=")[0] for token in label.partition(":")[2].split(",") if "=" in token}


def labelled(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return copies of records with longer labels: ``rloo:n=2`` in place of ``rloo``.

    The label in a record is the shortest one, without fields that have their defaults. The longer label also has n. If
    a field of a class has several values in these records, the longer labels of the class have this field, too.
    """
    parts = [{half: _key(record, half) for half in HALVES if f"{half}_params" in record} for record in records]
    first = dict[_Key, Mapping[str, Any]]()
    for record, part in zip(records, parts, strict=True):
        for half, key in part.items():
            first.setdefault(key, record[f"{half}_params"])
    shown: dict[tuple[str, str], set[str]] = {}
    values: dict[tuple[str, str, str], set[str]] = {}
    for (half, name, label, _), params in first.items():
        shown.setdefault((half, name), {"n"}).update(changed_keys(label))
        for field, value in params.items():
            values.setdefault((half, name, field), set()).add(value_text(value))
    for (half, name, field), found in values.items():
        if len(found) > 1:
            shown[half, name].add(field)
    longer = {
        key: spelled(key[1], {field: value for field, value in params.items() if field in shown[key[:2]]})
        for key, params in first.items()
    }
    return [
        {**record, **{half: longer[key] for half, key in part.items()}}
        for record, part in zip(records, parts, strict=True)
    ]


_Key = tuple[str, str, str, str]


def _key(record: Mapping[str, Any], half: str) -> _Key:
    """Return what decides the longer label of half a record: the half, the name of the class, label and parameters."""
    return half, record[f"{half}_name"], record[half], repr(record[f"{half}_params"])
