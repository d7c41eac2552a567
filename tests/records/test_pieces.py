"""Lines that were read before are looked up, and nothing that is read depends on it."""

import json
import random

import numpy as np
import pytest

from bench.records import arrays, cache, files, pieces, shapes, store
from bench.records.lines import Damaged, dumps
from tests.records import fuzz
from tests.report import records


@pytest.fixture(autouse=True)
def _own(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pieces, "SIZE", 10_000)


@pytest.fixture
def checked(monkeypatch):
    """The runs of the records that were parsed and checked."""
    runs, check = [], shapes.check
    monkeypatch.setattr(shapes, "check", lambda record: runs.append(record["run"]) or check(record))
    return runs


def line(run, **more):
    head = records.line("rloo:n=2", "qubo", outcome="skipped", reason="It does not fit.")
    return dumps(head | {"run": run, "later": list(range(1000)), **more}).encode()


def written(folder, lines, end=b""):
    (folder / store.LINES).write_bytes(b"".join(text + b"\n" for text in lines) + end)


LINES = [line(f"{i:016x}") for i in range(7)]
"""Two pieces of three lines, and one line that no piece has."""


def test_only_new_lines_are_parsed(tmp_path, checked):
    written(tmp_path, LINES)
    first = store.read(tmp_path, lean=True)
    assert len(checked) == 7
    written(tmp_path, [*LINES[:6], line("new")])
    second = store.read(tmp_path, lean=True)
    assert checked[7:] == ["new"]
    assert repr(second[:6]) == repr(first[:6]) == repr(store.read(tmp_path)[:6])


def test_records_are_read_with_their_digest(tmp_path):
    seen = set()
    for lines in (LINES, LINES, LINES[:6], [*LINES[:2], line("new"), *LINES[3:]]):
        written(tmp_path, lines)
        assert store.reading(tmp_path).digest == store.digest(tmp_path)
        seen.add(store.digest(tmp_path))
    files.write(tmp_path / arrays.FOLDER / "0.npy", b"1")
    assert store.reading(tmp_path).digest == store.digest(tmp_path)
    assert len(seen | {store.digest(tmp_path)}) == 4


def test_appended_records_are_part_of_the_digest_of_what_was_read(tmp_path):
    written(tmp_path, LINES[:2])
    with store.Store(tmp_path) as writer:
        read = writer.reading()
        for run in "abcdefg":
            writer.append(json.loads(line(run)))
            assert read.digest == store.digest(tmp_path) == store.reading(tmp_path).digest
    assert len(read.digests.found) == 3
    assert len(read.records) == 2


@pytest.mark.parametrize("change", ["code", "cache"])
def test_all_lines_are_parsed_after_a_change(tmp_path, checked, monkeypatch, change):
    written(tmp_path, LINES)
    store.read(tmp_path, lean=True)
    if change == "code":
        monkeypatch.setattr(pieces, "_code", lambda: "changed")
    for path in cache.folder().iterdir() if change == "cache" else ():
        path.write_bytes(path.read_bytes()[:-1])
    store.read(tmp_path, lean=True)
    assert checked[7:] == checked[:7]


def test_files_of_long_vectors_are_read_each_time(tmp_path):
    with store.Store(tmp_path) as writer:
        for run in "abcdefg":
            writer.append(json.loads(line(run)) | {"long": np.arange(arrays.LONG + 1) / 3})
    first = store.read(tmp_path, lean=True)
    assert repr(store.read(tmp_path, lean=True)) == repr(first)
    assert isinstance(first[0]["long"], np.ndarray)
    (vector,) = (tmp_path / arrays.FOLDER).iterdir()
    vector.unlink()
    with pytest.raises(Damaged, match="is missing"):
        store.read(tmp_path, lean=True)


def test_edited_lines_are_read_as_if_nothing_was_kept(tmp_path, monkeypatch):
    chance, whole = random.Random(3), fuzz.record_lines()

    def outcome():
        try:
            return repr(store.read(tmp_path, lean=True))
        except Damaged as error:
            return str(error)

    seen = set()
    for _ in range(60):
        lines = [*chance.sample(whole, len(whole)), line("last")]
        edit = chance.choice((fuzz.edited_bytes, fuzz.edited_keys))
        place = chance.randrange(len(lines))
        lines[place] = edit(lines[place], chance)
        written(tmp_path, lines, chance.choice((b"", b'{"schema":1,"ki')))
        kept = [outcome(), outcome()]
        with monkeypatch.context() as patch:
            patch.setattr(pieces, "SIZE", 2**40)
            assert kept == [outcome()] * 2
        seen.add(kept[0][-200:])
    assert len(seen) > 20
    assert len([*cache.folder().iterdir()]) > 60


def test_the_code_is_that_of_the_records(monkeypatch, tmp_path):
    monkeypatch.setattr(pieces, "__file__", str(tmp_path / "pieces.py"))
    found = set()
    for text in ("1", "2"):
        (tmp_path / "shapes.py").write_text(text)
        found.add(pieces._code.__wrapped__())
    assert len(found) == 2
