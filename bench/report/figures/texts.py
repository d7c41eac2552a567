"""Texts that are laid out once. Matplotlib does it whenever it asks for their size, a dozen times for each label."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()


@contextmanager
def laid_out_once() -> Iterator[None]:
    """Inside the block, keep the layouts of texts: the sizes and the places of their lines.

    A layout is used again for an equal text in equal type, at an equal resolution, measured by an equal kind of
    renderer. Without it, the same figures take a quarter longer. Other threads wait for the end of the block, because
    matplotlib's own method is replaced inside it. A version of matplotlib without this method lays out as it does.
    """
    from matplotlib import text as texts

    kind: Any = texts.Text
    if not hasattr(kind, "_get_layout"):
        yield
        return
    with _LOCK:
        yield from _replaced(kind)


def _replaced(kind: Any) -> Iterator[None]:
    """Replace the method of a class of texts until the caller goes on."""
    lay_out, held = kind._get_layout, dict[tuple[Any, ...], Any]()

    def kept(text: Any, renderer: Any) -> Any:
        key = (
            text.get_text(),
            hash(text.get_fontproperties()),
            text.get_rotation(),
            text.get_rotation_mode(),
            text.get_horizontalalignment(),
            text.get_verticalalignment(),
            text.figure.dpi,
            type(renderer.get_text_width_height_descent.__self__),  # a renderer may be the wrapper of another
        )
        if key not in held:
            held[key] = lay_out(text, renderer)
        return held[key]

    kind._get_layout = kept
    try:
        yield
    finally:
        kind._get_layout = lay_out
