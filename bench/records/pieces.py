"""Records that were read before, kept in the user's cache, so that those of a large study are parsed and checked once.

The lines of the file are cut into pieces, from the first line on. As the file only grows, its pieces stay, and new ones
follow. What is kept of a piece is found by the digest of all its bytes and of the code that reads records.
"""

import functools
import hashlib
import marshal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pydantic_core

from bench.records import cache

SIZE = 2**24
"""A piece ends with the line that makes it longer than so many bytes. The rest of a file is shorter and is not kept."""


class Digests:
    """Digests of the pieces of a records file, of which one line after the other is added."""

    def __init__(self) -> None:
        self._former = list[str]()
        self._last, self._size = hashlib.sha256(), 0

    def add(self, lines: Iterable[bytes]) -> None:
        """Add the next lines of the file, each with its line feed."""
        for line in lines:
            if self._size > SIZE:
                self._former.append(self._last.hexdigest())
                self._last, self._size = hashlib.sha256(), 0
            self._last.update(line)
            self._size += len(line)

    @property
    def found(self) -> list[str]:
        """The SHA-256 of each piece of the lines that were added."""
        return [*self._former, self._last.hexdigest()] if self._size else []


def is_kept(piece: Iterable[bytes]) -> bool:
    """Return whether a piece of the records file is so long that what is read from it is put into the cache."""
    return sum(map(len, piece)) > SIZE


def load(digest: str) -> list[Any] | None:
    """Return what ``save`` has put into the cache for the piece with this digest; None if there is nothing."""
    content = cache.load(_name(digest))
    return None if content is None else marshal.loads(content)


def save(digest: str, entries: list[Any]) -> None:
    """Put what was read from a piece of the records file into the cache.

    Args:
        digest: the digest of the piece, as ``Digests`` finds it.
        entries: one item for each line of the piece: its record, None if the line has none, or the line itself if
            its record refers to other files.
    """
    cache.save(_name(digest), marshal.dumps(entries))


def _name(digest: str) -> str:
    return f"records-{digest}-{_code()}"


@functools.cache
def _code() -> str:
    """Return a digest of the code that reads records, 16 hexadecimal digits."""
    found = hashlib.sha256(repr((pydantic.VERSION, pydantic_core.__version__, np.__version__, sys.version)).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
