"""A damaged study is found, and repaired without deleting anything."""

import json

import numpy as np
import pytest

from bench.records import arrays, store
from bench.records.lines import SCHEMA, Newer
from bench.records.lock import Busy
from bench.records.verify import repair, verify
from tests.records.test_store import line


@pytest.fixture
def study(tmp_path):
    """Three records, each with a long vector of its own."""
    with store.Store(tmp_path / "study") as writer:
        for number in range(3):
            writer.append(line(str(number), long=np.arange(arrays.LONG + 1) / (3 + number)))
    return tmp_path / "study"


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(study):
    """One fault of each kind; return how many are damage, and how many leftovers."""
    path, (first, *_) = study / store.LINES, sorted((study / "arrays").iterdir())
    lines = path.read_bytes().splitlines()
    named = [text for text in lines if first.name.encode() in text]
    rest = [text for text in lines if text not in named]
    path.write_bytes(b"\n".join([*named, rest[0], b"{ not json }", *rest, rest[1][:50]]) + b"\n")
    first.write_bytes(first.read_bytes()[:-1])
    (study / "arrays" / f"{'0' * 64}.npy").write_bytes(b"no array")
    (study / "arrays" / f".{'1' * 32}.part").write_bytes(b"half")
    for place in (study, study / "weights"):
        place.mkdir(exist_ok=True)
        (place / f".{'2' * 32}.part").write_bytes(b"half")
    arrays.with_files({"orphan": np.arange(arrays.LONG + 1) / 99}, study)
    return 5, 5


def test_a_whole_study_is_fine(study):
    found = verify(study)
    assert (found.records, found.lines, found.files) == (3, 3, 3)
    assert not found.damage
    assert not found.leftovers
    before = bytes_of(study)
    assert repair(study)[1] is None
    assert bytes_of(study) == before


def test_every_fault_is_found_and_named(study):
    counts = damage(study)
    found = verify(study)
    assert (len(found.damage), len(found.leftovers)) == counts
    assert [fault.line for fault in found.damage if fault.line] == [1, 3, 6]
    said = " ".join(fault.what for fault in (*found.damage, *found.leftovers))
    for words in (
        "line 3, is not JSON",
        "line 6, is cut short",
        "has changed",
        "is named by no record",
        "Line 4 is a copy",
        f"study/.{'2' * 32}.part is what a killed process has left. The next `bench run` or `bench report` removes it.",
    ):
        assert words in said
    with store.Store(study):
        assert not list(study.rglob("*.part")), "whoever opens the study for writing removes them"


def test_a_repair_moves_what_is_broken_and_deletes_nothing(study):
    damage(study)
    before = bytes_of(study)
    found, aside = repair(study)
    assert found.damage
    assert aside is not None
    after = bytes_of(study)
    left = verify(study)
    assert not left.damage
    assert not left.leftovers
    assert left.records == 2
    name = aside.name
    moved = {path.removeprefix(f"{name}/"): content for path, content in after.items() if path.startswith(name)}
    for path, content in before.items():
        if path == store.LINES:
            every = sorted([*after[path].splitlines(), *moved[path].splitlines()])
            assert every == sorted(content.splitlines())
        else:
            assert (after | moved)[path] == content
    with store.Store(study) as writer:
        writer.append(line("new"))
    assert len(store.read(study)) == 3


def test_a_folder_in_use_and_a_newer_one_are_not_repaired(study):
    with store.Store(study), pytest.raises(Busy):
        repair(study)
    path = study / store.LINES
    path.write_text(path.read_text() + json.dumps(line("9") | {"schema": SCHEMA + 1}) + "\n")
    before = bytes_of(study)
    with pytest.raises(Newer):
        repair(study)
    assert bytes_of(study) == before


def test_the_commands_answer_in_exit_codes(call, study, tmp_path):
    done = call("verify", "study")
    assert (done.code, done.out) == (0, "study: 3 records in 3 lines, 3 files of long vectors.\n")
    damage(study)
    done = call("verify", "study")
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "study is damaged in 5 places. `bench verify study --repair` moves it aside." in done.err
    document = json.loads(call("verify", "study/records.jsonl", "--json").out)
    assert [fault["damage"] for fault in document["faults"]].count(True) == 5
    done = call("verify", "study", "--repair")
    assert done.code == 0
    assert "Moved to study/moved-aside-" in done.out
    assert call("verify", "study").code == 0
    assert call("verify", "nowhere").code == 2
