"""The cache: what was kept is found again, unless it is damaged, old, or cannot be read or written."""

import errno
import os
import time
from pathlib import Path

import pytest

from bench.records import cache


@pytest.fixture(autouse=True)
def _own(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))


def test_a_text_is_found_again_unless_it_was_changed():
    assert cache.get("a") is None
    cache.put("a", "1\nä")
    assert cache.get("a") == "1\nä"
    (path,) = cache.folder().iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.get("a") is None


def test_a_file_that_was_renamed_is_not_read():
    for name in ("a", "b"):
        cache.put(name, name)
    (cache.folder() / f"a{cache.ENDING}").replace(cache.folder() / f"b{cache.ENDING}")
    assert cache.get("b") is None


def test_only_texts_that_were_long_not_used_are_removed():
    for name in ("old", "used"):
        cache.put(name, name)
    (cache.folder() / "others.txt").touch()
    for path in cache.folder().iterdir():
        os.utime(path, 2 * (time.time() - (cache.DAYS + 1) * 86_400,))
    assert cache.get("used") == "used"
    cache.put("new", "new")
    assert cache.get("old") is None
    assert sorted(path.name for path in cache.folder().iterdir()) == ["new.cached", "others.txt", "used.cached"]


@pytest.mark.parametrize("what", ["folder", "vanished"])
def test_what_cannot_be_removed_keeps_no_other_file(monkeypatch, what):
    for name in ("a", "b"):
        cache.put(name, name)
        os.utime(cache.folder() / f"{name}{cache.ENDING}", (0, 0))
    if what == "folder":
        (cache.folder() / f"last{cache.ENDING}").mkdir()
        os.utime(cache.folder() / f"last{cache.ENDING}", (1, 1))
    else:
        gone, glob = cache.folder() / f"gone{cache.ENDING}", Path.glob
        monkeypatch.setattr(Path, "glob", lambda *given: [gone, *glob(*given)])
    cache.put("new", "new")
    assert [cache.get(name) for name in ("a", "b", "new")] == [None, None, "new"]


def test_a_folder_that_cannot_be_used_keeps_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "file"))
    cache.put("a", "text")
    assert cache.get("a") is None


def test_a_folder_that_cannot_be_written_can_be_read(monkeypatch):
    cache.put("a", "text")

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", read_only)
    assert cache.get("a") == "text"


def test_what_killed_writers_have_left_is_removed():
    cache.put("a", "text")
    (cache.folder() / f".{'0' * 32}.part").touch()
    cache.put("b", "text")
    assert len([*cache.folder().iterdir()]) == 2


def test_a_file_of_another_user_is_not_read(monkeypatch):
    cache.put("a", "text")
    assert cache.get("a") == "text"
    monkeypatch.setattr(os, "geteuid", lambda: 2**31)
    assert cache.get("a") is None


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "stochgrad-bench"


def test_what_was_used_last_stays_when_room_is_short(monkeypatch):
    monkeypatch.setattr(cache, "MOST", 2 * (64 + 1 + 100))
    for age, name in ((2, "a"), (1, "b")):
        cache.save(name, bytes(100))
        os.utime(cache.folder() / f"{name}{cache.ENDING}", 2 * (time.time() - age,))
    assert cache.load("a") == bytes(100)
    cache.save("c", bytes(100))
    assert [cache.load(name) is not None for name in "abc"] == [True, False, True]
