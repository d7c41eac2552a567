"""Settings of the C library that keep freed memory in the process, so that its pages stay mapped."""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT, LARGEST = 2**28, 2**25
"""Free bytes that the process keeps; size in bytes from which an allocation gets a memory mapping of its own."""


@functools.cache
def keep_memory() -> bool:
    """Make the C library keep freed memory for the next allocation; return whether it accepted the settings.

    One call per process is enough. By default, glibc returns large freed blocks to the system and requests new ones.
    The page faults of new memory can cost as much time as the arithmetic on it. C libraries other than glibc are left
    unchanged.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))
