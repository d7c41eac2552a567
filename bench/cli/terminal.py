"""What commands print passes here, so that no text of others can steer a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import click

from bench.records.text import in_json, on_terminals

if TYPE_CHECKING:
    from rich.console import Console


PIPE_WIDTH = 160
"""Width, in characters, of a table that is not printed on a terminal."""


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text of one or more lines on stdout, or on stderr if ``err``. A line feed follows if ``nl``.

    Control characters and escape sequences in the text are left out.
    """
    _put(on_terminals(text) + "\n" * nl, err=err)


def echo_json(document: str) -> None:
    """Print a JSON document on stdout, with escapes in place of the characters that a terminal obeys or hides."""
    _put(in_json(document.rstrip("\n")) + "\n")


def echo_styled(text: str) -> None:
    """Print a text with colours on stdout. The text must come from a console of this module."""
    _put(text)


_records: ContextVar[list[tuple[str, bool]] | None] = ContextVar("records", default=None)


def _put(text: str, *, err: bool = False) -> None:
    records = _records.get()
    if records is not None:
        records.append((text, err))
    click.echo(text, err=err, nl=False)


@contextmanager
def recorded() -> Iterator[list[tuple[str, bool]]]:
    """In a ``with`` block, record everything that is printed, as pairs: a text, and whether it went to stderr."""
    records: list[tuple[str, bool]] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


def replay(records: Iterable[tuple[str, bool]]) -> None:
    """Print texts again, in the order of ``records``.

    Each pair in ``records`` is a text, and whether it goes to stderr (True) or to stdout (False). The list that the
    context manager ``recorded`` fills has this form.
    """
    for text, err in records:
        _put(text, err=err)


def screen() -> Console:
    """Return the console of stdout, on which tables are printed.

    The console has the width of the terminal. If stdout is not a terminal, the width is 160 characters.
    """
    return console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def console(**settings: Any) -> Console:
    """Return a console of rich that removes control characters from the texts it is given.

    ``settings`` are arguments of ``rich.console.Console``.
    """
    from rich import console as rich
    from rich.segment import Segment

    class Harmless(rich.Console):
        def render(
            self, renderable: rich.RenderableType, options: rich.ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=on_terminals(segment.text))

    return Harmless(**settings)
