"""The study folder under a full disk, odd files and other people's files: one sentence, and nothing is lost."""

import errno
import fcntl
import json
import os
import resource

import pytest

from bench.execution.study import StudyWriter
from bench.records import store
from bench.records.lock import FILE as LOCK

RUN = ("run", "-e", "rloo:n=2,3,4", "-o", "bernoulli-quadratic:dim=2", "--replicates", 256, "--no-timing", "--quiet")
OWN = """
from dataclasses import dataclass
from estimators import RLOO


@dataclass(frozen=True)
class Mine(RLOO):
    pass
"""
OUT = (*RUN, "--out", "here")


def statistics(folder):
    return {line["run"]: line["summary"] for line in store.read(folder)}


@pytest.fixture
def study(call, tmp_path):
    done = call(*OUT)
    assert done.code == 0, done.err
    return tmp_path / "here"


def test_a_file_that_may_not_grow_is_one_sentence_and_a_repeat_completes_it(call, study, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (study / store.LINES).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, limits[1]))
    try:
        done = call(*RUN, "--out", "small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code == 1
    assert "records.jsonl cannot be written: File too large; what was measured is safe. Go on with: bench " in done.err
    text = (tmp_path / "small" / store.LINES).read_bytes()
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 2, "the third record was taken back"
    assert call(*RUN, "--out", "small").code == 0
    assert statistics(tmp_path / "small") == statistics(study)


def test_a_truncation_that_fails_too_is_said_and_healed(call, study, monkeypatch):
    def full(descriptor, data, write=os.write):
        if len(data) > 100 and os.readlink(f"/proc/self/fd/{descriptor}").endswith(store.LINES):  # noqa: PTH115
            write(descriptor, bytes(data[:50]))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = statistics(study)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "ftruncate", broken)
        done = call(*OUT, "--fresh")
    assert done.code == 1
    assert "No space left on device. The next run removes its last line, which is incomplete; what was" in done.err
    assert statistics(study) == before
    assert call(*OUT, "--fresh").code == 0
    assert statistics(study) == before
    assert all(json.loads(line) for line in (study / store.LINES).read_text().splitlines())


@pytest.mark.parametrize("command", ["report", "compare", "run"])
@pytest.mark.parametrize("odd", ["pipe", "folder", "loop", "unreadable"])
def test_records_that_are_no_regular_file_are_one_sentence(call, tmp_path, command, odd):
    path = tmp_path / "here" / store.LINES
    path.parent.mkdir()
    match odd:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "unreadable":
            path.symlink_to("/proc/self/mem")  # reading fails, for root too
    words = {"report": ("report", "here"), "compare": ("compare", "here", "here"), "run": OUT}[command]
    done = call(*words)
    assert done.code == 2
    assert done.err.count("\n") == 1, done.err
    assert ("cannot be read" if command != "run" else "cannot be written") in done.err
    assert "records.jsonl" in done.err


def test_a_link_in_place_of_the_records_is_not_written_through(call, study, tmp_path):
    (tmp_path / "precious").write_text("precious")
    (study / store.LINES).unlink()
    (study / store.LINES).symlink_to(tmp_path / "precious")
    done = call(*OUT)
    assert (done.code, "Is a link, which is not followed" in done.err) == (2, True)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_stands_for_the_lock_where_the_file_system_has_none(call, tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", none)
        assert call(*OUT).code == 0
        assert not (tmp_path / "here" / LOCK).exists()
        (tmp_path / "here" / LOCK).write_text("process 7 on another")
        done = call(*OUT)
    assert done.code == 2
    assert "is being written by process 7 on another: its file system has no locks, and here/records.lock" in done.err
    assert "if no bench is running there, delete that file" in done.err
    assert call(*OUT).code == 2, "a machine that has locks respects the file"


def test_a_spec_that_a_person_wrote_is_never_written(call, tmp_path):
    text = (
        '# mine\nestimators = ["rloo"]\nobjectives = ["bernoulli-quadratic:dim=2"]\nreplicates = 256\ntiming = false\n'
    )
    path = tmp_path / "mine" / "spec.toml"
    path.parent.mkdir()
    path.write_text(text)
    assert call("run", "mine/spec.toml", "--quiet").code == 0
    assert call("run", "mine", "-e", "score-function", "--seed", 3, "--quiet").code == 0
    assert path.read_text() == text


def test_the_spec_of_a_study_is_written_only_if_it_changes(call, study):
    path = study / "spec.toml"
    before = path.stat().st_ino, path.stat().st_mtime_ns
    assert call(*OUT).code == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert call(*RUN, "-e", "score-function", "--out", "here").code == 0
    assert "score-function" in path.read_text(), "the spec of the last command"
    assert "rloo:n=2,3,4" in (study / "plan.jsonl").read_text()


@pytest.mark.parametrize(("held", "kept"), [("", False), ("\0" * 30, False), ("no TOML [", True), ("a = 1", True)])
def test_a_spec_that_cannot_be_read_does_not_stop_a_command_that_needs_none(call, study, held, kept):
    path = study / "spec.toml"
    path.write_text(held)
    assert call(*OUT).code == 0
    assert (path.read_text() == held) == kept
    if not kept:
        assert call("run", "here", "--quiet").code == 0


@pytest.mark.parametrize("name", ["my\x7fown.py", "my\nown.py"])
def test_a_path_with_control_characters_can_be_resumed(call, tmp_path, name):
    (tmp_path / name).write_text(OWN)
    words = ("--replicates", 64, "--no-timing", "--quiet", "--out", "there")
    assert call("run", "-e", f"{name}::Mine", "-o", "bernoulli-quadratic:dim=2", *words).code == 0
    assert call("run", "there", "--quiet").code == 0


@pytest.mark.parametrize("words", [("report", "here"), ("export", "here"), ("verify", "here")])
def test_an_interrupt_of_a_command_that_reads_speaks_of_no_measurement(call, study, monkeypatch, words):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "decoded", interrupted)
    done = call(*words)
    said = f"Interrupted; the records are as they were. Start again with: bench {' '.join(words)}\n"
    assert (done.code, done.err) == (130, said)


def test_a_plan_that_is_a_link_does_not_stop_a_report(call, study, tmp_path):
    (study / "plan.jsonl").rename(tmp_path / "elsewhere")
    (study / "plan.jsonl").symlink_to(tmp_path / "elsewhere")
    done = call("report", "here", "--no-figures")
    assert (done.code, "plan.jsonl cannot be read: Is a link, which is not followed." in done.err) == (0, True)


def test_links_in_a_folder_are_not_followed_by_reports(call, study, tmp_path):
    (tmp_path / "precious").write_text("precious")
    for name in ("table.md", ".table.md.part", "table.csv"):
        (study / name).unlink(missing_ok=True)
        (study / name).symlink_to(tmp_path / "precious")
    assert call("report", "here", "--no-figures").code == 0
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (study / "table.md").is_symlink()


@pytest.mark.parametrize("seed", [2**53 + 1, 2**62 + 12345, 2**63 - 1])
def test_a_seed_of_64_bits_stays_whole(call, tmp_path, seed):
    done = call(*OUT, "--seed", seed)
    assert done.code == 0, done.err
    assert f",{seed}," in (tmp_path / "here" / "table.csv").read_text()
    assert f"seed {seed}" in (tmp_path / "here" / "table.md").read_text()
    assert {line["seed"] for line in store.read(tmp_path / "here")} == {seed}


def test_a_seed_too_large_is_the_options_fault(call):
    done = call(*OUT, "--seed", 2**63)
    assert (done.code, "Invalid value for '--seed'" in done.err) == (2, True)


def test_what_was_written_is_what_is_read_back(call, study, monkeypatch):
    kept = StudyWriter.keep

    def keep(self, line):
        kept(self, line)
        path = self.folder / store.LINES
        path.write_bytes(path.read_bytes().replace(b'"seed":5', b'"seed":6'))

    monkeypatch.setattr(StudyWriter, "keep", keep)
    done = call(*OUT, "--seed", 5)
    assert (done.code, "was removed or replaced meanwhile" in done.err) == (5, True)
