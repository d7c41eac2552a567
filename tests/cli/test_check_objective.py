"""The command `bench check-objective`, and what other commands say about an objective at fault."""

import json

import pytest

from bench.conformance import ObjectiveConformance
from bench.gate import stages
from tests.execution.test_objectives import MINE

WRONG = "mine.py::Mine:wrong=true"
SENTENCE = "The objective mine:wrong=true is at fault: its exact value is 3.2, and the sum over all states gives 0.1"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def test_every_check_is_one_line(call, folder):
    result = call("check-objective", "mine.py::Mine", "gaussian-quadratic:dim=2")
    assert result.code == 0
    lines = result.out.splitlines()
    checks = sum(name.startswith("test_") for name in vars(ObjectiveConformance))
    assert len(lines) == 2 * (1 + checks)
    assert (lines[0], lines[1 + checks]) == ("mine", "gaussian-quadratic:dim=2")
    assert "  ok    f depends on theta through the q that f is given, and in no other way" in lines
    assert all(line.startswith(("  ok    ", "  - (")) for line in lines if line.startswith(" "))


def test_a_fault_is_one_line_and_exit_code_2(call, folder):
    result = call("check-objective", "mine.py::Mine:wrong=false,true")
    assert result.code == 2
    (line,) = [line for line in result.out.splitlines() if "FAULT" in line]
    assert result.out.endswith(f"{line}\n")
    assert SENTENCE in line
    assert "a factor of 32: the batch has 32 elements" in line
    assert result.err == "Error: 1 of 2 objectives are at fault: mine:wrong=true.\n"


def test_json_holds_every_check(call, folder):
    result = call("check-objective", WRONG, "--json")
    assert result.code == 2
    (checks,) = json.loads(result.out).values()
    assert next(iter(checks.values())) == "ok"
    assert [*checks.values()][-1].startswith(f"FAULT: {SENTENCE}")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--no-timing", "--replicates", 64),
        ("train", "--steps", 1, "--seeds", 1),
        ("baseline", "save", "own", "--replicates", 64),
    ],
    ids=lambda words: words[0],
)
def test_other_commands_say_it_before_the_first_cell(call, folder, words):
    result = call(*words, "-o", WRONG, "-e", "rloo", "-e", "enumeration", "--quiet")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"Error: {SENTENCE}")
    assert result.err.count("\n") == 1
    assert {path.name for path in folder.rglob("*") if path.is_file()} <= {"mine.py"}


def test_bench_check_says_it_too(call, folder, monkeypatch):
    words = ("-o", "mine.py::Mine", "-e", "rloo", "--replicates", 64, "--quiet")
    assert call("baseline", "save", "own", *words).code == 0

    def fail(objective, pool):
        raise stages.UsageError("The objective mine is at fault.")

    monkeypatch.setattr(stages, "check_apart", fail)
    result = call("check", "--baseline", "own", "--quiet")
    assert (result.code, result.err) == (2, "Error: The objective mine is at fault.\n")
