"""Records as JSON lines."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

SCHEMA = 1
"""Version of the record's keys; a reader refuses a newer one."""
Record = dict[str, Any]


class Damaged(Exception):
    """A store cannot be read: a broken line, or a newer schema. The message is one sentence."""


def dumps(record: Record) -> str:
    """Return one JSON line, without its newline. Arrays become lists, infinities and NaN become null."""
    return json.dumps(plain(record), separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """Return the value with arrays as lists and non-finite numbers as None."""
    match value:
        case dict():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case np.ndarray():
            return plain(value.tolist())
        case np.generic():
            return plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
