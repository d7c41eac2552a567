"""Exit codes, and errors that end a command with one sentence."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

SAFE = "what was measured is safe. Go on with"
UNWRITTEN = "nothing was written. Again"
"""What an interrupt leaves behind; the command to repeat follows."""


class ExitCode(IntEnum):
    """What the exit code of a command says. FAULT is a confirmed fault or a missing cell of a baseline."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    FAULT = 3
    NOTHING = 4
    DAMAGED = 5
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command with one sentence and an exit code."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def program() -> str:
    """Return the name that the user called this command line by."""
    return "stochgrad-bench" if Path(sys.argv[0]).stem == "stochgrad-bench" else "bench"


@contextmanager
def reported(interrupted: str = SAFE) -> Iterator[None]:
    """Turn what a stage raises for the user, and an interrupt, into a ``CommandError``. Decorates a command.

    Args:
        interrupted: what an interrupt leaves behind, ``SAFE`` or ``UNWRITTEN``.
    """
    from bench.planning.selectors import UsageError
    from bench.records.lines import Damaged
    from bench.records.store import Busy

    try:
        yield
    except (UsageError, Busy) as error:
        raise CommandError(str(error), ExitCode.USAGE) from None
    except Damaged as error:
        raise CommandError(str(error), ExitCode.DAMAGED) from None
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename} cannot be written: {error.strerror}. Choose another folder."
        raise CommandError(message, ExitCode.USAGE) from None
    except KeyboardInterrupt:
        command = shlex.join([program(), *sys.argv[1:]])
        raise CommandError(f"Interrupted; {interrupted}: {command}", ExitCode.INTERRUPTED) from None
