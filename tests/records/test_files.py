"""Files are replaced whole, or not at all."""

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


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def broken():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("deliberately")

    with pytest.raises(RuntimeError, match="deliberately"):
        broken()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_finds_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_files_that_differ_in_their_suffix_do_not_share_a_temporary_file(tmp_path):
    with files.replacing(tmp_path / "table.md") as one, files.replacing(tmp_path / "table.csv") as two:
        one.write_text("one")
        two.write_text("two")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"table.md": "one", "table.csv": "two"}
