"""Freed memory stays with the process, so that every block finds warm pages."""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT, LARGEST = 2**28, 2**25
"""Bytes of free memory that the process keeps, and bytes from which an allocation becomes a mapping of its own."""


@functools.cache
def keep_memory() -> bool:
    """Make the C library keep freed memory, and return whether it agreed. One call per process is enough.

    By default glibc returns large allocations to the system and requests them again. Depending on the heap, the page
    faults of a block of gradients then cost as much as its arithmetic. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))
