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
    """Return the records of a study folder: the results of each measurement.

    Raises:
        CommandError: the folder holds no records.
        Damaged: the records cannot be read.
    """
    from bench.records import store

    records = store.read(folder)
    if not records:
        message = f"There are no records in {str(folder)!r}. Give a folder that `bench run` has written."
        raise CommandError(message, ExitCode.USAGE)
    return records


def show(
    records: Sequence[Record],
    folder: Path,
    files: Sequence[Path],
    *,
    json: bool,
    quiet: bool,
    cost: str = "seconds",
    named: bool = False,
) -> None:
    """Print records as a table or as JSON. Unless ``quiet``, list the files of the study folder on stderr.

    If ``named``, the user has named the estimators, and every estimator and objective that do not fit together are
    printed with the reason. ``cost`` is the unit of the cost of an estimate: "seconds" or "evaluations".
    """
    if json:
        from bench.records.lines import plain

        lines = [{key: value for key, value in record.items() if key != "sums"} for record in records]
        click.echo(dumps(plain({"folder": str(folder), "files": [str(file) for file in files], "records": lines})))
    else:
        from rich.console import Console

        from bench import report

        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
        with console.capture() as text:  # rich ends the program if the reader of a pipe has left
            report.print_table(records, console, cost, named=named)
        click.echo(text.get(), nl=False)
    if not quiet:
        figures = sum(file.suffix == ".svg" for file in files)
        texts = [file.name for file in files if file.parent == folder]
        click.echo(f"{folder}: {', '.join(['records.jsonl', *texts])} and {figures} figures", err=True)
        begin = [f"figures/{file.name}" for file in files if file.name in ("heatmap.svg", "training.svg")]
        page = "training.md" if begin and "training" in begin[0] else next((t for t in texts if t.endswith(".md")), "")
        if begin and page:
            click.echo(f"Begin with {begin[0]}; {page} explains the columns.", err=True)


def finish(records: Sequence[Record], folder: Path, *, json: bool, quiet: bool, named: bool = False) -> ExitCode:
    """Write the report of a study, print the records of a command, and return the exit code for their outcomes.

    The printed tables also have the folder's other records of the objectives, so that the best of all is recommended.

    Args:
        records: the records of the command.
        folder: the study folder.
        json: whether to print the command's records as JSON.
        quiet: whether to print no notes.
        named: whether the user has named the estimators; if so, every estimator and objective that do not fit together
            are printed.

    Raises:
        NothingFits: nothing was measured, because every estimator refused its objective.
    """
    from bench import report
    from bench.planning.selectors import NothingFits
    from bench.records import store

    held = store.read(folder)
    objectives = {record["objective"] for record in records}
    shown = records if json else [record for record in held if record["objective"] in objectives]
    files = report.write(folder, held)
    outcomes = {record["outcome"] for record in records}
    if not outcomes & {Outcome.MEASURED, Outcome.DIVERGED, Outcome.FAILED}:
        raise NothingFits(record["reason"] for record in records)
    show(shown, folder, files, json=json, quiet=quiet, named=named)
    if Outcome.FAILED in outcomes:
        return ExitCode.FAILED
    return ExitCode.FINE
