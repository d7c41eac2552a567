"""The catalogue: every public estimator by its command-line name."""

import inspect

import estimators
from estimators._protocol import Estimator, command_line_name


def catalogue() -> dict[str, type[Estimator]]:
    """Return every estimator class of the package by its command-line name (``rloo``, ``score-function`` ...)."""
    classes = [value for value in vars(estimators).values() if inspect.isclass(value) and issubclass(value, Estimator)]
    return {command_line_name(cls): cls for cls in sorted(classes, key=lambda c: c.__name__) if cls is not Estimator}


def aliases() -> dict[str, str]:
    """Return the command-line name for each alias: ``{"es": "evolution-strategies", ...}``."""
    return {alias: name for name, cls in catalogue().items() for alias in cls.aliases}
