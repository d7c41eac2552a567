"""The lock of a study folder, which has one writer at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.records import files

FILE = "records.lock"
"""Name of the file that stands for a lock where the file system has none."""


class Busy(Exception):
    """Another process is writing to the study folder. The message is one sentence."""


@contextmanager
def locked(descriptor: int, folder: Path) -> Iterator[None]:
    """Take the lock of a study folder for a ``with`` block.

    The operating system keeps the lock until ``descriptor`` is closed, at the latest when the process ends. On network
    file systems without locks, a new file in the folder serves as the lock, and is deleted after the block. A killed
    process leaves this file behind; the message of ``Busy`` says which process made it.

    Args:
        descriptor: file descriptor of the open ``records.jsonl`` of the folder.
        folder: the study folder.

    Raises:
        Busy: another process holds the lock.
        OSError: the file that serves as the lock cannot be written.
    """
    path = folder / FILE
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"{folder} is being written by another bench. Wait for it, or choose another --out.") from None
    except OSError:
        with _lock_file(path):
            yield
        return
    if path.exists():  # made on a machine on which the file system has no locks
        raise Busy(_holder(path))
    yield


@contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Busy(_holder(path)) from None
    try:
        with files.naming(path):
            try:
                files.write_all(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            finally:
                os.close(descriptor)
        yield
    finally:
        path.unlink(missing_ok=True)


def _holder(path: Path) -> str:
    try:
        name = files.read(path, follow=False)[:200].decode("utf-8", errors="replace")
    except OSError:
        name = "another bench"
    return (
        f"{path.parent} is being written by {name}: its file system has no locks, and {path} stands for one. Wait for "
        "it or, if no bench is running there, delete that file."
    )
