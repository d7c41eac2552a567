"""Exit codes, and errors that end a command with one sentence."""

import gc
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from bench import interrupts

SAFE = "what was measured is safe. Go on with"
UNWRITTEN = "nothing was written. Start again with"
UNCHANGED = "the records are as they were. Start again with"
"""What the message after an interrupt says of the results: they were kept; there are none; the command measures nothing
and only reads records. The command to repeat follows it."""


class ExitCode(IntEnum):
    """Exit codes of all commands.

    - FINE: the command has done its work.
    - FAILED: a cell or a run failed.
    - USAGE: the command was used wrongly.
    - FAULT: the gate confirmed a fault, or a cell of a baseline is missing.
    - NOTHING: there is no result.
    - DAMAGED: a file is damaged, or of a newer version.
    - HANGUP, INTERRUPTED, TERMINATED: the signal SIGHUP, SIGINT (Ctrl-C) or SIGTERM ended the command.
    """

    FINE = 0
    FAILED = 1
    USAGE = 2
    FAULT = 3
    NOTHING = 4
    DAMAGED = 5
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


INTERRUPTS = (ExitCode.HANGUP, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
"""The exit codes of commands that a signal has ended."""


class CommandError(Exception):
    """An error that ends the command with a one-sentence message and an exit code."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def program() -> str:
    """Return the program name that the user typed, ``bench`` or ``stochgrad-bench``."""
    return "stochgrad-bench" if Path(sys.argv[0]).stem == "stochgrad-bench" else "bench"


@contextmanager
def reported(interrupted: str = SAFE) -> Iterator[None]:
    """Turn an error that is meant for the user, or an interrupt, into a ``CommandError``, which ``main`` prints.

    Use it as a decorator of commands.

    Args:
        interrupted: what the message after an interrupt says of the results: ``SAFE`` if they were kept, ``UNWRITTEN``
            if they were not, ``UNCHANGED`` if the command only reads records.
    """
    from bench.execution.progress import NoWorker
    from bench.planning.selectors import NothingFits, UsageError
    from bench.planning.user_code import Ended, comes_from_user, contained
    from bench.records.lines import Damaged
    from bench.records.lock import Busy
    from bench.records.text import described

    try:
        with contained():
            yield
    except (UsageError, Busy) as error:
        raise CommandError(str(error), ExitCode.USAGE) from None
    except Ended as error:
        raise CommandError(f"{error}.", ExitCode.FAILED) from None
    except NoWorker as error:
        raise CommandError(f"{str(error).removesuffix('.')}; {_go_on(interrupted)}", ExitCode.FAILED) from None
    except NothingFits as error:
        raise CommandError(str(error), ExitCode.NOTHING) from None
    except Damaged as error:
        raise CommandError(str(error), ExitCode.DAMAGED) from None
    except Exception as error:
        if comes_from_user(error):
            raise CommandError(f"{described(error)}.", ExitCode.FAILED) from None
        if not isinstance(error, OSError) or error.filename is None:
            raise
        raise _disk_error(error, interrupted) from None
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted; {_go_on(interrupted)}", ExitCode(interrupts.end())) from None
    finally:
        gc.unfreeze()  # of the records that the command has read


def _disk_error(error: OSError, interrupted: str) -> CommandError:
    """Return the error that ends a command when a file cannot be read or written."""
    from bench.records.files import LOST, Unreadable, said

    if isinstance(error, Unreadable):
        return CommandError(f"{said(error)}.", ExitCode.USAGE)
    if error.errno in LOST:
        return CommandError(f"{said(error)}; {_go_on(interrupted)}", ExitCode.FAILED)
    return CommandError(f"{said(error)}. Choose another folder.", ExitCode.USAGE)


def _go_on(interrupted: str) -> str:
    """Return what has become of the results, and the command to repeat."""
    if {"--fresh", "all", "--rerun=all"} & set(sys.argv):
        interrupted = "what was measured is on record. Start again with"
    return f"{interrupted}: {shlex.join([program(), *sys.argv[1:]])}"
