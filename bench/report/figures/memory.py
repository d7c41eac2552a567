"""What earlier reports have drawn into a folder, so that a figure of the same data is not drawn again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bench.records import cache


class Memory:
    """What is known about the figures in a folder: by name, the digests of a figure's data and of its file.

    The digests are in the user's cache. The figures themselves hold no digest: equal figures are equal files, whichever
    version has drawn them.

    Args:
        folder: the folder of the figures, which need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"figures-{_digest(str(folder.resolve()).encode())}.json"
        self._before = cache.get(self._name) or "{}"
        self._held = json.loads(self._before)

    def find(self, name: str, key: str) -> bytes | None:
        """Return the content of the file ``name``; None if it was not drawn from the data with the digest ``key``."""
        path = self._folder / name
        if name not in self._held or not path.is_file():
            return None
        content = path.read_bytes()
        return content if self._held[name] == [key, _digest(content)] else None

    def keep(self, name: str, key: str, content: bytes | str | None) -> None:
        """Remember the data, by their digest ``key``, from which the file ``name`` was drawn.

        If ``content`` is a text, a reason why there is no file, the name is forgotten.
        """
        self._held.pop(name, None)
        if isinstance(content, bytes):
            self._held[name] = [key, _digest(content)]

    def save(self) -> None:
        """Write the notes to the cache, if they have changed."""
        if (text := json.dumps(self._held)) != self._before:
            cache.put(self._name, text)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
