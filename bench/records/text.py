"""Text of others, such as the message of an exception, made fit for records, tables, Markdown and terminals."""

import functools
import json
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LONGEST = 500
"""Most characters of a message. Torch can append dozens of lines of C++ frames."""
ESCAPE_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours and movements of the cursor
    r"|(?:\x1b\]|\x9d).*?(?:\x07|\x1b\\|\x9c)"  # titles and links
    r"|\x1b.?",
    re.DOTALL,
)
CPP_FRAMES = re.compile(r"\s*(?:Exception raised from .*|frame #0: .*)", re.DOTALL)
MARKUP = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=\bwww)\.")
"""What Markdown takes for markup; the last two make addresses into links."""
LIBRARIES = sys.stdlib_module_names | {"bench", "estimators", "torch", "numpy"}
"""Top-level modules that are not the user's own."""
DELETE = "\x7f"
"""The control character that JSON writes without an escape."""
BLOCK = re.compile(r"\A(\d*)([#+=.)-])")
"""What makes a heading or a list of the line that it begins."""
FORMULAS = ("=", "+", "-", "@")
"""How the formulas of spreadsheets begin."""
MENTION = re.compile(r"@\w[\w.-]*")


def printable(text: str) -> str:
    """Return a text as one line of printable characters, without the escape sequences of terminals."""
    text = ESCAPE_SEQUENCES.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def cleaned(value: Any) -> Any:
    """Return a value of JSON in which every text, also a key, is one line of printable characters.

    All text from outside is cleaned once, when it is read. Tables, figures and terminals need not clean it again.
    """
    match value:
        case str():
            return value if value.isprintable() else printable(value)
        case list():
            return [cleaned(v) for v in value]
        case dict():
            return {cleaned(k): cleaned(v) for k, v in value.items()}
    return value


def message(text: str) -> str:
    """Return the message of an exception as one printable line of at most 500 characters.

    The C++ frames that torch appends are left out. A message that is too long is cut off, and ends in ``…``.
    """
    line = printable(CPP_FRAMES.sub("", text))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1].rstrip()}…"


def described(error: BaseException) -> str:
    """Return an exception as one printable line: ``ValueError: n is at least 1 (mine.py, line 12)``.

    The line number is the innermost one in the user's own code. If no such code was running, it is the line that raised
    the exception. If the exception would end the program, as ``SystemExit`` does, the text says so.
    """
    name, said = type(error).__name__, message(_text(error))
    ends = not isinstance(error, Exception)
    return (f"{name}({said}), which would end the program" if ends else f"{name}: {said}") + _place(error)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"its message cannot be read ({type(failure).__name__})"


def _place(error: BaseException) -> str:
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [frame for frame in frames if str(frame[0].f_globals.get("__name__")).partition(".")[0] not in LIBRARIES]
    if not frames:
        return ""
    frame, line = (own or frames)[-1]
    return f" ({printable(Path(frame.f_code.co_filename).name)}, line {line})"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names as text: ``a, b, c and 2 more``. At most ``most`` names are written out; the rest are counted."""
    first = ", ".join(names[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first


def on_terminals(text: str) -> str:
    """Return a text of several lines that is safe to print.

    Escape sequences are left out. A space replaces every other character that a terminal obeys or hides; line feeds
    stay.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " for c in ESCAPE_SEQUENCES.sub("", text))


def in_json(document: str) -> str:
    """Return a JSON document that is safe to print: characters that a terminal obeys or hides are escaped.

    The value of the document does not change.
    """
    if document.replace("\n", "").isprintable():
        return document
    return "".join(
        c if c.isprintable() or c == "\n" else "\\u007f" if c == DELETE else json.dumps(c)[1:-1] for c in document
    )


def in_csv(value: Any) -> Any:
    """Return a value for a cell of a CSV file.

    A text that a spreadsheet could take for a formula gets an apostrophe in front.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


@functools.lru_cache
def in_markdown(text: str) -> str:
    """Return a text escaped for Markdown, also inside a table: it is shown as it is, and ``@name`` notifies nobody."""
    parts, end = [], 0
    for mention in MENTION.finditer(text):
        parts += [MARKUP.sub(r"\\\g<0>", text[end : mention.start()]), f"`{mention[0]}`"]
        end = mention.end()
    return BLOCK.sub(r"\1\\\2", "".join([*parts, MARKUP.sub(r"\\\g<0>", text[end:])]))


def in_code(text: str) -> str:
    """Return a text as a code span of Markdown, between backquotes. The text may hold backquotes itself."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * next(n for n in range(1, len(runs) + 2) if n not in runs)
    pad = " " if runs else ""
    return f"{fence}{pad}{text}{pad}{fence}"
