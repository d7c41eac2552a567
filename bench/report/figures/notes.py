"""Short texts beside points, clear of markers, arrows, given lines and other texts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.report.figures.theme import points as scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 6.5
WIDTH, HEIGHT = 4.0, 8.0
"""Width of a character and height of a line of text in points; estimates, so that nothing has to be rendered."""
REACH = 5.0
"""Half the width of a marker, in points."""

PLACES: tuple[tuple[float, float, Literal["left", "center", "right"], Literal["bottom", "center", "top"]], ...] = (
    (5, 3, "left", "bottom"),
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (-5, 4, "right", "bottom"),
    (5, -4, "left", "top"),
    (-5, -4, "right", "top"),
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
)
"""Where a text may go, best first: its offset from the marker in points (1/72 inch), and its alignment there."""

Box = tuple[float, float, float, float]
Steps = Sequence[tuple[float, float]]
"""Corners of a line whose segments run along the axes, in data coordinates."""
CLEAR = 1.0
"""Distance that a text keeps from a line, in points."""


class Point(NamedTuple):
    """A text to be written beside a marker.

    Args:
        x: data coordinate of the marker, positive.
        y: data coordinate of the marker, positive.
        text: a few characters; empty if only the marker must be kept clear.
        colour: colour of the text.
        arrows: ends of the arrows that start at the marker, as offsets from the marker in 1/72 inch.
    """

    x: float
    y: float
    text: str
    colour: str
    arrows: tuple[tuple[float, float], ...] = ()


def annotate(figure: Figure, points: dict[Axes, list[Point]], lines: Mapping[Axes, Steps] | None = None) -> None:
    """Write each text beside its marker, in the first free one of eight places. If no place is free, omit the text.

    Texts keep clear of the bars of intervals, too. The figure's layout must be final.

    Args:
        figure: the figure.
        points: the markers of each panel, with their texts.
        lines: lines of the panels that texts must not cross, each given by its corners in data coordinates.
    """
    scale = 72 / figure.dpi
    size = scaled(1.0)
    for ax, wanted in points.items():
        centres = [scale * ax.transData.transform((p.x, p.y)) for p in wanted]
        starts = [(x, y, p) for (x, y), p in zip(centres, wanted, strict=True)]
        taken = [_around((x, y), (x + dx, y + dy), REACH) for x, y, p in starts for dx, dy in ((0, 0), *p.arrows)]
        corners = [scale * ax.transData.transform(corner) for corner in (lines or {}).get(ax, ())]
        taken += [_around(a, b, CLEAR) for a, b in itertools.pairwise(corners)]
        for bar in (line for line in ax.lines if line.get_linestyle() == "-"):
            (a, b), *between, (c, d) = scale * bar.get_transform().transform(bar.get_xydata())
            if not between and min(abs(a - c), abs(b - d)) < CLEAR:  # lines of equal products run across the panel
                taken.append(_around((a, b), (c, d), CLEAR))
        left, bottom, right, top = (scale * edge for edge in ax.get_window_extent().extents)
        for x, y, point in starts:
            for dx, dy, ha, va in PLACES if point.text else ():
                dx, dy = size * dx, size * dy
                box = _box(x + dx, y + dy, size, len(point.text), ha, va)
                inside = left < box[0] and bottom < box[1] and box[2] < right and box[3] < top
                if inside and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    text = ax.annotate(point.text, point[:2], (dx, dy), textcoords="offset points", ha=ha, va=va)
                    text.set(color=point.colour, fontsize=size * SIZE)
                    break


def _around(start: Iterable[float], end: Iterable[float], margin: float) -> Box:
    """Return the box around an arrow or a segment of a line, with a margin."""
    (x, y), (end_x, end_y) = start, end
    return min(x, end_x) - margin, min(y, end_y) - margin, max(x, end_x) + margin, max(y, end_y) + margin


def _box(x: float, y: float, size: float, characters: int, ha: str, va: str) -> Box:
    width, height = size * WIDTH * characters, size * HEIGHT
    left = x - {"left": 0.0, "center": width / 2, "right": width}[ha]
    bottom = y - {"bottom": 0.0, "center": height / 2, "top": height}[va]
    return left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
