"""What imports files that others name, and what never does."""

import json
import subprocess
import sys

import pytest

from bench.records import store
from tests.cli.baselines import write_own
from tests.docs.pages import ROOT
from tests.report import records

SPEC = 'estimators = ["mine.py::Mine"]\nobjectives = ["gaussian-quadratic:dim=1"]\nreplicates = 64\ntiming = false\n'
TRAP = "from pathlib import Path\nPath('ran').touch()\n"
MINE = ("-e", "mine.py::Mine", "-o", "gaussian-quadratic:dim=1")


@pytest.fixture
def folder(tmp_path):
    """A folder with a user's file that leaves a trace, and a study and a baseline that name it."""
    write_own(tmp_path)
    (tmp_path / "mine.py").write_text(TRAP + (tmp_path / "mine.py").read_text())
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "spec.toml").write_text(SPEC.replace("mine.py", "../mine.py"))
    held = json.loads((ROOT / "results" / "baselines" / "ci.json").read_text())
    held["cells"] = [held["cells"][0] | {"estimator": "mine.py::Mine"}]
    (tmp_path / "b.json").write_text(json.dumps(held))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("run", *MINE, "--out", "o"),
        ("run", "-e", "mine:Mine", "-o", "gaussian-quadratic:dim=1", "--out", "o"),
        ("run", "s"),
        ("train", *MINE, "--out", "o"),
        ("check", "--baseline", "b.json"),
        ("baseline", "save", "n", *MINE),
        ("baseline", "save", "n", "--from", "s"),
        ("baseline", "promote", "b.json"),
        ("check-objective", "mine.py::Mine"),
        ("advise", "-o", "mine.py::Mine"),
        ("advise", "-o", "gaussian-quadratic:dim=1", "-e", "mine.py::Mine"),
    ],
)
def test_nothing_of_a_user_is_imported_if_the_user_says_so(call, folder, monkeypatch, words):
    done = call(*words, "--no-plugins")
    assert (done.code, done.out, (folder / "ran").exists()) == (2, "", False), done.err
    assert "is code of a user, which --no-plugins forbids. If you trust " in done.err
    assert done.err.count("\n") == 1
    monkeypatch.setenv("BENCH_NO_PLUGINS", "1")
    again = call(*words)
    assert (again.code, again.err) == (2, done.err)
    assert not (folder / "ran").exists()


def test_what_needs_no_code_of_a_user_is_done_and_the_option_ends_with_the_command(call, folder):
    words = ("-o", "gaussian-quadratic:dim=1", "--replicates", 64, "--no-timing", "--out", "o", "--quiet")
    assert call("run", "-e", "rloo", *words, "--no-plugins").code == 0
    assert call("run", "-e", "mine.py::Mine", *words).code == 0
    assert (folder / "ran").exists()


QUIET = """
import sys
from pathlib import Path
seen = []

def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.exec", "os.system", "os.posix_spawn", "os.fork")):
        seen.append(event)
    file = getattr(arguments[0], "co_filename", arguments[0]) if event in ("exec", "open") else ""
    if event == "pickle.find_class" or Path(str(file)).name == "mine.py":
        seen.append((event, str(arguments)))

sys.addaudithook(hook)
from bench.cli import main
for words in {commands!r}:
    sys.argv = ["bench", *words]
    code = main()
    assert code in (0, 4), (words, code)
assert seen == [], seen
assert not [name for name in sys.modules if name.startswith("_bench_user_")]
"""
"""Calls commands under a hook that Python tells of every import, file, process and connection."""


def test_reading_somebody_elses_study_runs_no_code_and_opens_no_connection(folder):
    (folder / "t").mkdir()
    for name in "st":
        lines = [records.moments(estimator, "o", 1.0) for estimator in ("mine", "rloo:n=2")]
        (folder / name / store.LINES).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    commands = [
        ("report", "s"),
        ("report", "s", "-e", "mine.py::Mine", "--json", "--no-figures"),
        ("compare", "s", "t"),
        ("compare", "mine.py::Mine", "rloo:n=2", "--study", "s"),
        ("verify", "s"),
        ("merge", "s", "t", "-o", "u"),
        ("export", "s"),
        ("export", "s", "--format", "json"),
        ("baseline", "show", "b.json"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", QUIET.format(commands=commands)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()
