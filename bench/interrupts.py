"""The signals that ask a command to end: Ctrl-C, SIGTERM and SIGHUP end it in one way, with its results safe."""

import signal
import time
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_WISH = 2.0
"""Seconds after a signal in which others say nothing new: the command is ending, and must not be disturbed."""
_received = list[tuple[int, float]]()


def listen() -> None:
    """Make the signals SIGINT, SIGTERM and SIGHUP raise ``KeyboardInterrupt`` in this process.

    A signal that the process ignores stays ignored. nohup, for example, makes a process ignore SIGHUP.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if not _received or now > _received[-1][1] + ONE_WISH:
        _received.append((number, now))
        raise KeyboardInterrupt


def came() -> bool:
    """Return whether a signal has asked this process to end."""
    return bool(_received)


def end() -> int:
    """Return the exit code of a command that an interrupt has ended, and ignore all further signals.

    The exit code is 128 plus the number of the signal, as in shells: 130 for Ctrl-C, 143 for SIGTERM and 129 for
    SIGHUP. If the handlers of ``listen`` have received no signal, the exit code is 130, and no signal is ignored.
    """
    exec("")  # Python dies by SIGINT if the last text that it executed was interrupted, as the text of a dataclass is
    if not _received:
        return 128 + signal.SIGINT
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    return 128 + _received[0][0]
