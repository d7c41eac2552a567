"""A study folder: ``records.jsonl`` and the arrays that its records name. It has one writer. No torch."""

from __future__ import annotations

import codecs
import gc
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic_core import from_json

from bench.records import arrays, coordinates, files, identity, pieces, plan, shapes, unfinished
from bench.records.lines import SCHEMA, Damaged, Newer, Record, dumps
from bench.records.lock import locked
from bench.records.text import cleaned, message, printable

LINES = "records.jsonl"
START = b'{"schema"'
"""The beginning of every record."""
PLACES = ("", arrays.FOLDER, unfinished.FOLDER, "figures", "tables", "weights")
"""The folders, inside a study folder, whose files bench writes."""
COMPARED = ("block_rows", "block_w")
"""The sums of a record that tables and comparisons need."""


class Store:
    """A study folder that is open for writing records; a context manager. The folder is created if it does not exist.

    No other process can open it for writing until the ``with`` block ends.

    Raises:
        OSError: the folder cannot be written.
        Busy: another process is writing to the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self._read = folder, folder / LINES, list[Reading]()
        files.make_folder(folder)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with ExitStack() as stack:
            self._descriptor = files.open_regular(self.path, flags)
            stack.callback(os.close, self._descriptor)
            stack.enter_context(locked(self._descriptor, folder))
            files.sync_folder(folder)
            files.sweep(*(folder / place for place in PLACES))
            self._heal()
            self._begin, self._hash = os.fstat(self._descriptor).st_size, hashlib.sha256()
            self._stack = stack.pop_all()

    def _heal(self) -> None:
        """Remove a last line that a crash has cut short; end it if only its newline is missing."""
        last = self._last_line()
        whole = last.rstrip(b"\0")  # a power cut can leave zeros where a line was to be
        if whole and not torn(whole):
            with files.naming(self.path):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - len(last) + len(whole))
            self._write(b"\n")
        elif last:
            with files.naming(self.path):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - len(last))

    def _last_line(self) -> bytes:
        """Return the end of the file after its last newline."""
        end, last = os.fstat(self._descriptor).st_size, b""
        while end and b"\n" not in last:
            start = max(0, end - 2**20)
            last, end = os.pread(self._descriptor, end - start, start) + last, start
        return last[last.rfind(b"\n") + 1 :]

    def reading(self) -> Reading:
        """Return the records of the folder as ``bench.records.store.reading`` does.

        Records that are appended later are added to the digests of the result, but not to its records. The file of
        records is not read for that: what somebody else writes to it meanwhile has no part in the digests.

        Raises:
            Damaged: a record is broken, or has a newer schema.
            Unreadable: the file cannot be read.
        """
        self._read.append(reading(self.folder))
        return self._read[-1]

    def append(self, record: Record) -> Record:
        """Write one record, and wait until it is on disk; return the record in the form in which ``read`` returns it.

        Raises:
            OSError: the record cannot be written; the folder is as it was before.
            Damaged: the folder was removed.
        """
        line = f"{dumps(arrays.with_files(record, self.folder))}\n".encode()
        self._write(line)
        self._hash.update(line)
        for each in self._read:
            each.digests.add([line])
        read_back = parsed(line, self.folder)
        assert read_back is not None, "a record is no empty line"
        return read_back

    def _write(self, line: bytes) -> None:
        """Write bytes to the end of the file, completely or not at all."""
        held = os.fstat(self._descriptor)
        if not held.st_nlink:
            raise self._removed()
        try:
            files.write_all(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError as error:
            said = error.strerror
            try:
                os.ftruncate(self._descriptor, held.st_size)
            except OSError:
                said = f"{said}. The next run removes its last line, which is incomplete"
            raise OSError(error.errno, said, str(self.path)) from None

    def check(self) -> None:
        """Check that the records that were appended are still at the end of the file on disk.

        Raises:
            Damaged: somebody has removed or replaced the file.
        """
        try:
            with os.fdopen(files.open_regular(self.path, os.O_RDONLY), "rb") as file:
                file.seek(self._begin)
                found = hashlib.file_digest(file, "sha256")
                is_shorter = os.fstat(file.fileno()).st_size < self._begin
        except OSError:
            raise self._removed() from None
        if is_shorter or found.digest() != self._hash.digest():
            raise self._removed()

    def _removed(self) -> Damaged:
        return Damaged(f"{self.path} was removed or replaced meanwhile. Repeat the command.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def keeps(path: Path) -> bool:
    """Return whether a study keeps something in the file at a path, so that no other output may be written there.

    A study keeps files in its folder (``.jsonl``, ``.toml`` and ``.lock``) and in the folders of its long vectors,
    unfinished runs and final weights.
    """
    place = path.resolve()
    if (place.parent / LINES).exists():
        return place.suffix in (".jsonl", ".toml", ".lock")
    return (place.parents[1] / LINES).exists() and place.parent.name in (arrays.FOLDER, unfinished.FOLDER, "weights")


def read(folder: Path, *, lean: bool = False) -> list[Record]:
    """Return the records of a study folder, in the order in which their runs and kinds first appeared.

    A run (a measurement) has at most one valid record of each kind, such as "moments" and "timing": the last one of
    that kind. A line that a crash has cut short is skipped. Any other line that is not a record counts as damage. The
    result is empty if the folder has no records.

    Args:
        folder: the study folder.
        lean: whether to leave out most of the ``sums`` of a record, which reports and comparisons do not need: 20,000
            records take 200 MB without them and 660 MB with them.

    Raises:
        Damaged: a record is broken, or has a newer schema.
        Unreadable: the file cannot be read.
    """
    if lean:
        return reading(folder).records
    found: dict[tuple[str, str], Record] = {}
    with uncollected():
        for number, line in raw_lines(folder):
            record = parsed(line, folder, number)
            if record is not None:
                found[record["run"], record["kind"]] = record
    return list(found.values())


@dataclass(frozen=True)
class Reading:
    """The records that were read from a study folder, without those of their ``sums`` that reports do not need.

    Args:
        folder: the study folder.
        records: the records, as ``read`` returns them if ``lean`` is True.
        digests: digests of the lines of the file of records, as they were read.
    """

    folder: Path
    records: list[Record]
    digests: pieces.Digests

    @property
    def digest(self) -> str:
        """The value that ``digest`` returned for the folder when it held just these records."""
        return _digest(self.digests.found, self.folder)


def reading(folder: Path) -> Reading:
    """Return the records of a study folder, with digests of what was read.

    A record of gradients has a field ``sums``. Most of the numbers in it are left out, because reports and comparisons
    do not need them. Lines of a large study that were read before are not parsed again.

    Raises:
        Damaged: a record is broken, or has a newer schema.
        Unreadable: the file cannot be read.
    """
    found, digests, end = dict[tuple[str, str], Record](), pieces.Digests(), 0
    with uncollected():
        for piece in _pieces(folder):
            digests.add(piece)
            kept, entries = pieces.is_kept(piece), list[Record | bytes | None]()
            held = pieces.load(digests.found[-1]) if kept else None
            for number, entry in enumerate(piece if held is None else held, end + 1):
                record = entry
                if isinstance(entry, bytes):
                    line = entry.removesuffix(b"\n")
                    names_files = _names_files(line)
                    whole = _parsed(line, folder, number, names_files=names_files)
                    record = None if whole is None else slim(whole)
                    entries.append(line if names_files else record)  # the files are read and checked each time
                if record is not None:
                    found[record["run"], record["kind"]] = record
            end += len(piece)
            if kept and held is None:
                pieces.save(digests.found[-1], entries)
    return Reading(folder, [*found.values()], digests)


def _pieces(folder: Path) -> Iterator[list[bytes]]:
    """Yield the lines in the records file of a study in pieces; nothing if there is no such file."""
    try:
        yield from files.pieces(folder / LINES, pieces.SIZE)
    except FileNotFoundError:
        return


def digest(folder: Path) -> str:
    """Return a digest of the measurements in a study folder: of the records, and of the files of long vectors."""
    digests = pieces.Digests()
    try:
        for piece in _pieces(folder):
            digests.add(piece)
    except OSError as error:
        return _digest([f"error {error.errno}"], folder)
    return _digest(digests.found, folder)


def _digest(records: list[str], folder: Path) -> str:
    """Return a digest of the measurements in a study folder. ``records`` are the digests of the pieces of its file."""
    vectors = sorted((folder / arrays.FOLDER).glob("*.npy"))
    return identity.digest([records, [[path.name, files.digest(path, follow=False)] for path in vectors]])


def digest_of_plan(folder: Path) -> str:
    """Return a digest of the files, other than the measurements, that the report of a study folder needs.

    They are the plan, ``spec.toml`` and ``labels.toml``.
    """
    return identity.digest([files.digest(folder / name) for name in (plan.FILE, "spec.toml", "labels.toml")])


def slim(record: Record) -> Record:
    """Return a record without most of its ``sums``, which reports and comparisons do not need.

    The sums of the coordinates become ``coordinate_variances``, in the form of ``bench.records.coordinates.variances``.
    """
    sums = record.get("sums")
    if not sums:
        return record
    kept = {key: sums[key] for key in COMPARED}
    return {**record, "sums": {**kept, "coordinate_variances": coordinates.variances(sums)}}


@contextmanager
def uncollected() -> Iterator[None]:
    """In a ``with`` block, pause Python's garbage collection, which would visit every number of the records.

    Objects that exist at the end of this block are left out of later collections, until ``gc.unfreeze`` is called.
    Every command ends with this call.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def raw_lines(folder: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line in the records file of a study; the first number is 1.

    Raises:
        Unreadable: the file cannot be read.
    """
    try:
        for number, line in enumerate(files.lines(folder / LINES), 1):
            yield number, line.removesuffix(b"\n")
    except FileNotFoundError:
        return


def parsed(line: bytes, folder: Path, number: int | None = None) -> Record | None:
    """Return the record in a line, with its vectors; None if the line is empty or cut short.

    Args:
        line: the bytes of the line, without its end.
        folder: the study folder, which holds the long vectors.
        number: number of the line, for the error message; if None, the message says "its last line".

    Raises:
        Damaged: the line is not a record, or has a newer schema.
    """
    return _parsed(line, folder, number, names_files=_names_files(line))


def _parsed(line: bytes, folder: Path, number: int | None, *, names_files: bool) -> Record | None:
    if not (line.startswith(b"{") and line.endswith(b"}")):  # editors add a mark, power cuts zeros
        line = line.removeprefix(codecs.BOM_UTF8).strip(b"\0\r\n\t ")
    if not line:
        return None
    try:
        record = decoded(line)
        if b"\\" in line or b"\x7f" in line or not line.isascii():  # otherwise all of it is printable
            record = cleaned(record)
    except (ValueError, RecursionError):
        if torn(line):
            return None
        raise Damaged(f"{_place(folder, number)} is not JSON. Restore the file, or delete that line.") from None
    if not isinstance(record, dict) or not {"schema", "kind", "run"} <= record.keys():
        raise Damaged(f"{_place(folder, number)} is not a record (no schema, kind and run). Delete that line.")
    _check_schema(record, folder, number)
    try:
        shapes.check(record)
        whole: Record = arrays.with_vectors(record, folder) if names_files else record
        shapes.check_lengths(whole)
    except (shapes.Misshapen, RecursionError) as error:
        said = "its nesting is too deep" if isinstance(error, RecursionError) else error
        advice = "Restore the file, or delete that line."
        raise Damaged(f"{_place(folder, number)} is damaged at {said}. {advice}") from None
    if whole["reason"] is not None:
        whole["reason"] = message(whole["reason"])  # written by others, perhaps by an older version
    return whole


def _names_files(line: bytes) -> bool:
    """Return whether the record in a line may have long vectors, which are in files; False if it has none."""
    return b"\\" in line or b'"array"' in line  # an escape can stand for any letter


def decoded(line: bytes) -> Any:
    """Return the value of a line of JSON.

    Most lines are read by pydantic's parser, which is four times as fast as Python's. It refuses some valid lines:
    bytes that are not UTF-8, half of a surrogate pair, deep nesting. Python's parser reads these.

    Raises:
        ValueError: the line is not JSON.
        RecursionError: the nesting of the JSON is too deep.
    """
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError:
        return DECODER.decode(line.decode("utf-8", errors="replace"))


def torn(line: bytes) -> bool:
    """Return whether a line is the beginning of a record whose end is missing, as after a crash."""
    begins = START.startswith(line[: len(START)])
    return begins and line.count(START) <= 1 and line.count(b"{") != line.count(b"}")


def _place(folder: Path, number: int | None) -> str:
    return f"{folder / LINES}, {f'line {number}' if number else 'its last line'},"


def _check_schema(record: Record, folder: Path, number: int | None) -> None:
    schema, environment = record["schema"], record.get("environment")
    if isinstance(schema, int) and 0 < schema <= SCHEMA:
        return
    if not isinstance(schema, int) or schema < 1:
        said = f"damaged at schema: a number from 1 to {SCHEMA} is needed (got {printable(str(schema))[:30]})"
        raise Damaged(f"{_place(folder, number)} is {said}. Restore the file, or delete that line.")
    version = environment.get("stochgrad_bench") if isinstance(environment, dict) else None
    writer = f" (written by stochgrad-bench {printable(str(version))[:30]})" if version else ""
    raise Newer(
        f"{_place(folder, number)} has schema {str(schema)[:30]}{writer}, and this version reads up to {SCHEMA}. "
        "Install a newer stochgrad-bench."
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse)
