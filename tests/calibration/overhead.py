"""The share of the statistics in the processor time of a default study; other programs do not count."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from bench.execution.progress import Silent
from bench.measurement import engine, summaries
from bench.measurement.reduction.blocks import draws_partial
from bench.planning.spec import DEFAULT, Spec
from bench.stats import Accumulator
from tests.running import run


class Clock:
    """Adds up the seconds that functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - begin

        return timed

    def without(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that runs inside a timed one without belonging to it: its seconds are subtracted."""
        inner = Clock()
        timed = inner.around(function)

        def untimed(*args: Any, **kwargs: Any) -> Any:
            before = inner.seconds
            try:
                return timed(*args, **kwargs)
            finally:
                self.seconds -= inner.seconds - before

        return untimed


def measure(timing: bool, **overrides: Any) -> dict[str, object]:
    """Run the default study in this process; return its seconds, the seconds of the statistics, and their ratio."""
    spec = Spec.read(DEFAULT, timing=timing, **overrides).on_device()
    clock = Clock()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for owner, name in (
            (summaries, "summarise"),
            (Accumulator, "add"),
            (Accumulator, "sums"),
        ):
            stack.enter_context(patch.object(owner, name, clock.around(getattr(owner, name))))
        sums = clock.around(draws_partial)  # its calls for gradients do not count
        apart = lambda gradients, *args, **kwargs: sums(clock.without(gradients), *args, **kwargs)  # noqa: E731
        stack.enter_context(patch.object(engine, "draws_partial", apart))
        begin = time.process_time()
        records = run(spec, Path(folder), Silent())
        total = time.process_time() - begin
    measured = sum(r["kind"] == "moments" and r["outcome"] == "measured" for r in records)
    return {
        "timing_pass": timing,
        "cells": measured,
        "seconds": total,
        "statistics_seconds": clock.seconds,
        "added": clock.seconds / (total - clock.seconds),
    }
