"""Every exit code and environment variable is on its page, and every code can be had."""

import ast
import re
import shlex

import click
import numpy as np
import pytest

from bench.cli import cli
from bench.cli.errors import ExitCode
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
CODES = {
    command: tuple(map(int, codes.split(", ")))
    for command, codes in re.findall(r"(?m)^\| `(bench [^`]+)` \| ([\d, ]+) \|$", TEXT)
}
NO_FIT = "-e disarm -o gaussian-quadratic:dim=2"
BROKEN = "-e ./mine.py::Broken -o gaussian-quadratic:dim=2"
RUN = "bench run -e rloo:n=2 -o gaussian-quadratic:dim=2 --replicates 300 --no-timing --out"
SAVE = "bench baseline save ci -e rloo:n=2 -o gaussian-quadratic:dim=2 --replicates 1000"
SAVE_FINE = "bench baseline save ci -e ./mine.py::Fine -o gaussian-quadratic:dim=2 --replicates 1000"
SPOIL = "spoil results/baselines/ci.json"
PASS_ON = ("worker.py", "beginning.py", "forking.py")
"""Modules that hand the whole environment to a worker process, and read no variable of it."""
WAYS = {
    ("run", 1): f"bench run {BROKEN} --replicates 300 --no-timing",
    ("run", 2): "bench run -e rlo",
    ("run", 4): f"bench run {NO_FIT}",
    ("run", 5): f"{RUN} s; spoil s/records.jsonl; {RUN} s",
    ("report", 2): "bench report nowhere",
    ("report", 5): f"{RUN} s; spoil s/records.jsonl; bench report s",
    ("compare", 2): "bench compare nowhere .",
    ("compare", 4): f"{RUN} s; bench run -e rloo:n=2 -o qubo --replicates 300 --no-timing --out t; bench compare s t",
    ("compare", 5): f"{RUN} s; spoil s/records.jsonl; bench compare s s",
    ("export", 2): "bench export nowhere",
    ("export", 5): f"{RUN} s; spoil s/records.jsonl; bench export s",
    ("verify", 2): "bench verify nowhere",
    ("verify", 5): f"{RUN} s; spoil s/records.jsonl; bench verify s",
    ("merge", 2): "bench merge nowhere -o s",
    ("merge", 5): f"{RUN} s; spoil s/records.jsonl; bench merge s -o t",
    ("list", 2): "bench list rlo",
    ("train", 1): f"bench train {BROKEN} --steps 2 --seeds 1",
    ("train", 2): "bench train -e rloo",
    ("train", 4): f"bench train {NO_FIT}",
    ("train", 5): f"{RUN} s; spoil s/records.jsonl; bench train -e rloo:n=2 -o qubo --steps 2 --seeds 1 --out s",
    ("advise", 2): "bench advise -o rlo",
    ("advise", 4): f"bench advise {NO_FIT}",
    ("audit", 1): "bench audit mine.py::broken_loss",
    ("audit", 2): "bench audit mine.py::loss",
    ("measure", 2): "bench measure --gradients nowhere.npy",
    ("measure", 5): f"{RUN} s; spoil s/records.jsonl; numbers g.npy; bench measure --gradients g.npy --out s",
    ("baseline save", 1): f"bench baseline save ci {BROKEN} -e rloo:n=2 --replicates 300",
    ("baseline save", 2): "bench baseline save ci -e rlo",
    ("baseline save", 4): f"bench baseline save ci {NO_FIT}",
    ("baseline save", 5): f"{RUN} s; spoil s/records.jsonl; bench baseline save ci --from s",
    ("baseline list", 2): "bench baseline list --jsn",
    ("baseline list", 5): f"{SAVE}; {SPOIL}; bench baseline list",
    ("baseline show", 2): "bench baseline show ci",
    ("baseline show", 5): f"{SAVE}; {SPOIL}; bench baseline show ci",
    ("baseline promote", 2): "bench baseline promote ci",
    ("baseline promote", 1): f"{SAVE} -e ./mine.py::Fine; break; bench baseline promote ci",
    ("baseline promote", 4): f"{SAVE_FINE}; remove; bench baseline promote ci",
    ("baseline promote", 5): f"{SAVE}; {SPOIL}; bench baseline promote ci",
    ("check", 1): f"{SAVE} -e ./mine.py::Fine; break; bench check --baseline ci",
    ("check", 2): "bench check --baseline ci",
    ("check", 3): f"{SAVE_FINE}; remove; bench check --baseline ci",
    ("check", 4): f"{SAVE}; bench check --baseline ci {NO_FIT}",
    ("check", 5): f"{SAVE}; {SPOIL}; bench check --baseline ci",
    ("check-objective", 2): "bench check-objective rlo",
    ("doctor", 2): "bench doctor --jsn",
    ("new", 2): "bench new estimator mine.py",
    ("completion", 2): "bench completion tcsh",
}
"""For each command and code, commands of which the last one ends with the code."""
MINE = """
from dataclasses import dataclass
from pathlib import Path

from estimators import RLOO


@dataclass(frozen=True)
class Fine(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        if Path("broken").exists():
            raise RuntimeError("broken")
        return super().__call__(f, q, generator, state)


def broken_loss(logp, rewards):
    raise RuntimeError("broken")


@dataclass(frozen=True)
class Broken(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        raise RuntimeError("broken")
"""


def test_every_exit_code_is_explained():
    assert re.findall(r"(?m)^\| (\d+) \| ([A-Z]+) \|", TEXT) == [(str(int(code)), code.name) for code in ExitCode]


def test_every_command_has_its_codes_and_every_code_has_a_way():
    names = {name: command for name, command in cli.commands.items() if not command.hidden}
    for name, group in list(names.items()):
        if isinstance(group, click.Group):
            del names[name]
            names |= {f"{name} {sub}": command for sub, command in group.commands.items()}
    assert {f"bench {name}" for name in names} == set(CODES)
    assert {(command.removeprefix("bench "), code) for command, codes in CODES.items() for code in codes} == set(WAYS)
    for name, command in names.items():
        said = re.split(r"Exit codes?:", command.epilog or "")[1:]
        found = {int(code) for text in said for code in re.findall(r"(?:^|, )\s*(\d+) ", text.split("\n\n")[0])}
        assert found - {0, 129, 130, 143} <= set(CODES[f"bench {name}"]), name


@pytest.mark.parametrize(("command", "code"), WAYS, ids=lambda value: str(value))
def test_every_code_can_be_had(command, code, call, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    for step in WAYS[command, code].split("; "):
        program, *words = shlex.split(step)
        if program == "bench":
            done = call(*words)
        elif program == "spoil":
            (tmp_path / words[0]).write_text('{"schema": 99}\n')
        elif program == "numbers":
            np.save(tmp_path / words[0], np.eye(64))
        elif program == "break":
            (tmp_path / "broken").touch()
        elif program == "remove":
            mine.unlink()
    assert done.code == code, done.err
    assert done.err.count("\n") < 12
    assert "Traceback" not in done.err


def names_of_variables(path):
    """Yield the environment variables that a module reads or sets, and those that click reads for it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }
    seen = 0
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found = [node.slice]
        elif isinstance(node, ast.Call) and re.fullmatch(r"os\.(getenv|environ\.\w+)", ast.unparse(node.func)):
            found = node.args[:1]
        seen += len(found)
        if isinstance(node, ast.Call):
            found = found + [keyword.value for keyword in node.keywords if keyword.arg == "envvar"]
        for name in found:
            yield constants[name.id] if isinstance(name, ast.Name) else ast.literal_eval(name)
    places = len(re.findall(r"\bgetenv\b|\benviron\b", ast.unparse(tree)))
    assert seen == places, f"{path.name} uses the environment in a form that this test does not read"


def test_every_environment_variable_is_documented_and_no_other():
    rows = re.findall(r"(?m)^\| ((?:`\w+`(?:, )?)+) \| (\w+) \|", TEXT)
    documented = {name: reader for names, reader in rows for name in re.findall(r"\w+", names)}
    found = [path for package in ("bench", "estimators") for path in (ROOT / package).rglob("*.py")]
    sources = [path for path in found if path.name not in PASS_ON]
    read = {name for path in sources for name in names_of_variables(path)}
    by_libraries = {name for name, reader in documented.items() if reader in ("click", "rich")}
    assert documented.keys() - by_libraries == read
    assert not by_libraries & read
    assert len(read) > 5


def test_a_variable_stands_for_an_option_as_the_page_says(monkeypatch):
    for name, value, command, option, expected in (
        ("BENCH_RUN_SEED", "1", "run", "seed", 1),
        ("BENCH_RUN_NO_TIMING", "1", "run", "no_timing", True),
        ("BENCH_RUN_ESTIMATOR", "rloo:n=4 disarm", "run", "estimator", ("rloo:n=4", "disarm")),
    ):
        assert name in TEXT
        monkeypatch.setenv(name, value)
        with cli.commands[command].make_context(command, [], auto_envvar_prefix="BENCH_RUN") as context:
            assert context.params[option] == expected
