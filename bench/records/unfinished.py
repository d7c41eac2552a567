"""Sums of a measurement under way, in a file of the study folder, from which the measurement goes on. No torch.

The file has three parts: the hash of all that follows and a line feed; one line of JSON; the arrays, which are float64,
one after the other. Nothing in it is code. A file that is not whole, or belongs to another measurement, is ignored.
"""

import contextlib
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from bench.records import files

FOLDER = "unfinished"
"""Name of the folder inside a study folder."""


def path_of(folder: Path, run: str) -> Path:
    """Return the path of the file, in a study folder, that keeps the sums of an unfinished run with the id ``run``."""
    return folder / FOLDER / f"{run}.sums"


def save(path: Path, key: str, sums: dict[str, Any]) -> None:
    """Write sums to a file, completely or not at all.

    Args:
        path: the file.
        key: a digest of all that the measurement depends on.
        sums: nested dictionaries of numbers, texts, None and float64 arrays.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = list[bytes]()

    def packed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: packed(each) for name, each in value.items()}
        if isinstance(value, np.ndarray | np.floating):  # numpy returns numbers where an array has no dimension
            arrays.append(np.ascontiguousarray(value, np.float64).tobytes())
            return {"array": list(value.shape)}
        return value

    head = json.dumps({"key": key, "sums": packed(sums)})
    content = b"".join([head.encode(), b"\n", *arrays])
    files.write(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load(path: Path, key: str) -> dict[str, Any] | None:
    """Return the sums in a file; None if there is no usable file.

    A file is not usable if it is damaged, or was written with another ``key``. The key is a digest of all that the
    measurement depends on.
    """
    try:
        given, _, content = files.read(path, follow=False).partition(b"\n")
    except OSError:
        return None
    head, _, numbers = content.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != given:
        return None
    table, start = _table(head), 0
    if table.get("key") != key:
        return None

    def unpacked(value: Any) -> Any:
        nonlocal start
        if not isinstance(value, dict):
            return value
        if value.keys() != {"array"}:
            return {name: unpacked(each) for name, each in value.items()}
        count, begin = math.prod(value["array"]), start
        start += 8 * count
        return np.frombuffer(numbers, np.float64, count, begin).reshape(value["array"]).copy()

    return dict(unpacked(table["sums"]))


def _table(head: bytes) -> dict[str, Any]:
    try:
        table = json.loads(head)
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def remove(folder: Path, run: str) -> None:
    """Remove the file in a study folder that keeps the sums of an unfinished run, if there is one.

    ``run`` is the id of the run (a measurement).
    """
    with contextlib.suppress(OSError):
        path_of(folder, run).unlink()
        (folder / FOLDER).rmdir()  # unless other measurements are under way
