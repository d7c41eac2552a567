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
    result = start(_BENCH_COMPLETE="bash_complete", COMP_LINE="bench run -e reinf", COMP_WORDBREAKS=" =:")
    assert result.out.splitlines() == ["plain,reinforce-plus-plus", "plain,reinforce++", "plain,reinforce"]
    result = start(_BENCH_COMPLETE="bash_complete", COMP_LINE="bench run -o ", COMP_WORDBREAKS=" =:")
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


def test_help_and_version_can_be_asked_for_in_other_words(call):
    assert call("help").out == call("--help").out
    assert call("help", "run").out == call("run", "--help").out
    assert call("help", "rnu").code == 2
    assert call("-V").out == call("--version").out


def test_commands_are_listed_by_use_and_their_lines_are_whole(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = call("--help").out
    assert text.index("\n  run ") < text.index("\n  report ") < text.index("\n  doctor ")
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "rloo", "-o", "gaussian-cosine"], "rloo is an estimator: give it as -e rloo."),
        (["run", "GaussianCosine", "-e", "rloo"], "GaussianCosine is an objective: give it as -o GaussianCosine."),
        (
            ["run", "own.py::Mine", "-e", "rloo"],
            "give an estimator as -e own.py::Mine, and an objective as -o own.py::Mine.",
        ),
        (["run", "-e", "rloo", "n=4"], "as in -e rloo:n=4."),
        (["run", "--samples", "2", "4"], "as in --samples 2,4."),
        (["run", "x.toml", "-e", "rloo", "n=4"], "as in -e rloo:n=4."),
        (["run", "-e", "rloo", "-e", "rloo,disarm"], "Repeat -e: -e rloo -e disarm."),
        (["run", "-e", "rloo:n=2..8"], "Several values are joined by commas, as in n=2,4,8."),
        (["run", "-e", "rloo:n=[2,4]"], "Several values are joined by commas, as in n=2,4,8."),
    ],
)
def test_a_word_in_the_wrong_place_is_answered_with_the_right_one(call, words, hint):
    result = call(*words)
    assert (result.code, result.out) == (2, "")
    assert hint in result.err


def test_what_does_not_fit_is_said_once_and_makes_no_folder(call, tmp_path):
    result = call("run", "-e", "gumbel-softmax", "-o", "gaussian-quadratic")
    assert (result.code, result.out) == (4, "")
    assert result.err.count("GumbelSoftmax") == 1
    assert not list(tmp_path.iterdir())
    assert call("train", "-e", "gumbel-softmax", "-o", "gaussian-quadratic").code == 4
    assert not list(tmp_path.iterdir())


def test_n_is_another_name_of_samples(call):
    words = ("-e", "rloo", "-o", "gaussian-cosine", "--replicates", "64", "--no-timing", "--quiet")
    assert call("run", *words, "--n", "4").out == call("run", *words, "--samples", "4").out


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_leads_to_nowhere(tmp_path, closed):
    words = f"{sys.executable} -m bench run -e rloo -o qubo:dim=3 --replicates 64 --no-timing --out here {closed}"
    assert subprocess.run(["bash", "-c", words], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "here" / "records.jsonl").read_text().count("\n") == 1
