"""A user's code that misbehaves: no command passes, hangs or prints what a terminal or a parser cannot read."""

import json
from xml.etree import ElementTree

import pytest

from tests.cli.baselines import GOOD, write_own

CELL = ("-e", "mine.py::Mine", "-o", "gaussian-quadratic")
QUICK = ("--replicates", 300, "--no-timing", "--quiet", "--out", "here")
TRAIN = ("--steps", 3, "--seeds", 1, "--replicates", 0, "--quiet", "--out", "here")
COMMANDS = {
    "run": ("run", *CELL, "-e", "rloo", *QUICK, "--workers", 1),
    "run with workers": ("run", *CELL, "-e", "rloo", *QUICK, "--workers", 2),
    "train": ("train", *CELL, "-e", "rloo", *TRAIN),
    "check": ("check", "--baseline", "own", "--quiet"),
    "check of other noise": ("check", "--baseline", "own", "--quiet", "--seed", 3),
    "save": ("baseline", "save", "new", *CELL, "-e", "rloo", "--replicates", 300, "--quiet"),
    "promote": ("baseline", "promote", "own", "--quiet"),
}
ENDS = {
    "sys.exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "GeneratorExit": "raise GeneratorExit",
}
BROKEN = r"raise ValueError('bad \x1b[31mred\x1b[0m \x00 | <b> @torch\nline')"


@pytest.mark.usefixtures("with_mine")
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS)
def test_a_call_that_ends_the_program_is_a_failed_cell(call, tmp_path, words, body):
    write_own(tmp_path, body)
    done = call(*words)
    assert done.code == 1
    assert "which would end the program" in " ".join((done.out + done.err).split())
    if words[0] in ("run", "train"):
        records = [json.loads(line) for line in (tmp_path / "here" / "records.jsonl").read_text().splitlines()]
        assert {r["estimator"]: r["outcome"] for r in records} == {"mine": "failed", "rloo": "measured"}


@pytest.mark.parametrize("end", [*ENDS.values(), "import argparse; argparse.ArgumentParser().parse_args(['x'])"])
@pytest.mark.parametrize("command", ["run", "train", "check", "save", "promote"])
def test_a_file_that_ends_the_program_is_reported(call, tmp_path, with_mine, command, end):
    before = with_mine.read_bytes()
    write_own(tmp_path)
    with (tmp_path / "mine.py").open("a") as file:
        file.write(f"\n{end}\n")
    done = call(*COMMANDS[command])
    assert done.code == (1 if command in ("check", "promote") else 2)
    assert "which would end the program" in done.out + done.err
    assert 'Put it below `if __name__ == "__main__":`.' in done.out + done.err
    assert with_mine.read_bytes() == before


@pytest.mark.parametrize("line", ["raise ValueError('broken')", "import absent_module_of_mine", "1 +"])
def test_a_broken_file_is_a_failed_cell_and_a_removed_class_a_missing_one(call, tmp_path, with_mine, line):
    before = with_mine.read_bytes()
    write_own(tmp_path)
    with (tmp_path / "mine.py").open("a") as file:
        file.write(f"\n{line}\n")
    done = call("check", "--baseline", "own", "--quiet")
    assert done.code == 1
    assert done.out.startswith("failed ")
    assert "cannot be loaded" in done.out
    assert "removed on purpose" not in done.out
    assert call("baseline", "promote", "own", "--quiet").code == 1
    assert with_mine.read_bytes() == before
    (tmp_path / "mine.py").write_text("")
    done = call("check", "--baseline", "own", "--quiet")
    assert done.code == 3
    assert done.out.startswith("missing ")


def test_a_file_that_reads_arguments_gets_none_of_ours(call, tmp_path):
    write_own(tmp_path)
    with (tmp_path / "mine.py").open("a") as file:
        file.write("\nimport argparse; argparse.ArgumentParser().parse_args()\n")
    assert call("run", *CELL, *QUICK).code == 0


@pytest.mark.parametrize(
    ("act", "said"), [("exit(0)", "SystemExit(0), which would end the program"), ("1 / 0", "Zero")]
)
@pytest.mark.parametrize("hook", ["families", "refuses", "unbiased"])
def test_declared_facts_that_raise_cost_their_cell_alone(call, tmp_path, hook, act, said):
    write_own(tmp_path)
    with (tmp_path / "mine.py").open("a") as file:
        file.write(f"    {hook} = property(lambda self: {act})\n")
    assert call("run", *CELL, "-e", "rloo", *QUICK).code == 1
    records = [json.loads(line) for line in (tmp_path / "here" / "records.jsonl").read_text().splitlines()]
    by = {r["estimator"]: r for r in records}
    assert by["mine"]["outcome"] == "failed"
    assert by["mine"]["reason"].startswith(said)
    assert "(mine.py, line" in by["mine"]["reason"]
    assert by["rloo"]["outcome"] == "measured"


def test_a_class_that_cannot_be_made_is_one_sentence(call, tmp_path):
    write_own(tmp_path)
    with (tmp_path / "mine.py").open("a") as file:
        file.write("    def __post_init__(self): raise RuntimeError('no licence')\n")
    done = call("run", *CELL, *QUICK)
    assert done.code == 2
    assert "cannot be created: RuntimeError: no licence (mine.py, line" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_users_code_prints_is_not_in_a_document(start, tmp_path, workers):
    write_own(tmp_path, "print('called'); " + GOOD)
    with (tmp_path / "mine.py").open("a") as file:
        file.write("\nimport ctypes\nprint('loaded')\nctypes.CDLL(None).puts(b'from C')\n")
    done = start("run", *CELL, "-e", "rloo", *QUICK, "--workers", workers, "--json")
    assert done.code == 0
    json.loads(done.out)
    assert "loaded" in done.err
    assert "from C" in done.err
    assert "called" in done.err


def test_a_message_that_cannot_be_made_is_said(call, tmp_path):
    write_own(tmp_path, "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})")
    done = call("run", *CELL, *QUICK)
    assert done.code == 1
    assert "Odd: its message cannot be read (ZeroDivisionError)" in " ".join(done.out.split())


def test_a_crash_of_the_interpreter_names_the_line(start, tmp_path):
    write_own(tmp_path, "import ctypes; ctypes.string_at(0)")
    done = start("run", *CELL, *QUICK)
    assert done.code == 1
    assert "was killed by signal 11" in done.out
    assert "(mine.py, line" in " ".join(done.out.split())
    assert "most recent call first" not in done.err


@pytest.mark.usefixtures("with_mine")
def test_every_form_of_a_report_survives_the_message_of_a_stranger(call, tmp_path, monkeypatch):
    write_own(tmp_path, BROKEN)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    forms = ("--markdown", tmp_path / "comment.md", "--junit", tmp_path / "junit.xml")
    done = call("check", "--baseline", "own", "--quiet", *forms)
    assert done.code == 1
    assert (done.out + done.err).replace("\n", "").isprintable()
    assert "::ValueError: bad red | <b> @torch line (mine.py" in done.err
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite[0][0].get("message").startswith("ValueError: bad red | <b> @torch line (mine.py")
    row = next(line for line in (tmp_path / "comment.md").read_text().splitlines() if "failed" in line[:14])
    assert r"| ValueError: bad red \| \<b\> `@torch` line (mine.py" in row
    assert row.replace("\\|", "").count("|") == 5


def test_every_file_of_a_study_survives_the_message_of_a_stranger(call, tmp_path):
    write_own(tmp_path, BROKEN)
    done = call("run", *CELL, *QUICK)
    assert done.code == 1
    assert (done.out + done.err).replace("\n", "").isprintable()
    for name in ("table.md", "table.csv", "table.tex", "records.jsonl"):
        written = (tmp_path / "here" / name).read_text()
        assert written.replace("\n", "").isprintable(), name
    assert r"ValueError: bad red \| \<b\> `@torch` line (mine.py" in (tmp_path / "here" / "table.md").read_text()


def test_a_record_of_an_older_version_is_cleaned_when_it_is_read(call, tmp_path):
    write_own(tmp_path, BROKEN)
    call("run", *CELL, *QUICK)
    path = tmp_path / "here" / "records.jsonl"
    path.write_text(path.read_text().replace("bad red", r"bad \u001b[31mred\nframe #0: c10"))
    done = call("report", "here")
    assert "bad red" in done.out
    assert done.out.replace("\n", "").isprintable()
    assert "c10" not in (tmp_path / "here" / "table.md").read_text()


def test_a_crash_of_a_worker_costs_only_its_cell_and_names_the_line(start, tmp_path):
    write_own(tmp_path, "import ctypes; ctypes.string_at(0)")
    done = start("run", *CELL, "-e", "rloo", *QUICK, "--workers", 2)
    assert done.code == 1
    assert "was killed by signal 11. No other cell is affected." in " ".join(done.out.split())
    assert "(mine.py, line" in " ".join(done.out.split())
    assert "most recent call first" not in done.err
    records = [json.loads(line) for line in (tmp_path / "here" / "records.jsonl").read_text().splitlines()]
    assert {r["estimator"]: r["outcome"] for r in records} == {"mine": "failed", "rloo": "measured"}


@pytest.mark.parametrize("where", ["file", "call"])
def test_a_study_lands_where_it_was_asked_for_whatever_folder_the_code_enters(call, tmp_path, where):
    (tmp_path / "inner").mkdir()
    write_own(tmp_path, "import os; os.chdir('inner')" if where == "call" else GOOD)
    if where == "file":
        with (tmp_path / "mine.py").open("a") as file:
            file.write("\nimport os; os.chdir(os.path.join(os.path.dirname(__file__), 'inner'))\n")
    assert call("run", *CELL, *QUICK).code == (1 if where == "call" else 0)
    assert (tmp_path / "here" / "table.md").exists()
    assert not list((tmp_path / "inner").iterdir())


def test_a_child_that_a_call_forks_writes_no_records(call, tmp_path):
    write_own(tmp_path, f"import os, sys; os.fork() or sys.exit(0); os.wait(); {GOOD}")
    assert call("run", *CELL, *QUICK).code == 0
    records = [json.loads(line) for line in (tmp_path / "here" / "records.jsonl").read_text().splitlines()]
    assert [record["outcome"] for record in records] == ["measured"]


def test_records_that_the_code_removes_are_one_sentence(call, tmp_path):
    write_own(tmp_path, f"import os; os.path.exists('here/records.jsonl') and os.remove('here/records.jsonl'); {GOOD}")
    done = call("run", *CELL, *QUICK)
    assert (done.code, done.out) == (5, "")
    assert "records.jsonl was removed or replaced meanwhile" in done.err
