"""The types of the values of options: each refuses what it cannot take, in a sentence."""

import os
from decimal import Decimal, InvalidOperation
from math import isnan
from pathlib import Path
from typing import Any

import click

from bench.planning.settings import MOST


class Count(click.ParamType):  # type: ignore[type-arg]
    """An option's value that is a whole number from ``least`` to 10^12, typed as 10000, 10_000 or 1e4."""

    name = "number"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that was typed as ``value``.

        If the option does not allow this number, the command ends with an error message, for which click passes
        ``param`` and ``ctx``.
        """
        try:
            found = Decimal(value)
            if self.least <= found <= MOST and found == int(found):
                return int(found)
        except InvalidOperation:
            pass
        said = f"{value!r} is not a whole number from {self.least} to 10^12. Write it as 10000, 10_000 or 1e4."
        return self.fail(said, param, ctx)


class Processes(Count):
    """A number of processes, or the word ``auto``, which becomes None."""

    name = "processes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that was typed as ``value``; None for ``auto``.

        If the text is neither a number nor ``auto``, the command ends with an error message, for which click passes
        ``param`` and ``ctx``.
        """
        return None if value == "auto" else super().convert(value, param, ctx)


class Between(click.FloatRange):
    """A number in a range. The word "nan" is no number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that was typed as ``value``.

        If the text is no number, or a number outside of the range, the command ends with an error message, for which
        click passes ``param`` and ``ctx``.
        """
        found = super().convert(value, param, ctx)
        if isnan(found):
            self.fail("nan is not a number.", param, ctx)
        return found


class Positive(Between):
    """A number above 0, and below ``end`` if that is given."""

    def __init__(self, end: float | None = None) -> None:
        super().__init__(0, end, min_open=True, max_open=end is not None)


class Location(click.Path):
    """A path that a user types. An empty text, as from an unset variable of the shell, is not a path."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path that was typed as ``value``.

        If the text is empty, the command ends with an error message, for which click passes ``param`` and ``ctx``.
        """
        if not os.fspath(value):
            self.fail("an empty text is no path. Give a name, or . for the working folder.", param, ctx)
        return super().convert(value, param, ctx)


class Output(Location):
    """The path of a file to write. It must not be a file in which a study keeps its measurements."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path that was typed as ``value``.

        If a study keeps its measurements in the file at this path, the command ends with an error message, for which
        click passes ``param`` and ``ctx``.
        """
        from bench.records.store import keeps

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if keeps(path):
            self.fail(f"{str(path)!r} belongs to a study and would be overwritten. Give another file.", param, ctx)
        return path
