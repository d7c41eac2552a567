"""Options that the commands of the gate share, and what they do with errors."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bench import names
from bench.names import Kind

F = TypeVar("F", bound=Callable[..., Any])

BUDGETS = {"quick": (10_000, 1_000), "full": (100_000, 10_000)}
"""Replicates of a baseline and of the first stage of a check."""


@contextmanager
def told() -> Iterator[None]:
    """Turn what a stage raises for its user, and an interrupt, into one sentence and an exit code."""
    from bench.cli import INTERRUPTED, CommandError, _told

    try:
        with _told():
            yield
    except KeyboardInterrupt:
        again = shlex.join(["bench", *sys.argv[1:]])
        raise CommandError(f"Interrupted; nothing was written. Again: {again}", INTERRUPTED) from None


def complete(kind: Kind) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return what completes the names of a catalogue in a shell."""

    def completed(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = names.catalogue(kind)
        known = {**known, **{alias: known[name] for alias, name in names.aliases(kind).items()}}
        return [CompletionItem(n, help=f["description"]) for n, f in known.items() if n.startswith(incomplete)]

    return completed


def complete_baseline(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of the baselines of this folder."""
    from bench import baseline

    return [CompletionItem(name) for name in baseline.names() if name.startswith(incomplete)]


def selectors(command: F) -> F:
    """Give a command the options ``-e`` and ``-o``."""
    for kind, flag in (("objective", "-o"), ("estimator", "-e")):
        command = click.option(
            flag,
            f"--{kind}",
            multiple=True,
            metavar="SELECTOR",
            shell_complete=complete(kind),  # type: ignore[arg-type]
            help=f"Only this {kind}, as in `bench run`. Repeatable.",
        )(command)
    return command


name_argument = click.argument("name", shell_complete=complete_baseline)
quiet_option = click.option("--quiet", is_flag=True, help="No progress on stderr.")
device_option = click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to measure.")
json_option = click.option("--json", is_flag=True, help="Print one JSON document.")
