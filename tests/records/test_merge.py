"""The union of studies: complete, idempotent, and with every conflict named."""

import pytest

from bench.planning.plans import specs_of
from bench.records import plan, store
from bench.records.merge import merge
from tests.records.test_store import line
from tests.report import records


def study(folder, *lines):
    with store.Store(folder) as writer:
        for each in lines:
            writer.append(each)
    return folder


def measured(run="a", **more):
    return records.moments("rloo:n=2", "qubo", 1.0) | {"run": run, "written": "2026-01-01T00:00:00+00:00"} | more


def failed(run):
    return line(run, outcome="failed", reason="It broke.")


def test_the_union_has_every_record_once_and_a_repeat_changes_nothing(tmp_path):
    a = study(tmp_path / "a", measured("1"), measured("2"), failed("3"))
    b = study(tmp_path / "b", measured("2", written="2026-02-02T00:00:00+00:00", wall_seconds=9.0), measured("3"))
    before = (a / store.LINES).read_bytes(), (b / store.LINES).read_bytes()
    done = merge([a, b], tmp_path / "c")
    assert (done.records, done.added, done.conflicts) == (3, 3, [])
    assert [(r["run"], r["outcome"]) for r in store.read(tmp_path / "c")] == [(n, "measured") for n in "123"]
    assert store.read(tmp_path / "c")[1] == store.read(a)[1], "of equal results the first is kept"
    text = (tmp_path / "c" / store.LINES).read_bytes()
    assert merge([a, b], tmp_path / "c").added == 0
    assert merge([b, a, tmp_path / "c"], tmp_path / "c").added == 0
    assert (tmp_path / "c" / store.LINES).read_bytes() == text
    assert ((a / store.LINES).read_bytes(), (b / store.LINES).read_bytes()) == before


def test_a_conflict_is_named_and_nothing_is_written_without_a_choice(tmp_path):
    a, b = (
        study(tmp_path / "a", measured("1")),
        study(tmp_path / "b", measured("1", fingerprint="other"), measured("2")),
    )
    done = merge([a, b], tmp_path / "c")
    assert done.conflicts == [f"moments of rloo:n=2 on qubo (run 1): {a} and {b} hold different results."]
    assert not (tmp_path / "c").exists()
    assert merge([a, b], tmp_path / "first", "first").records == 2
    assert store.read(tmp_path / "first")[0] == store.read(a)[0]
    for _ in range(2):
        merge([a, b], tmp_path / "last", "last")
        assert store.read(tmp_path / "last")[0] == store.read(b)[0]
    assert merge([a, b], tmp_path / "last", "last").added == 0


def test_a_merge_into_one_of_its_sources_adds_what_it_lacks(tmp_path):
    a, b = study(tmp_path / "a", measured("1")), study(tmp_path / "b", measured("2"))
    assert merge([a, b], a).added == 1
    assert [record["run"] for record in store.read(a)] == ["1", "2"]


RUN = ("run", "-o", "gaussian-quadratic:dim=520", "--replicates", 64, "--no-timing", "--quiet")


def test_merged_studies_are_reported_and_resumed(call, tmp_path):
    assert call(*RUN, "-e", "rloo:n=2", "--out", "a").code == 0
    assert call(*RUN, "-e", "rloo:n=3", "--out", "b").code == 0
    assert call(*RUN, "-e", "rloo:n=2,3", "--out", "whole").code == 0
    done = call("merge", "a", "b", "-o", "c")
    assert (done.code, done.out) == (0, "c: 2 records, 2 of them new. Next: bench report c\n")
    summaries = [
        {record["run"]: record["summary"] for record in store.read(tmp_path / name)} for name in ("c", "whole")
    ]
    assert summaries[0] == summaries[1]
    assert call("verify", "c").code == 0
    before = (tmp_path / "c" / store.LINES).read_bytes()
    assert call("run", "c", "--quiet").code == 0
    assert (tmp_path / "c" / store.LINES).read_bytes() == before, "nothing is left to measure"
    assert call("report", "c", "--no-figures").code == 0


def test_a_merged_folder_has_the_commands_of_both_and_not_their_product(call, tmp_path):
    assert call(*RUN, "-e", "rloo:n=2", "--out", "a").code == 0
    assert call(*RUN, "-e", "rloo:n=3", "--seed", 1, "--out", "deep/b").code == 0
    (tmp_path / "a" / plan.FILE).unlink()  # as an older version has left it
    for _ in range(2):
        assert call("merge", "a", "deep/b", "-o", "c").code == 0
        assert [(str(spec.estimators[0]), spec.seed) for spec in specs_of(tmp_path / "c")] == [
            ("rloo:n=2", 0),
            ("rloo:n=3", 1),
        ]
    assert call("run", "c", "--quiet").code == 0
    assert len(store.read(tmp_path / "c")) == 2


def test_a_conflict_on_the_command_line(call, tmp_path):
    study(tmp_path / "a", measured("1"))
    study(tmp_path / "b", measured("1", fingerprint="other"))
    done = call("merge", "a", "b", "-o", "c")
    assert done.code == 2
    assert "a and b hold different results" in done.err
    assert "Choose with --keep first or --keep last." in done.err
    assert call("merge", "a", "b", "-o", "c", "--keep", "first").code == 0
    assert call("merge", "nowhere", "b", "-o", "c").code == 2
    (tmp_path / "b" / store.LINES).write_text("spoiled\n")
    assert call("merge", "a", "b", "-o", "c").code == 5


@pytest.mark.parametrize("name", ["a.pt", "b.pt"])
def test_kept_weights_come_along(tmp_path, name):
    a = study(tmp_path / "a", measured("1"))
    (a / "weights").mkdir()
    (a / "weights" / name).write_bytes(b"weights")
    merge([a], tmp_path / "c")
    assert (tmp_path / "c" / "weights" / name).read_bytes() == b"weights"
