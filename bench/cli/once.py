"""The report of a study that has not changed: what was printed is printed again, and nothing is made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.cli.terminal import recorded, replay, screen
from bench.records import cache, files, installed
from bench.records.identity import digest
from bench.records.store import uncollected


def once(
    make: Callable[[], Mapping[Path, str] | None],
    folder: Path,
    inputs: Callable[[], object],
    *asked: object,
    before: object = None,
) -> None:
    """Make a report, or only print it again if it was made before, and neither its sources nor its files have changed.

    The sources are the files to report on, the options, the code of this project and the versions of all packages. The
    width, colours and encoding of the terminal count as sources, too.

    Args:
        make: prints the report, writes its files, and returns the SHA-256 of the content of each; None if a part of it
            could not be made, which may succeed the next time.
        folder: the folder of the files.
        inputs: returns digests of all files to report on. It is called before and after ``make``. If the results
            differ, the report is not kept for another time.
        asked: all else that decides what is printed and written, as JSON can hold it.
        before: what ``inputs`` returned when the caller read the data of the report; None if ``make`` reads them.
    """
    before, shown = before or inputs(), screen()
    look = (shown.width, shown.color_system, shown.encoding, shown.is_terminal, shown.no_color)
    place = (str(Path.cwd()), str(folder), str(folder.resolve()), sys.argv[0])
    name = f"report-{digest([before, place, look, asked, installed.digest()])}.json"
    held = json.loads(cache.get(name) or "{}")
    if held and held["files"] == _others(folder) | _contents(folder, held["files"]):
        replay(held["printed"])
        return
    with uncollected(), recorded() as printed:
        made = make()
    if made is not None and inputs() == before:
        written = {str(path.relative_to(folder)): content for path, content in made.items()}
        cache.put(name, json.dumps({"files": _others(folder) | written, "printed": printed}))


def _others(folder: Path) -> dict[str, str]:
    """Return an empty text for every file among the figures, by its name; a report removes some that others left."""
    return {str(path.relative_to(folder)): "" for path in (folder / "figures").glob("*")}


def _contents(folder: Path, held: Mapping[str, str]) -> dict[str, str]:
    """Return the present digests, by their names, of the files that have a digest in ``held``."""
    return {name: files.digest(folder / name) for name, known in held.items() if known}
