"""Every block of code on every page is run, from an empty folder, in the order of the page."""

import ast
import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from bench.cli import cli
from bench.planning.instances import expand
from bench.planning.naming import read_labels
from bench.planning.selectors import parse
from bench.planning.spec import Spec
from tests.docs.pages import PAGES, ROOT, STUDIES, blocks, commands

PYTHON, SHELL, PARSED, PYTEST = "python", "bash", "python no-run", "python3 -m pytest -q test_"
OWN_TEST = {"model-": "tests/test_models.py", "audit": "tests/audit/test_page.py"}
"""Pages that a test of their own follows, by the start of their names."""
NOT_RUN = {
    "python3 -m pip install": "needs packages from elsewhere",
    "python3 -m pytest -q": "is this test, unless it names a file",
    ".ci/run": "runs this test",
    "python3 -m sphinx": "is run by test_site.py",
    "python docs/generate.py": "writes the pages that are tested here; its output is compared in test_docs.py",
    "python docs/picture.py": "draws the picture that test_docs.py compares",
    "python -m bench.planning.catalogue": "writes into the package; test_catalogue.py compares its output",
    "python -m tests.benchmarks": "takes minutes",
    "dask ": "starts a cluster that stays",
    "bench run study.toml --scheduler-file": "needs this cluster",
    "--executor dask": "is run by test_cluster.py",
    "--data-dir ~/data": "needs images that nobody may pass on",
}
"""Words of commands that are not run, and why. Commands of bench are parsed all the same."""
SHORT = (
    ("run", {"--replicates", "--precision"}, "--replicates=300"),
    ("run", {"--max-replicates"}, "--max-replicates=2000"),
    ("run", {"--no-timing"}, "--no-timing"),
    ("train", {"--replicates"}, "--replicates=64"),
    ("train", {"--steps"}, "--steps=3"),
    ("train", {"--seeds"}, "--seeds=2"),
    ("baseline save", {"--replicates", "--budget", "--from"}, "--replicates=1000"),
)
"""Options that make a command fast: the command, the options that rule this one out, and the option."""
OF_STUDIES = {command for page in STUDIES for block in blocks(page) for command, _ in commands(block)}
"""Commands that made the committed studies, which take minutes."""


def is_run(command):
    stops = any(words in command for words in NOT_RUN) or command in OF_STUDIES
    return command.startswith(PYTEST) or not stops


def check_words(command):
    """Check a command of bench without running it: its options, and the names of estimators and objectives."""
    (_, *words), group = shlex.split(command), cli
    while words and isinstance(group, click.Group):
        group = group.commands[words.pop(0)]
    with group.make_context(command, words) as context:
        for kind in ("estimator", "objective"):
            for text in context.params.get(kind) or ():
                if ".py::" not in text and "--data-dir" not in command:
                    expand(parse(text), kind)


def forget(file):
    """Have the next command load a user's file again, as a new process would."""
    loaded = {name for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(file)}
    for name in loaded | {file.stem}:
        sys.modules.pop(name, None)


class Follower:
    """Somebody who follows a page from an empty folder."""

    def __init__(self, page, folder, call):
        self.page, self.folder, self.call, self.names = page, folder, call, {"__name__": "__main__"}

    def follow(self, block):
        if block.file:
            file = self.folder / block.file
            file.write_text(block.text)
            forget(file)
        if block.language == PYTHON:
            exec(compile("\n" * block.line + block.text, str(self.page), "exec"), self.names)
        elif block.language == PARSED:
            ast.parse(block.text)
        elif block.language == "toml":
            (read_labels if block.file == "labels.toml" else Spec.read)(self.folder / block.file)
        elif block.language == SHELL:
            for command in commands(block):
                self.type(*command)
        elif block.language == "text":
            assert block.is_made, f"{self.page.name}:{block.line}: output needs a comment that says what made it"
        else:
            assert block.language.startswith("{"), f"{self.page.name}:{block.line}: no rule says how to run this block"

    def type(self, command, code):
        if command.startswith("bench "):
            check_words(command)
        if not is_run(command):
            return
        program, *words = shlex.split(command)
        if program == "bench":
            given = {*words}
            words += [option for name, others, option in SHORT if command[6:].startswith(name) and not others & given]
        if program == "bench":
            done = self.call(*words)
            assert done.code == code, f"{command}: {done.err}"
            return
        assert program == "python3", f"{command}: say in NOT_RUN why it is not run"
        words = [sys.executable, *words, "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)])}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [p for p in PAGES if not p.name.startswith(tuple(OWN_TEST))], ids=lambda p: p.name)
def test_every_block_runs(page, call, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before, follower = set(sys.modules), Follower(page, tmp_path, call)
    for block in blocks(page):
        follower.follow(block)
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("page", STUDIES, ids=lambda p: p.parent.name)
def test_the_command_of_a_study_is_valid(page):
    for command in (command for block in blocks(page) for command, _ in commands(block)):
        if command.startswith("bench "):
            check_words(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_text_are_valid(page):
    """A word in capital letters, three dots or a group of commands stands for something else."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    for command in re.findall(r"`(bench [^`]+)`", text):
        if not re.search(r"\b[A-Z]{2,}\b|\.\.\.", command) and command.split()[1] in cli.commands:
            with contextlib.suppress(click.MissingParameter, click.BadOptionUsage):  # only mentioned
                check_words(command)


def test_every_reason_is_used():
    pages = [block for page in PAGES for block in blocks(page) if block.language == SHELL]
    found = [command for block in pages for command, _ in commands(block)]
    unused = [words for words in NOT_RUN if not any(words in command for command in found)]
    assert not unused
    assert sum(map(is_run, found)) > 10


@pytest.mark.parametrize(
    "command", ["bench run --replicate 5", "bench run -e rlo", "bench list --for", "bench ran -e rloo"]
)
def test_a_command_with_a_mistake_is_found(command):
    with pytest.raises(Exception, match=r"rlo|replicate|for|ran"):
        check_words(command)
