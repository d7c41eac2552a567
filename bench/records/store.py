"""A study folder: ``records.jsonl`` and the arrays that its records name. It has one writer. No torch."""

import fcntl
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench.records import files
from bench.records.lines import SCHEMA, Damaged, Record, dumps
from bench.records.text import message

LINES = "records.jsonl"
LONG = 1024
"""Vectors with more elements than this are stored in files of their own."""


class Busy(Exception):
    """Another process is writing to the study folder. The message is one sentence."""


class Store:
    """A study folder that is open for writing records; a context manager. The folder is created if it does not exist.

    No other process can open it for writing until the ``with`` block ends.

    Raises:
        OSError: the folder cannot be written.
        Busy: another process is writing to the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / LINES, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise Busy(f"{folder} is being written by another bench. Wait for it, or choose another --out.") from None
        self._heal()

    def _heal(self) -> None:
        """Remove a last line that a crash has cut short; end it if only its newline is missing."""
        text = (self.folder / LINES).read_bytes()
        last = text[text.rfind(b"\n") + 1 :]
        if last and _torn(last.decode("utf-8", errors="replace")):
            os.ftruncate(self._descriptor, len(text) - len(last))
        elif last:
            os.write(self._descriptor, b"\n")

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on disk."""
        os.write(self._descriptor, f"{dumps(self._with_files(record))}\n".encode())
        os.fsync(self._descriptor)

    def _with_files(self, value: Any) -> Any:
        """Write long vectors to files, and replace each by the name of its file."""
        if isinstance(value, dict):
            return {k: self._with_files(v) for k, v in value.items()}
        is_long = isinstance(value, list | tuple | np.ndarray) and np.size(value) > LONG
        if is_long and (array := np.asarray(value)).dtype.kind == "f":
            return {"array": self._save(array)}
        return value

    def _save(self, array: np.ndarray[Any, Any]) -> str:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        name = f"arrays/{hashlib.sha256(buffer.getvalue()).hexdigest()}.npy"
        if not (self.folder / name).exists():
            files.write(self.folder / name, buffer.getvalue())
        return name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def read(folder: Path) -> list[Record]:
    """Return the records of a study folder, in the order in which their runs and kinds first appeared.

    A run (a measurement) can have a record of each kind, such as moments and timing; of several of one kind, the last
    one is returned. A record that a crash cut short is skipped. Anything else that is not a record counts as damage.
    The result is empty if the folder has no records.

    Raises:
        Damaged: a record is broken, or has a newer schema.
    """
    path = folder / LINES
    if not path.exists():
        return []
    found: dict[tuple[str, str], Record] = {}
    for number, text in enumerate(path.read_bytes().decode("utf-8", errors="replace").split("\n"), 1):
        line = text.removeprefix("\ufeff")  # a byte order mark, which editors may put in front of a file
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            if _torn(line):
                continue
            raise Damaged(f"{path}, line {number}, is not JSON. Restore the file, or delete that line.") from None
        _check(record, path, number)
        if isinstance(record.get("reason"), str):
            record["reason"] = message(record["reason"])  # written by others, perhaps by an older version
        found[record["run"], record["kind"]] = _with_vectors(record, folder)
    return list(found.values())


def _torn(line: str) -> bool:
    """Tell whether a line is the beginning of a record without its end."""
    start = '{"schema"'
    return start.startswith(line[: len(start)]) and line.count(start) <= 1 and line.count("{") != line.count("}")


def _check(record: Any, path: Path, number: int) -> None:
    if not isinstance(record, dict) or not {"schema", "kind", "run"} <= record.keys():
        raise Damaged(f"{path}, line {number}, is not a record (no schema, kind and run). Delete that line.")
    if not isinstance(record["schema"], int) or record["schema"] > SCHEMA:
        raise Damaged(
            f"{path}, line {number}, has schema {record['schema']}, and this version reads up to {SCHEMA}. "
            "Install a newer stochgrad-bench."
        )


def _with_vectors(value: Any, folder: Path) -> Any:
    """Replace the name of each file by the vector that it holds."""
    if isinstance(value, dict):
        if set(value) == {"array"}:
            path = folder / value["array"]
            try:
                return np.load(path, allow_pickle=False)
            except (OSError, ValueError):
                raise Damaged(f"{path} is missing or broken. Restore it from version control.") from None
        return {k: _with_vectors(v, folder) for k, v in value.items()}
    return value
