"""A figure that is still to be drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """All that a figure shows, and the function that draws it. Equal data give equal figures.

    Args:
        function: draws the figure from nothing but ``shown``; it returns None if there are no data for it.
        shown: the arguments of the function: frames, texts and lists of texts.
    """

    function: Callable[..., Figure | None]
    shown: tuple[Any, ...]

    def __call__(self) -> Figure | None:
        """Return the figure."""
        return self.function(*self.shown)
