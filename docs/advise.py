"""Puts the output of `bench advise` into the pages: ``python docs/advise.py``, from the repository's root.

A page has a line ``<!-- advise: COMMAND -->``; below it comes what the command printed. Before the command runs, the
files that the page shows are written to an empty folder: every block of Python below a line that ends in ``NAME.py`:``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MARK = re.compile(r"(<!-- advise: bench (?P<words>.+?) -->\n)(?:\n```text\n.*?```\n)?", re.DOTALL)
SHOWN = re.compile(r"`(?P<name>\w+\.py)`:\n\n```python[^\n]*\n(?P<code>.*?)```", re.DOTALL)


def filled(page: str) -> str:
    """Return a page with the output of its commands."""
    with tempfile.TemporaryDirectory() as folder:
        for shown in SHOWN.finditer(page):
            (Path(folder) / shown["name"]).write_text(shown["code"], encoding="utf-8")

        def printed(mark: re.Match[str]) -> str:
            command = [sys.executable, "-m", "bench", *mark["words"].split(), "--quiet"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            return f"{mark[1]}\n```text\n{done.stdout.rstrip()}\n```\n"

        return MARK.sub(printed, page)


def main() -> None:
    """Fill all pages."""
    for path in sorted(HERE.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if MARK.search(page):
            path.write_text(filled(page), encoding="utf-8")
            print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main()
