"""Long vectors of records: each is a file in the study folder, named by the hash of its content."""

import hashlib
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from bench.records import files
from bench.records.lines import Damaged

LONG = 1024
"""Vectors with more elements than this are stored in files of their own."""
FOLDER = "arrays"
"""The folder of these files, inside the study folder."""
NAME = re.compile(rf"{FOLDER}/[0-9a-f]{{64}}\.npy")
RESTORE = "Restore it from version control, or find all damage with `bench verify`."
Array = np.ndarray[Any, Any]


def with_files(value: Any, folder: Path) -> Any:
    """Return a copy of ``value`` in which a file's name stands for each long vector; write these files.

    ``value`` is a record, or a part of one. A vector is long if it has more than 1024 numbers. ``{"array": NAME}``
    takes its place in the copy; NAME is the path of the file in ``folder``, the study folder.
    """
    if isinstance(value, dict):
        return {k: with_files(v, folder) for k, v in value.items()}
    is_long = isinstance(value, list | tuple | np.ndarray) and np.size(value) > LONG
    if is_long and (array := np.asarray(value)).dtype.kind == "f":
        return {"array": _save(array, folder)}
    return value


def with_vectors(value: Any, folder: Path) -> Any:
    """Return a copy of ``value`` with each ``{"array": NAME}`` replaced by the vector in the file NAME, a numpy array.

    ``value`` is a record, or a part of one. NAME is the path of the file in ``folder``, the study folder.

    Raises:
        Damaged: a file is missing, holds no vector, or has another content than was written.
    """
    if isinstance(value, dict):
        if value.keys() == {"array"}:
            return load(value["array"], folder)
        return {k: with_vectors(v, folder) for k, v in value.items()}
    return value


def load(name: Any, folder: Path) -> Array:
    """Return the vector in a file of the study folder; ``name`` is the file's path in the folder.

    Raises:
        Damaged: ``name`` does not name a file of vectors, or the file is missing, changed or broken.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Damaged(f"{folder / FOLDER} holds no file called {str(name)[:100]!r}: names are hashes. {RESTORE}")
    path = folder / name
    try:
        content = files.read(path, follow=False)
    except FileNotFoundError:
        raise Damaged(f"{path} is missing. {RESTORE}") from None
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}. {RESTORE}") from None
    if _name(content) != name:
        raise Damaged(f"{path} has changed: its content no longer has the hash in its name. {RESTORE}")
    try:
        return _decoded(content)
    except Exception as error:  # numpy evaluates the header, which a stranger may have written
        raise Damaged(f"{path} holds no vector ({type(error).__name__}). {RESTORE}") from None


def _decoded(content: bytes) -> Array:
    """Return the vector in the content of a file; its size is checked before memory is used."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of the format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind != "f" or fortran or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("the header does not fit the content")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape).copy()


def _save(array: Array, folder: Path) -> str:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    content = buffer.getvalue()
    name = _name(content)
    try:
        held = files.read(folder / name, follow=False)
    except OSError:
        held = None
    if held != content:
        files.write(folder / name, content)
    return name


def _name(content: bytes) -> str:
    return f"{FOLDER}/{hashlib.sha256(content).hexdigest()}.npy"
