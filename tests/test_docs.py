"""What the documentation shows is run, and what can drift is generated."""

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parent.parent
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"


def blocks(path, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"))


def bench(*words, cwd):
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_every_python_block_runs(page):
    document = Document.parse(str(page), PythonCodeBlockParser())
    for example in document.examples():
        example.evaluate()


def test_the_training_step_reaches_encoder_and_decoder_and_one_line_changes_it():
    step, change = blocks(README, "python")[:2]
    assert len(step.strip().splitlines()) <= 12
    assert len(change.strip().splitlines()) == 1
    (before,) = [line for line in step.splitlines() if line.startswith("latent, estimator =")]
    for text in (step, step.replace(before, change.strip())):
        names = {}
        exec(text, names)
        for part in ("encoder", "decoder"):
            gradient = names[part].weight.grad
            assert gradient is not None
            assert gradient.abs().sum() > 0


def test_quick_start_is_two_blocks_of_one_command():
    section = README.read_text(encoding="utf-8").split("## Quick start")[1].split("\n## ")[0]
    found = re.findall(r"(?ms)^```bash\n(.*?)^```", section)
    assert len(found) == 2
    assert all(len(block.strip().splitlines()) == 1 for block in found)
    assert "bench run" in found[0]
    assert "pytest" in found[1]


def test_the_worked_example_runs_from_a_users_own_file(tmp_path):
    estimator, conformance = blocks(CONTRIBUTING, "python")
    (tmp_path / "mine.py").write_text(estimator)
    (tmp_path / "test_mine.py").write_text(conformance)
    (command,) = [b for b in blocks(CONTRIBUTING, "bash") if "mine.py" in b]
    words = command.split()[1:]
    done = bench(*words, "--replicates", "500", "--no-timing", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "shrunk:n=4" in done.stdout
    suite = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert suite.returncode == 0, suite.stdout
    assert re.search(r"[1-9]\d* passed", suite.stdout)


def test_contributing_is_short():
    assert len(CONTRIBUTING.read_text(encoding="utf-8").splitlines()) < 60


def test_links_lead_somewhere():
    for page in [README, CONTRIBUTING, *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_catalogue_pages_are_current():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page, make in generate.PAGES.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert text == make(), f"docs/{page} is old: run python docs/generate.py"


def test_ranks_of_the_estimators_are_those_of_the_reference_studys_table():
    sections = re.split(r"(?m)^## ", (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8"))[1:]
    page = {found[1]: text for text in sections if (found := re.search(r"Selector: `([^`]+)`", text))}
    with (ROOT / "results" / "reference" / "table.csv").open(encoding="utf-8", newline="") as file:
        ranked = [row for row in csv.DictReader(file) if row["rank_low"]]
    assert len(ranked) > 50
    for row in ranked:
        lines = page[row["estimator"].partition(":")[0]].splitlines()
        head = next(line for line in lines if line.startswith("| rank by variance"))
        (line,) = [line for line in lines if line.startswith(f"| `{row['problem']}` |")]
        cell = line.split(" | ")[[word.strip(" |") for word in head.split(" | ")].index(f"`{row['estimator']}`")].strip(
            " |"
        )
        low, high = (int(float(row[f"rank_{end}"])) for end in ("low", "high"))
        assert cell.startswith(f"{low} of " if low == high else f"{low}–{high} of ")


def test_every_command_is_documented():
    from bench.cli import cli

    text = "".join(p.read_text(encoding="utf-8") for p in [README, *(ROOT / "docs").glob("*.md")])
    for name in cli.list_commands(None):
        assert f"bench {name}" in text, f"bench {name} is not in the documentation"
