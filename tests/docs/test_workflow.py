"""The example of a workflow for GitHub Actions: its form, and its steps, run for a small library without GitHub."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, blocks

TEXT = (ROOT / "docs" / "github-actions.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)
JOBS = WORKFLOW["jobs"]
RUNS = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
STUB = """#!/bin/sh
echo "$(basename "$0")" "$@" >> "$CALLED"
case "$*" in *--paginate*) cat "$KNOWN";; esac
"""


@pytest.fixture
def library(call, tmp_path, tmp_path_factory, monkeypatch):
    """The library of docs/guard.md, under version control with a remote, and programs that only note their words."""
    first, second = (block.text for block in blocks(ROOT / "docs" / "guard.md") if block.file == "mine.py")
    (spec,) = (block.text for block in blocks(ROOT / "docs" / "guard.md") if block.file == "gradients.toml")
    (tmp_path / "mine.py").write_text(first)
    (tmp_path / "broken.py").write_text(second)
    (tmp_path / "gradients.toml").write_text(f"replicates = 512\n{spec}")
    (tmp_path / "stubs").mkdir()
    for name in ("python", "gh"):
        (tmp_path / "stubs" / name).write_text(STUB)
        (tmp_path / "stubs" / name).chmod(0o755)
    (tmp_path / "known").touch()
    assert call("baseline", "save", "ci", "gradients.toml", "--replicates", 10_000).code == 0
    origin = tmp_path_factory.mktemp("origin")
    for words in (
        f"init -q -b main --bare {origin}",
        "init -q -b main",
        f"remote add origin {origin}",
        "add mine.py gradients.toml results",
        "-c user.name=a -c user.email=a@b commit -qm first",
        "push -q origin main",
    ):
        subprocess.run(["git", *words.split()], check=True, cwd=tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'stubs'}{os.pathsep}{os.environ['PATH']}")
    for name, value in (
        ("CALLED", "called"),
        ("KNOWN", "known"),
        ("GITHUB_STEP_SUMMARY", "summary.md"),
        ("GITHUB_RUN_ID", "7"),
        ("GITHUB_REF_NAME", "main"),
        ("GITHUB_ACTIONS", "true"),
        ("NUMBER", "3"),
        ("GH_REPO", "me/mine"),
        *((name, str(value)) for name, value in WORKFLOW["env"].items()),
    ):
        monkeypatch.setenv(name, value)
    return call


def follow(call, job):
    """Run the steps of a job, and return the exit codes by command: bench in this process, all else in a shell."""
    codes = {}
    for step in JOBS[job]["steps"]:
        command = step.get("run", "")
        if command.startswith("bench "):
            words, _, file = command.partition(" > ")
            done = call(*shlex.split(words)[1:])
            codes[" ".join(words.split()[:3])] = done.code
            if file:
                Path(file).write_text(done.out)
        elif command:
            subprocess.run(["bash", "-e", "-c", command], check=True)
    return codes


def called():
    """Return the calls of the programs that only note their words, one in each line."""
    return Path("called").read_text().splitlines()


def test_the_form_is_that_of_a_workflow():
    assert "\t" not in TEXT
    assert set(WORKFLOW) == {"name", True, "permissions", "concurrency", "env", "jobs"}  # YAML reads "on" as true
    assert set(WORKFLOW[True]) == {"pull_request", "push", "workflow_dispatch"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert JOBS["check"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert JOBS["promote"]["permissions"] == {"contents": "write", "pull-requests": "write"}
    for job in JOBS.values():
        assert set(job) == {"if", "runs-on", "timeout-minutes", "permissions", "steps"}
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert set(step) <= {"name", "if", "env", "uses", "with", "run"}
            assert "always()" not in step.get("if", "")  # a cancelled run must not write the comment of a newer one
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/x@v1"))


@pytest.mark.parametrize("script", sorted(set(RUNS)))
def test_the_shell_reads_every_script(script):
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "${{" not in script  # what others write, such as the name of a branch, must not become code


def test_the_steps_check_report_comment_and_promote(library):
    codes = {"bench check --baseline": 0, "bench run gradients.toml": 0, "bench report gradients": 0}
    assert follow(library, "check") == codes
    assert called() == [
        "python -m pip install torch",
        f"python -m pip install stochgrad-bench @ git+{WORKFLOW['env']['REPOSITORY']} -e .",
        "gh api --paginate repos/me/mine/issues/3/comments --jq "
        '.[] | select(.user.login == "github-actions[bot]" and (.body | startswith("<!-- stochgrad-bench -->"))) | .id',
        "gh pr comment 3 --body-file comment.md",
    ]
    report = Path("gradients.md").read_text()
    assert report.startswith("### ✅ `bench check`: passed: 1 identical")
    assert Path("summary.md").read_text() == report
    assert Path("comment.md").read_text() == f"<!-- stochgrad-bench -->\n{report}"
    assert all(Path(path).exists() for path in JOBS["check"]["steps"][-1]["with"]["path"].split())
    assert Path("gradients/report.html").exists()
    follow(library, "promote")
    assert not any("pr create" in line for line in called())  # nothing has changed

    Path("mine.py").write_text(Path("broken.py").read_text())
    Path("known").write_text("12\n13\n")
    Path("called").unlink()
    assert follow(library, "check") == codes | {"bench check --baseline": 3}
    assert called()[-1] == "gh api --method PATCH repos/me/mine/issues/comments/12 --field body=@comment.md"
    assert "| **biased** | `mine.py::Mine:n=4` |" in Path("comment.md").read_text()

    assert follow(library, "promote") == {"bench baseline promote": 0}
    title = "--title Promote the baseline ci --body-file body.md"
    assert called()[-1] == f"gh pr create --base main --head promote-baseline-7 {title}"
    pushed = subprocess.run(
        ["git", "diff", "--name-only", "origin/main", "origin/promote-baseline-7"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert pushed.stdout == "results/baselines/ci.json\n"
    assert "changed  mine.py::Mine:n=4 on" in Path("body.md").read_text()
