"""Records that were read before, kept in the user's cache, so that those of a large study are parsed and checked once.

The lines of the file are cut into pieces, from the first line on. As the file only grows, its pieces stay, and new ones
follow. What is kept of a piece is found by the digest of all its bytes and of the code that reads records.
"""

import functools
import hashlib
import marshal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pydantic_core

from bench.records import cache

SIZE = 2**23
"""Bytes of a piece, from which its last line goes on to its end. The end of a file, which is shorter, is not kept."""


def name_of(piece: Sequence[bytes]) -> str:
    """Return the name under which the cache keeps what is read from a piece; empty if a piece is too short.

    A piece is a list of successive lines of the records file, each with its line feed. What is read from a short piece
    is not kept.
    """
    if sum(map(len, piece)) <= SIZE:
        return ""
    found = hashlib.sha256()
    for line in piece:
        found.update(line)
    return f"records-{found.hexdigest()}-{_code()}"


def load(name: str) -> list[Any] | None:
    """Return what ``save`` has put into the cache under the name of a piece; None if there is nothing.

    An empty name stands for a piece that is not kept: the result is None.
    """
    content = cache.load(name) if name else None
    return None if content is None else marshal.loads(content)


def save(name: str, entries: list[Any]) -> None:
    """Put what was read from a piece of the records file into the cache.

    A piece is a list of successive lines of the file.

    Args:
        name: the piece's name, from ``name_of``; if it is empty, nothing is put into the cache.
        entries: one item for each line of the piece: its record, None if the line has none, or the line itself if
            its record refers to other files.
    """
    if name:
        cache.save(name, marshal.dumps(entries))


@functools.cache
def _code() -> str:
    """Return a digest of the code that reads records, 16 hexadecimal digits."""
    found = hashlib.sha256(repr((pydantic.VERSION, pydantic_core.__version__, np.__version__, sys.version)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
