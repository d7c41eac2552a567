"""A long measurement that goes on after an interruption: every half minute, its sums are written to a file."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.measurement.engine import DTYPES, Engine
from bench.measurement.source import Vector
from bench.records import unfinished
from bench.records.identity import digest
from bench.stats import Accumulator, Partial

SECONDS = 30.0
"""Time from the start of a measurement to the first writing of its sums, and from one writing to the next."""
SLOW = 0.1
"""Fewest seconds for a draw (a batch) whose gradients are kept until they are part of a sum."""
MOST = 2**23
"""Most numbers in gradients that are kept: 64 MiB in the file."""


class Unfinished:
    """The file with the sums of a measurement that is not finished.

    A measurement that ends within half a minute never writes the file. Besides the sums, the file has the gradients of
    slow draws (batches) that are not part of a sum yet.

    Args:
        path: the file, in the study folder. If this folder does not exist, as on another machine, nothing is written.
            None for no file: nothing is read or written, and an interrupted measurement has to begin anew.
        facts: what the sums depend on besides the arguments of ``resume``, as values that JSON can hold.
    """

    def __init__(self, path: Path | None, *facts: object) -> None:
        self.path, self.facts, self.digests = path, facts, ""
        self.seconds, self._begin = 0.0, time.monotonic()
        self._drawn = dict[int, list[Tensor]]()
        self._next = self._begin + SECONDS

    def resume(self, engine: Engine, accumulator: Accumulator, centre: Vector, target: Vector | None) -> None:
        """Add the sums in the file to the accumulator, if they belong to this measurement.

        The engine continues after these sums. Afterwards ``digests`` identifies the gradients of the first draws
        (batches) that were summed, and ``seconds`` says how long these draws took.

        Args:
            engine: the engine of the measurement.
            accumulator: receives the sums.
            centre: the vector that is subtracted from gradients.
            target: the exact gradient, or a measured one in its place; None if there is none.
        """
        if self.path is None:
            return
        vectors = [None if v is None else hashlib.sha256(v.tobytes()).hexdigest() for v in (centre, target)]
        self.key = digest([*self.facts, *vectors, engine.truncate_at, engine.sizes])
        held = unfinished.load(self.path, self.key)
        if held is not None:
            accumulator.restore(held["accumulator"])
            self.digests, self.seconds = held["digests"], held["seconds"]
            self._drawn = {int(draw): _tensors(table, engine.device) for draw, table in held["drawn"].items()}
            engine.skip(accumulator.rows)
        engine.remember = partial(self._remember, accumulator)

    def _remember(self, accumulator: Accumulator, draw: int, parts: Callable[[int], list[Tensor]]) -> list[Tensor]:
        """Return the gradients of a draw, and keep them if they took long and are not too many."""
        if draw in self._drawn:
            return self._drawn[draw]
        begin, gradients = time.monotonic(), parts(draw)
        if (now := time.monotonic()) - begin >= SLOW:
            if sum(part.numel() for kept in (gradients, *self._drawn.values()) for part in kept) <= MOST:
                self._drawn[draw] = [part.detach().clone() for part in gradients]
            if now >= self._next:
                self._save(accumulator)
        return gradients

    def followed(self, partials: Iterator[tuple[Partial, str]], accumulator: Accumulator) -> Iterator[Partial]:
        """Yield the partial sums of ``partials`` for the caller, who adds each of them to the accumulator.

        Each partial sum comes with a text that identifies its gradients; the text is added to ``digests``. Every half
        minute, the accumulator is written to the file of the unfinished measurement, but not after the last partial
        sum.
        """
        for sums, digests in partials:
            self.digests += digests
            yield sums
            self._drawn.clear()
            if time.monotonic() >= self._next:
                self._save(accumulator)

    def _save(self, accumulator: Accumulator) -> None:
        """Write the file. If it cannot be written, only the time for a repetition is lost."""
        seconds = self.seconds + time.monotonic() - self._begin
        drawn = {str(draw): _table(gradients) for draw, gradients in self._drawn.items()}
        held = {"accumulator": accumulator.state(), "digests": self.digests, "seconds": seconds, "drawn": drawn}
        if self.path is not None and self.path.parent.parent.is_dir():
            with contextlib.suppress(OSError):
                unfinished.save(self.path, self.key, held)
        self._next = time.monotonic() + SECONDS


def _table(gradients: list[Tensor]) -> dict[str, Any]:
    """Return gradients as a dictionary for the file, in float64, which holds every float32."""
    dtype = str(gradients[0].dtype).removeprefix("torch.")
    return {"dtype": dtype, **{str(number): part.double().cpu().numpy() for number, part in enumerate(gradients)}}


def _tensors(table: dict[str, Any], device: torch.device) -> list[Tensor]:
    """Return the gradients in a dictionary that ``_table`` has made."""
    dtype = DTYPES[table["dtype"]]
    return [torch.as_tensor(table[name], dtype=dtype, device=device) for name in table if name != "dtype"]
