"""The page on audits: its losses are written to files, its commands print what it shows, and its tests pass."""

import re
import shlex
import sys

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "audit.md"


def test_the_page_shows_what_the_command_prints(call, tmp_path, monkeypatch, gradient_check):
    monkeypatch.syspath_prepend(tmp_path)
    command, before, audits, checks = "", set(sys.modules), 0, {}
    for block in blocks(PAGE):
        if block.language == "bash":
            command = block.text.strip()
        elif block.language == "text":
            done = call(*shlex.split(command)[1:])
            assert done.out == block.text, f"docs/audit.md is old at line {block.line}: paste what `{command}` prints"
            audits += 1
        else:
            (tmp_path / block.file).write_text(block.text)
            if block.file.startswith("test_"):
                exec(block.text, checks)
    for check in [value for name, value in checks.items() if name.startswith("test_")]:
        check(gradient_check)
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]
    assert audits == 5
    assert sum(name.startswith("test_") for name in checks) == 2


def test_the_page_explains_every_argument():
    from bench.audit.loss import ARGUMENTS

    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\| `(\w+)` \|", text) == [*ARGUMENTS]
