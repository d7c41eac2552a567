"""Code that users name: it runs in the same process as the program, and must not end it."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import Any, TextIO, cast

from bench import interrupts
from bench.planning.plugins import PREFIX
from bench.records.text import described


class Ended(Exception):
    """A user's code tried to end the program. The message says how and where."""


@contextmanager
def contained() -> Iterator[None]:
    """Keep a user's code from ending the program: inside the block, ``sys.exit`` and ``os._exit`` raise ``Ended``.

    Without this, an estimator of the user could end a command with exit code 0 before its work is done. An interrupt by
    the user still ends the program. If the code forks a child process that reaches the end of the block, the child ends
    there. At the end of the block, the working folder is the same as at its beginning, even if the code has changed it.
    """
    here, leave, place = os.getpid(), os._exit, os.open(".", os.O_RDONLY)  # its path may be gone

    def refuse(status: int) -> None:
        if os.getpid() != here:
            leave(status)  # a child process that the code has forked may end
        raise SystemExit(status)

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
        if os.getpid() != here:
            leave(0)
    except BaseException as error:
        if os.getpid() != here:
            leave(_status(error))
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in workers and behind nohup
        by_user = isinstance(error, KeyboardInterrupt) and (interrupts.came() or not ignored)
        if isinstance(error, Exception) or by_user:
            raise
        raise Ended(described(error)) from error
    finally:
        os._exit = leave
        os.fchdir(place)
        os.close(place)


def _status(error: BaseException) -> int:
    """Return the exit status of a child process that raises an exception; print the exception as Python would."""
    code = error.code if isinstance(error, SystemExit) else 1
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    elif isinstance(code, str):
        print(code, file=sys.stderr)
    return 0 if code is None else code if isinstance(code, int) else 1


@contextmanager
def set_apart(*, stdout: bool = False) -> Iterator[None]:
    """Inside the block, keep a user's code from ending the program, and from changing what other code does.

    At the end of the block, the global switches of torch and numpy, such as ``torch.set_grad_enabled``, are restored.
    What the code prints goes to stderr unless ``stdout`` is True, because the stdout of a command is for results.
    """
    from bench.planning.switches import switches_kept  # imports torch, which commands such as --help do without

    with contained(), nullcontext() if stdout else redirect_stdout(cast(Any, _Unclosed(sys.stderr))), switches_kept():
        yield


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Inside the block, let descriptor 1 lead to stderr, so that what C code prints is not in a command's results.

    The redirection holds for the whole process. Use it only where nothing else prints, such as while a user's file is
    imported.
    """
    try:
        held = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    sys.stdout.flush()
    with suppress(OSError):
        os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(held, 1)
        os.close(held)


class _Unclosed:
    """A stream that stays open when it is closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Do nothing."""


def comes_from_user(error: BaseException) -> bool:
    """Return whether an exception was raised in code from a user's file, or in what that code called."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__")).startswith(PREFIX) for frame, _ in frames)
