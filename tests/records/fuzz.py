"""Records, plans and baselines that were edited at random, and everything that reads them.

``python -m tests.records.fuzz EDITS [SEED]`` makes that many edits, and prints every error that is not the stated one.
"""

import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from rich.console import Console

from bench.cli.progress import describe_standing
from bench.execution.progress import Silent
from bench.gate import baseline_file, changes, stages
from bench.gate.select import select
from bench.gate.words import Printer
from bench.planning.plans import specs_of, trainings, unite
from bench.planning.plugins import ALLOWED
from bench.planning.selectors import NothingFits, UsageError
from bench.records import plan, store
from bench.records.lines import Damaged, LineKind, Newer, plain
from bench.records.merge import merge
from bench.records.text import printable
from bench.records.verify import verify
from bench.report import by_objective, compare, curves, study, table_csv, tables, training
from bench.report.export import Format, exported
from bench.report.page.build import page
from bench.training.settings import Training
from tests.docs.pages import ROOT

STUDIES = [ROOT / "results" / name for name in ("reference", "catalogue", "vae")]
SPEC = {"estimators": ["rloo:n=2,4"], "objectives": ["qubo:dim=3"], "name": "x", "replicates": 64, "timing": False}
ODD = (
    None, True, False, 0, 1, -1, 0.5, -0.5, 1e308, -1e308, 1e-320, 2**63, -(2**70), 10**400, "", "x", "OK", "BIASED",
    "\ud800", "\x1b[2J", "nan", [], [0], [1, 2], ["x"], [[1]], [None], {}, {"array": "arrays/x.npy"}, {"array": 5},
    {"x": 1}, "measured", "failed", "skipped", "moments", "timing", "training", "reference", "objective", "pilot",
    "rloo:n=1", "x.py::X", "a\0b.py::X", "rloo:n=1,2,3,4,5,6,7,8", "qubo:dim=10000000000000",
)  # fmt: skip
BYTES = b'0123456789-+.eE"{}[]:,\\ntrufalsd\x00\xff\x1b '


# Edits ----------------------------------------------------------------------------------------------------------------


def edited_bytes(line: bytes, chance: random.Random) -> bytes:
    """Return a line with a few bytes changed, removed, inserted or repeated."""
    out = bytearray(line)
    for _ in range(chance.choice((1, 1, 1, 3))):
        at, size = chance.randrange(len(out)), chance.choice((1, 1, 1, 2, 20))
        match chance.randrange(4):
            case 0:
                out[at : at + 1] = bytes([chance.choice(BYTES)])
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = bytes(chance.choice(BYTES) for _ in range(size))
            case 3:
                out[at:at] = out[at : at + size]
    return bytes(out).replace(b"\n", b"")


def edited_keys(line: bytes, chance: random.Random) -> bytes:
    """Return a line in which a key or a value, at any depth, is removed, renamed, replaced or moved."""
    record = json.loads(line)
    for _ in range(chance.choice((1, 1, 2))):
        place, key = chance.choice(list(_places(record)))
        match chance.randrange(4):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[f"{key}x"] = place.pop(key)
            case _:
                place[key] = chance.choice(ODD)
    return json.dumps(record, separators=(",", ":")).encode()


def _places(value, depth=0):
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 3)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key], depth + 1)


# What is edited, and who reads it -------------------------------------------------------------------------------------


def record_lines() -> list[bytes]:
    """Return whole lines of the committed studies: of every kind and outcome the shortest ones."""
    found: dict[tuple[str, ...], list[bytes]] = {}
    for folder in STUDIES:
        for line in (folder / store.LINES).read_bytes().splitlines():
            record = json.loads(line)
            if b'"array":' not in line:
                summary = record.get("summary") or {}
                key = record["kind"], record["outcome"], folder.name, summary.get("verdict"), summary.get("status")
                found.setdefault(key, []).append(line)
    return [line for lines in found.values() for line in sorted(lines, key=len)[:1]]


def plan_lines() -> list[bytes]:
    how = asdict(Training(steps=2)) | {"keep_weights": False}
    measured = [plan.line_of(SPEC | {"seed": seed}, ["0" * 16]) for seed in range(2)]
    trained = [plan.line_of(SPEC, ["1" * 16], training=how | {"rate": rate}) for rate in (1, 0.1)]
    return [json.dumps(line).encode() for line in (*measured, *trained)]


def baseline_text() -> list[bytes]:
    """Return a baseline of one cell, a quick one to check."""
    held = json.loads((ROOT / "results" / "baselines" / "ci.json").read_text())
    cells = sorted(held["cells"], key=lambda cell: cell["size"])
    return [json.dumps(held | {"cells": cells[:1]}).encode()]


def use_records(folder: Path, original: list, chance: random.Random) -> None:
    """Make everything of an edited study that text can show; now and then, merge it with another study."""
    records = store.read(folder)
    kinds = {record["kind"] for record in records}
    if kinds - {LineKind.TRAINING}:
        table = study.prepared(records)
        found = by_objective.sections(table)
        made = [tables.markdown(table, "study", found), table_csv.csv(table), tables.latex(found)]
        if not chance.randrange(4):
            made.append(page(table, records, "study"))
        for text in made:
            text.encode()
    if LineKind.TRAINING in kinds:
        training.markdown(records, "study").encode()
        training.data(records).encode()
        curves.problems(records)
        training.show(records, Console(file=io.StringIO(), width=160))
    exported(records, Format.JSON)
    json.dumps(plain([{k: v for k, v in record.items() if k != "sums"} for record in records]), allow_nan=False)
    compare.table(compare.of_studies(records, original)[0])
    describe_standing("", records)
    if not chance.randrange(8):
        target = folder / "target"
        merge([folder, folder.parent / "original"], target, keep=chance.choice(("first", "last")))
        assert not verify(target).damage
        shutil.rmtree(target)


def use_plan(folder: Path, _original: list, _chance: random.Random) -> None:
    """Read an edited plan as ``bench run``, ``bench train`` and ``bench merge`` do; nothing is measured."""
    for spec in specs_of(folder):
        spec.instances()
    for spec, table in trainings(folder):
        spec.instances()
        with contextlib.suppress(ValueError):
            Training.of(table)
    unite([folder], folder / "target")
    shutil.rmtree(folder / "target", ignore_errors=True)


def use_baseline(folder: Path, _original: list, _chance: random.Random) -> None:
    """Show and check an edited baseline, with few replicates, and write all reports."""
    found = baseline_file.read(f"{folder}/{store.LINES}.json")
    changes.table(baseline_file.as_seen_here(found, folder))
    report = stages.check(found, select(found, folder), stages.Options(replicates=64), Silent())
    printer = Printer("b", found, report)
    ElementTree.fromstring(printer.junit())
    for text in (printer.text(), printer.markdown(), printer.json(), *map(printer.explain, printer.findings)):
        text.encode()
    assert report.exit_code in (0, 1, 3, 4)


class Subject(NamedTuple):
    """A kind of file: its lines, its name, and the function that uses it; the first line is edited."""

    lines: list[bytes]
    name: str
    use: Callable[[Path, list, random.Random], None]


def subjects() -> dict[str, Subject]:
    return {
        "records": Subject(record_lines(), store.LINES, use_records),
        "plan": Subject(plan_lines(), plan.FILE, use_plan),
        "baseline": Subject(baseline_text(), f"{store.LINES}.json", use_baseline),
    }


def outcome_of(subject: Subject, folder: Path, original: list, chance: random.Random) -> str:
    """Use an edited file; return ``read``, or ``refused`` if the error is one sentence that names a file or a value."""
    outcome, said = "read", ""
    try:
        subject.use(folder, original, chance)
    except Damaged as error:
        outcome, said = "refused", str(error)
        assert said.startswith(str(folder)), said
        assert said.isprintable(), said
        is_new = isinstance(error, Newer) or subject.name.endswith(".json")
        assert is_new or verify(folder).damage, "verify finds what other commands find"
    except (UsageError, NothingFits) as error:
        outcome, said = "refused", printable(str(error))
        assert said
        assert subject.name != store.LINES
    if not subject.name.endswith(".json"):
        with contextlib.suppress(Newer):
            verify(folder)  # a line that was cut short is read over, and is damage here
    return outcome


def fuzz(edits: int, seed: int, kinds=("records", "plan", "baseline"), report=None) -> Counter:
    """Make edits, two thirds of them of bytes; return how often which outcome came. ``report`` receives every error."""
    chance, found, outcomes = random.Random(seed), subjects(), Counter()
    token = ALLOWED.set(False)  # a stranger's file may name files
    with tempfile.TemporaryDirectory() as name:
        folder, other = Path(name) / "edited", Path(name) / "original"
        for each in (folder, other):
            each.mkdir()
        (other / store.LINES).write_bytes(b"\n".join(found["records"].lines) + b"\n")
        original = store.read(other)
        for _ in range(edits):
            kind = chance.choice(kinds)
            subject = found[kind]
            lines = chance.sample(subject.lines, min(4, len(subject.lines)))
            edit = chance.choice((edited_bytes, edited_bytes, edited_keys))
            lines[0] = edit(lines[0], chance)
            (folder / subject.name).write_bytes(b"\n".join(lines) + b"\n")
            try:
                outcomes[kind, edit.__name__, outcome_of(subject, folder, original, chance)] += 1
            except Exception as error:
                outcomes[kind, edit.__name__, "error"] += 1
                if report is None:
                    raise AssertionError(f"edited line: {lines[0][:5000]!r}") from error
                report(error, lines[0])
            (folder / subject.name).unlink()
    ALLOWED.reset(token)
    return outcomes


def main() -> None:
    seen = Counter()

    def report(error, line):
        frame = next(f for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename.startswith(str(ROOT)))
        place = f"{Path(frame.filename).name}:{frame.lineno} {type(error).__name__}: {str(error)[:150]}"
        seen[place] += 1
        if seen[place] == 1:
            print(place, line[:5000], sep="\n", flush=True)

    edits, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    total = Counter()
    for start in range(0, edits, 500):  # so that a run which is ended early has said how far it came
        total += fuzz(min(500, edits - start), seed + start, report=report)
        print(f"seed {seed}: {total.total()} edits: {dict(total)}", flush=True)
    for place, count in seen.most_common():
        print(count, place)


if __name__ == "__main__":
    main()
