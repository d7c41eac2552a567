"""Files that are written whole or not at all, and regular files that are read whole."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a disk that is broken or full, or of a file that may not grow."""
PART = f".{'[0-9a-f]' * 32}.part"
"""Pattern of the names of temporary files. Their writer holds a lock on them, and only a killed one leaves them."""


class Unreadable(OSError):
    """A file cannot be read. ``filename`` and ``strerror`` say which, and why."""


def said(error: OSError) -> str:
    """Return the sentence that says which file cannot be read or written, and why, without its full stop."""
    done = "read" if isinstance(error, Unreadable) else "written"
    return f"{error.filename} cannot be {done}: {error.strerror}"


def write(path: Path, content: str | bytes) -> None:
    """Write bytes or UTF-8 text to a file, completely or not at all: a reader finds the old content or the new one.

    The folder of ``path`` is created if missing. If ``path`` is a link, the link is replaced, and the file it points to
    stays. The content is first written to a new file of a random name beside ``path``, so that nobody can place a link
    there.

    Raises:
        OSError: the file cannot be written, or ``path`` is a device, a pipe or a folder, which a file must not replace.
            The error's ``filename`` is ``path``.
    """
    make_folder(path.parent)
    if path.exists() and not path.is_symlink() and not path.is_file():
        raise OSError(errno.EINVAL, "It is not a regular file", str(path))
    with naming(path):
        with _temporary(path) as (temporary, descriptor):
            write_all(descriptor, content.encode() if isinstance(content, str) else content)
            os.fsync(descriptor)
            temporary.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, int]]:
    """Open a new temporary file beside a path, with a lock that lasts as long as its writer lives.

    The value of the ``with`` block is the file and its descriptor. If the block raises, the file is removed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        temporary = path.with_name(f".{secrets.token_hex(16)}.part")
        descriptor = os.open(temporary, flags, 0o666)
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # a sweep came before the lock
    try:
        yield temporary, descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def abandoned(folder: Path) -> Iterator[Path]:
    """Yield the temporary files in a folder that killed writers have left.

    Each file is locked until the next one is asked for. On a file system without locks, nobody can tell whether a
    writer is still running, and no file is yielded.
    """
    for path in sorted(folder.glob(PART)):
        with contextlib.suppress(OSError):
            descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                yield path
            finally:
                os.close(descriptor)


def sweep(*folders: Path) -> None:
    """Remove the temporary files that killed writers have left in some folders; those of living writers stay."""
    for folder in folders:
        for path in abandoned(folder):
            with contextlib.suppress(OSError):
                path.unlink()


def output(path: Path, content: str | bytes) -> None:
    """Write bytes or UTF-8 text to a path that the user has named for output.

    A regular file is replaced, completely or not at all. Other paths are written to: a device such as /dev/stdout, a
    pipe, or the file that a link points to. Temporary files that killed writers have left beside the path are
    removed.

    Raises:
        OSError: the content cannot be written.
    """
    sweep(path.parent)
    if path.exists() and (path.is_symlink() or not path.is_file()):
        with naming(path):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        write(path, content)


def read(path: Path, *, follow: bool = True) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file.
        follow: whether a link at ``path`` is followed to its file. If not, a link cannot be read.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: the file cannot be read, or is a folder, a pipe or a device.
    """
    try:
        descriptor = open_regular(path, os.O_RDONLY | (0 if follow else os.O_NOFOLLOW))
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(error.errno, error.strerror, str(path)) from None


def digest(path: Path, *, follow: bool = True) -> str:
    """Return the SHA-256 of the content of a regular file; if it cannot be read, a text with the number of the error.

    Args:
        path: the file.
        follow: whether a link at ``path`` is followed to its file. If not, a link cannot be read.
    """
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY | (0 if follow else os.O_NOFOLLOW)), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"error {error.errno}"


def digest_of(content: str | bytes) -> str:
    """Return the SHA-256 that a file has after ``write`` has written ``content`` to it."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file, each with the line feed at its end. Only one line is in memory at a time.

    A line without a line feed is the last, even if a writer goes on with it meanwhile: its end would look like a line.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: the file cannot be read, or is a folder, a pipe or a device.
    """
    with _opened(path) as file:
        for line in file:
            yield line
            if not line.endswith(b"\n"):
                return


def pieces(path: Path, size: int) -> Iterator[list[bytes]]:
    """Yield the lines of a regular file in pieces of more than ``size`` bytes; the last piece may be shorter.

    Each line has the line feed at its end. Only one piece is in memory at a time. A piece that is shorter, or whose
    last line has no line feed, is the last one, even if a writer goes on with the file meanwhile.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: the file cannot be read, or is a folder, a pipe or a device.
    """
    with _opened(path) as file:
        while piece := file.readlines(size):
            yield piece
            if sum(map(len, piece)) <= size or not piece[-1].endswith(b"\n"):
                return


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading. Errors of the block count as errors of the file."""
    try:
        with os.fdopen(open_regular(path, os.O_RDONLY), "rb", buffering=2**18) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(error.errno, error.strerror, str(path)) from None


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file, and return its descriptor. For a pipe, an error is raised without waiting for a writer.

    ``flags`` are those of ``os.open``.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            error.strerror = "Is a link, which is not followed" if flags & os.O_NOFOLLOW else "Too many links"
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Is not a regular file", str(path))
    return descriptor


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes of ``content`` to a file descriptor; repeat the system call if it writes only a part."""
    rest = memoryview(content)
    while rest:
        count = os.write(descriptor, rest)
        if not count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[count:]


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they are missing. Return when they are on disk."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names of all files in a folder are on disk. Some file systems cannot tell: then return at once."""
    try:
        with naming(folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno in LOST:
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Set ``filename`` of each ``OSError`` in a ``with`` block to ``path``, so that the message names the file."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        del error.filename2  # with None, the message would end in -> None
        raise
