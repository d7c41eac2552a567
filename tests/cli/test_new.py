"""Files to start from: each runs as it is written, and the next commands that are printed work."""

import errno
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from bench.planning.settings import ADAPT_STEPS
from bench.planning.spec import Spec

FASTER = {"run": ("--replicates", 300, "--no-timing"), "train": ("--steps", 3, "--seeds", 1)}
"""Options that make a command faster; the last value of an option counts."""
KINDS = [
    ("objective", "mine.py", ()),
    ("objective", "mine.py", ("--name", "reward")),
    ("objective", "mine.py", ("--class",)),
    ("objective", "deep/er/mine.py", ("--class", "--name", "TwoMoons")),
    ("estimator", "mine.py", ()),
    ("estimator", "my files/mine.py", ("--name", "RunningMean")),
    ("study", "mine.toml", ()),
]


def commands(out):
    return [line.strip() for line in out.splitlines()[1:]]


@pytest.mark.parametrize(("what", "file", "options"), KINDS)
def test_a_file_runs_as_it_is_by_the_commands_that_are_printed(call, tmp_path, what, file, options):
    done = call("new", what, file, *options)
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / file).exists()
    for line in commands(done.out):
        program, command, *words = shlex.split(line)
        if program == "python":
            continue  # the next test
        done = call(command, *words, *FASTER.get(command, ()))
        assert done.code == 0, done.err
        assert "FAULT" not in done.out
        assert "failed" not in done.out


@pytest.mark.slow
def test_the_estimator_passes_the_conformance_suite(call, tmp_path):
    (command,) = [line for line in commands(call("new", "estimator", "mine.py").out) if "pytest" in line]
    words = command.split()[1:]
    done = subprocess.run(
        [sys.executable, *words, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"[2-9]\d passed", done.stdout)


def test_the_class_passes_every_check_and_has_its_parameters(call):
    call("new", "objective", "mine.py", "--class", "--name", "Moons")
    done = call("check-objective", "./mine.py::Moons:dim=2,3,target=0.3")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if not line.startswith(" ")] == [
        "moons:dim=2,target=0.3",
        "moons:dim=3,target=0.3",
    ]


def test_the_studys_comments_tell_every_key_and_its_default(call, tmp_path):
    call("new", "study", "mine.toml")
    text = (tmp_path / "mine.toml").read_text()
    told = re.findall(r"(?m)^(?:# )?(\w+) = (.*?)[ \t]*(?:#.*)?$", text)
    fields = Spec.model_fields
    assert {key for key, _ in told} == set(fields) - {"name"}
    for key, value in told:
        if key not in ("estimators", "objectives", "precision", "labels"):
            assert tomllib.loads(f"x = {value}")["x"] == fields[key].default, key
    assert tomllib.loads(f"x = {dict(told)['adapt_steps']}")["x"] == ADAPT_STEPS
    uncommented = re.sub(r"(?m)^# (?=\w+ = )", "", text)
    assert Spec.of(tomllib.loads(uncommented)).precision == 0.05
    assert Spec.of(tomllib.loads(uncommented)).labels["estimators"] == {"rloo:n=2": "RLOO, n = 2"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("objective", "there.py"), "there.py exists already, and stays as it is"),
        (("objective", "mine.txt"), "'mine.txt' must end in .py, as in mine.py"),
        (("study", "mine"), "'mine' must end in .toml, as in mine.toml"),
        (("objective", "torch.py"), "torch.py would hide the module torch"),
        (("estimator", "mine.py", "--name", "RLOO"), "RLOO is the name of the catalogue's rloo"),
        (("objective", "mine.py", "--name", "gaussian_quadratic"), "the name of the catalogue's gaussian-quadratic"),
        (("estimator", "mine.py", "--name", "my one"), "'my one' is not a name in Python"),
        (("estimator", "mine.py", "--name", "class"), "'class' is not a name in Python"),
        (("study", "mine.toml", "--name", "x"), "A study has the name of its file"),
        (("estimator", "mine.py", "--class"), "--class belongs to `bench new objective`"),
        (("estimator", "there.py/mine.py"), "cannot be written"),
        (("thing", "mine.py"), "'thing' is not one of 'objective', 'estimator', 'study'"),
    ],
)
def test_a_wrong_word_is_one_sentence_and_nothing_is_written(call, tmp_path, words, says):
    (tmp_path / "there.py").write_text("kept")
    done = call("new", *words)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "kept"


def test_a_full_disk_is_one_sentence_and_leaves_no_file(call, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    done = call("new", "estimator", "mine.py")
    said = "Error: mine.py cannot be written: No space left on device; nothing was written. Start again with: bench "
    assert (done.code, done.err.startswith(said), [*tmp_path.iterdir()]) == (1, True, [])


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff is not installed")
@pytest.mark.parametrize(("what", "options"), [("objective", ()), ("objective", ("--class",)), ("estimator", ())])
def test_files_are_formatted(call, tmp_path, what, options):
    call("new", what, "mine.py", *options)
    for words in (("format", "--check"), ("check", "--select", "E,F,W,B,UP")):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length", "120", "mine.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
