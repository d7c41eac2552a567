"""The command ``bench report``."""

from pathlib import Path

import click

from bench.cli.errors import reported
from bench.cli.options import PATH, json_option, quiet_option
from bench.cli.output import read_records, show


@click.command(name="report")
@click.argument("path", type=PATH, metavar="FOLDER")
@click.option(
    "--cost",
    type=click.Choice(["seconds", "evaluations"]),
    default="seconds",
    help="Unit of the cost of an estimate: seconds (if measured), or evaluations of f and its gradient [seconds].",
)
@json_option
@quiet_option
@reported()
def command(path: Path, cost: str, json: bool, quiet: bool) -> None:
    """Rebuild the tables and figures of a study. Its records are enough; nothing is measured."""
    from bench import report
    from bench.records.store import LINES

    folder = path.parent if path.name == LINES else path
    records = read_records(folder)
    files = report.write(folder, records, cost)
    show(records, folder, files, json=json, quiet=quiet, cost=cost)
