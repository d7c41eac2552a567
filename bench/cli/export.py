"""The command ``bench export``."""

from pathlib import Path

import click

from bench.cli.errors import UNCHANGED, reported
from bench.cli.options import OUTPUT, PATH
from bench.cli.output import read_records
from bench.cli.terminal import echo, echo_json

FORMATS = ("csv", "parquet", "json")


@click.command(
    name="export",
    epilog="\b\n"
    "Examples:\n"
    "  bench export results/default > study.csv\n"
    "  bench export results/default -o study.parquet\n"
    "  bench export laptop cluster --format json",
)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="FOLDER...")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Format of the rows [that of --out, or csv].")
@click.option("-o", "--out", type=OUTPUT, metavar="FILE", help="Write the rows to this file [stdout].")
@click.option("--training", is_flag=True, help="Export checkpoints of training, if the study has measurements too.")
@reported(UNCHANGED)
def command(paths: tuple[Path, ...], form: str | None, out: Path | None, training: bool) -> None:
    """Write the rows of a study for other programs.

    A row is one cell with the columns of table.csv; in a study of training it is one checkpoint with the columns of
    training.csv. Several folders are exported as one study. In JSON, which is a list of objects, and in Parquet, whole
    numbers have 64 bits, and a number that does not exist is null. Parquet needs the package pyarrow: pip install
    'stochgrad-bench[parquet]'.
    """
    from bench.planning.selectors import UsageError
    from bench.records import files
    from bench.records.lines import LineKind
    from bench.records.merge import together
    from bench.records.store import LINES
    from bench.report.export import Format, Unavailable, exported

    ending = out.suffix.removeprefix(".") if out else ""
    if form is None and ending and ending not in FORMATS:
        raise UsageError(f"{out} ends in .{ending}: give --format, one of {', '.join(FORMATS)}.")
    chosen = Format(form or ending or "csv")
    if out is None and chosen == Format.PARQUET:
        raise UsageError("Parquet is not text: give a file, as in -o study.parquet.")
    folders = [path.parent if path.name == LINES else path for path in paths]
    records = together(read_records(folder) for folder in folders)
    trained = {record["kind"] == LineKind.TRAINING for record in records}
    if training and True not in trained:
        raise UsageError(f"There is no training in {', '.join(map(str, folders))}. Leave out --training.")
    try:
        content = exported(records, chosen, checkpoints=training or trained == {True})
    except Unavailable as error:
        raise UsageError(str(error)) from None
    if out is not None:
        files.output(out, content)
    elif chosen == Format.JSON:
        echo_json(content.decode())
    else:
        echo(content.decode(), nl=False)
