"""Texts that take long to make, kept in the user's cache folder. Whoever deletes it loses time, nothing else."""

import contextlib
import hashlib
import os
import time
from pathlib import Path

from bench.records import files

DAYS = 30
"""Days without use after which a text is removed."""
ENDING = ".cached"
"""How the names of our files end. The folder may hold files of others, which are left alone."""


def folder() -> Path:
    """Return the folder of the cache: BENCH_CACHE_DIR, or else ``stochgrad-bench`` in XDG_CACHE_HOME or ``~/.cache``.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if given := os.environ.get("BENCH_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stochgrad-bench"


def get(name: str) -> str | None:
    """Return the text that the cache holds under a name; None if there is none, or if the text is damaged."""
    try:
        path = _path(name)
        digest, _, text = files.read(path, follow=False).partition(b"\n")
        with contextlib.suppress(OSError):  # a cache that cannot be written can still be read
            os.utime(path)
        return text.decode() if digest == _digest(text) else None
    except (OSError, RuntimeError):
        return None


def put(name: str, text: str) -> None:
    """Store a text in the cache, under a name. Texts that were not used for a long time are removed.

    If the folder cannot be written, nothing happens.
    """
    with contextlib.suppress(OSError, RuntimeError):
        content = text.encode()
        files.write(_path(name), _digest(content) + b"\n" + content)
        files.sweep(folder())
        for path in folder().glob(f"*{ENDING}"):
            if path.lstat().st_mtime < time.time() - DAYS * 86_400:
                path.unlink()


def _path(name: str) -> Path:
    return folder() / f"{name}{ENDING}"


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
