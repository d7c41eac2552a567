"""The pages with whole models, followed letter by letter from an empty folder."""

import re
import sys
from pathlib import Path

import pytest
import torch

from bench.measurement.objective_checks import CHECKS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("model-*.md"))
SHORTER = {"run": ("--replicates", "300", "--no-timing"), "train": ("--steps", "3", "--seeds", "1")}
"""Options that make the commands of a page faster; the last value of an option counts."""


def blocks(page, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"))


@pytest.fixture
def written(request, tmp_path, monkeypatch):
    """The folder with the file that a page shows; its name is free for imports, and forgotten afterwards."""
    (text,) = blocks(request.param, "python")
    name = re.search(r"(?m)^`(\w+)\.py`:$", request.param.read_text(encoding="utf-8"))[1]
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield request.param
    sys.modules.pop(name, None)


def test_there_are_four_models():
    assert [page.stem for page in PAGES] == ["model-experts", "model-layers", "model-policy", "model-vae"]
    guide = (DOCS / "your-objective.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in guide for page in PAGES)


@pytest.mark.parametrize("written", PAGES, indirect=True, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(written, call):
    commands = [line.split() for text in blocks(written, "bash") for line in text.splitlines()]
    assert [words[:2] for words in commands] == [["bench", name] for name in ("check-objective", "run", "train")]
    for _, command, *words in commands:
        done = call(command, *words, *SHORTER.get(command, ()))
        assert done.code == 0, done.err
        assert "not applicable" not in done.out
        assert "Warning" not in done.err
        if command == "check-objective":
            assert len(done.out.splitlines()) == 1 + len(CHECKS)


@pytest.mark.parametrize("written", PAGES, indirect=True, ids=lambda page: page.stem)
def test_measuring_and_training_in_python_work(written, capsys):
    measuring, training = blocks(written, "python no-run")
    exec(measuring, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert [line for line in lines if "bias BIASED" in line and "straight-through" not in line] == []
    losses = []
    for steps in ("range(1)", r"\g<0>"):
        torch.manual_seed(0)
        names = {}
        exec(re.sub(r"range\(\d+\)(?=:$)", steps, training, flags=re.MULTILINE), names)
        losses.append(names["loss"].item())
    assert losses[1] < losses[0]
