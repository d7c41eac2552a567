"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bench.planning import catalogue as names
from bench.planning.catalogue import Kind

F = TypeVar("F", bound=Callable[..., Any])
BUDGETS = {"quick": (10_000, 1_000), "full": (100_000, 10_000)}
"""Replicates of a baseline and of the first stage of a check."""


def complete(kind: Kind) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return what completes the names of a catalogue in a shell."""

    def completed(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        known = names.catalogue(kind)
        known = {**known, **{alias: known[name] for alias, name in names.aliases(kind).items()}}
        return [CompletionItem(n, help=f["description"]) for n, f in known.items() if n.startswith(incomplete)]

    return completed


def complete_baseline(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of the baselines of this folder."""
    from bench.gate import baseline

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
VARIABLE = "BENCH_DATA_DIR"
"""That of ``bench.objectives``, without torch."""


def data_dir(command: F) -> F:
    """Give a command the option; what it names is in the environment while the command runs, workers included."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        envvar=VARIABLE,
        expose_value=False,
        callback=_named,
        help=f"Where the files of data=mnist, fashion-mnist and omniglot lie; also {VARIABLE}.",
    )(command)


def _named(context: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(value)
    context.call_on_close(lambda: _restore(before))


def _restore(before: str | None) -> None:
    os.environ.pop(VARIABLE, None)
    if before is not None:
        os.environ[VARIABLE] = before
