"""How much of a default study's processor time the statistics take: what other programs do beside it does not count."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from bench import cells, engine
from bench.progress import Silent
from bench.run import run
from bench.spec import DEFAULT, Spec
from bench.stats import Accumulator


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


def measure(timing: bool, **overrides: Any) -> dict[str, object]:
    """Run the default study in this process; return its seconds, those of the statistics, and what they add."""
    spec = Spec.read(DEFAULT, timing=timing, **overrides).on_device()
    clock = Clock()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        for owner, name in (
            (engine, "block_partials"),
            (cells, "summarise"),
            (Accumulator, "add"),
            (Accumulator, "sums"),
        ):
            stack.enter_context(patch.object(owner, name, clock.around(getattr(owner, name))))
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
