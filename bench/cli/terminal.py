"""What commands print passes here, so that no text of others can steer a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from bench.records.text import in_json, on_terminals

if TYPE_CHECKING:
    from rich.console import Console


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text of one or more lines on stdout, or on stderr if ``err``. A line feed follows if ``nl``.

    Control characters and escape sequences in the text are left out.
    """
    click.echo(on_terminals(text), err=err, nl=nl)


def echo_json(document: str) -> None:
    """Print a JSON document on stdout, with escapes in place of the characters that a terminal obeys or hides."""
    click.echo(in_json(document.rstrip("\n")))


def echo_styled(text: str) -> None:
    """Print a text with colours on stdout. The text must come from a console of this module."""
    click.echo(text, nl=False)


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
