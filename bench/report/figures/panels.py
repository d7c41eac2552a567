"""The parts that figures share: the look, small multiples, estimates with their intervals, and the legend."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

from bench.report.style import GUEST_COLOURS, Style, order, styles

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform
    from numpy.typing import NDArray

Edge = Literal["x", "y"]
"""The axis on which a mark has the value zero. A logarithmic axis has no zero, so its low end is used."""

PAGE = 13.6
"""Width of a page for the screen, in inches: four panels."""
WIDTH: ContextVar[float] = ContextVar("width", default=PAGE)
LEAST, NARROWEST = 2.1, 1.6
"""Least widths of a panel in print, in inches: of few panels, and of five or more."""
LOOK: Any = {  # some releases of matplotlib type every key of its settings, others none
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text in PDF stays text
    "figure.dpi": 150,
    "text.hinting": "no_hinting",  # so that the layout fits at every resolution
    "text.parse_math": False,  # a dollar sign in a user's label is a dollar sign
    "svg.hashsalt": "bench.report",
    "svg.fonttype": "path",
}
GRID = "#d5d5d5"
UNFOUND = "0.72"
MOST_PANELS, FEW_PANELS = 24, 4
"""Most objectives of a figure in which each has a panel, and the panels of a figure of a study that has more."""
MOST_RUNS = 200
"""Most estimators in a panel."""
SPAN, DIAMETER = (165.0, 125.0), 6.5
"""Width and height of the part of a panel that has points, and the diameter of a marker, in 1/72 inch."""
LETTERS = 13
"""Letters of a title per inch."""


def page() -> float:
    """Return the width in inches that a figure of several panels may have."""
    return WIDTH.get()


@contextmanager
def styled(width: float | None) -> Iterator[None]:
    """Give figures that are made inside the block the look of a report, for print if ``width`` in inches is given.

    Figures for print have smaller type, and their title is left to the caption.
    """
    from matplotlib import rc_context

    small = {"font.size": 7, "axes.titlesize": 7.5, "legend.fontsize": 6.5, "axes.labelsize": 7} if width else {}
    token = WIDTH.set(width or PAGE)
    try:
        with rc_context(LOOK | small):
            yield
    finally:
        WIDTH.reset(token)


def points(size: float) -> float:
    """Return the size in points, in print, of type that has ``size`` points on the screen."""
    return size if page() == PAGE else 0.78 * size


def panels(
    problems: Sequence[str], title: str, *, width: float = 3.4, height: float = 2.8, across: int = 4
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each objective in ``problems``, and the axes of each panel by objective.

    The objective's label is the title of its panel, and ``title`` that of the figure. A row has at most ``across``
    panels. ``width`` and ``height`` are the size of a panel, in inches.
    """
    from matplotlib.figure import Figure

    across = min(across, max(1, int(page() / (LEAST if len(problems) < 5 else NARROWEST))))
    rows = math.ceil(max(len(problems), 1) / across)
    columns = math.ceil(max(len(problems), 1) / rows)
    if page() < PAGE:
        height, width = height * min(1.0, page() / across / width), page() / across
        size = (page(), height * rows + 0.9)
    else:
        size = (max(width * columns, 6.4), height * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(problems) :]:
        spare.remove()
    axes = dict(zip(problems, grid, strict=False))
    for problem, ax in axes.items():
        ax.set_title("\n".join(_wrapped(problem, int(width * 12))), loc="left")
    entitle(figure, title)
    return figure, axes


def entitle(figure: Figure, title: str, *, letters: int = LETTERS, size: float = 9.5) -> None:
    """Put the title into the figure's upper left corner, in type of ``size`` points.

    A figure for print has no title, because a paper has captions. In every figure the title is the id, which becomes
    the description in its file. The lines of the title are wrapped at ``letters`` characters per inch of the figure's
    width.
    """
    figure.set_gid(title)  # what the file says of itself
    if page() < PAGE:
        return
    width = int(figure.get_figwidth() * letters)
    lines = [line for part in title.split("\n") for line in textwrap.wrap(part, width)]
    figure.suptitle("\n".join(lines), fontsize=size, x=0.01, ha="left")


def _wrapped(problem: str, width: int) -> list[str]:
    """Break a long label after its name and then between its parameters."""
    if len(problem) <= width:
        return [problem]
    name, colon, rest = problem.partition(":")
    return [*textwrap.wrap(name + colon, width), *textwrap.wrap(rest.replace(",", ", "), width, break_on_hyphens=False)]


def chosen(table: pd.DataFrame) -> tuple[list[str], str]:
    """Return the labels of the objectives to draw, and a note for the title that says whether some were left out.

    If there are more than 24, the 4 on which the most estimators were measured are drawn. The note is empty if none is
    left out. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    counts = table["problem"].value_counts(sort=False)
    if len(counts) <= MOST_PANELS:
        return list(counts.index), ""
    kept = set(counts.sort_values(ascending=False, kind="stable").index[:FEW_PANELS])
    note = f" The {FEW_PANELS} of {len(counts)} objectives with the most estimators."
    return [p for p in counts.index if p in kept], note


def thinned(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the frame with at most 200 runs of each objective, and a note for the title if some are left out.

    Those with the lowest variance times cost are kept, the unbiased first. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns; a run is one measurement of an estimator.
    """
    counts = table["problem"].value_counts(sort=False)
    if counts.empty or counts.max() <= MOST_RUNS:
        return table, ""
    keyed = table.assign(_place=~table["fair"]).sort_values(["_place", "variance_times_cost"], kind="stable")
    kept = table.index.isin(keyed.groupby("problem", sort=False).head(MOST_RUNS).index)
    return table[kept], f" Of each objective, the {MOST_RUNS} estimators with the lowest variance × cost."


def limits(row: Any) -> tuple[float, float, float]:
    """Return the variance to draw for a run, with its lower and its upper limit.

    If only a lower limit is known, the result is (lower limit, lower limit, NaN). ``row`` is the row of the frame for
    the run, a measurement of an estimator on an objective.
    """
    value = row.variance_low if math.isnan(row.variance) else row.variance
    return value, row.variance_low, row.variance_high


def mark(ax: Axes, x: float, y: float, row: Any, style: Style, *, edge: Edge | None = None) -> None:
    """Draw an estimate at (x, y): a filled marker, or a hollow one if a bias is not excluded.

    ``row`` is the row of the frame that has the estimate, and ``style`` the style of its estimator.

    A logarithmic axis has no zero. If x or y is zero, ``edge`` names its axis, and the marker goes to the low end of
    that axis.
    """
    where, marker = _coordinates(ax, edge), look(style, hollow=not row.fair, n=row.n)
    x, y = (0 if edge == "x" else x), (0 if edge == "y" else y)
    above = 4 if style.colour in GUEST_COLOURS else 3  # a user's own estimator is not hidden under another
    ax.plot([x], [y], transform=where, clip_on=False, linestyle="none", zorder=above, **marker)


def unfound(ax: Axes, x: float, bound: float, style: Style, shift: float = 0.0) -> None:
    """Draw a value that was not found: a tick at the panel's lower edge, and a grey bar from there to its upper bound.

    The vertical axis is logarithmic, and its limits do not follow the bar. ``shift`` moves tick and bar aside, in
    1/72 inch.
    """
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    there, edge = ax.transData, ax.get_xaxis_transform()
    aside = ScaledTranslation(shift / 72, 0, ax.get_figure(root=True).dpi_scale_trans)  # type: ignore[union-attr]
    bar = Line2D([x, x], [bound * 1e-40, bound], color=UNFOUND, linewidth=2.2, zorder=1)
    ax.add_artist(bar)
    bar.set_transform(there + aside if shift else there)
    bar.set_clip_path(ax.patch)
    ax.dataLim.update_from_data_x([x], ignore=False)
    at = edge + aside if shift else edge
    ax.plot([x, x], [0, 0.04], transform=at, color=style.colour, linewidth=1.6, zorder=3)


def apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Return the x of each point (x, y), moved to the right where its marker would cover an earlier one.

    Both axes are logarithmic, and as long as the points need. Points with a zero stay where they are.
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


def look(style: Style, *, hollow: bool = False, n: float = 1.0) -> dict[str, Any]:
    """Return matplotlib's properties of a marker, which is larger for an estimator with more samples ``n``.

    NaN counts as one sample. A ``hollow`` marker is filled with white.
    """
    size = 5.5 + min(1.1 * math.log2(n), 5.0) if n > 1 else 5.5
    return {
        "marker": style.marker,
        "color": style.colour,
        "markersize": size,
        "markerfacecolor": "white" if hollow else style.colour,
        "markeredgecolor": style.colour if hollow else "white",
        "markeredgewidth": 1.3 if hollow else 0.6,
    }


def whisker(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """Draw one half of an interval: a line from ``start``, the estimate, to ``end``, a limit, both (x, y)."""
    ax.plot(*zip(start, end, strict=True), color=colour, linewidth=1.1, solid_capstyle="butt", zorder=2)


def arrow(
    ax: Axes, x: float, y: float, colour: str, towards: tuple[float, float] = (0, 17), *, edge: Edge | None = None
) -> None:
    """Draw an arrow that starts at (x, y), to show that an interval has no limit in that direction.

    ``towards`` is the offset of the arrow's tip from (x, y), in typographic points (1/72 inch).

    A logarithmic axis has no zero. If x or y is zero, ``edge`` names its axis, and the arrow starts at the low end of
    that axis.
    """
    ax.annotate(
        "",
        xy=(0 if edge == "x" else x, 0 if edge == "y" else y),
        xycoords=_coordinates(ax, edge),
        xytext=towards,
        textcoords="offset points",
        arrowprops={"arrowstyle": "<|-", "color": colour, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0},
    )


def interval(ax: Axes, x: float, row: Any, style: Style) -> None:
    """Draw a variance at position x: a marker with an error bar, or with an arrow if there is no upper limit.

    ``row`` is the row of the frame that has the variance and its limits. If the tail is heavy, only the lower limit is
    known, and the marker stands there. A value of zero is drawn at the low end of the axis.
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


def logarithmic(ax: Axes, *, room: float = 0.12, straight: bool = False) -> None:
    """Make both axes logarithmic, and long enough that at least one tick has a label: 1.3 decades or more.

    The horizontal axis is left as it is if ``straight``.

    ``room`` is the free space at each end as a fraction of the range of the data, and at least 0.12 decades.
    """
    both = (
        (ax.dataLim.intervaly, ax.yaxis, ax.set_yscale, ax.set_ylim),
        (ax.dataLim.intervalx, ax.xaxis, ax.set_xscale, ax.set_xlim),
    )
    for interval, axis, scale, limit in both[: 1 if straight else 2]:
        known = 0 < interval[0] <= interval[1] < math.inf  # no point may have a value on this axis
        low, high = (math.log10(v) for v in interval) if known else (0.0, 0.0)
        spare = max(room * (high - low), (1.3 - (high - low)) / 2, 0.12)
        scale("log")
        limit(10 ** (low - spare), 10 ** (high + spare))
        ticks(axis, decades(low - spare, high + spare))


def decades(low: float, high: float) -> list[float]:
    """Return round values between 10^low and 10^high: powers of ten; if high − low < 2, also 2 and 5 times them."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    if high - low < 2:
        values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [v for v in values if low <= math.log10(v) <= high]
    step = math.ceil((high - low) / 6)
    return [10.0**power for power in powers if power % step == 0 and low <= power <= high]


def ticks(axis: Axis, values: Sequence[float]) -> None:
    """Put ticks at these values of a logarithmic axis and nowhere else, with labels in plain text such as ``0.1``.

    This is ten times as fast as matplotlib's own logarithmic labels.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FixedFormatter([_tick(v) for v in values]))
    axis.set_minor_locator(NullLocator())


def _tick(value: float) -> str:
    if 1e-3 <= value < 1e5:
        return f"{value:,.0f}" if value >= 10 else f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def label(axes: dict[str, Axes], x: str | dict[str, str], y: str) -> None:
    """Name the axes of a figure of panels: ``y`` once for all panels, ``x`` under the lowest panel of each column.

    If ``x`` is a dictionary with a name for each objective, every panel has the name of its objective below it.
    ``axes`` are the panels' axes by objective.
    """
    grid = list(axes.values())
    figure, spec = grid[0].get_figure(root=True), grid[0].get_subplotspec()
    assert figure is not None
    assert spec is not None
    if isinstance(x, str) and page() < PAGE:
        figure.supxlabel(x, fontsize=points(9))
        names = dict[str, str]()
    else:
        names = dict.fromkeys(list(axes)[-spec.get_gridspec().ncols :], x) if isinstance(x, str) else x
    for problem in axes.keys() & names.keys():
        axes[problem].set_xlabel("\n".join(textwrap.wrap(names[problem], 99 if page() == PAGE else 22)))
    if spec.get_gridspec().nrows == 1:
        grid[0].set_ylabel("\n".join(textwrap.wrap(y, int(2.6 * LETTERS))), fontsize=points(9))  # the height of a panel
    else:
        figure.supylabel(y, fontsize=points(9))


def legend(figure: Figure, table: pd.DataFrame, *signs: str) -> None:
    """Put one legend under the figure: every estimator in ``table``, then ``signs``, texts that explain the markers.

    ``signs`` are keys of ``SIGNS``, such as ``arrow: no upper limit``.
    """
    from matplotlib.lines import Line2D

    names = order(list(table["estimator_name"]))
    chosen = styles(names)
    handles = [Line2D([], [], label=name, linestyle="none", **look(chosen[name])) for name in names]
    grey: dict[str, Any] = {"linestyle": "none", "color": "#555555", "markersize": 6.5}
    handles += [Line2D([], [], label=sign, **grey | SIGNS[sign]) for sign in signs]
    letters = max(len(str(handle.get_label())) for handle in handles)
    columns = (
        max(2, int(figure.get_figwidth() / 2.4)) if page() == PAGE else max(1, int(page() / (0.3 + 0.052 * letters)))
    )
    lines = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * max(0, lines - 3))  # many names take no room from the panels
    figure.legend(handles=handles, loc="outside lower left", ncols=min(columns, len(handles)))


SIGNS: dict[str, dict[str, Any]] = {
    "hollow: biased, or not shown to be unbiased": {"marker": "o", "markerfacecolor": "white"},
    "larger: more samples n": {"marker": "o", "markersize": 9},
    "arrow: no upper limit": {"marker": "^", "markersize": 5},
    "at the edge: variance 0, with an arrow: unknown": {"marker": "_", "markersize": 9},
    "grey bar: no turn was found up to its end": {"marker": "|", "markersize": 9, "color": UNFOUND},
}


def settle(figure: Figure) -> None:
    """Compute the layout and fix it: later drawing moves nothing, and saving does not compute it again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
