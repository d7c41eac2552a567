"""Records as JSON lines."""

import json
import math
from enum import StrEnum
from typing import Any

SCHEMA = 1
"""Version of the record's keys; a reader refuses a newer one."""
Record = dict[str, Any]


class LineKind(StrEnum):
    """What a line is about. A run has one line of each kind at most; a later line replaces an earlier one."""

    MOMENTS = "moments"
    """Bias, variance and the other statistics of a cell's gradients."""
    TIMING = "timing"
    """Seconds, cost and memory of a cell, measured alone on the machine."""
    REFERENCE = "reference"
    """Monte Carlo gradient of an objective whose exact gradient is unknown."""
    PILOT = "pilot"
    """Number of replicates that a cell needs for the wanted precision."""
    TRAINING = "training"
    """One optimisation run of a cell: the objective's values at the checkpoints."""


class Outcome(StrEnum):
    """How the work of a line ended."""

    MEASURED = "measured"
    """It succeeded: the line holds its results."""
    SKIPPED = "skipped"
    """The estimator does not fit the objective, or refused it; ``reason`` says why."""
    FAILED = "failed"
    """An exception or a dead worker ended it; ``reason`` says which. The next run tries again."""
    DIVERGED = "diverged"
    """The training became far worse, or not finite: the line holds the results until then; ``reason`` says where."""


class Damaged(Exception):
    """A store cannot be read: a broken line, or a newer schema. The message is one sentence."""


def dumps(record: Record) -> str:
    """Return one JSON line, without its newline. Arrays become lists, infinities and NaN become null."""
    return json.dumps(plain(record), separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """Return the value with arrays as lists, enum members as text and non-finite numbers as None."""
    match value:
        case dict():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case _ if hasattr(value, "tolist"):  # arrays and numbers of numpy
            return plain(value.tolist())
        case StrEnum():
            return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value
