"""Figures of training: the value of the objective, the variance of the gradient by step, and pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.curves import Array, Curves, Problem, picture
from bench.report.figures.log_axes import decades, ticks
from bench.report.figures.panels import LETTERS, entitle
from bench.report.figures.theme import GRID, LETTER, PAGE, called, page, points
from bench.report.layout import broken
from bench.report.style import Style, variants
from bench.stats.seeds import across_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 12  # the best estimators of a problem, which have their pictures drawn
PRINTED, SMALL = 1.5, 5.0
"""Height of a panel in print, and width of a page that holds two panels side by side, in inches."""
AXES = ("steps of the optimizer", "evaluations of f per batch element", "seconds of training")


def curves(problems: Sequence[Problem]) -> Figure | None:
    """Draw how training went, in four panels for each problem (an objective with its training settings).

    Three panels show the value of the objective at the checkpoints: against steps, evaluations of f and seconds. The
    fourth shows, against steps, the values of f that the estimator itself saw in training. Return None if there is no
    problem.
    """
    if not problems:
        return None
    title = (
        f"The objective in training. {_lines(problems)}\n"
        "Last column: the value that training itself sees, a mean over the steps between two checkpoints. Values far "
        "worse than the final ones are cut off." + _crosses(problems)
    )
    figure, grid = _grid(problems, 4, title)
    for problem, row in zip(problems, grid, strict=True):
        look = variants({c.estimator: c.name for c in problem.curves})
        for ax, name, x in zip(row, AXES, ("step", "evaluations", "seconds"), strict=False):
            for c in problem.curves:
                _draw(ax, getattr(c, x), c.value, look[c.estimator], c)
            _across(ax, name)
            _from_zero(ax, [getattr(c, x) for c in problem.curves])
        for c in problem.curves:
            _draw(row[3], c.step[1:], c.training_value[:, 1:], look[c.estimator], c)
        _across(row[3], AXES[0])
        _from_zero(row[3], [c.step for c in problem.curves])
        limits = window(problem)
        for ax in row:
            ax.set_ylim(limits)
            ax.tick_params(labelleft=page() == PAGE or ax.get_subplotspec().is_first_col())
        row[0].set_title(called(problem.title), loc="left")
        held_out, better = ", held-out" if problem.line["held_out"] else "", "larger" if problem.maximise else "smaller"
        row[0].set_ylabel(_upright(f"objective{held_out} ({better} is better)"))
        row[3].set_ylabel("value of f in training")
        _legend(row)
    return figure


def _lines(problems: Sequence[Problem]) -> str:
    """Return what lines and bands mean; with one seed there are no bands."""
    finals = [c.final for p in problems for c in p.curves]
    levels = sorted({round(100 * final.level, 1) for final in finals} - {0.0})
    if not levels:
        return "Lines: the one run of each estimator."
    if any(final.is_range for final in finals):
        return "Lines: median over seeds; dotted: their interquartile mean. Bands: range of fewer than 6 seeds."
    return (
        "Lines: median over seeds; dotted: their interquartile mean. Bands: interval of the median by order "
        f"statistics, of level {' or '.join(f'{v:g}' for v in levels)} %."
    )


def _crosses(problems: Sequence[Problem]) -> str:
    return " ×: most runs have diverged soon after." if any(c.diverged for p in problems for c in p.curves) else ""


def _from_zero(ax: Axes, xs: Sequence[Array]) -> None:
    """Begin the x axis at zero, with room for a marker, and end it at the last checkpoint of any run."""
    known = np.concatenate(xs)
    most = known[np.isfinite(known)].max() or 1.0
    ax.set_xlim(-0.015 * most, 1.04 * most)


def window(problem: Problem) -> tuple[float, float]:
    """Return the lower and the upper limit of the vertical axis, on which the value of the objective is drawn.

    ``problem`` is an objective with its training settings, and the results of each estimator. A result has a median
    over seeds and an interval. The axis shows the median of each estimator at all checkpoints after the first tenth,
    and its interval at the last checkpoint. But values that are much worse than the start are cut off, so that a bad
    run does not squeeze all other curves. On the worse side, the axis goes beyond the start by at most a third of the
    distance between the start and the best value.
    """
    upwards = 1.0 if problem.maximise else -1.0
    paths = [upwards * np.array([across_seeds(column).median for column in c.value.T]) for c in problem.curves]
    start = max(path[0] for path in paths)
    ends = [upwards * np.array([c.final.low, c.final.high]) for c in problem.curves]
    late = np.concatenate([*(path[max(1, path.size // 10) :] for path in paths), *ends])
    late = late[np.isfinite(late)]
    if late.size == 0:
        return (start - 1, start + 1) if upwards > 0 else (-start - 1, -start + 1)
    best = max(late.max(), start)
    worst = max(late.min(), start - (best - start) / 3)
    spare = 0.06 * (best - worst) or 1.0
    low, high = worst - spare, best + spare
    return (low, high) if upwards > 0 else (-high, -low)


def variances(problems: Sequence[Problem]) -> Figure | None:
    """Draw the variance of the gradient at the checkpoints of training, with a line for each estimator.

    There is a panel for each problem with a measured variance; a problem is an objective with its training settings.
    The horizontal axis has the training steps. Return None if there is no such problem.
    """
    shown = [p for p in problems if any((c.variance > 0).any() for c in p.curves)]
    if not shown:
        return None
    title = (
        "Variance of the gradient along training, at the weights of the step (at step 0 the figure of bench run)\n"
        "Lines: median over seeds; bands: its interval. Hollow, without a band: a lower limit, where the tail is heavy."
        + _crosses(shown)
    )
    figure, grid = _grid(shown, 1, title, width=8.0)
    for problem, (ax,) in zip(shown, grid, strict=True):
        look = variants({c.estimator: c.name for c in problem.curves})
        drawn = [c for c in problem.curves if (c.variance > 0).any()]
        for c in drawn:
            hollow = 2 * c.heavy.sum(0) >= len(c.seeds)
            _draw(ax, c.step, np.where(c.variance > 0, c.variance, np.nan), look[c.estimator], c, hollow=hollow)
        values = np.concatenate([c.variance[c.variance > 0] for c in drawn])
        low, high = np.log10(values.min()) - 0.15, np.log10(values.max()) + 0.15
        ax.set_yscale("log")
        ax.set_ylim(10**low, 10**high)
        ticks(ax.yaxis, decades(low, high))
        _from_zero(ax, [c.step for c in drawn])
        ax.set_title(called(problem.title), loc="left")
        _across(ax, AXES[0])
        ax.set_ylabel("variance of one estimate")
        _legend([ax])
    return figure


def pictures(problems: Sequence[Problem]) -> Figure | None:
    """Draw the images that the trained models made: a column of panels for each problem, a row for each estimator.

    A problem is an objective with its training settings. The best estimator is at the top. For each problem, at most 12
    estimators are drawn, each with the model that it trained with seed 0. Return None if there are no images.
    """
    from matplotlib.figure import Figure

    columns = [found for problem in problems if (found := _pictured(problem))]
    if not columns:
        return None
    wide = [wide / high for found in columns for high, wide, *_ in (p["shape"] for p in found[0][1].values())]
    rows = max(map(len, columns))
    width, scale = 1.5 * sum(wide) + 0.6, 1.0
    if page() < PAGE:
        scale, letters = page() / width, int(LETTERS * page() / len(columns))
        columns = [[(broken(title, letters), held) for title, held in found] for found in columns]
    lines = [max(found[row][0].count("\n") for found in columns if row < len(found)) for row in range(rows)]
    height = scale * (1.65 * rows + 0.7) + 0.13 * sum(lines) + 0.1 * rows * (page() < PAGE)
    figure = Figure(figsize=(scale * width, height), layout="constrained")
    grid = figure.subplots(rows, len(wide), squeeze=False, width_ratios=wide)
    for ax in grid.ravel():
        ax.set_axis_off()
    left = 0
    for found in columns:
        for row, (title, held) in zip(grid[:, left:], found, strict=False):
            row[0].set_title(title, loc="left", fontsize=points(8))
            for ax, kind in zip(row, held, strict=False):
                ax.imshow(mosaic(picture(held[kind])), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        left += len(found[0][1])
    title = (
        "Results of training with seed 0. Left: rows of held-out images, each above its reconstructions; middle: "
        "samples from the prior; right: a walk along the two latents that vary most from image to image."
    )
    entitle(figure, title, letters=14, size=9)
    return figure


def _pictured(problem: Problem) -> list[tuple[str, Any]]:
    """Return title and pictures of every estimator with pictures."""
    each = [(c, next((line["pictures"] for line in c.lines if line.get("pictures")), None)) for c in problem.ranked]
    return [(f"{called(c.estimator)} on {called(problem.title)}", held) for c, held in each if held][:MOST]


def mosaic(stack: Array) -> Array:
    """Return the images in ``stack`` ``[rows, columns, h, w]`` as one image, with light grey lines between them."""
    rows, columns, h, w = stack.shape
    wide = np.full((rows, columns, h + 1, w + 1), 0.25)
    wide[:, :, :h, :w] = stack
    return np.asarray(wide.transpose(0, 2, 1, 3).reshape(rows * (h + 1), columns * (w + 1))[:-1, :-1])


def _grid(problems: Sequence[Problem], panels: int, title: str, width: float = 14.5) -> tuple[Figure, Any]:
    """Return a figure, and its axes ``[problem, panel]``: a row for each problem, in print as many as it needs."""
    from matplotlib.figure import Figure

    if page() == PAGE:
        figure = Figure(figsize=(width, 2.7 * len(problems) + 0.8), layout="constrained")
        grid = figure.subplots(len(problems), panels, squeeze=False)
    else:
        columns = min(panels, 2 if page() < SMALL else 4)
        rows = panels // columns
        heights = [PRINTED * rows + 0.3 + 0.14 * len(p.curves) for p in problems]
        figure = Figure(figsize=(page(), sum(heights)), layout="constrained")
        parts = figure.subfigures(len(problems), 1, squeeze=False, height_ratios=heights)[:, 0]
        grid = np.array([part.subplots(rows, columns, squeeze=False).ravel() for part in parts])
    for ax in grid.ravel():
        ax.grid(axis="y", color=GRID, linewidth=0.5)
        ax.set_axisbelow(True)
        if page() < PAGE:
            ax.locator_params("y", nbins=4)
            ax.locator_params("x", nbins=3)  # numbers of evaluations are long
    entitle(figure, title, letters=14)
    return figure, grid


def _upright(name: str) -> str:
    """Return the name of a vertical axis, in print in lines as long as a panel is high."""
    return name if page() == PAGE else "\n".join(textwrap.wrap(name, int(LETTERS * PRINTED)))


def _across(ax: Axes, name: str) -> None:
    """Name the horizontal axis."""
    letters = 99 if page() == PAGE else int(LETTERS * page() / ax.get_subplotspec().get_gridspec().ncols)  # type: ignore[union-attr]
    ax.set_xlabel("\n".join(textwrap.wrap(name, letters)))


def _legend(row: Sequence[Axes]) -> None:
    """Name the estimators of a problem: at the right of its panels, in print below them."""
    if page() == PAGE:
        row[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), handlelength=3, borderaxespad=0.2)
        return
    handles, labels = row[0].get_legend_handles_labels()
    columns = max(1, int(page() / (0.6 + LETTER * max(map(len, labels)))))
    texts = [broken(label, int((page() - 0.6) / LETTER)) for label in labels]
    row[0].get_figure().legend(handles, texts, loc="outside lower left", ncols=columns, fontsize=6, handlelength=3)  # type: ignore[union-attr]


def _draw(ax: Axes, x: Array, values: Array, style: Style, c: Curves, *, hollow: Any = None) -> None:
    """Draw runs ``[seeds, checkpoints]`` over x: median, band and interquartile mean, without infinities and NaN."""
    there = [column[~np.isnan(column)] for column in values.T]
    where = [across_seeds(column) if column.size else None for column in there]

    def line(of: Callable[[Any], float]) -> Array:
        y = np.array([np.nan if w is None else of(w) for w in where])
        return np.where(np.isfinite(y), y, np.nan)

    median = line(lambda w: w.median)
    name = called(c.estimator) + (f" ({c.diverged} of {len(c.seeds)} diverged)" if c.diverged else "")
    every = max(1, len(x) // 7)
    marked = np.arange(sum(map(ord, c.estimator)) % every, len(x), every)
    solid: dict[str, Any] = {
        "marker": style.marker,
        "markersize": 5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }
    line_look: dict[str, Any] = {"color": style.colour, "linewidth": 1.3, "dashes": style.dashes or (None, None)}
    ax.plot(x, median, label=name, markevery=marked.tolist(), zorder=3, **line_look, **solid)
    alive = np.flatnonzero(np.isfinite(median))
    if c.diverged and alive.size and alive[-1] < len(x) - 1:
        ax.plot(x[alive[-1]], median[alive[-1]], marker="x", markersize=7, color=style.colour, zorder=5)
    if hollow is not None:
        at = [i for i in marked if hollow[i]]
        look = {**solid, "markerfacecolor": "white", "markeredgecolor": style.colour, "markeredgewidth": 1.1}
        ax.plot(x[at], median[at], linestyle="none", zorder=4, **look)
    if len(c.seeds) > 1:
        known = np.ones(len(x), dtype=bool) if hollow is None else ~hollow  # lower limits have no interval
        low, high = (np.where(known, line(of), np.nan) for of in (lambda w: w.low, lambda w: w.high))
        ax.plot(x, line(lambda w: w.middle), color=style.colour, linewidth=0.9, linestyle=":", zorder=2)
        ax.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
