"""Files are written whole, or not at all; regular files alone are read and written."""

import errno
import fcntl
import os
import stat

import pytest

from bench.records import files


def test_text_and_bytes_are_written_and_folders_made(tmp_path):
    files.write(tmp_path / "a" / "b" / "one.txt", "ünser\n")
    files.write(tmp_path / "two.bin", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "one.txt").read_bytes() == "ünser\n".encode()
    assert (tmp_path / "two.bin").read_bytes() == b"\x00\xff"
    files.write(tmp_path / "two.bin", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "two.bin"]
    assert (tmp_path / "two.bin").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "two.bin").stat().st_mode) == stat.S_IMODE(_plain_mode(tmp_path / "plain"))


def _plain_mode(path):
    path.write_text("")
    return path.stat().st_mode


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("name", ["write", "fsync", "open", "replace"])
def test_an_error_leaves_the_old_file_and_nothing_else_and_names_the_file(tmp_path, monkeypatch, name, number):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def broken(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, broken)
        with pytest.raises(OSError, match=r"file\.txt") as caught:
            files.write(path, "new")
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert str(caught.value) == f"[Errno {number}] {os.strerror(number)}: '{path}'"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
        files.write(tmp_path / "file.txt", "0123456789")
    assert (tmp_path / "file.txt").read_text() == "0123456789"


def test_a_write_without_progress_ends(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: 0)
        with pytest.raises(OSError, match="Input/output error"):
            files.write(tmp_path / "file.txt", "0123456789")


def test_a_sweep_removes_what_a_killed_writer_left_and_nothing_of_a_living_one(tmp_path, monkeypatch):
    (tmp_path / f".{'a' * 32}.part").write_text("half")
    (tmp_path / ".mine.part").write_text("of somebody else")
    replace, seen = os.replace, []

    def watched(source, target):
        seen.append([path.name for path in files.abandoned(tmp_path)])
        files.sweep(tmp_path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    files.write(tmp_path / "file.txt", "whole")
    assert seen == [[f".{'a' * 32}.part"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "file.txt"]


def test_a_writer_whose_file_was_swept_before_it_was_locked_takes_another(tmp_path, monkeypatch):
    lock, names = fcntl.flock, []

    def late(descriptor, kind):
        if kind == fcntl.LOCK_EX and len(names) < 2:
            names.append(next(tmp_path.glob(files.PART)))
            files.sweep(tmp_path)
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    files.write(tmp_path / "file.txt", "whole")
    assert (len({*names}), [path.name for path in tmp_path.iterdir()]) == (2, ["file.txt"])


def test_where_nobody_can_tell_whether_a_writer_lives_nothing_is_removed(tmp_path, monkeypatch):
    def without_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / f".{'a' * 32}.part").write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", without_locks)
        files.write(tmp_path / "file.txt", "whole")
        files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{'a' * 32}.part", "file.txt"]
    files.output(tmp_path / "file.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"], "a later command removes it"


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "link").is_symlink()


def test_an_output_goes_through_a_link_and_into_a_pipe_and_replaces_a_file(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "file").open() as before:
        files.output(tmp_path / "link", "linked")
        assert before.read() == "linked"
        files.output(tmp_path / "file", b"new")
        before.seek(0)
        assert before.read() == "linked"
    files.output(tmp_path / "pipe", "piped")
    assert ((tmp_path / "file").read_text(), os.read(reader, 99)) == ("new", b"piped")
    os.close(reader)


def test_temporary_names_differ_each_time_and_are_the_pattern_s(tmp_path, monkeypatch):
    seen, kept = [], os.open

    def noted(path, flags, *more, **named):
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            assert flags & os.O_NOFOLLOW
            seen.append(path)
        return kept(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", noted)
    for _ in range(2):
        files.write(tmp_path / "file.txt", "text")
    assert len(set(seen)) == 2
    assert all(path.match(files.PART) for path in seen)


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert files.read(tmp_path / "link") == b"text"
    for name, says in (
        ("folder", "Is not a regular file"),
        ("pipe", "Is not a regular file"),
        ("loop", "Too many links"),
    ):
        with pytest.raises(files.Unreadable, match=says):
            files.read(tmp_path / name)
    with pytest.raises(files.Unreadable, match="Is a link"):
        files.read(tmp_path / "link", follow=False)
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "nothing")


@pytest.mark.parametrize(
    "read", [files.lines, lambda path: (line for piece in files.pieces(path, 2) for line in piece)]
)
def test_a_line_that_is_being_written_is_the_last_that_is_read(tmp_path, read):
    path, found = tmp_path / "lines", list[bytes]()
    path.write_bytes(b"first\nhalf")
    for line in read(path):
        found.append(line)
        if line == b"half":
            with path.open("ab") as file:
                file.write(b"way\nthird\n")
    assert found == [b"first\n", b"half"]
    assert [*read(path)] == [b"first\n", b"halfway\n", b"third\n"]
