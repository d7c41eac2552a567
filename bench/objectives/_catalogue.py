"""The catalogue: every public objective by its command-line name."""

import inspect

from bench import objectives
from bench.objectives._protocol import Objective
from estimators import command_line_name


def catalogue() -> dict[str, type[Objective]]:
    """Return the classes that ``bench.objectives`` exports, by command-line name such as ``gaussian-quadratic``."""
    classes = [value for value in vars(objectives).values() if inspect.isclass(value) and issubclass(value, Objective)]
    return {command_line_name(cls): cls for cls in sorted(classes, key=lambda c: c.__name__) if cls is not Objective}
