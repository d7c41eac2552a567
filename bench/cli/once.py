"""The report of a study that has not changed: what was printed is printed again, and nothing is made."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.cli.terminal import recorded, replay, screen
from bench.records import cache
from bench.records.code import OURS, ROOT
from bench.records.identity import digest
from bench.records.store import uncollected


def once(make: Callable[[], Sequence[Path]], folder: Path, inputs: Callable[[], object], *asked: object) -> None:
    """Make a report; if it was made before of the same inputs and its files are unchanged, only print it again.

    The same inputs are: the same files to report on, the same options, the same code of this project, the same versions
    of all packages, and a terminal that shows the same.

    Args:
        make: prints the report, writes its files, and returns their paths.
        folder: the folder of the files.
        inputs: returns digests of all files that the report is made of. They may change while it is made.
        asked: all else that decides what is printed and written, as JSON can hold it.
    """
    before, shown = inputs(), screen()
    look = (shown.width, shown.color_system, shown.encoding, shown.is_terminal, shown.no_color)
    place = (str(Path.cwd()), str(folder), sys.argv[0])
    name = f"report-{digest([before, place, look, asked, _ours(), sys.version, _installed()])}.json"
    held = json.loads(cache.get(name) or "{}")
    if held and held["files"] == _contents(folder, held["files"]):
        replay(held["printed"])
        return
    with uncollected(), recorded() as printed:
        paths = make()
    if inputs() == before:
        names = [str(path.relative_to(folder)) for path in paths]
        cache.put(name, json.dumps({"files": _contents(folder, names), "printed": printed}))


def _contents(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return digests of the files that there are, by their names; and of every other figure an empty text."""
    found = {str(path.relative_to(folder)): "" for path in (folder / "figures").glob("*")}
    for name in names:
        if (folder / name).is_file():
            found[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return found


def _ours() -> str:
    """Return a digest of the files of this project."""
    found = hashlib.sha256()
    for path in sorted(path for package in OURS for path in (ROOT / package).rglob("*")):
        if path.suffix != ".pyc" and path.is_file():
            found.update(f"{path}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _installed() -> list[str]:
    """Return the names and versions of the installed packages."""
    return sorted(path.name for folder in sys.path for path in Path(folder).glob("*.dist-info"))
