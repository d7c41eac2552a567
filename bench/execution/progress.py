"""Progress: the events of a run, and a receiver that ignores them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bench.records.lines import Record

if TYPE_CHECKING:
    from bench.records.lines import Record


class Silent:
    """Says nothing."""

    def start(self, total: int, done: int) -> None:
        """Take in the amount of work."""

    def cell(self, label: str) -> None:
        """Take in what begins."""

    def block(self, done: int, total: int) -> None:
        """Take in how far the cell is."""

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Take in how precise a cell is by now."""

    def finish(self, record: Record) -> None:
        """Take in what a piece of work gave."""

    def end(self) -> None:
        """Take in that the run is over."""


class Progress(Protocol):
    """Who is told how far a run is."""

    def start(self, total: int, done: int) -> None:
        """Take in how many pieces of work there are, and how many of them are on record already."""

    def cell(self, label: str) -> None:
        """Take in what is measured now."""

    def block(self, done: int, total: int) -> None:
        """Take in how many replicates of the current cell are done, and how many there will be."""

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Take in how precise a cell is by now: relative half-widths, and the replicates so far."""

    def finish(self, record: Record) -> None:
        """Take in a record that is on disk now."""

    def end(self) -> None:
        """Take in that the run is over, or was interrupted."""
