"""Seconds, cost and memory of one call, timed beside the cell's own "sample and evaluate f".

Absolute times wander by tens of percent between processes of one shared machine, and a generic kernel slows down
differently from the job, so it calibrates nothing. What holds still is a ratio inside a pair: ``cost`` is the time of
the job over the time of a base job (same shapes, same process, a moment earlier or later).

The protocol: one thread; the first call of each apart; warm up until two successive blocks agree; loop inside a block
until it is long beside the clock's resolution; garbage collection off; blocks in the order AB BA BA AB, so that each
job starts a pair equally often and a steady drift cancels; medians with distribution-free intervals, never a mean.
All intervals are about this process: run fresh processes and take the median of their medians to speak of a machine,
and claim no difference under 1 %.

References: Chen & Revels 2016 ("Robust benchmarking in noisy environments") on positive noise and the minimum;
Kalibera & Jones 2013 ("Rigorous benchmarking in reasonable time") on processes as the unit of repetition.
"""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from bench.measurement.peak_memory import Job, _supported, peak_bytes

Clock = Callable[[], int]
"""Nanoseconds since any fixed moment, never going back."""
FLOOR = 12
"""Pairs that are measured whatever the budget: the interval of a median is of little use with fewer."""
WARM_BLOCKS = 3
WARM_SECONDS = 2.0
STEADY = 0.05
NOISE = 0.10
CUDA_WARM_SECONDS = 0.025
"""A GPU raises its clocks, tunes its kernels and fills its allocator's cache in this time."""


@dataclass(frozen=True)
class Timing:
    """What one job takes, per call. Times are in seconds, memory in bytes; ``_low``, ``_high`` bound 95 % intervals.

    Args:
        seconds: median over blocks of the wall time of one call.
        seconds_low: lower limit of that median, in this process.
        seconds_high: upper limit of that median, in this process.
        seconds_min: the fastest block: the better *absolute* location, since other processes only ever add time.
        seconds_iqr: interquartile range over blocks.
        device_seconds: on CUDA the median between two events on the stream around the block, launch gaps included;
            None on a CPU. The caches are warm in both clocks.
        cost: median over pairs of t(job) / t(base), of wall times.
        cost_low: lower limit of that median.
        cost_high: upper limit of that median.
        cost_iqr: interquartile range over pairs.
        noisy: is an interquartile range, of ``seconds`` or of ``cost``, over 10 % of its median?
        steady: did the warm-up of both jobs end with two successive blocks within 5 % of each other?
        blocks: pairs of blocks measured.
        inner: calls of the job inside a block.
        base_inner: calls of the base job inside a block.
        peak_bytes: see ``peak_bytes``; None where it was not asked for.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    seconds_min: float
    seconds_iqr: float
    device_seconds: float | None
    cost: float
    cost_low: float
    cost_high: float
    cost_iqr: float
    noisy: bool
    steady: bool
    blocks: int
    inner: int
    base_inner: int
    peak_bytes: int | None


def time_pair(
    job: Job,
    base: Job,
    *,
    device: torch.device | str = "cpu",
    pairs: int = 40,
    block_seconds: float = 5e-3,
    budget_seconds: float = 4.0,
    memory: bool = True,
    clock: Clock = time.perf_counter_ns,
) -> Timing:
    """Time a job and its base job in interleaved pairs of blocks.

    Args:
        job: what is timed; it must leave nothing behind that makes its next call a different one.
        base: the unit of cost, of the same shapes.
        device: where both do their work, "cpu" or "cuda". On CUDA neither may wait for the device inside.
        pairs: pairs of blocks, at least 12.
        block_seconds: least length of a block; a single call may be longer.
        budget_seconds: pairs beyond the twelfth are measured while they fit into it. Where twelve pairs of full blocks
            do not fit, blocks are shortened, down to one call; twelve pairs of single calls are measured in any case.
            The first call of each job and the memory pass come on top.
        memory: also find ``peak_bytes``, with one further call of the job.
        clock: nanoseconds, never going back.

    Raises:
        ValueError: fewer than 12 pairs, a length that is not positive, or a device that is neither CPU nor CUDA.
    """
    device = _supported(device)
    if pairs < FLOOR:
        raise ValueError(
            f"time_pair needs pairs >= {FLOOR} (got pairs={pairs}): the median of fewer has too wide an interval. "
            f"Shorten budget_seconds instead."
        )
    if not min(block_seconds, budget_seconds) > 0:
        raise ValueError(
            f"time_pair needs positive lengths (got block_seconds={block_seconds}, budget_seconds={budget_seconds}). "
            f"Give both in seconds."
        )
    lap = _stopwatch(device, clock)
    with _quiet():
        # Lazy imports and allocations make the first call up to a million times slower than the next.
        job()
        base()
        began = clock()
        warm = (
            CUDA_WARM_SECONDS if device.type == "cuda" else 0.0,
            min(WARM_SECONDS, budget_seconds / 4),
        )
        a = _settle(lap, job, block_seconds, *warm)
        b = _settle(lap, base, block_seconds, *warm)
        # Half of the budget is kept for the pairs, even if a slow warm-up overran its quarter.
        left = max(budget_seconds / 2, budget_seconds - 1e-9 * (clock() - began))
        fit = min(1.0, left / (FLOOR * 1e-9 * (a.block + b.block)))
        inner, base_inner = max(1, int(a.inner * fit)), max(1, int(b.inner * fit))

        laps: list[tuple[_Lap, _Lap]] = []
        began = clock()
        for pair in range(pairs):
            # Two pairs at a time: stopping between an AB and its BA would leave one order ahead.
            if pair >= FLOOR and pair % 2 == 0 and (clock() - began) * (pair + 2) / pair > 1e9 * left:
                break
            if pair % 4 in (0, 3):
                first = lap(job, inner)
                laps.append((first, lap(base, base_inner)))
            else:
                first = lap(base, base_inner)
                laps.append((lap(job, inner), first))
        peak = peak_bytes(job, device) if memory else None

    seconds = [x.wall / (inner * 1e9) for x, _ in laps]
    on_device = [x.device / (inner * 1e9) for x, _ in laps if x.device is not None]
    costs = [x.wall * base_inner / (y.wall * inner) for x, y in laps]
    median, cost = statistics.median(seconds), _ratio_median(costs)
    seconds_low, seconds_high = median_interval(seconds)
    cost_low, cost_high = median_interval(costs)
    return Timing(
        seconds=median,
        seconds_low=seconds_low,
        seconds_high=seconds_high,
        seconds_min=min(seconds),
        seconds_iqr=_iqr(seconds),
        device_seconds=statistics.median(on_device) if on_device else None,
        cost=cost,
        cost_low=cost_low,
        cost_high=cost_high,
        cost_iqr=_iqr(costs),
        noisy=_iqr(seconds) > NOISE * median or _iqr(costs) > NOISE * cost,
        steady=a.steady and b.steady,
        blocks=len(laps),
        inner=inner,
        base_inner=base_inner,
        peak_bytes=peak,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % sign-test interval of the median, ``(x_(k), x_(P+1-k))``.

    ``k = max(1, the 2.5 % quantile of Binomial(P, 1/2))``. Nothing is assumed of the distribution but independence:
    the coverage ``1 - 2 P(Bin(P, 1/2) < k)`` is at least 95 % from P = 6 on (with fewer it is ``1 - 2^(1-P)``).

    Args:
        values: P numbers, in any order.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("median_interval needs at least one value (got none). Measure a block first.")
    ordered, size = sorted(values), len(values)
    # In integers, P(Bin <= k) >= 1/40 is exact at any P.
    k, below = 0, 1
    while 40 * below < 2**size:
        k += 1
        below += math.comb(size, k)
    k = max(1, k)
    return ordered[k - 1], ordered[size - k]


class _Lap(NamedTuple):
    """Length of one block in nanoseconds."""

    wall: int
    device: float | None


class _Settled(NamedTuple):
    """A warmed-up job: calls inside a block, nanoseconds of the last block, and whether blocks came to agree."""

    inner: int
    block: int
    steady: bool


@contextmanager
def _quiet() -> Iterator[None]:
    """One thread and no garbage collection; both are put back, whatever happens inside."""
    collecting, threads = gc.isenabled(), torch.get_num_threads()
    gc.disable()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()


def _stopwatch(device: torch.device, clock: Clock) -> Callable[[Job, int], _Lap]:
    """Return a function that calls a job so many times over and says how long the whole block took."""

    def on_cpu(job: Job, inner: int) -> _Lap:
        start = clock()
        for _ in itertools.repeat(None, inner):
            job()
        return _Lap(max(1, clock() - start), None)  # a block of no length would be a division by zero

    def on_cuda(job: Job, inner: int) -> _Lap:
        stream = torch.cuda.current_stream(device)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        # The clock is read with the device idle on both sides, and nothing waits for the device in between.
        start = clock()
        begin.record(stream)
        for _ in itertools.repeat(None, inner):
            job()
        end.record(stream)
        torch.cuda.synchronize(device)
        wall = clock() - start
        return _Lap(max(1, wall), 1e6 * begin.elapsed_time(end))

    return on_cuda if device.type == "cuda" else on_cpu


def _settle(
    lap: Callable[[Job, int], _Lap], job: Job, block_seconds: float, least_seconds: float, most_seconds: float
) -> _Settled:
    """Warm a job up and find its inner loop, in one go: a block too short by now, when it is warm, grows the loop.

    Ends when two successive full blocks agree, there were three and ``least_seconds`` have passed, or after
    ``most_seconds``.
    """
    inner, full, previous, spent = 1, 0, 0, 0
    while True:
        took = lap(job, inner).wall
        spent += took
        agree = abs(took - previous) < STEADY * previous
        long = took >= 1e9 * block_seconds
        full = full + 1 if long else 0
        steady = agree and full >= WARM_BLOCKS
        if spent >= 1e9 * most_seconds or (steady and spent >= 1e9 * least_seconds):
            return _Settled(inner, took, steady)
        previous = took if long else 0
        if not long:
            # A quarter more than needed, so that a block remains long enough when the machine is faster later.
            inner = min(10 * inner, math.ceil(1.25 * inner * 1e9 * block_seconds / took))


def _ratio_median(ratios: Sequence[float]) -> float:
    """Exponential of the median log ratio: of an even number, the geometric midpoint of the middle two."""
    return math.sqrt(statistics.median_low(ratios) * statistics.median_high(ratios))


def _iqr(values: Sequence[float]) -> float:
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower
