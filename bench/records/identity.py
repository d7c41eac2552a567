"""Identity by content, for estimators, objectives, cells and runs."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(value: object) -> str:
    """Return a value as canonical JSON, with sorted keys and no spaces. Equal values give equal text.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def fields_of(instance: Any) -> dict[str, Any]:
    """Return the fields of an estimator or objective by name, in the order of their definition: ``{"n": 4}``.

    The fields are the arguments with which the dataclass is created.
    """
    return {name: getattr(instance, name) for name in _defaults(instance.__class__)}


def changed_fields(instance: Any, former: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return the fields of a dataclass instance that differ from their defaults, by name.

    ``former`` is a dictionary of former defaults, by name of the field. A field in it is compared with its former
    default, not with the present one. None stands for no former defaults.
    """
    given = fields_of(instance)
    defaults = {**_defaults(instance.__class__), **(former or {})}
    return {k: v for k, v in given.items() if v != defaults[k] or type(v) is not type(defaults[k])}


@functools.cache
def _defaults(cls: Any) -> dict[str, Any]:
    """Return the defaults of the fields with which a dataclass is created, in the order of their definition."""
    return {field.name: field.default for field in dataclasses.fields(cls) if field.init}


def identity(instance: Any) -> dict[str, Any]:
    """Return the identity of an estimator or an objective: its class name and the fields that differ from the defaults.

    The identity decides the noise of an instance, so it never changes. If a default of a class changes after records
    were made, the class keeps the old default in ``former_defaults``. Fields are then compared with the old default. If
    a field names a file, a digest of the file's content replaces the name.
    """
    changed = changed_fields(instance, getattr(instance, "former_defaults", {}))
    return {"class": type(instance).__name__, **changed, **getattr(instance, "contents", {})}


def cell_id(estimator: Any, objective: Any) -> str:
    """Return the id of a cell, an estimator on an objective: 16 hexadecimal digits."""
    return digest({"estimator": identity(estimator), "objective": identity(objective)})


def run_id(
    cell: str,
    *,
    dtype: str,
    device: str,
    seed: int,
    replicates: int,
    common_noise: bool = True,
    adapt_steps: int | None = None,
) -> str:
    """Return the id of a run (a measurement) of a cell, 16 hexadecimal digits.

    Runs with equal arguments have one id.

    Args:
        cell: the id of the cell, an estimator on an objective.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        seed: root seed of all noise.
        replicates: number of replicates in all draws (batches).
        common_noise: whether all estimators of the objective share noise.
        adapt_steps: largest number of steps in which the estimator learns; None for the default number, and for an
            estimator that does not learn.
    """
    key: list[object] = [cell, dtype, device, seed, replicates]
    key += [] if common_noise else ["own noise"]
    return digest(key if adapt_steps is None else [*key, "adapt steps", adapt_steps])
