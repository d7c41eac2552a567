"""Whether a study folder is whole: every record, every file of a long vector; and what is left over. No torch."""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.records import arrays, files, plan, store
from bench.records.lines import Damaged, Newer, Record
from bench.records.lock import locked
from bench.records.standing import COUNTED, Standing, standings

NAMED = re.compile(rb'(?<="array":")arrays/[0-9a-f]{64}\.npy(?="\})')
"""The names of files of long vectors in a line."""


@dataclass(frozen=True)
class Fault:
    """Something in a study folder that is broken or left over: a line of the records or of the plan, or a file.

    Args:
        what: one sentence that names the place and says what is wrong.
        line: the number of the line; None for a whole file.
        file: the file, relative to the folder; None for the file of records.
    """

    what: str
    line: int | None = None
    file: str | None = None


@dataclass
class Findings:
    """What a check of a study folder has found.

    Args:
        records: number of valid records. Of several records of one run and kind, only the last one is valid.
        lines: number of lines that hold a record, also those that a later line replaces.
        files: number of files of long vectors that records name.
        standings: how much of the study's plan is done: of its cells, and of its training runs.
        damage: what is broken, so that a measurement is lost.
        leftovers: what no record needs: second copies of a line, and files that a killed process has left.
    """

    records: int = 0
    lines: int = 0
    files: int = 0
    standings: list[Standing] = field(default_factory=list)
    damage: list[Fault] = field(default_factory=list)
    leftovers: list[Fault] = field(default_factory=list)


def verify(folder: Path) -> Findings:
    """Check every line of the records and every file of a long vector in a study folder; return what was found.

    Raises:
        Newer: a newer version has written a record.
        Unreadable: the records cannot be read.
    """
    found, named, copies = Findings(), set[str](), set[bytes]()
    counted = dict[tuple[str, str], Record]()
    for number, line in store.raw_lines(folder):
        try:
            record = store.parsed(line, folder, number)
        except Newer:
            raise
        except Damaged as error:
            found.damage.append(Fault(str(error), line=number))
            continue
        if record is None:
            if line.strip(b"\r\n\t \0"):
                found.damage.append(Fault(f"{folder / store.LINES}, line {number}, is cut short.", line=number))
            continue
        digest = hashlib.sha256(line).digest()
        if digest in copies:
            found.leftovers.append(Fault(f"Line {number} is a copy of an earlier line.", line=number))
            continue
        copies.add(digest)
        found.lines += 1
        counted[record["run"], record["kind"]] = {key: record[key] for key in COUNTED if key in record}
        if b"arrays/" in line:  # a search for the pattern takes as long as parsing
            named.update(name.decode() for name in NAMED.findall(line))
    found.records, found.files = len(counted), len(named)
    _check_files(folder, named, found)
    for path in (path for place in store.PLACES for path in files.abandoned(folder / place)):
        said = f"{path} is what a killed process has left. The next `bench run` or `bench report` removes it."
        found.leftovers.append(Fault(said, file=str(path.relative_to(folder))))
    found.standings = standings(plan.latest(_whole_plan(folder, found)), [*counted.values()])
    return found


def _whole_plan(folder: Path, found: Findings) -> list[dict[str, Any]]:
    """Return the lines of the plan that are whole; add those that are broken to the findings."""
    whole = list[dict[str, Any]]()
    for number, text in plan.raw_lines(folder):
        try:
            line = plan.parsed(text, folder, number)
        except Newer:
            raise
        except Damaged as error:
            found.damage.append(Fault(str(error), line=number, file=plan.FILE))
        else:
            whole += [] if line is None else [line]
    return whole


def _check_files(folder: Path, named: set[str], found: Findings) -> None:
    """Add the files of long vectors that are broken, or that no record names, to the findings."""
    for path in sorted((folder / arrays.FOLDER).glob("*")):
        name = str(path.relative_to(folder))
        if name in named or path.match(files.PART):
            continue  # whole, or its record would be broken; or temporary
        if not arrays.NAME.fullmatch(name):
            found.leftovers.append(Fault(f"{path} is no file of a long vector.", file=name))
            continue
        try:
            arrays.load(name, folder)
        except Damaged as error:
            found.damage.append(Fault(str(error), file=name))
        else:
            found.leftovers.append(Fault(f"{path} is named by no record.", file=name))


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def repair(folder: Path) -> tuple[Findings, Path | None]:
    """Move everything that is broken or left over in a study folder into a new folder inside it; nothing is deleted.

    The result is what was found, and the new folder; None in place of the folder if nothing had to be moved. Whole
    records keep their bytes and their order.

    Raises:
        Busy: another process is writing to the folder.
        Newer: a newer version has written a record.
        OSError: the folder cannot be written.
    """
    path = folder / store.LINES
    descriptor = files.open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        stack.enter_context(locked(descriptor, folder))
        found = verify(folder)
        faults = [*found.damage, *found.leftovers]
        if not faults:
            return found, None
        aside = folder / f"moved-aside-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        _move_lines(store.LINES, [fault for fault in faults if fault.line and not fault.file], folder, aside)
        _move_lines(plan.FILE, [fault for fault in faults if fault.line and fault.file], folder, aside)
        for name in (fault.file for fault in faults if fault.file and not fault.line):
            files.make_folder((aside / name).parent)
            with files.naming(aside / name):
                (folder / name).rename(aside / name)
        files.sync_folder(folder)
    return found, aside


def _move_lines(name: str, faults: Sequence[Fault], folder: Path, aside: Path) -> None:
    """Move the lines of a file that are at fault to a file of the same name in the folder ``aside``."""
    if not faults:
        return
    moved = {fault.line for fault in faults}
    lines = list(enumerate(files.read(folder / name, follow=False).split(b"\n"), 1))
    files.write(aside / name, _joined(line for number, line in lines if number in moved))
    files.write(folder / name, _joined(line for number, line in lines if number not in moved and line))
