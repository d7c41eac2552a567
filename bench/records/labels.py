"""Labels of records for people: a class's name, its n, and every field in which the records differ."""

from collections.abc import Mapping, Sequence
from itertools import product
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
    shown: dict[tuple[str, str], set[str]] = {}
    values: dict[tuple[str, str, str], set[str]] = {}
    for record, half in product(records, HALVES):
        if f"{half}_params" in record:
            name = record[f"{half}_name"]
            keys = shown.setdefault((half, name), {"n"})
            keys |= changed_keys(record[half])
            for key, value in record[f"{half}_params"].items():
                values.setdefault((half, name, key), set()).add(value_text(value))
    for (half, name, key), found in values.items():
        if len(found) > 1:
            shown[half, name].add(key)
    return [
        {**record, **{half: _label(record, half, shown) for half in HALVES if half in record}} for record in records
    ]


def _label(record: Mapping[str, Any], half: str, shown: Mapping[tuple[str, str], set[str]]) -> str:
    """Return the label of half a cell; as it is if the record has no parameters, as in an event of the gate."""
    if f"{half}_params" not in record:
        return str(record[half])
    name = record[f"{half}_name"]
    return spelled(name, {key: value for key, value in record[f"{half}_params"].items() if key in shown[half, name]})
