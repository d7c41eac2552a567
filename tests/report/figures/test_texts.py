import threading

import matplotlib.text
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.report.figures import rendered
from bench.report.figures.texts import laid_out_once
from bench.report.figures.theme import styled

LOOKS = (
    {},
    {"rotation": 38},
    {"rotation": 38, "rotation_mode": "anchor"},
    {"fontsize": 12},
    {"weight": "bold"},
    {"ha": "right"},
    {"va": "top"},
)
"""Looks that each give another layout."""


def drawing(dpi=150):
    figure = Figure(dpi=dpi)
    ax = figure.subplots()
    for i, look in enumerate(LOOKS):
        ax.text(0.4, i / len(LOOKS), "rloo:n=4\nand others", **look)
    ax.legend(handles=[ax.plot([0, 1], label=label)[0] for label in ("rloo:n=4\nand others", "arm")])
    return figure


def files():
    return [rendered(drawing(dpi), suffix) for suffix, dpi in (("svg", 150), ("png", 150), ("png", 100), ("pdf", 150))]


def test_kept_layouts_change_no_file_of_any_format_and_resolution():
    with styled(None):
        plain = files()
        with laid_out_once():
            assert files() == plain


def test_a_text_is_laid_out_once_inside_the_block_alone(monkeypatch):
    made, lay_out = [], Text._get_layout
    monkeypatch.setattr(Text, "_get_layout", lambda text, renderer: made.append(text) or lay_out(text, renderer))
    counted, figure = Text._get_layout, drawing()
    text, renderer = figure.axes[0].texts[0], FigureCanvasAgg(figure).get_renderer()
    with laid_out_once():
        sizes = [text.get_window_extent(renderer).size for _ in range(3)]
        assert made == [text]
    with pytest.raises(RuntimeError, match="inside"), laid_out_once():
        raise RuntimeError("inside")
    assert Text._get_layout is counted
    assert (sizes == text.get_window_extent(renderer).size).all()


def test_a_matplotlib_without_the_method_draws_as_it_does(monkeypatch):
    monkeypatch.setattr("matplotlib.text.Text", type("Text", (), {}))
    with laid_out_once():
        pass
    assert not hasattr(matplotlib.text.Text, "_get_layout")


def test_two_threads_leave_the_method_as_it_was():
    before, inside = Text._get_layout, threading.Event()

    def other():
        with laid_out_once():
            inside.set()

    with laid_out_once():
        second = threading.Thread(target=other)
        second.start()
        assert not inside.wait(0.05)
    second.join()
    assert inside.is_set()
    assert Text._get_layout is before
