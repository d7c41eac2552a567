import os
import re
import subprocess
import sys

import click
import pytest

import bench.__main__
from bench.cli import cli
from bench.planning import catalogue as names

HEAVY = {"torch", "pandas", "scipy", "matplotlib", "seaborn", "sklearn", "pydantic", "rich", "numpy"}


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["list"], ["list", "objectives", "--json"], ["run", "--help"], ["report", "--help"]],
)
def test_what_needs_no_library_loads_none(start, words):
    result = start(*words, python=["-X", "importtime"])
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.err.splitlines()}
    assert result.code == 0
    assert result.out
    assert "click" in loaded
    assert not loaded & HEAVY


def test_a_wrong_name_is_reported_without_torch(start):
    result = start("run", "-e", "rlo", python=["-X", "importtime"])
    assert result.code == 2
    assert "Did you mean 'rloo'?" in result.err
    assert not re.search(r"\| +torch$", result.err, re.MULTILINE)


def test_without_words_the_help_is_shown(call):
    assert call() == call("--help")
    assert call().code == 0


def test_every_command_and_option_has_help():
    for command in cli.commands.values():
        assert command.help
        assert all(param.help for param in command.params if isinstance(param, click.Option)), command.name


def test_the_version_is_the_distributions(call):
    from importlib.metadata import version

    assert call("--version").out == f"stochgrad-bench, version {version('stochgrad-bench')}\n"


def test_another_package_called_bench_is_reported(monkeypatch):
    monkeypatch.setattr(bench, "__doc__", "The CLI of another project.")
    with pytest.raises(SystemExit, match=r"is not stochgrad-bench's.*frappe-bench"):
        bench.__main__.main()


def test_names_complete_in_the_shell(start):
    result = start(_BENCH_COMPLETE="bash_complete", COMP_WORDS="bench run -e reinf", COMP_CWORD="3")
    assert result.out.splitlines() == ["plain,reinforce"]
    result = start(_BENCH_COMPLETE="bash_complete", COMP_WORDS="bench run -o ", COMP_CWORD="3")
    known = [*names.catalogue("objective"), *names.aliases("objective")]
    assert result.out.splitlines() == [f"plain,{name}" for name in known]


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "list"],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr
