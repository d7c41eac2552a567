"""The pages of the documentation, cut into blocks of code."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIES = sorted((ROOT / "results").glob("*/README.md"))


class Block(NamedTuple):
    """A block of code: its language with further words, the file that the line above names, its line and its text."""

    language: str
    file: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page. A line such as "`mine.py`:" above a block says that the block is this file."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block in re.finditer(r"(?ms)^```(\S[^\n]*)\n(.*?)^```$", text):
        above = text[: block.start()].rstrip("\n").rpartition("\n")[2]
        named = re.search(r"`([\w-]+\.(?:py|toml))`[^`]*:$", above) if block[1] != "bash" else None
        line = text.count("\n", 0, block.start()) + 1
        found.append(Block(block[1], named[1] if named else "", line, block[2]))
    return found


def commands(block: Block) -> list[str]:
    """Return the commands of a block of shell code, without comments."""
    text = re.sub(r"(?m)(^|\s)#.*", "", block.text.replace("\\\n", " "))
    return [part.strip() for part in re.split(r"\n|&&", text) if part.strip()]
