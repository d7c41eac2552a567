"""The plan of a folder: it only grows, a repeat adds nothing, and a broken line is named."""

import errno
import json
import os
from dataclasses import replace

import pytest

from bench.records import plan, store
from bench.records.lines import Damaged, Newer
from bench.records.plan import Standing, line_of, planned, standing, standings
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


def test_training_is_counted_apart_and_of_a_spec_its_last_line_alone(tmp_path):
    asked = [f"{number:016x}" for number in range(121)]
    with store.Store(tmp_path) as writer:
        for run in (*asked[:72], asked[120]):
            writer.append(record(run))
    line = line_of(A, asked[:120], training=HOW)
    assert [str(each) for each in standings([line], [of(run, "training") for run in asked[:73]])] == [
        "73 of 120 runs are here, 47 to go"
    ]
    plan.extend(tmp_path, [line_of(B, [OTHER]), line, line_of(B, asked[119:]), line_of(A)])
    assert [str(each) for each in verify(tmp_path).standings] == [
        "1 of 2 cells are here, 1 to go",
        "72 of 120 runs are here, 48 to go",
    ]


SHARED = {"cell": "c", "dtype": "float32", "device": "cpu", "seed": 0, "common_noise": True}


def of(run, kind="moments", outcome="measured", **more):
    return {**SHARED, "run": run, "kind": kind, "outcome": outcome, **more}


def test_what_a_plan_lacks_is_counted_by_its_records():
    timed = line_of({**A, "timing": True}, ["1", "2", "3", "4"])
    lines = [timed, line_of({**A, "timing": False}, ["4", "5", "6"])]
    assert planned(lines) == {"1": True, "2": True, "3": True, "4": True, "5": False, "6": False}
    held = [of("1"), of("1", "timing"), of("2"), of("3", outcome="skipped"), of("4", outcome="failed"), of("9")]
    found = standing(planned(lines), held)
    assert found == Standing(6, frozenset("123"), failed=1, untimed=1)
    assert str(found) == "3 of 6 cells are here, 1 failed, 2 to go, 1 to be timed"
    assert str(replace(found, stale=2)).endswith("2 to go (2 of them because their code has changed), 1 to be timed")
    whole = standing(planned(lines[1:]), [of("4"), of("5"), of("6")])
    assert (str(whole), whole.is_complete) == ("3 of 3 cells are here", True)
    assert not standing(planned(lines), []).is_complete
    runs = standing({"1": False, "2": False}, [of("1", "training"), of("2", "training", outcome="diverged")], "runs")
    assert str(runs) == "2 of 2 runs are here"


def test_a_pilot_alone_is_not_the_measurement_that_it_leads_to():
    runs = planned([line_of({**A, "timing": True}, ["1", "2", "3"])])
    pilots = [of("1", "pilot", precision=0.1), of("2", "pilot", outcome="failed", precision=0.1, cell="d")]
    assert standing(runs, pilots) == Standing(3, frozenset(), failed=1)
    assert standing(runs, [*pilots, of("7", precision=0.2)]).here == frozenset()
    assert standing(runs, [*pilots, of("7", precision=0.1)]) == Standing(3, frozenset("1"), failed=1, untimed=1)
    assert standing(runs, [*pilots, of("7", precision=0.1), of("7", "timing")]).untimed == 0


def test_a_pilot_that_names_its_measurement_needs_no_precision_in_its_record():
    runs = planned([line_of(A, ["1", "2"])])
    pilots = [of("1", "pilot", precision=0.1, leads_to="7"), of("2", "pilot", precision=0.05, leads_to="7")]
    assert len(standing(runs, [*pilots, of("7", precision=0.05)]).here) == 2
    assert len(standing(runs, [*pilots, of("8", precision=0.05)]).here) == 0
