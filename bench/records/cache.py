"""What takes long to make, kept in the user's cache folder. Whoever deletes it loses time, nothing else.

What the user's own processes have written there is trusted; files of other users are not read.
"""

import contextlib
import hashlib
import itertools
import os
import time
from pathlib import Path

from bench.records import files

DAYS = 30
"""Days without use after which a file is removed."""
MOST = 2**30
"""Most bytes of all files together. Those that were not used for the longest time are removed first."""
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
    content = load(name)
    return None if content is None else content.decode()


def put(name: str, text: str) -> None:
    """Store a text in the cache, under a name. If the folder cannot be written, nothing happens."""
    save(name, text.encode())


def load(name: str) -> bytes | None:
    """Return the bytes that the cache holds under a name; None if there are none, or if they are damaged.

    A file that another user has written, or that was stored under another name, counts as damaged.
    """
    try:
        path = _path(name)
        with os.fdopen(files.open_regular(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None
            digest, _, content = file.read().partition(b"\n")
        with contextlib.suppress(OSError):  # a cache that cannot be written can still be read
            os.utime(path)
        return content if digest == _digest(name, content) else None
    except (OSError, RuntimeError):
        return None


def save(name: str, content: bytes) -> None:
    """Store bytes in the cache, under a name; if the folder cannot be written, nothing happens.

    Files that were not used for 30 days are removed. If the cache has more than 1 GiB, the files that were not used for
    the longest time are removed, too.
    """
    with contextlib.suppress(OSError, RuntimeError):
        files.write(_path(name), _digest(name, content) + b"\n" + content)
        files.sweep(folder())
        _clear()


def _clear() -> None:
    """Remove files that were not used for 30 days, and those by which the cache exceeds 1 GiB."""
    held = list[tuple[Path, os.stat_result]]()
    for path in folder().glob(f"*{ENDING}"):
        with contextlib.suppress(OSError):  # another process may have removed it
            held.append((path, path.lstat()))
    held.sort(key=lambda each: -each[1].st_mtime)
    sizes = itertools.accumulate(status.st_size for _, status in held)
    for (path, status), size in zip(held, sizes, strict=True):
        if status.st_mtime < time.time() - DAYS * 86_400 or size > MOST:
            with contextlib.suppress(OSError):  # one that cannot be removed keeps no other
                path.unlink()


def _path(name: str) -> Path:
    return folder() / f"{name}{ENDING}"


def _digest(name: str, content: bytes) -> bytes:
    """Return a digest of what a file holds and of its name, so that a file that was renamed counts as damaged."""
    return hashlib.sha256(f"{name}\n".encode() + content).hexdigest().encode()
