"""The pages of the documentation, cut into blocks of code."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIES = sorted((ROOT / "results").glob("*/README.md"))


class Block(NamedTuple):
    """A block of code: its language with further words, the file that the line above names, its line and its text.

    ``is_made`` tells whether a comment above it says which command made it.
    """

    language: str
    file: str
    line: int
    text: str
    is_made: bool


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page. A line such as "`mine.py`:" above a block says that the block is this file."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block in re.finditer(r"(?ms)^```(\S[^\n]*)\n(.*?)^```$", text):
        above = text[: block.start()].rstrip("\n").rpartition("\n")[2]
        named = re.search(r"`([\w-]+\.(?:py|toml))`[^`]*:$", above) if block[1] != "bash" else None
        line = text.count("\n", 0, block.start()) + 1
        is_made = re.match(r"<!-- \w+: .*-->$", above) is not None
        found.append(Block(block[1], named[1] if named else "", line, block[2], is_made))
    return found


def commands(block: Block) -> list[tuple[str, int]]:
    """Return the commands of a block of shell code, each with its exit code: 0, or the code in a comment behind it."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        text, _, comment = f" {line}".partition(" #")
        said = re.search(r"exit code (\d+)", comment)
        found += [(part.strip(), int(said[1]) if said else 0) for part in text.split("&&") if part.strip()]
    return found
