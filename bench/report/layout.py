"""Tables in the width of a terminal: long cells are broken at their joints, and the least important columns dropped."""

import re
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[str]]
SPACES = re.compile(r" (?![^\[(]*[\])])")
"""Spaces outside of brackets."""
JOINTS = re.compile(r"(?<=[:,])(?=[A-Za-z])")
PIECE = re.compile(r".{1,32}", re.DOTALL)
"""A part of a piece that is too long to stay whole."""


def fitting(
    header: Sequence[str], rows: Rows, width: int, dropped_first: Sequence[str], broken_up: Mapping[str, int]
) -> dict[str, int]:
    """Return the columns of a table that fit on a line: the width of each in characters, by name.

    Columns in ``dropped_first`` are left out until the table fits. If the table does not fit even without them, the
    result is wider than the line.

    Args:
        header: the names of the columns.
        rows: the cells of each row.
        width: number of characters of a line. There is a space between two columns.
        dropped_first: the columns that may be left out, in the order in which they go.
        broken_up: the columns whose cells may take several lines, as ``broken`` makes them, each with its least width.
    """
    columns = dict(zip(header, zip(header, *rows, strict=True), strict=True))
    whole = {name: max(map(len, cells)) for name, cells in columns.items()}
    if _length(whole) <= width:
        return whole
    kept = dict(whole)
    for name in kept.keys() & broken_up.keys():
        longest = broken_up[name]
        for cell in sorted({*columns[name]}, key=len, reverse=True):
            if len(cell) <= longest:
                break
            longest = max(longest, *(len(piece) for _, piece in _pieces(cell)))
        kept[name] = min(whole[name], longest)
    for name in dropped_first:
        if _length(kept) > width:
            kept.pop(name, None)
    while _length(kept) < width and (narrow := [name for name, size in kept.items() if size < whole[name]]):
        for name in narrow[: width - _length(kept)]:
            kept[name] += 1
    return kept


def _length(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(widths) - 1


def broken(cell: str, width: int) -> str:
    """Return a cell of a table broken into lines of at most ``width`` characters, joined by line feeds.

    A cell is broken at spaces outside of brackets, and after the colons and commas of a label such as
    ``score-function:n=1,baseline=moving-average``. A piece between two such places is broken only if it is longer than
    32 letters, so a line can be longer than ``width``.
    """
    if len(cell) <= width:
        return cell
    lines = [""]
    for joint, piece in _pieces(cell):
        if lines[-1] and len(lines[-1] + joint + piece) > width:
            lines.append(piece)
        else:
            lines[-1] += joint * bool(lines[-1]) + piece
    return "\n".join(lines)


def shortened(text: str, most: int = 64) -> str:
    """Return a text of at most ``most`` letters: the middle of a longer text is left out."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _pieces(cell: str) -> list[tuple[str, str]]:
    """Return the pieces that a cell cannot be broken in, each with what joins it to the piece before."""
    out = []
    for word in SPACES.split(cell):
        first, *rest = (part for piece in JOINTS.split(word) for part in PIECE.findall(piece) or [""])
        out += [(" ", first), *(("", piece) for piece in rest)]
    return out
