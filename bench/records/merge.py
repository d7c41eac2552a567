"""The union of several study folders, which machines have measured apart. No torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from bench.records import files
from bench.records.lines import Outcome, Record, dumps
from bench.records.store import Store, read

CLOCKS = ("written", "environment", "wall_seconds", "adapt_seconds")
"""Keys in which two records of one measurement may differ."""
WEIGHTS = "weights"
"""The folder of a study that holds the final weights of training runs."""
Key = tuple[str, str]
"""Run and kind of a record."""


@dataclass
class Merged:
    """What a merge of study folders has done.

    Args:
        records: number of records in all folders, the target included. Records of the same kind and the same
            measurement count once, whichever folders hold them.
        added: number of records that were added to the target.
        conflicts: one sentence for each measurement of which two folders hold different results.
    """

    records: int = 0
    added: int = 0
    conflicts: list[str] = field(default_factory=list)


def merge(sources: Sequence[Path], target: Path, keep: Literal["first", "last"] | None = None) -> Merged:
    """Add the records of several study folders to the target, which is created if it does not exist.

    If a measurement failed in one folder and not in another, the record that did not fail is kept. Two records are
    equal if they differ only in times and machine; the first is then kept. A second merge of the folders changes
    nothing.

    Args:
        sources: the study folders.
        target: the study folder that receives the records.
        keep: which record to keep if two folders hold different results of one measurement. "first": the target's
            record, or else that of the first source. "last": the record of the last source. None: the merge stops, and
            nothing is written.

    Returns:
        What the merge has done: the number of different records in all folders, the number of records added to the
        target, and the conflicts.

    Raises:
        Damaged: a folder cannot be read.
        OSError, Busy: the target cannot be written.
    """
    union, owners, conflicts = _union([target, *sources], keep)
    held = {(record["run"], record["kind"]): _content(record) for record in read(target)}
    others = [record for key, record in union.items() if owners[key] != 0]
    added = [record for record in others if held.get((record["run"], record["kind"])) != _content(record)]
    if (conflicts and keep is None) or not union:
        return Merged(len(union), 0, conflicts)
    with Store(target) as store:
        for record in added:
            store.append(record)
        for folder in sources:
            _copy_weights(folder, target)
    store.check()
    return Merged(len(union), len(added), conflicts)


def together(studies: Iterable[Iterable[Record]]) -> list[Record]:
    """Return the records of several studies, each measurement once.

    If several studies hold one measurement, the first study in which it did not fail counts.
    """
    union = dict[Key, Record]()
    for record in chain.from_iterable(studies):
        key = record["run"], record["kind"]
        if key not in union or (_failed(union[key]) and not _failed(record)):
            union[key] = record
    return [*union.values()]


def _union(folders: Sequence[Path], keep: str | None) -> tuple[dict[Key, Record], dict[Key, int], list[str]]:
    """Return the record of each measurement, the position of the folder that it comes from, and the conflicts."""
    union, owners, conflicts = dict[Key, Record](), dict[Key, int](), list[str]()
    for position, folder in enumerate(folders):
        for record in read(folder):
            key = record["run"], record["kind"]
            mine = union.get(key)
            better = mine is None or (_failed(mine) and not _failed(record))
            if not better and mine is not None and not _failed(record) and _content(mine) != _content(record):
                conflicts.append(_conflict(record, folders[owners[key]], folder))
                better = keep == "last"
            if better:
                union[key], owners[key] = record, position
    return union, owners, conflicts


def _failed(record: Record) -> bool:
    return bool(record["outcome"] == Outcome.FAILED)


def _content(record: Record) -> str:
    kept = {key: value for key, value in record.items() if key not in CLOCKS}
    if "curves" in kept:
        kept["curves"] = {key: value for key, value in kept["curves"].items() if key != "training_seconds"}
    return dumps(kept)


def _conflict(record: Record, mine: Path, other: Path) -> str:
    cell = f"{record['estimator']} on {record['objective']}" if "estimator" in record else record["objective"]
    return f"{record['kind']} of {cell} (run {record['run']}): {mine} and {other} hold different results."


def _copy_weights(folder: Path, target: Path) -> None:
    """Copy the final weights of training runs, whose files are named by their content."""
    for path in sorted((folder / WEIGHTS).glob("*.pt")):
        if not (target / WEIGHTS / path.name).exists():
            files.write(target / WEIGHTS / path.name, files.read(path, follow=False))
