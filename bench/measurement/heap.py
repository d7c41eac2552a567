"""Keeps freed memory with the process, so that every block finds warm pages."""

from __future__ import annotations

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT, LARGEST = 2**28, 2**25
"""Bytes of free memory that the process keeps, and size from which an allocation is a mapping of its own."""


@functools.cache
def keep_memory() -> bool:
    """Tell the C library to keep freed memory; return whether it could be told. Once in a process is enough.

    As it comes, glibc gives large blocks back to the system and asks for them again: the page faults of one block of
    gradients cost as much as its arithmetic, in some processes and not in others, by the luck of the heap. Does nothing
    where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))
