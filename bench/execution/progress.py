"""Progress: the events of a run."""

from bench.records.lines import Record


class Progress:
    """Receives the events of a run, and ignores them: receivers override the events that they want."""

    def start(self, total: int, done: int) -> None:
        """Receive the amount of work, and the part of it that is on record already."""

    def cell(self, label: str) -> None:
        """Receive the label of the cell that begins."""

    def block(self, done: int, total: int) -> None:
        """Receive the replicates of the current cell that are done, and their number in all."""

    def look(self, label: str, reached: float, wanted: float, replicates: int) -> None:
        """Receive a pilot's look: the relative half-widths reached and wanted, and the replicates so far."""

    def finish(self, record: Record) -> None:
        """Receive a record that is on disk."""

    def end(self) -> None:
        """Receive the end of the run, or its interruption."""


Silent = Progress
"""The receiver that ignores all events."""
