"""What commands do with the records of a study: read them, print them, and derive an exit code from them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.errors import CommandError, ExitCode
from bench.records.lines import Outcome

if TYPE_CHECKING:
    from bench.records.lines import Record

PIPE_WIDTH = 160
"""Width, in characters, of a table that is not printed on a terminal."""


def read_records(folder: Path) -> list[Record]:
    """Return the records of a study folder.

    Raises:
        CommandError: the folder holds no records.
        Damaged: the records cannot be read.
    """
    from bench.records import store

    records = store.read(folder)
    if not records:
        message = f"There are no records in {folder}. Give a folder that `bench run` has written."
        raise CommandError(message, ExitCode.USAGE)
    return records


def show(
    records: Sequence[Record], folder: Path, files: Sequence[Path], *, json: bool, quiet: bool, cost: str = "seconds"
) -> None:
    """Print records as a table or as JSON. Unless ``quiet``, list the files of the study folder on stderr."""
    if json:
        from bench.records.lines import plain

        lines = [{key: value for key, value in record.items() if key != "sums"} for record in records]
        click.echo(dumps(plain({"folder": str(folder), "files": [str(file) for file in files], "records": lines})))
    else:
        from rich.console import Console

        from bench import report

        report.print_table(records, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH), cost)
    if not quiet:
        figures = sum(file.suffix == ".svg" for file in files)
        texts = [file.name for file in files if file.parent == folder]
        click.echo(f"{folder}: {', '.join(['records.jsonl', *texts])} and {figures} figures", err=True)


def finish(records: Sequence[Record], folder: Path, *, json: bool, quiet: bool) -> ExitCode:
    """Write the report of a study, print the records of a command, and return the exit code for their outcomes.

    Raises:
        CommandError: nothing was measured, because no estimator fits any objective.
    """
    from bench import report
    from bench.records import store

    show(records, folder, report.write(folder, store.read(folder)), json=json, quiet=quiet)
    outcomes = {record["outcome"] for record in records}
    if Outcome.FAILED in outcomes:
        return ExitCode.FAILED
    if not outcomes & {Outcome.MEASURED, Outcome.DIVERGED}:
        reasons = dict.fromkeys(record["reason"] for record in records)
        message = f"No cell could be measured, because no estimator fits its objective: {' '.join([*reasons][:3])}"
        raise CommandError(message, ExitCode.NOTHING)
    return ExitCode.FINE
