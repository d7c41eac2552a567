"""Terminals that lack characters, and other parts of the environment that must not decide an exit code."""

import io
import sys

import pytest

from bench.cli import main
from bench.cli.encoding import SPELLED, spell_what_terminals_lack
from bench.records.store import Store
from tests.report import records, training_records


@pytest.fixture
def folder(tmp_path, once):
    def make():
        with Store(tmp_path / "study") as store:
            for record in records.study()[:20] + training_records.study():
                store.append({"estimator_params": {}, "objective_params": {}, **record})

    once("study", tmp_path, make)
    return "study"


@pytest.mark.usefixtures("call")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def test_every_table_is_printed_in_every_encoding(monkeypatch, folder, encoding):
    for words in (
        ("report", folder, "--no-figures"),
        ("compare", "rloo:n=4", "rloo:n=8", "--study", folder),
        ("run", "--help"),
    ):
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        assert main() == 0
        sys.stdout.flush()
        written = sys.stdout.buffer.getvalue()
        assert len(written.decode("utf-8" if encoding == "ascii" else encoding)) > 300  # click takes ASCII for UTF-8


def test_a_character_that_is_lacking_is_spelled(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), "ascii"))
    spell_what_terminals_lack()
    print("‖g‖ ≤ 3 ± 1 × 2, naïve → 漢", flush=True)
    assert sys.stdout.buffer.getvalue() == b"||g|| <= 3 +- 1 x 2, naive -> ?\n"
    assert all(spelling.isascii() for spelling in SPELLED.values())


def test_a_character_that_the_terminal_has_stays(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    spell_what_terminals_lack()
    print("≤ 3 ± 1", flush=True)
    assert sys.stdout.buffer.getvalue() == "<= 3 ± 1\n".encode("cp1252")


def test_the_environment_chooses_no_backend(start, folder):
    done = start("report", folder, MPLBACKEND="nonsense")
    assert (done.code, "Traceback" in done.err) == (0, False)
