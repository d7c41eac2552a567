"""Records: a record is one JSON line of a study folder."""

import json
import math
from enum import StrEnum
from typing import Any

SCHEMA = 1
"""Version of the keys of a record. A reader refuses records of a newer version."""
Record = dict[str, Any]
GIVEN = "given gradients"
"""The family in the records of gradients that were made elsewhere."""


class LineKind(StrEnum):
    """The kind of a record. A run has at most one record of each kind; a later record replaces an earlier one.

    A run is one measurement, or one training run.
    """

    MOMENTS = "moments"
    """Bias, variance and the other statistics of a cell's gradients."""
    TIMING = "timing"
    """Seconds, cost and memory of a cell, measured alone on the machine."""
    REFERENCE = "reference"
    """Monte Carlo gradient of an objective whose exact gradient is unknown."""
    PILOT = "pilot"
    """Number of replicates that a cell needs for the wanted precision."""
    OBJECTIVE = "objective"
    """The checks that a user's objective has passed, and its ``row_elements``. The run id names the objective."""
    TRAINING = "training"
    """One optimisation run of a cell: the objective's values at the checkpoints."""


class Outcome(StrEnum):
    """A word for how the work behind a record ended, such as "measured" or "failed"."""

    MEASURED = "measured"
    """The work succeeded: the record holds its results."""
    SKIPPED = "skipped"
    """The estimator does not fit the objective, or refused it; ``reason`` says why."""
    FAILED = "failed"
    """The work raised an exception, or its worker died; ``reason`` says which. The next run tries again."""
    DIVERGED = "diverged"
    """The objective became far worse or not finite. The record holds the results until then; ``reason`` says when."""


class Rerun(StrEnum):
    """A word for the records whose work is done again when a study folder is used again, such as "failed"."""

    FAILED = "failed"
    """Records of work that failed."""
    STALE = "stale"
    """Records of work whose code has changed since."""
    ALL = "all"
    """All records."""
    NONE = "none"
    """No records: only work that has no record is done."""


USUAL = frozenset({Rerun.FAILED, Rerun.STALE})
"""What is done again unless the user says otherwise."""


class Lost(Exception):
    """A cell (an estimator on an objective) cannot be measured. The message becomes the reason in the cell's record."""


class Damaged(Exception):
    """A study folder cannot be read: a record is broken or of a newer version. The message is one sentence.

    Characters that cannot be printed, such as those of a damaged key, become spaces in the message.
    """

    def __init__(self, said: str) -> None:
        super().__init__("".join(c if c.isprintable() else " " for c in said))


class Newer(Damaged):
    """A study folder cannot be read by this version: a newer one has written a record. The message is one sentence."""


def dumps(record: Record) -> str:
    """Return a record as one JSON line, without the line feed at its end.

    Arrays become lists; infinities and NaN become null.
    """
    return json.dumps(plain(record), separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value converted to what JSON can hold, at any depth of lists and dictionaries.

    Arrays become lists, members of enums become text, and infinities and NaN become None.
    """
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
