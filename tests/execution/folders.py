"""What a study folder holds, for comparing one run with another."""

import re
from pathlib import Path

from bench.records import files, store

CLOCKS = ("wall_seconds", "adapt_seconds", "written")


def records_of(folder: Path) -> list[str]:
    """Everything in the records but clocks, in the order of the runs."""
    lines = [{k: v for k, v in line.items() if k not in CLOCKS} for line in store.read(folder)]
    for line in lines:
        line.get("curves", {}).pop("training_seconds", None)
    return sorted(map(repr, lines))


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of all other files, without the time at which a line of a plan was written."""
    return {
        str(path.relative_to(folder)): re.sub(rb'"written":"[^"]*"', b"", path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != store.LINES
    }


def settled(folder: Path) -> tuple[list[str], dict[str, bytes]]:
    return records_of(folder), files_of(folder)


def parts_of(folder: Path) -> list[Path]:
    """The temporary files that killed processes have left."""
    return [path for path in folder.rglob("*") if path.match(files.PART)]
