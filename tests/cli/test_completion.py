"""Tab completion, typed into the shells themselves."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

END = "<end>"
LIMIT = 60.0
"""Seconds that a shell may take for one line; a completion takes less than one."""


@pytest.fixture
def folder(tmp_path):
    """A folder with a program ``bench``, a user's file, and settings that make bash complete at the first tab."""
    program = tmp_path / "bin" / "bench"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench "$@"\n')
    program.chmod(0o755)
    (tmp_path / "mine.py").write_text("problem = Expectation(q, f, theta)\n")
    (tmp_path / "inputrc").write_text("set bell-style none\nset enable-bracketed-paste off\n")
    return tmp_path


@pytest.fixture
def bash(folder):
    """Type a line with tabs into an interactive bash, and return the line as it stands when Enter is pressed.

    Enter prints the words of the line instead of running them.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BENCH", "COMP"))}
    own = {"PATH": f"{folder / 'bin'}:{kept['PATH']}", "INPUTRC": str(folder / "inputrc"), "TERM": "dumb"}
    environment = {**kept, **own, "OMP_NUM_THREADS": "1"}
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        os.chdir(folder)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)

    def ask(text):
        os.write(terminal, text.encode())
        said, until = "", time.monotonic() + LIMIT
        while said.count(END) < 1 and time.monotonic() < until:
            if select.select([terminal], [], [], 0.1)[0]:
                said += os.read(terminal, 65536).decode(errors="replace")
        return said

    def typed(line):
        said = ask(f"{line}\n")
        return re.findall(r"\[(.*?)\]" + END, said, re.DOTALL)[-1]

    show = r"printf '[%s]" + END[:2] + "''" + END[2:] + r"\n' "
    ask("PS1=; stty -echo cols 500; " + 'eval "$(bench completion bash)"; ' + show + "ready\n")
    ask('bench() { local IFS="|"; ' + show + '"$*"; }; ' + show + "ready\n")
    yield typed
    os.close(terminal)
    os.kill(child, 9)
    os.waitpid(child, 0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_tab_in_bash_completes_commands_and_selectors(bash):
    for line, expected in [
        ("bench adv\t", "advise"),
        ("bench run -e rl\t", "run|-e|rloo"),
        ("bench run -e disarm:\t4", "run|-e|disarm:n=4"),
        ("bench run -e gumbel-softmax:te\t0.5,1,\t2", "run|-e|gumbel-softmax:temperature=0.5,1,n=2"),
        ("bench run -e vimco:n=2,mean=a\t-o gaussian-c\t", "run|-e|vimco:n=2,mean=arithmetic|-o|gaussian-cosine"),
        ("bench run --estimator=vimco:mean=g\t", "run|--estimator=vimco:mean=geometric"),
        ("bench run -e vimco:mean=\tg\t", "run|-e|vimco:mean=geometric"),
        ("bench run -o ./mi\t\t", "run|-o|./mine.py::problem"),
        ("bench check-objective mine.py::\t", "check-objective|mine.py::problem"),
        ("bench report inp\t", "report|inputrc"),
    ]:  # fmt: skip
        assert bash(line).strip("|") == expected, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_for_a_shell_is_printed_and_valid(call, shell):
    done = call("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_BENCH_COMPLETE" in done.out
    if path := shutil.which(shell):
        checked = subprocess.run([path, "-n"], input=done.out, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_fish_keeps_words_with_commas(call):
    assert 'string split --max 1 ","' in call("completion", "fish").out


def test_another_shell_is_refused(call):
    done = call("completion", "tcsh")
    assert (done.code, "is not one of 'bash', 'zsh', 'fish'" in done.err) == (2, True)
