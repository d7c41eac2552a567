"""Progress: receivers of the events of a run."""

from collections.abc import Sequence

from bench.records.lines import Record


class Progress:
    """A receiver of the events while a study runs. This one ignores all; a subclass overrides the methods it needs."""

    def start(self, total: int, done: int) -> None:
        """Receive the ``total`` number of pieces of work, and how many are ``done``: on record already."""

    def reuse(self, records: Sequence[Record]) -> None:
        """Receive the records of work that is not done again, because the study folder holds them."""

    def cell(self, label: str) -> None:
        """Receive the label of the cell (an estimator on an objective) whose work begins."""

    def block(self, done: int, total: int) -> None:
        """Receive how many replicates (estimates) of the current cell are done, and how many there are in all."""

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Receive a pilot's progress: the cell's label, relative half-widths reached and wanted, replicates so far.

        A pilot is a run that finds how many replicates a cell (an estimator on an objective) needs.
        """

    def finish(self, record: Record) -> None:
        """Receive a record that has been written to disk."""

    def end(self) -> None:
        """Receive the end of the whole run, complete or interrupted."""


Silent = Progress
"""The receiver that ignores all events."""
