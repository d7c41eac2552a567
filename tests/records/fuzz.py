"""Records that were edited at random, and everything that reads records.

``python -m tests.records.fuzz SECONDS [SEED]`` edits for as long, and prints every error that is not ``Damaged``.
"""

import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from rich.console import Console

from bench.records import store
from bench.records.lines import Damaged, LineKind, plain
from bench.report import compare, curves, study, tables, training
from tests.docs.pages import ROOT

STUDIES = [ROOT / "results" / name for name in ("reference", "catalogue", "vae")]
ODD = (
    None, True, False, 0, 1, -1, 0.5, -0.5, 1e308, -1e308, 1e-320, 2**63, -(2**70), 10**400, "", "x", "OK", "BIASED",
    "\ud800", "\x1b[2J", "nan", [], [0], [1, 2], ["x"], [[1]], [None], {}, {"array": "arrays/x.npy"}, {"array": 5},
    {"x": 1}, "measured", "failed", "skipped", "moments", "timing", "training", "reference", "objective", "pilot",
)  # fmt: skip
BYTES = b'0123456789-+.eE"{}[]:,\\ntrufalsd\x00\xff\x1b '


def base() -> list[bytes]:
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


def use(folder: Path, original: list) -> str:
    """Read an edited study and make everything of it that text can show; return what became of it."""
    try:
        records = store.read(folder)
    except Damaged as error:
        said = str(error)
        return "refused" if said.startswith(str(folder)) and "\n" not in said else f"refused with {said!r}"
    kinds = {record["kind"] for record in records}
    if kinds - {LineKind.TRAINING}:
        table = study.prepared(records)
        for text in (tables.markdown(table, "study"), tables.csv(table), tables.latex(table)):
            text.encode()
    if LineKind.TRAINING in kinds:
        training.markdown(records, "study").encode()
        training.data(records).encode()
        curves.problems(records)
        training.show(records, Console(file=io.StringIO(), width=160))
    json.dumps(plain([{k: v for k, v in record.items() if k != "sums"} for record in records]), allow_nan=False)
    compare.table(compare.of_studies(records, original)[0])
    return "read"


def fuzz(seconds: float, seed: int, report=None) -> Counter:
    """Edit records for some seconds; return how often which outcome came. ``report`` receives every other error."""
    chance, lines, outcomes = random.Random(seed), base(), Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / store.LINES).write_bytes(b"\n".join(lines) + b"\n")
        original = store.read(folder)
        while time.monotonic() < end:
            kept = chance.sample(lines, 4)
            edit = chance.choice((edited_bytes, edited_keys))
            kept[0] = edit(kept[0], chance)
            (folder / store.LINES).write_bytes(b"\n".join(kept) + b"\n")
            try:
                outcomes[edit.__name__, use(folder, original)] += 1
            except Exception as error:
                outcomes["error"] += 1
                if report is None:
                    raise AssertionError(f"edited line: {kept[0][:5000]!r}") from error
                report(error, kept[0])
    return outcomes


def main() -> None:
    seen = Counter()

    def report(error, line):
        frame = next(f for f in reversed(traceback.extract_tb(error.__traceback__)) if "/bench/" in f.filename)
        place = f"{Path(frame.filename).name}:{frame.lineno} {type(error).__name__}: {str(error)[:150]}"
        seen[place] += 1
        if seen[place] == 1:
            print(place, line, sep="\n", flush=True)

    print(fuzz(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, report))
    for place, count in seen.most_common():
        print(count, place)


if __name__ == "__main__":
    main()
