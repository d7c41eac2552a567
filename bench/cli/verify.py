"""The command ``bench verify``."""

from json import dumps
from pathlib import Path

import click

from bench.cli.errors import UNCHANGED, CommandError, ExitCode, reported
from bench.cli.options import PATH, json_option
from bench.cli.output import sentence
from bench.cli.terminal import echo, echo_json
from bench.records.text import printable


@click.command(
    name="verify",
    epilog="\b\nExamples:\n  bench verify results/default\n  bench verify results/default --repair",
)
@click.argument("path", type=PATH, metavar="FOLDER")
@click.option("--repair", is_flag=True, help="Move what is broken or left over into a new folder inside the study.")
@json_option
@reported(UNCHANGED)
def command(path: Path, repair: bool, json: bool) -> None:
    """Check that a study folder is whole.

    Every record is checked for its shape, and every file of a long vector against the hash in its name; what is still
    to be measured or trained is counted. Nothing is measured, and nothing is ever deleted: --repair moves broken lines
    and files aside, and the next `bench run` measures what is missing then.
    """
    from bench.records.store import LINES
    from bench.records.verify import repair as repaired
    from bench.records.verify import verify

    folder = path.parent if path.name == LINES else path
    if not (folder / LINES).exists():
        message = f"There are no records in {str(folder)!r}. Give a folder that `bench run` has written."
        raise CommandError(message, ExitCode.USAGE)
    found, aside = repaired(folder) if repair else (verify(folder), None)
    faults = [{"damage": fault in found.damage, **vars(fault)} for fault in (*found.damage, *found.leftovers)]
    if json:
        counts = {"records": found.records, "lines": found.lines, "files": found.files}
        moved = None if aside is None else str(aside)
        standings = [
            {"noun": each.noun, "asked": each.cells, "here": len(each.here), "failed": each.failed}
            for each in found.standings
        ]
        document = {"folder": str(folder), **counts, "standings": standings, "faults": faults, "moved_to": moved}
        echo_json(dumps(document))
    else:
        for fault in (*found.damage, *found.leftovers):
            echo(printable(fault.what))
        echo(f"{folder}: {found.records} records in {found.lines} lines, {found.files} files of long vectors.")
        for standing in found.standings:
            echo(sentence(standing, folder))
        if aside is not None:
            echo(f"Moved to {aside}: {len(faults)} broken or left over.")
    if found.damage and aside is None:
        advice = f"`bench verify {folder} --repair` moves it aside."
        places = f"{len(found.damage)} place{'s' * (len(found.damage) > 1)}"
        raise CommandError(f"{folder} is damaged in {places}. {advice}", ExitCode.DAMAGED)
