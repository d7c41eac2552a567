"""Jobs timed in turn, round after round, so that every ratio compares neighbours in time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.measurement.threads import single_thread
from bench.stats.median import order_statistic_interval


@dataclass(frozen=True)
class Job:
    """A call to time, and the number of gradient estimates it makes."""

    run: Callable[[], object]
    estimates: int


@dataclass(frozen=True)
class Ratio:
    """Median over rounds, with a 95 % distribution-free interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Laps:
    """Seconds per estimate of every job in every round."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, job: str) -> float:
        return of(self.seconds[job]).median

    def ratio(self, job: str, base: str) -> Ratio:
        """Return the ratio of the times of two jobs, round by round."""
        return of([a / b for a, b in zip(self.seconds[job], self.seconds[base], strict=True)])


def of(values: Sequence[float]) -> Ratio:
    """Return the median of some values and its interval."""
    return Ratio(*order_statistic_interval(values))


def interleave(jobs: Mapping[str, Job], *, seconds: float, least: int = 6, most: int = 40) -> Laps:
    """Time all jobs in turn, on one thread and without garbage collection; every round reverses the order.

    Args:
        jobs: the jobs by name.
        seconds: budget; beyond ``least``, a round starts only if it fits.
        least: fewest rounds, whatever the budget.
        most: most rounds; more would add nothing.
    """
    laps: dict[str, list[float]] = {name: [] for name in jobs}
    with single_thread():
        for job in jobs.values():
            job.run()
        gc.collect()
        collecting = gc.isenabled()
        gc.disable()
        try:
            begin = time.perf_counter()
            for done in range(most):
                spent = time.perf_counter() - begin
                if done >= least and spent * (done + 1) / done > seconds:
                    break
                for name in list(jobs) if done % 2 == 0 else reversed(list(jobs)):
                    start = time.perf_counter()
                    jobs[name].run()
                    laps[name].append((time.perf_counter() - start) / jobs[name].estimates)
        finally:
            if collecting:
                gc.enable()
    return Laps(laps)
