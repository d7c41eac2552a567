"""Progress: receivers of the events of a run."""

from collections.abc import Sequence

from bench.records.lines import Record


class Progress:
    """A receiver of the events of a run. This one ignores all events; a subclass overrides the methods it needs."""

    def start(self, total: int, done: int) -> None:
        """Receive the number of pieces of work, and how many of them are on record already."""

    def reuse(self, records: Sequence[Record]) -> None:
        """Receive the records of work that is not done again, because the study folder holds them."""

    def cell(self, label: str) -> None:
        """Receive the label of the cell whose work begins."""

    def block(self, done: int, total: int) -> None:
        """Receive the number of replicates of the current cell that are done, and the number to do in all."""

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Receive a pilot's progress: the cell's label, relative half-widths reached and wanted, replicates so far."""

    def finish(self, record: Record) -> None:
        """Receive a record that has been written to disk."""

    def end(self) -> None:
        """Receive the end of the run, complete or interrupted."""


Silent = Progress
"""The receiver that ignores all events."""
