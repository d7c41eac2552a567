"""The command ``bench report``."""

import shlex
from pathlib import Path

import click

from bench.cli.errors import UNCHANGED, reported
from bench.cli.options import PATH, json_option, quiet_option, selector
from bench.cli.output import complain, list_files, print_json, print_table, read_records, to_go
from bench.cli.terminal import echo


@click.command(name="report")
@click.argument("path", type=PATH, metavar="FOLDER")
@click.option(
    "--cost",
    type=click.Choice(["evaluations", "seconds"]),
    default="evaluations",
    help="Unit of the cost of an estimate: evaluations of f and its gradient, or seconds (if measured) [evaluations].",
)
@selector("estimator", "Report this estimator alone, or these settings of it: rloo or rloo:n=2,4.")
@selector("objective", "Report this objective alone, or these settings of it.")
@click.option("--no-figures", is_flag=True, help="Draw no figures; those of an earlier report stay.")
@json_option
@quiet_option
@reported(UNCHANGED)
def command(
    path: Path,
    cost: str,
    estimator: tuple[str, ...],
    objective: tuple[str, ...],
    no_figures: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Rebuild the tables and figures of a study.

    Its records are enough; nothing is measured. With -e and -o, the tables and figures are those of the selected cells
    until the next report.
    """
    from bench.planning.selectors import UsageError, selects
    from bench.records.lines import LineKind
    from bench.records.store import LINES
    from bench.report import Report

    folder = path.parent if path.name == LINES else path
    records = read_records(folder)
    lacking = "" if quiet else to_go(folder, records)
    if estimator or objective:  # cells are selected, and the record of an objective has no estimator
        records = [record for record in records if record["kind"] != LineKind.OBJECTIVE]
    for kind, texts in (("estimator", estimator), ("objective", objective)):
        for text in texts:
            if not any(selects(text, record, kind) for record in records):  # type: ignore[arg-type]
                known = ", ".join(dict.fromkeys(record[f"{kind}_name"] for record in records))
                raise UsageError(f"{text!r} was not measured in this study, which has {known}.")
        records = [r for r in records if not texts or any(selects(text, r, kind) for text in texts)]  # type: ignore[arg-type]
    if not records:
        raise UsageError("No cell of this study is selected by both -e and -o.")
    report = Report(records, cost)
    files = report.write(folder, drawn=not no_figures)
    complain(report)
    if json:
        print_json(records, folder, files)
    else:
        print_table(report)
    if lacking:
        echo(lacking, err=True)
    if not quiet:
        list_files(folder, files)
    if not quiet and (estimator or objective):
        again = f"`bench report {shlex.quote(str(folder))}`"
        echo(f"The files hold the selected cells alone; {again} makes them of all cells again.", err=True)
