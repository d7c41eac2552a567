"""Signs of progress: measurements and trainings call ``beat`` after every call of an estimator."""

from collections.abc import Callable

listeners = list[Callable[[], None]]()
"""Functions that ``beat`` calls. A worker process has one, which tells the parent that the work goes on."""


def beat() -> None:
    """Report that a call of an estimator has ended: call every function in the module's list ``listeners``."""
    for listener in listeners:
        listener()
