"""The command ``bench report``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.errors import USAGE, CommandError, _told
from bench.cli.output import _show


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option(
    "--cost",
    type=click.Choice(["seconds", "evaluations"]),
    default="seconds",
    help="What an estimate costs: seconds where they were measured [default], or evaluations of f and its gradient.",
)
@click.option("--json", is_flag=True, help="Print the records as one JSON document instead of the table.")
@click.option("--quiet", is_flag=True, help="No notes on stderr.")
def report(path: Path, cost: str, json: bool, quiet: bool) -> None:
    """Rebuild a study's tables and figures from its records alone."""
    with _told():
        from bench import report
        from bench.records import store

        folder = path.parent if path.name == store.LINES else path
        records = store.read(folder)
        if not records:
            raise CommandError(f"There are no records in {folder}. Give a folder that `bench run` has written.", USAGE)
        files = report.write(folder, records, cost)
    _show(records, folder, files, cost=cost, json=json, quiet=quiet)
