"""What a worker that has died printed last, and where it was: a sentence for people."""

import re
import sysconfig
from pathlib import Path

from bench.records.text import printable

QUOTED = 3
"""Most lines that a reason quotes."""
PLACE = re.compile(r'^ *File "(.+)", line (\d+) in ', re.MULTILINE)
DUMP = re.compile(
    r"^(?:Fatal Python error: .*|(?:Stack|(?:Current t|T)hread 0x\w+) \(most recent call first\):)$", re.MULTILINE
)
"""The lines of a traceback that Python prints when it crashes or when it is asked where it is, and its first line."""


def last_words(said: str) -> str:
    """Return, in one line, the last lines of ``said``, and the place in the code where the worker process was.

    ``said`` is what the process printed to stderr before it ended. The place is known if Python printed a traceback
    when the process crashed or hung. Of this traceback, the place is the innermost line of the user's own code or, if
    there is no such line, the innermost line of all.
    """
    found = DUMP.search(said)
    before, dump = (said, "") if found is None else (said[: found.start()], said[found.start() :])
    lines = [printable(line) for line in before.splitlines()]
    words = [line for line in lines if line][-QUOTED:]
    if dump.startswith("Fatal"):
        words.append(printable(dump.partition("\n")[0]))
    places = PLACE.findall(dump)
    own = [place for place in places if not _is_library(place[0])]
    if places:
        file, line = (own or places)[0]
        words.append(f"({printable(Path(file).name)}, line {line})")
    return " ".join(words)


def _is_library(file: str) -> bool:
    """Return whether a file belongs to Python, to an installed package or to this program."""
    ours = Path(__file__).parents[2]
    places = (sysconfig.get_path("stdlib"), ours / "bench", ours / "estimators")
    return "site-packages" in file or file.startswith("<") or any(Path(file).is_relative_to(place) for place in places)
