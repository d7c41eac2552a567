"""What the figures share: the look, small multiples, estimates with their intervals, and the legend."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.report.style import Style, order, styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

Edge = Literal["x", "y"]
"""A coordinate that is zero, and so has no place on a logarithmic axis: what has it is drawn at the axis' low end."""

LOOK: Any = {  # matplotlib types the keys of its settings one by one, and not in every release
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
    "figure.dpi": 150,
    "text.hinting": "no_hinting",  # so that what fits the layout at one resolution fits the file at another
    "text.parse_math": False,  # a dollar sign in a user's label is a dollar sign
    "svg.hashsalt": "bench.report",
    "svg.fonttype": "path",
}
GRID = "#d5d5d5"
MOST_PANELS = 24
LETTERS = 13
"""Letters of a title to an inch."""


def panels(
    problems: Sequence[str], title: str, *, width: float = 3.4, height: float = 2.8, across: int = 4
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with one panel per problem, the problem as its title, at most ``across`` in a row (inches)."""
    from matplotlib.figure import Figure

    columns = min(across, max(len(problems), 1)) if len(problems) != across + 1 else across - 1
    rows = math.ceil(len(problems) / columns)
    figure = Figure(figsize=(max(width * columns, 6.4), height * rows + 1.1), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(problems) :]:
        spare.remove()
    axes = dict(zip(problems, grid, strict=False))
    for problem, ax in axes.items():
        ax.set_title("\n".join(_wrapped(problem, int(width * 12))), loc="left")
    wrapped = "\n".join(
        "\n".join(textwrap.wrap(part, int(figure.get_figwidth() * LETTERS))) for part in title.split("\n")
    )
    figure.suptitle(wrapped, fontsize=9.5, x=0.01, ha="left")
    return figure, axes


def _wrapped(problem: str, width: int) -> list[str]:
    """Break a long label after its name and then between its parameters."""
    if len(problem) <= width:
        return [problem]
    name, _, rest = problem.partition(":")
    return [f"{name}:", *textwrap.wrap(rest.replace(",", ", "), width, break_on_hyphens=False)]


def chosen(table: pd.DataFrame) -> tuple[list[str], str]:
    """Return the problems to draw, at most 24, those with the most runs; and a note where some are left out."""
    counts = table["problem"].value_counts(sort=False)
    if len(counts) <= MOST_PANELS:
        return list(counts.index), ""
    kept = set(counts.sort_values(ascending=False, kind="stable").index[:MOST_PANELS])
    note = f" The {MOST_PANELS} of {len(counts)} objectives with the most estimators."
    return [p for p in counts.index if p in kept], note


def limits(row: Any) -> tuple[float, float, float]:
    """Return the variance to draw with its limits; a lower limit alone stands as (low, low, NaN), open above."""
    value = row.variance_low if math.isnan(row.variance) else row.variance
    return value, row.variance_low, row.variance_high


def mark(ax: Axes, x: float, y: float, row: Any, style: Style, *, edge: Edge | None = None) -> None:
    """Draw an estimate: a filled marker, a hollow one where a bias is not excluded.

    ``edge`` names the coordinate that is zero.
    """
    ax.plot(
        [0 if edge == "x" else x],
        [0 if edge == "y" else y],
        transform=_coordinates(ax, edge),
        clip_on=False,
        linestyle="none",
        zorder=3,
        **look(style, hollow=not row.fair, n=row.n),
    )


def _coordinates(ax: Axes, edge: Edge | None) -> Transform:
    return {None: ax.transData, "x": ax.get_yaxis_transform(), "y": ax.get_xaxis_transform()}[edge]


def look(style: Style, *, hollow: bool = False, n: float = 1.0) -> dict[str, Any]:
    """Return the marker's properties: hollow where a bias is not excluded, larger with more samples n (or NaN)."""
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
    """Draw one half of an interval, from the estimate to a limit."""
    ax.plot(*zip(start, end, strict=True), color=colour, linewidth=1.1, solid_capstyle="butt", zorder=2)


def arrow(
    ax: Axes, x: float, y: float, colour: str, towards: tuple[float, float] = (0, 17), *, edge: Edge | None = None
) -> None:
    """Draw an arrow of fixed length on paper (points): an interval without an end on this side.

    ``edge`` is that of ``mark``, from which the arrow begins.
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
    """Draw a variance over x: marker and error bar, an arrow where it is open above, the low edge where it is zero.

    A heavy tail whose lower limit is zero says nothing: it is an arrow that begins at the edge.
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


def logarithmic(ax: Axes, *, room: float = 0.12) -> None:
    """Make both axes logarithmic, with room at the ends and at least 1.3 decades, so that a tick is always labelled."""
    for interval, axis, scale, limit in (
        (ax.dataLim.intervalx, ax.xaxis, ax.set_xscale, ax.set_xlim),
        (ax.dataLim.intervaly, ax.yaxis, ax.set_yscale, ax.set_ylim),
    ):
        low, high = (math.log10(v) for v in interval)
        spare = max(room * (high - low), (1.3 - (high - low)) / 2, 0.12)
        scale("log")
        limit(10 ** (low - spare), 10 ** (high + spare))
        ticks(axis, decades(low - spare, high + spare))


def decades(low: float, high: float) -> list[float]:
    """Return round values between 10^low and 10^high: powers of ten, or 1, 2 and 5 of them within two decades."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    if high - low < 2:
        values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [v for v in values if low <= math.log10(v) <= high]
    step = math.ceil((high - low) / 6)
    return [10.0**power for power in powers if power % step == 0 and low <= power <= high]


def ticks(axis: Axis, values: Sequence[float]) -> None:
    """Label these values and no others, in plain text: a tenth of the time of matplotlib's own logarithmic labels."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(FixedFormatter([_tick(v) for v in values]))
    axis.set_minor_locator(NullLocator())


def _tick(value: float) -> str:
    if 1e-3 <= value < 1e5:
        return f"{value:,.0f}" if value >= 1 else f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def label(axes: dict[str, Axes], x: str | dict[str, str], y: str) -> None:
    """Name the axes: x under the last panel of every column, or under each panel where it differs, y once."""
    grid = list(axes.values())
    figure = grid[0].get_figure(root=True)
    assert figure is not None
    if isinstance(x, str):
        spec = grid[0].get_subplotspec()
        assert spec is not None
        for ax in grid[-spec.get_gridspec().ncols :]:
            ax.set_xlabel(x)
    else:
        for problem, ax in axes.items():
            ax.set_xlabel(x[problem])
    spec = grid[0].get_subplotspec()
    assert spec is not None
    if spec.get_gridspec().nrows == 1:
        grid[0].set_ylabel("\n".join(textwrap.wrap(y, int(2.6 * LETTERS))), fontsize=9)  # panels are that high
    else:
        figure.supylabel(y, fontsize=9)


def legend(figure: Figure, table: pd.DataFrame, *signs: str) -> None:
    """Put one legend under the figure: every estimator name in the frame, then the named signs."""
    from matplotlib.lines import Line2D

    chosen_styles = styles(list(table["estimator_name"]))
    handles = [
        Line2D([], [], label=name, linestyle="none", **look(chosen_styles[name]))
        for name in order(list(table["estimator_name"]))
    ]
    grey: dict[str, Any] = {"linestyle": "none", "color": "#555555", "markersize": 6.5}
    handles += [Line2D([], [], label=sign, **grey | SIGNS[sign]) for sign in signs]
    columns = max(2, int(figure.get_figwidth() / 2.4))
    lines = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * max(0, lines - 3))  # panels keep their size beside many names
    figure.legend(handles=handles, loc="outside lower left", ncols=min(columns, len(handles)))


SIGNS: dict[str, dict[str, Any]] = {
    "hollow: biased, or not shown to be unbiased": {"marker": "o", "markerfacecolor": "white"},
    "larger: more samples n": {"marker": "o", "markersize": 9},
    "arrow: no upper limit": {"marker": "^", "markersize": 5},
    "at the edge: variance 0, with an arrow: unknown": {"marker": "_", "markersize": 9},
}


def settle(figure: Figure) -> None:
    """Lay the figure out for good: what is drawn later moves nothing, and saving it twice costs one layout."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
