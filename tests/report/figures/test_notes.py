import itertools

import numpy as np
from matplotlib.figure import Figure

from bench.report.figures.marks import whisker
from bench.report.figures.notes import Point, annotate


def test_texts_keep_clear_of_bars():
    drawn = Figure(figsize=(4, 4))
    ax = drawn.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    whisker(ax, (0.5, 0.5), (0.6, 0.5), "black")
    ax.plot([0.5, 0.6], [0.53, 0.53], color="black")  # through the first place of a text
    annotate(drawn, {ax: [Point(0.5, 0.5, "n=2", "black")]})
    (text,) = ax.texts
    assert text.get_position()[0] < 0


def test_texts_beside_points_never_overlap():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    drawn = Figure(figsize=(4, 4))
    canvas = FigureCanvasAgg(drawn)
    ax = drawn.subplots()
    rng = np.random.default_rng(0)
    points = [Point(*xy, f"n={i}", "black") for i, xy in enumerate(rng.random((40, 2)).tolist())]
    steps = [(0.1, 1.0), (0.1, 0.7), (0.5, 0.7), (0.5, 0.3), (1.0, 0.3)]
    annotate(drawn, {ax: points}, {ax: steps})
    renderer = canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert len(boxes) > 20
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    for ends in itertools.pairwise(ax.transData.transform(steps)):
        assert not any(box.overlaps(Bbox([ends[0], ends[1]])) for box in boxes)
