"""What figures draw in a panel: estimates with their intervals, what was not found, and the legend of these signs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.report.figures.theme import PAGE, in_lines, page, points
from bench.report.style import GUEST_COLOURS, Style, order, styles

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform
    from numpy.typing import NDArray

Edge = Literal["x", "y"]
"""The axis on which a mark has the value zero. A logarithmic axis has no zero, so its low end is used."""
UNFOUND = "0.72"
LARGER = {"*": 1.5}
"""Factors of the size of markers that have little area."""
SPAN, DIAMETER = (165.0, 125.0), 6.5
"""Width and height of the part of a panel that has points, and the diameter of a marker, in 1/72 inch."""


def limits(row: Any) -> tuple[float, float, float]:
    """Return the variance to draw for a run, with its lower and its upper limit.

    If only a lower limit is known, the result is (lower limit, lower limit, NaN). ``row`` is the run, one measurement
    of an estimator, as a row of the frame of ``bench.report.prepared.prepared``.
    """
    value = row.variance_low if math.isnan(row.variance) else row.variance
    return value, row.variance_low, row.variance_high


def mark(ax: Axes, x: float, y: float, row: Any, style: Style, *, edge: Edge | None = None) -> None:
    """Draw an estimate at (x, y): a filled marker, or a hollow one if the estimator may be biased.

    ``row`` is the measurement, as a row of the frame of ``bench.report.prepared.prepared``, and ``style`` the style of
    its estimator. A logarithmic axis has no zero. If x or y is zero, ``edge`` is "x" or "y", and the marker is drawn at
    the low end of this axis.
    """
    where, shape = _coordinates(ax, edge), marker(style, hollow=not row.fair, n=row.n)
    x, y = (0 if edge == "x" else x), (0 if edge == "y" else y)
    above = 4 if style.colour in GUEST_COLOURS else 3  # a user's own estimator is not hidden under another
    ax.plot([x], [y], transform=where, clip_on=False, linestyle="none", zorder=above, **shape)


def unfound(ax: Axes, x: float, bound: float, style: Style, shift: float = 0.0) -> None:
    """Draw a quantity that has only an upper bound: a tick at the panel's lower edge, and a grey bar up to the bound.

    The quantity belongs to x on the horizontal axis, and ``style`` has the colour of the tick. The vertical axis is
    logarithmic, and its limits do not follow the bar. ``shift`` moves tick and bar sideways, in 1/72 inch.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    there, edge = ax.transData, ax.get_xaxis_transform()
    aside = ScaledTranslation(shift / 72, 0, ax.figure.dpi_scale_trans)
    bar = Line2D([x, x], [bound * 1e-40, bound], color=UNFOUND, linewidth=2.2, zorder=1)
    ax.add_artist(bar)
    bar.set_transform(there + aside if shift else there)
    bar.set_clip_path(ax.patch)
    ax.dataLim.update_from_data_x([x], ignore=False)
    at = edge + aside if shift else edge
    ax.plot([x, x], [0, 0.04], transform=at, color=style.colour, linewidth=1.6, zorder=3)


def apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Return the x of each point (x, y) in ``places``, moved to the right if its marker would cover an earlier marker.

    Both axes are logarithmic, and just long enough for the points. Points with x or y = 0 are not moved.
    """
    import numpy as np

    positive = [place for place in places if min(place) > 0]
    if not positive:
        return [x for x, _ in places]
    logs = np.log10(positive)
    unit = np.maximum(np.ptp(logs, axis=0), 1.0) / SPAN * DIAMETER * (1.0 if page() == PAGE else 1.8)
    drawn: list[NDArray[np.float64]] = []
    moved = []
    for place in places:
        at = np.log10(place) / unit if min(place) > 0 else None
        while at is not None and any((np.abs(at - other) < 0.95).all() for other in drawn):
            at = at + np.array([1.0, 0.0])
        drawn += [] if at is None else [at]
        moved.append(place[0] if at is None else float(10 ** (at[0] * unit[0])))
    return moved


def _coordinates(ax: Axes, edge: Edge | None) -> Transform:
    return {None: ax.transData, "x": ax.get_yaxis_transform(), "y": ax.get_xaxis_transform()}[edge]


def marker(style: Style, *, hollow: bool = False, n: float = 1.0) -> dict[str, Any]:
    """Return matplotlib's properties of a marker in a style. The marker grows with the number ``n`` of samples.

    NaN counts as one sample. A ``hollow`` marker is filled with white.
    """
    size = 5.5 + min(1.1 * math.log2(n), 5.0) if n > 1 else 5.5
    return {
        "marker": style.marker,
        "color": style.colour,
        "markersize": size * LARGER.get(str(style.marker), 1.0),
        "markerfacecolor": "white" if hollow else style.colour,
        "markeredgecolor": style.colour if hollow else "white",
        "markeredgewidth": 1.3 if hollow else 0.6,
    }


def whisker(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """Draw one half of an interval: a line from the estimate at ``start`` to the limit at ``end``, both (x, y).

    ``colour`` is the colour of the line, hexadecimal RGB.
    """
    ax.plot(*zip(start, end, strict=True), color=colour, linewidth=1.1, solid_capstyle="butt", zorder=2)


def arrow(
    ax: Axes, x: float, y: float, colour: str, towards: tuple[float, float] = (0, 17), *, edge: Edge | None = None
) -> None:
    """Draw an arrow that starts at (x, y), to show that an interval has no limit in this direction.

    ``towards`` is the offset of the arrow's tip from (x, y), in 1/72 inch. In print, the arrow is shorter. A
    logarithmic axis has no zero. If x or y is zero, ``edge`` is "x" or "y", and the arrow starts at the low end of this
    axis.
    """
    ax.annotate(
        "",
        xy=(0 if edge == "x" else x, 0 if edge == "y" else y),
        xycoords=_coordinates(ax, edge),
        xytext=(points(towards[0]), points(towards[1])),
        textcoords="offset points",
        arrowprops={"arrowstyle": "<|-", "color": colour, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0},
    )


def interval(ax: Axes, x: float, row: Any, style: Style) -> None:
    """Draw a variance at position x: a marker with an error bar, or with an arrow if there is no upper limit.

    ``row`` is the measurement, as a row of the frame of ``bench.report.prepared.prepared``, and ``style`` the style of
    its estimator. If the tail is heavy, only the lower limit is known, and the marker is at this limit. A value of zero
    is drawn at the low end of the axis.
    """
    value, low, high = limits(row)
    if value == 0:
        mark(ax, x, 0, row, style, edge="y")
        if row.heavy:
            arrow(ax, x, 0, style.colour, edge="y")
        return
    mark(ax, x, value, row, style)
    if low > 0:
        whisker(ax, (x, value), (x, low), style.colour)
    if math.isnan(high):
        arrow(ax, x, value, style.colour)
    else:
        whisker(ax, (x, value), (x, high), style.colour)


def legend(figure: Figure, table: pd.DataFrame, *signs: str) -> None:
    """Put one legend under the figure: every estimator in ``table``, then ``signs``, texts that explain the markers.

    ``signs`` are keys of ``SIGNS``, such as ``arrow: no upper limit``.
    """
    from matplotlib.lines import Line2D

    names = order(list(table["estimator_name"]))
    chosen = styles(names)
    handles = [Line2D([], [], label=in_lines(name), linestyle="none", **marker(chosen[name])) for name in names]
    grey: dict[str, Any] = {"linestyle": "none", "color": "#555555", "markersize": 6.5}
    handles += [Line2D([], [], label=sign, **grey | SIGNS[sign]) for sign in signs]
    written = [str(handle.get_label()).split("\n") for handle in handles]
    letters = max(len(line) for lines in written for line in lines)
    most = max(map(len, written))
    if page() < PAGE:
        columns = max(1, int(page() / (0.3 + 0.052 * letters)))
    elif most > 1:
        columns = max(1, int(figure.get_figwidth() / (0.4 + 0.072 * letters)))
    else:
        columns = max(2, int(figure.get_figwidth() / 2.4))
    lines = most * -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * max(0, lines - 3))  # many names take no room from the panels
    figure.legend(handles=handles, loc="outside lower left", ncols=min(columns, len(handles)))


SIGNS: dict[str, dict[str, Any]] = {
    "hollow: biased, or not shown to be unbiased": {"marker": "o", "markerfacecolor": "white"},
    "larger: more samples n": {"marker": "o", "markersize": 9},
    "arrow: no upper limit": {"marker": "^", "markersize": 5},
    "at the edge: variance 0, with an arrow: unknown": {"marker": "_", "markersize": 9},
    "grey bar: no turn was found up to its end": {"marker": "|", "markersize": 9, "color": UNFOUND},
}
