"""The plan of a folder: it only grows, a repeat adds nothing, and a broken line is named."""

import errno
import json
import os

import pytest

from bench.records import plan, store
from bench.records.lines import Damaged, Newer
from bench.records.plan import line_of
from bench.records.verify import repair, verify
from tests.records.test_store import line as record

A, B = {"estimators": ["rloo"], "objectives": ["qubo"]}, {"estimators": ["arm"], "objectives": ["qubo"]}
RUN, OTHER = "a" * 16, "b" * 16


def test_a_plan_only_grows_and_a_repeat_adds_nothing(tmp_path):
    assert plan.read(tmp_path) == []
    plan.extend(tmp_path, [line_of(A, [RUN])])
    before = (tmp_path / plan.FILE).read_bytes()
    plan.extend(tmp_path, [line_of({**A, "name": "another"}, [RUN])])
    assert (tmp_path / plan.FILE).read_bytes() == before, "the name is no part of what is measured"
    plan.extend(tmp_path, [line_of(B, [OTHER]), line_of(A, [RUN])])
    assert (tmp_path / plan.FILE).read_bytes().startswith(before)
    assert [line["spec"] for line in plan.read(tmp_path)] == [A, B]


def test_a_plan_is_written_whole_or_not_at_all_and_never_through_a_link(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plan.extend(tmp_path, [line_of(A, [RUN])])
    before = (tmp_path / plan.FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            plan.extend(tmp_path, [line_of(B, [OTHER])])
    assert (tmp_path / plan.FILE).read_bytes() == before
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / plan.FILE).symlink_to(tmp_path / plan.FILE)
    with pytest.raises(OSError, match="Is a link"):
        plan.read(tmp_path / "link")


def test_the_last_line_of_a_spec_says_which_runs_it_asks_for(tmp_path):
    plan.extend(tmp_path, [line_of(A, [RUN]), line_of(B, [RUN])])
    plan.extend(tmp_path, [line_of(A, [OTHER])])
    assert [line["runs"] for line in plan.read(tmp_path)] == [[OTHER], [RUN]]


@pytest.mark.parametrize("tail", [b'{"schema":1,"spec', b"\0\0\0\0"])
def test_a_last_line_that_was_cut_short_is_left_out_and_replaced(tmp_path, tail):
    plan.extend(tmp_path, [line_of(A, [RUN])])
    whole = (tmp_path / plan.FILE).read_bytes()
    (tmp_path / plan.FILE).write_bytes(whole + tail)
    assert len(plan.read(tmp_path)) == 1
    plan.extend(tmp_path, [line_of(B, [])])
    assert (tmp_path / plan.FILE).read_bytes().startswith(whole + b'{"schema"')
    assert len(plan.read(tmp_path)) == 2


def test_a_last_line_without_a_line_feed_counts(tmp_path):
    plan.extend(tmp_path, [line_of(A, [RUN])])
    (tmp_path / plan.FILE).write_bytes((tmp_path / plan.FILE).read_bytes().rstrip())
    plan.extend(tmp_path, [line_of(B, [])])
    assert len(plan.read(tmp_path)) == 2


BROKEN = {
    "not JSON": "spoiled",
    "its start": "[]",
    "runs.0": {"runs": ["../../x"]},
    "spec.estimators": {"spec": {"objectives": ["qubo"]}},
    "spec.objectives.0": {"spec": {**A, "objectives": [3]}},
    "by_hand": {"by_hand": "no"},
    "schema": {"schema": 0},
}


@pytest.mark.parametrize("place", BROKEN)
def test_a_broken_line_is_named_and_moved_aside_by_a_repair(tmp_path, place):
    with store.Store(tmp_path) as writer:
        writer.append(record(RUN))
    change = BROKEN[place]
    broken = change if isinstance(change, str) else json.dumps({**line_of(A, [RUN]), **change})
    whole = f"{json.dumps(line_of(B, [OTHER]))}\n"
    (tmp_path / plan.FILE).write_text(f"{broken}\n{whole}")
    with pytest.raises(Damaged, match=rf"plan.jsonl, line 1, is.*{place}.*bench verify --repair"):
        plan.read(tmp_path)
    assert [(fault.file, fault.line) for fault in verify(tmp_path).damage] == [(plan.FILE, 1)]
    _, aside = repair(tmp_path)
    assert ((tmp_path / plan.FILE).read_text(), (aside / plan.FILE).read_text()) == (whole, f"{broken}\n")
    assert verify(tmp_path).damage == []
    assert len(store.read(tmp_path)) == 1


def test_a_line_of_a_newer_version_is_refused(tmp_path):
    newer = {**line_of(A, []), "schema": 3, "stochgrad_bench": "9.1"}
    (tmp_path / plan.FILE).write_text(json.dumps(newer))
    with pytest.raises(Newer, match=r"line 1, has schema 3 \(written by stochgrad-bench 9.1\)"):
        plan.read(tmp_path)


HOW = {
    "steps": 2, "seeds": 1, "optimizer": "adam", "rate": 0.1, "measure_every": None, "replicates": 0,
    "dtype": "float32", "device": "cpu", "keep_weights": False,
}  # fmt: skip


def test_a_line_of_training_is_refused_by_versions_that_would_measure_it(tmp_path):
    lines = [line_of(A, [RUN]), line_of(A, [OTHER], training=HOW), line_of(A, [OTHER], training=HOW | {"rate": 1})]
    assert [line["schema"] for line in lines] == [1, 2, 2]
    for _ in range(2):
        plan.extend(tmp_path, lines)
        assert plan.read(tmp_path) == lines, "the settings of the training tell commands apart"
    (tmp_path / plan.FILE).write_text(json.dumps(line_of(A, [OTHER], training=HOW | {"steps": 0})))
    with pytest.raises(Damaged, match=r"line 1, is damaged at training.steps"):
        plan.read(tmp_path)
