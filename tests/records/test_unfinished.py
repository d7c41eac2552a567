"""The file of sums: what is written is what is read, bit for bit, and nothing but a whole file of the same key is."""

import numpy as np
import pytest

from bench.records import unfinished

SUMS = {
    "numbers": {"rows": 3, "T": 0.1 + 0.2, "least": -np.inf, "cut": None},
    "text": "abc",
    "empty": np.zeros(0),
    "nested": {"mean": np.array(1 / 3), "number": np.float64(1 / 7), "M2": np.arange(6.0).reshape(2, 3) / 7},
}


def bits(value):
    if isinstance(value, dict):
        return {key: bits(each) for key, each in value.items()}
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray | np.floating) else value


@pytest.fixture
def path(tmp_path):
    path = unfinished.path_of(tmp_path, "run")
    unfinished.save(path, "key", SUMS)
    return path


def test_sums_are_read_back_bit_for_bit(path):
    assert bits(unfinished.load(path, "key")) == bits(SUMS)


def test_another_key_or_no_file_or_a_link_is_nothing(path, tmp_path):
    assert unfinished.load(path, "other") is None
    (tmp_path / "link").symlink_to(path)
    assert unfinished.load(tmp_path / "link", "key") is None
    unfinished.remove(tmp_path, "run")
    assert not path.parent.exists()
    unfinished.remove(tmp_path, "run")
    assert unfinished.load(path, "key") is None


def test_no_edit_of_a_byte_goes_unnoticed(path):
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert unfinished.load(path, "key") is None
    for length in (0, 64, 65, len(whole) - 8):
        path.write_bytes(whole[:length])
        assert unfinished.load(path, "key") is None
