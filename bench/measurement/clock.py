"""Seconds, cost and memory of one call of a job, timed in pairs with a base job.

On a shared machine absolute times vary by tens of percent between processes. A generic kernel cannot calibrate them: it
slows down differently from the job. The ratio inside a pair is stable. ``cost`` is the time of the job divided by the
time of a base job of the same shapes. Both run in this process, one right after the other.

- One thread, without garbage collection. The first call of each job is not timed.
- Calls are timed in blocks, long compared with the clock's resolution. Warm-up lasts until two successive blocks agree.
- Blocks of the job, A, and the base job, B, come in the order AB BA BA AB: each job starts equally many pairs, and a
  steady drift cancels.
- Results are medians with distribution-free intervals, never means.
- If fewer pairs may do, the intervals are looked at after 12, 24, 48 ... pairs, and the timing ends when both are
  narrow. To stop at a lucky interval would make intervals too short, so each of K looks has the error rate 5 %/K: the
  intervals of all looks hold together with 95 %, and so does the one at which the timing ends.

All intervals describe this process. A statement about a machine needs several fresh processes and the median of their
medians; even then, a difference under 1 % is no evidence.

References: Chen & Revels 2016 ("Robust benchmarking in noisy environments") on positive noise and the minimum; Kalibera
& Jones 2013 ("Rigorous benchmarking in reasonable time") on processes as the unit of repetition.
"""

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

from bench.measurement.peak_memory import Job, peak_bytes, timed_device
from bench.measurement.threads import single_thread
from bench.stats.median import order_statistic_interval

Clock = Callable[[], int]
"""A function that returns the nanoseconds since a fixed moment and never goes back."""
FLOOR = 12
"""Fewest pairs of blocks, however small the time budget: the median of fewer pairs has too wide an interval."""
CONFIDENCE = 0.95
"""Level of the intervals."""
WARM_BLOCKS, WARM_SECONDS = 3, 2.0
"""Fewest full blocks in a warm-up; most seconds that a warm-up may take."""
CUDA_WARM_SECONDS = 0.025
"""Fewest seconds of a warm-up on a GPU, in which clocks rise, kernels are tuned and the allocator fills its cache."""
STEADY, NOISE = 0.05, 0.10
"""Blocks agree if they differ by under 5 %; times are noisy if their interquartile range exceeds 10 % of the median."""


@dataclass(frozen=True)
class Timing:
    """The time, relative cost and memory of one call of a job.

    Times are in seconds. The relative cost is the time of the job divided by the time of a base job. A block is a
    number of calls that are timed together; a pair is a block of the job and a block of the base job. Fields that end
    in ``_low`` and ``_high`` are the limits of 95 % intervals, which describe this process only. Fields that end in
    ``_iqr`` are interquartile ranges over blocks or pairs.

    Args:
        seconds: median over blocks of the wall time of one call.
        seconds_min: wall time of one call in the fastest block: a better *absolute* time than the median, since other
            processes only add time.
        device_seconds: on CUDA, median over blocks of the time of one call, launch gaps included. The time is measured
            by two events on the stream, before and after the block. None on a CPU.
        cost: median over pairs of t(job) / t(base), the wall times of one call of the job and of the base job.
        noisy: whether the interquartile range of ``seconds`` or ``cost`` exceeds 10 % of its median.
        steady: whether the last two warm-up blocks of each job took the same time, within 5 %.
        blocks: number of pairs of blocks.
        inner: number of calls of the job in a block.
        base_inner: number of calls of the base job in a block.
        peak_bytes: the most bytes of tensors that one call of the job holds at once; None if not measured.
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
    narrow: float | None = None,
    memory: bool = True,
    clock: Clock = time.perf_counter_ns,
) -> Timing:
    """Return the seconds, relative cost and memory of one call of a job, timed in alternation with a base job.

    Calls are timed in blocks: a number of calls between two readings of the clock. A pair is a block of the job and a
    block of the base job, one right after the other.

    Args:
        job: the call to time. Every call must do the same work, independent of earlier calls.
        base: the job whose time is the unit of cost, with tensors of the same shapes.
        device: "cpu" or "cuda". On CUDA neither job may wait for the device.
        pairs: number of pairs of blocks, at least 12.
        block_seconds: least length of a block, unless ``budget_seconds`` is too short for 12 pairs of such blocks.
        budget_seconds: time for warm-up and pairs. The warm-up tells how many pairs fit. If fewer than 12 fit, blocks
            are shortened, down to one call; 12 pairs are always measured. The first call of each job and the
            measurement of memory are not counted.
        narrow: a relative half-width, such as 0.05. The timing ends early if the 95 % intervals of the time and of
            the relative cost have half-widths of at most this share of their medians. None to time all pairs.
        memory: whether to measure ``peak_bytes`` too, with one more call of the job.
        clock: the clock, read before and after every block.

    Raises:
        ValueError: ``pairs`` is below 12, ``block_seconds`` or ``budget_seconds`` is not positive, or the device is
            neither CPU nor CUDA.
    """
    device = timed_device(device)
    if pairs < FLOOR:
        raise ValueError(
            f"time_pair needs pairs >= {FLOOR} (got pairs={pairs}): the median of fewer has too wide an interval. "
            f"Shorten budget_seconds instead."
        )
    if not min(block_seconds, budget_seconds) > 0:
        given = f"block_seconds={block_seconds}, budget_seconds={budget_seconds}"
        raise ValueError(f"time_pair needs positive lengths (got {given}). Give both in seconds.")
    lap = _stopwatch(device, clock)
    with _quiet():
        # Lazy imports and allocations make the first call up to a million times slower than the next.
        job()
        base()
        began = clock()
        warm = (CUDA_WARM_SECONDS if device.type == "cuda" else 0.0, min(WARM_SECONDS, budget_seconds / 4))
        a = _settle(lap, job, block_seconds, *warm)
        b = _settle(lap, base, block_seconds, *warm)
        # The pairs keep half of the budget, even if a slow warm-up has overrun its quarter.
        left = max(budget_seconds / 2, budget_seconds - 1e-9 * (clock() - began))
        fit = min(1.0, left / (FLOOR * 1e-9 * (a.block + b.block)))
        inner, base_inner = max(1, int(a.inner * fit)), max(1, int(b.inner * fit))
        fitting = int(1e9 * left / (fit * (a.block + b.block)))
        planned = max(FLOOR, min(pairs, fitting - fitting % 2))
        looks = [planned] if narrow is None else looks_of(planned)
        confidence = 1 - (1 - CONFIDENCE) / len(looks)
        laps, began = list[tuple[_Lap, _Lap]](), clock()
        for pair in range(looks[-1]):
            over = clock() - began > 1e9 * left
            if narrow is not None and pair in looks and (over or _half_width(laps, confidence) <= narrow):
                break
            if pair % 4 in (0, 3):
                laps.append((lap(job, inner), lap(base, base_inner)))
            else:
                first = lap(base, base_inner)
                laps.append((lap(job, inner), first))
        peak = peak_bytes(job, device) if memory else None
    seconds = [x.wall / (inner * 1e9) for x, _ in laps]
    on_device = [x.device / (inner * 1e9) for x, _ in laps if x.device is not None]
    costs = [x.wall * base_inner / (y.wall * inner) for x, y in laps]
    median, seconds_low, seconds_high = order_statistic_interval(seconds, confidence)
    cost, (_, cost_low, cost_high) = _ratio_median(costs), order_statistic_interval(costs, confidence)
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


def looks_of(pairs: int) -> list[int]:
    """Return after how many pairs of timed blocks confidence intervals are computed: 12, 24, 48, ... and ``pairs``."""
    looks = [FLOOR]
    while 2 * looks[-1] < pairs:
        looks.append(2 * looks[-1])
    return [*looks, pairs] if pairs > FLOOR else looks


class _Lap(NamedTuple):
    """The length of one block in nanoseconds."""

    wall: int
    device: float | None


class _Settled(NamedTuple):
    """A warmed-up job: calls inside a block, nanoseconds of the last block, whether successive blocks agreed."""

    inner: int
    block: int
    steady: bool


@contextmanager
def _quiet() -> Iterator[None]:
    """Use one thread and no garbage collection inside; restore both at the end."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with single_thread():
            yield
    finally:
        if collecting:
            gc.enable()


def _stopwatch(device: torch.device, clock: Clock) -> Callable[[Job, int], _Lap]:
    """Return the function that runs a block: it calls a job ``inner`` times and returns the length of the block."""

    def on_cpu(job: Job, inner: int) -> _Lap:
        start = clock()
        for _ in itertools.repeat(None, inner):
            job()
        return _Lap(max(1, clock() - start), None)  # a length of 0 would be divided by

    def on_cuda(job: Job, inner: int) -> _Lap:
        stream = torch.cuda.current_stream(device)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        # The device is idle at both readings of the clock, and nothing waits for it in between.
        start = clock()
        begin.record(stream)
        for _ in itertools.repeat(None, inner):
            job()
        end.record(stream)
        torch.cuda.synchronize(device)
        return _Lap(max(1, clock() - start), 1e6 * begin.elapsed_time(end))

    return on_cuda if device.type == "cuda" else on_cpu


def _settle(
    lap: Callable[[Job, int], _Lap], job: Job, block_seconds: float, least_seconds: float, most_seconds: float
) -> _Settled:
    """Warm a job up, and find the calls per block: the loop grows whenever a block has become too short.

    Warm-up ends when three full blocks or more were run, the last two agree and ``least_seconds`` have passed, and in
    any case after ``most_seconds``.
    """
    inner, full, previous, spent = 1, 0, 0, 0
    while True:
        took = lap(job, inner).wall
        spent += took
        long = took >= 1e9 * block_seconds
        full = full + 1 if long else 0
        steady = abs(took - previous) < STEADY * previous and full >= WARM_BLOCKS
        if spent >= 1e9 * most_seconds or (steady and spent >= 1e9 * least_seconds):
            return _Settled(inner, took, steady)
        previous = took if long else 0
        if not long:
            # A quarter more than needed, so that blocks stay long enough if the machine becomes faster.
            inner = min(10 * inner, math.ceil(1.25 * inner * 1e9 * block_seconds / took))


def _half_width(laps: Sequence[tuple[_Lap, _Lap]], confidence: float) -> float:
    """Return the larger of the relative half-widths of the intervals of the time and of the relative cost."""
    series = [x.wall for x, _ in laps], [x.wall / y.wall for x, y in laps]
    intervals = [order_statistic_interval(values, confidence) for values in series]
    return max((high - low) / (2 * median) for median, low, high in intervals)


def _ratio_median(ratios: Sequence[float]) -> float:
    """Return the exponential of the median log ratio: the geometric mean of the two middle ratios if there are two."""
    return math.sqrt(statistics.median_low(ratios) * statistics.median_high(ratios))


def _iqr(values: Sequence[float]) -> float:
    """Return the interquartile range."""
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower
