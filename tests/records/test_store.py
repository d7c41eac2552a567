"""Crash-safe lines, long vectors, damage."""

import json
import multiprocessing
import os
import random
from pathlib import Path

import numpy as np
import pytest

from bench.records import arrays, store
from bench.records.lines import SCHEMA, Damaged, dumps
from bench.records.lock import Busy
from bench.report import study
from tests.docs.pages import ROOT
from tests.records import fuzz
from tests.report import records


def line(run="a", kind="moments", **more):
    """A record without results, and with further keys."""
    head = records.line("rloo:n=2", "qubo", kind=kind, outcome="skipped", reason="It does not fit.")
    return head | {"run": run, **more}


def test_what_is_appended_is_read(tmp_path):
    with store.Store(tmp_path) as writer:
        writer.append(line("a", value=1.5))
        writer.append(line("b", value=[1, 2]))
        writer.append(line("a", kind="timing"))
    assert store.read(tmp_path) == [line("a", value=1.5), line("b", value=[1, 2]), line("a", kind="timing")]


def test_a_later_line_replaces_an_earlier_one_of_its_run_and_kind(tmp_path):
    with store.Store(tmp_path) as writer:
        writer.append(line("a", outcome="failed"))
        writer.append(line("b"))
        writer.append(line("a", outcome="skipped"))
    assert store.read(tmp_path) == [line("a", outcome="skipped"), line("b")]


def test_a_missing_folder_has_no_records(tmp_path):
    assert store.read(tmp_path / "nothing") == []


WHOLE = dumps(line("torn", nested={"x": {"y": 1}}))


@pytest.mark.parametrize("cut", [*range(1, len(WHOLE), 13), *range(len(WHOLE) - 6, len(WHOLE) + 1)])
def test_a_torn_line_loses_nothing_else(tmp_path, cut):
    torn = WHOLE[:cut]
    path = tmp_path / store.LINES
    path.write_text(dumps(line("before")) + "\n" + torn)
    with store.Store(tmp_path) as writer:
        writer.append(line("after"))
    runs = [r["run"] for r in store.read(tmp_path)]
    assert [r for r in runs if r != "torn"] == ["before", "after"]
    assert [json.loads(text)["run"] for text in path.read_text().splitlines()] == runs, "every line is JSON"


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / store.LINES
    first, second = (dumps(line(name)) + "\n" for name in ("first", "second"))
    path.write_text(f"\ufeff{first}\ufeff{second}", encoding="utf-8")
    assert [r["run"] for r in store.read(tmp_path)] == ["first", "second"]


def test_nothing_is_appended_to_a_file_that_was_removed(tmp_path):
    with store.Store(tmp_path) as writer:
        writer.append(line("a"))
        (tmp_path / store.LINES).unlink()
        with pytest.raises(Damaged, match="was removed or replaced meanwhile"):
            writer.append(line("b"))


def test_without_healing_the_next_record_would_be_lost(tmp_path):
    """The reason for healing: a good record glued to a torn line cannot be read."""
    path = tmp_path / store.LINES
    path.write_text(dumps(line("torn"))[:20] + dumps(line("after")) + "\n")
    with pytest.raises(Damaged):
        store.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{ not json }\n", "line 1, is not JSON"),
        ("[1, 2]\n", "line 1, is not a record"),
        ('{"schema": 1, "kind": "moments"}\n', "line 1, is not a record"),
        (
            json.dumps(line("a") | {"schema": SCHEMA + 1}) + "\n",
            f"has schema {SCHEMA + 1}, and this version reads up to",
        ),
        (json.dumps(line("a") | {"schema": "one"}) + "\n", "damaged at schema: a number from 1 to"),
        (json.dumps(line("a") | {"schema": 0}) + "\n", "got 0.. Restore the file"),
    ],
)
def test_damage_is_one_sentence(tmp_path, text, says):
    (tmp_path / store.LINES).write_text(text)
    with pytest.raises(Damaged, match=says):
        store.read(tmp_path)


@pytest.mark.parametrize("before", ["", WHOLE[:50], WHOLE])
def test_zeros_of_a_power_cut_are_removed(tmp_path, before):
    path = tmp_path / store.LINES
    path.write_bytes(f"{dumps(line('first'))}\n{before}".encode() + bytes(4096))
    with store.Store(tmp_path) as writer:
        writer.append(line("after"))
    runs = ["first", "torn", "after"] if before == WHOLE else ["first", "after"]
    assert [json.loads(text)["run"] for text in path.read_text().splitlines()] == runs


def test_a_vector_whose_file_was_damaged_is_written_again(tmp_path):
    with store.Store(tmp_path) as writer:
        writer.append(line("a", long=np.arange(arrays.LONG + 1) / 3))
        (file,) = (tmp_path / "arrays").iterdir()
        whole = file.read_bytes()
        file.write_bytes(whole[:-8])
        writer.append(line("b", long=np.arange(arrays.LONG + 1) / 3))
    assert file.read_bytes() == whole


def test_long_vectors_go_to_files_named_by_their_content(tmp_path):
    long, short = np.arange(arrays.LONG + 1) / 3, np.arange(arrays.LONG) / 3
    with store.Store(tmp_path) as writer:
        writer.append(line("a", long=long, nested={"long": list(long)}, short=short))
        writer.append(line("b", long=long))
    files = list((tmp_path / "arrays").iterdir())
    assert len(files) == 1
    first, second = store.read(tmp_path)
    np.testing.assert_array_equal(first["long"], long)
    np.testing.assert_array_equal(first["nested"]["long"], long)
    np.testing.assert_array_equal(second["long"], long)
    assert first["short"] == list(short)
    files[0].unlink()
    with pytest.raises(Damaged, match="is missing"):
        store.read(tmp_path)


def _hold(folder, held, release):
    with store.Store(Path(folder)):
        held.set()
        release.wait(30)


def test_one_writer_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), held, release))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(Busy, match="is being written by another bench"):
            store.Store(tmp_path)
    finally:
        release.set()
        process.join()
    with store.Store(tmp_path) as writer:
        writer.append(line())


def test_the_fast_parser_and_that_of_python_agree_on_edited_lines(tmp_path, monkeypatch):
    chance, base = random.Random(5), fuzz.record_lines()
    lines = [
        *base,
        *(chance.choice((fuzz.edited_bytes, fuzz.edited_keys))(chance.choice(base), chance) for _ in range(300)),
    ]

    def outcomes():
        for text in lines:
            try:
                yield repr(store.parsed(text, tmp_path, 7))
            except Damaged as error:
                yield str(error)

    def refused(*_, **__):
        raise ValueError

    fast = list(outcomes())
    monkeypatch.setattr(store, "from_json", refused)
    assert fast == list(outcomes())
    assert len(set(fast)) > 100


def test_a_lean_reading_lacks_only_sums_that_no_table_needs():
    folder = ROOT / "results" / "catalogue"
    whole, lean = store.read(folder), store.read(folder, lean=True)
    thinned = [store.slim(record) for record in whole]
    kept = {"coordinate_variances", *store.COMPARED}
    assert {key for record in lean for key in record.get("sums", ())} == kept
    assert list(map(dumps, thinned)) == list(map(dumps, lean))
    assert repr(study.prepared(lean).to_dict()) == repr(study.prepared(whole).to_dict())


def test_an_appended_record_comes_back_as_it_is_read(tmp_path):
    with store.Store(tmp_path) as writer:
        back = writer.append(line("a", value=float("inf"), long=np.arange(arrays.LONG + 1.0), short=np.arange(3.0)))
        writer.check()
        assert repr(store.read(tmp_path)) == repr([back])
        assert back["value"] is None
    with store.Store(tmp_path) as writer:
        os.truncate(tmp_path / store.LINES, 10)
        with pytest.raises(Damaged, match="was removed or replaced meanwhile"):
            writer.check()
