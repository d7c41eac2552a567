"""Figures of fabricated records, and the texts in them."""

from bench.report.figures import draw
from bench.report.prepared import prepared


def figure(name, records):
    return draw(name, prepared(records))


def words(drawn):
    return [text.get_text() for ax in drawn.axes for text in ax.texts]


def titles(drawn):
    return [ax.get_title(loc="left") for ax in drawn.axes]
