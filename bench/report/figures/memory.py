"""What earlier reports have drawn into a folder, so that a figure of the same data is not drawn again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bench.records import cache


class Memory:
    """Notes on the figures in a folder: for each file, by name, the digest of its data and the digest of its content.

    The notes are in the user's cache, and not in the files of the figures. So equal figures are equal files, whichever
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
        """Note that the file ``name`` has this ``content``, and was drawn from the data with the digest ``key``.

        If ``content`` is None or a text, no figure was drawn, and what was noted of this file before is removed. A text
        says why the figure could not be drawn.
        """
        self._held.pop(name, None)
        if isinstance(content, bytes):
            self._held[name] = [key, _digest(content)]

    def save(self) -> None:
        """Write the notes to the user's cache, if they have changed.

        There is a note for each file of a figure: the digest of the data from which it was drawn, and that of its
        content.
        """
        if (text := json.dumps(self._held)) != self._before:
            cache.put(self._name, text)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
