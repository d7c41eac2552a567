"""Tables of names for people, ``[estimators]`` and ``[objectives]``: in a file of labels, or below labels in a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.planning.catalogue import KINDS, did_you_mean
from bench.planning.selectors import UsageError, parse
from bench.records.text import printable

Labels = Mapping[str, Mapping[str, str]]
"""Names for people by selector, for "estimators" and "objectives"."""


def labels_of(table: Any, source: str) -> dict[str, dict[str, str]]:
    """Check a table of display names, and return it without control characters.

    Args:
        table: the table, such as ``{"estimators": {"rloo:n=4": "RLOO"}}``.
        source: where the table comes from; an error begins with these words.

    Raises:
        UsageError: the table has another form, or a key in it is no selector.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{source}: give the tables [labels.estimators] and [labels.objectives] (got {table!r}).")
    for key, names in table.items():
        if key not in KINDS:
            raise UsageError(f"{source}: there is no table [{printable(key)}].{did_you_mean(key, KINDS)}")
        wrong = not isinstance(names, Mapping) or not all(isinstance(text, str) for text in names.values())
        if wrong:
            raise UsageError(f'{source}, [{key}]: give each selector a name in quotes, as in "rloo:n=4" = "RLOO".')
        for text in names:
            try:
                parse(text)
            except UsageError as error:
                raise UsageError(f"{source}, [{key}]: {error}") from None
    return {key: {name: printable(text) for name, text in names.items()} for key, names in table.items()}
