"""A long measurement that goes on after an interruption: every half minute, its sums are written to a file."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measurement.engine import Engine
from bench.measurement.source import Vector
from bench.records import unfinished
from bench.records.identity import digest
from bench.stats import Accumulator, Partial

SECONDS = 30.0
"""Time from the start of a measurement to the first writing of its sums, and from one writing to the next."""


class Unfinished:
    """The file with the sums of a measurement under way.

    A measurement that ends within half a minute never writes the file.

    Args:
        path: the file; None for a measurement that begins anew after an interruption. If the study folder does not
            exist, as on another machine, nothing is written.
        facts: what the sums depend on besides the arguments of ``resume``, as values that JSON can hold.
    """

    def __init__(self, path: Path | None, *facts: object) -> None:
        self.path, self.facts, self.digests = path, facts, ""
        self.seconds, self._begin = 0.0, time.monotonic()
        self._next = self._begin + SECONDS

    def resume(self, engine: Engine, accumulator: Accumulator, centre: Vector, target: Vector | None) -> None:
        """Add the sums in the file, if they are those of this measurement; the engine goes on with the next draw.

        Afterwards ``digests`` identifies the gradients of the first draws (batches) that were summed, and ``seconds``
        says how long they took.

        Args:
            engine: the engine of the measurement.
            accumulator: receives the sums.
            centre: the vector that is subtracted from gradients.
            target: the exact gradient, or what stands in for it; None if there is none.
        """
        if self.path is None:
            return
        vectors = [None if v is None else hashlib.sha256(v.tobytes()).hexdigest() for v in (centre, target)]
        self.key = digest([*self.facts, *vectors, engine.truncate_at, engine.sizes])
        held = unfinished.load(self.path, self.key)
        if held is not None:
            accumulator.restore(held["accumulator"])
            self.digests, self.seconds = held["digests"], held["seconds"]
            engine.skip(accumulator.rows)

    def followed(self, partials: Iterator[tuple[Partial, str]], accumulator: Accumulator) -> Iterator[Partial]:
        """Yield the partial sums of ``partials``, which the caller adds to the accumulator, and write the file in time.

        The text beside each of the partial sums identifies the gradients, and is added to ``digests``. No file is
        written after the last of the partial sums, since the caller asks for no more.
        """
        for partial, digests in partials:
            self.digests += digests
            yield partial
            if self.path is not None and time.monotonic() >= self._next:
                self._save(self.path, accumulator)

    def _save(self, path: Path, accumulator: Accumulator) -> None:
        """Write the file. If it cannot be written, only the time for a repetition is lost."""
        seconds = self.seconds + time.monotonic() - self._begin
        held = {"accumulator": accumulator.state(), "digests": self.digests, "seconds": seconds}
        if path.parent.parent.is_dir():
            with contextlib.suppress(OSError):
                unfinished.save(path, self.key, held)
        self._next = time.monotonic() + SECONDS
