"""The command ``bench merge``."""

from json import dumps
from pathlib import Path
from typing import Literal

import click

from bench.cli.errors import CommandError, ExitCode, reported
from bench.cli.options import PATH, json_option
from bench.cli.output import read_records
from bench.cli.terminal import echo, echo_json
from bench.records.text import printable


@click.command(
    name="merge",
    epilog="\b\nExamples:\n  bench merge laptop cluster -o both\n  bench merge laptop cluster -o both --keep last",
)
@click.argument("folders", type=PATH, nargs=-1, required=True, metavar="FOLDER...")
@click.option("-o", "--out", type=PATH, required=True, metavar="FOLDER", help="The study folder that gets the records.")
@click.option(
    "--keep",
    type=click.Choice(["first", "last"]),
    help="Which results to keep where two folders differ: the first one's, or the last one's [none: stop].",
)
@json_option
@reported()
def command(folders: tuple[Path, ...], out: Path, keep: Literal["first", "last"] | None, json: bool) -> None:
    """Unite study folders that several machines have measured.

    The records of all folders are added to the folder --out; the folders themselves stay as they are. The command may
    be repeated. If a measurement failed on one machine, the result of another machine is kept. If two folders hold
    different results of one measurement, such as its times on two machines, nothing is written without --keep.
    """
    from bench.planning.plans import unite
    from bench.records.merge import merge

    for folder in folders:
        read_records(folder)
    done = merge(folders, out, keep)
    if json:
        echo_json(dumps({"folder": str(out), **vars(done)}))
    else:
        for conflict in done.conflicts:
            echo(printable(conflict), err=True)
    if done.conflicts and keep is None:
        count = len(done.conflicts)
        message = f"Nothing was written: {count} measurements differ. Choose with --keep first or --keep last."
        raise CommandError(message, ExitCode.USAGE)
    unite([out, *folders], out)
    if not json:
        echo(f"{out}: {done.records} records, {done.added} of them new. Next: bench report {out}")
