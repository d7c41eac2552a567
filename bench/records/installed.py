"""The code that makes a report: this project, the installed packages, and Python."""

import functools
import hashlib
import sys
from pathlib import Path

from bench.records.code import OURS, ROOT


@functools.cache
def digest() -> str:
    """Return a digest of all files of this project, the versions of the installed packages, and Python's version."""
    return hashlib.sha256(repr((_ours(), _packages(), sys.version)).encode()).hexdigest()


def _ours() -> str:
    """Return a digest of the files of this project."""
    found = hashlib.sha256()
    for path in sorted(path for package in OURS for path in (ROOT / package).rglob("*")):
        if path.suffix != ".pyc" and path.is_file():
            found.update(f"{path}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _packages() -> list[str]:
    """Return the names and versions of the installed packages."""
    return sorted(path.name for folder in sys.path for path in Path(folder).glob("*.dist-info"))
