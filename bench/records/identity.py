"""Identity by content, for estimators, objectives, cells and runs."""

import dataclasses
import hashlib
import json
from typing import Any


def canonical(value: object) -> str:
    """Return canonical JSON: sorted keys, no spaces, no NaN. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def fields_of(instance: Any) -> dict[str, Any]:
    """Return every field of a dataclass of plain values, in order."""
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance) if f.init}


def changed_fields(instance: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults. Released defaults never change, so these fields identify."""
    given = fields_of(instance)
    defaults = {f.name: f.default for f in dataclasses.fields(instance)}
    return {k: v for k, v in given.items() if v != defaults[k] or type(v) is not type(defaults[k])}


def identity(instance: Any) -> dict[str, Any]:
    """Return the identity of an estimator or an objective: class name and fields that differ from their defaults.

    If a field names a file, a digest of the file's content replaces the name.
    """
    return {"class": type(instance).__name__, **changed_fields(instance), **getattr(instance, "contents", {})}


def cell_id(estimator: Any, objective: Any) -> str:
    """Return the identity of a cell, 16 hexadecimal digits."""
    return digest({"estimator": identity(estimator), "objective": identity(objective)})


def run_id(cell: str, *, dtype: str, device: str, seed: int, replicates: int, common_noise: bool = True) -> str:
    """Return the identity of one run of a cell, 16 hexadecimal digits. ``replicates`` is the sum of its draws."""
    key: list[object] = [cell, dtype, device, seed, replicates]
    return digest(key if common_noise else [*key, "own noise"])
