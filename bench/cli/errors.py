"""Errors of the command line: exit codes, and one sentence for whatever the user got wrong."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def told() -> Iterator[None]:
    """Turn what a stage raises for its user, and an interrupt, into one sentence and an exit code."""
    from bench.cli.errors import INTERRUPTED, CommandError, _told

    try:
        with _told():
            yield
    except KeyboardInterrupt:
        again = shlex.join(["bench", *sys.argv[1:]])
        raise CommandError(f"Interrupted; nothing was written. Again: {again}", INTERRUPTED) from None


FAILED, USAGE, NOTHING, DAMAGED, INTERRUPTED = 1, 2, 4, 5, 130


class CommandError(Exception):
    """Ends the command with one sentence and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a stage raises for its user into one sentence and an exit code."""
    from bench.planning.selectors import UsageError
    from bench.records.lines import Damaged
    from bench.records.store import Busy

    try:
        yield
    except (UsageError, Busy) as error:
        raise CommandError(str(error), USAGE) from None
    except Damaged as error:
        raise CommandError(str(error), DAMAGED) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise CommandError(
            f"{error.filename} cannot be written: {error.strerror}. Choose another folder.", USAGE
        ) from None
