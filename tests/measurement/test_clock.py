"""The timing engine under a fake clock, so that every assertion on a time is exact or about a planted effect."""

from __future__ import annotations

import gc
import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from bench.measurement.clock import FLOOR, WARM_BLOCKS, Timing, looks_of, time_pair
from bench.stats.median import median_rank

MICRO, MILLI, SECOND = 1_000, 1_000_000, 1_000_000_000


class Machine:
    """A clock that only its own jobs move. ``speed`` maps the present time to the factor on every cost."""

    def __init__(self, speed: Callable[[int], float] | None = None) -> None:
        self.now = 0
        self.calls: list[str] = []
        self.speed = speed

    def __call__(self) -> int:
        return self.now

    def job(self, nanoseconds: int, name: str = "") -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += nanoseconds if self.speed is None else round(nanoseconds * self.speed(self.now))

        return call

    def sequence(self, costs: Iterator[int], name: str = "") -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += next(costs)

        return call

    def blocks(self) -> list[tuple[str, int]]:
        """Return successive equal names, with their number."""
        return [(name, len(list(run))) for name, run in itertools.groupby(self.calls)]


def measure(machine: Machine, job: Callable[[], object], base: Callable[[], object], **options: object) -> Timing:
    return time_pair(job, base, **({"clock": machine, "memory": False} | options))  # type: ignore[arg-type]


# --- ratios ----------------------------------------------------------------------------------------------------------


def test_a_planted_ratio_comes_back_exactly() -> None:
    machine = Machine()
    result = measure(machine, machine.job(300 * MICRO), machine.job(100 * MICRO))
    assert (result.cost, result.cost_low, result.cost_high, result.cost_iqr) == (3.0, 3.0, 3.0, 0.0)
    assert (result.seconds, result.seconds_low, result.seconds_high, result.seconds_min) == (3e-4,) * 4
    assert (result.seconds_iqr, result.blocks, result.noisy, result.steady) == (0.0, 40, False, True)
    assert result.device_seconds is None
    assert result.peak_bytes is None


def test_blocks_of_different_inner_loops_compare_per_call() -> None:
    machine = Machine()
    result = measure(machine, machine.job(7 * MILLI), machine.job(7 * MICRO))
    assert (result.inner, result.cost, result.seconds) == (1, 1000.0, 7e-3)
    assert result.base_inner * 7 * MICRO >= 5 * MILLI


def test_drift_does_not_bias_the_paired_ratio() -> None:
    ramp = Machine(lambda now: 1 + 2 * now / SECOND)  # every block is 1.2 % slower than the one before it
    job, base = ramp.job(300 * MICRO), ramp.job(100 * MICRO)
    result = measure(ramp, job, base)
    assert result.cost == pytest.approx(3, rel=1e-3)

    # The same blocks on the same machine, one job after the other, or always the same job first: both are fooled.
    def block(call: Callable[[], None], inner: int) -> float:
        start = ramp.now
        for _ in range(inner):
            call()
        return (ramp.now - start) / inner

    ramp.now = 0
    sequential = [statistics.median(block(call, 20) for _ in range(40)) for call in (job, base)]
    assert sequential[0] / sequential[1] < 2.5
    ramp.now = 0
    same_order = statistics.median(block(job, 20) / block(base, 60) for _ in range(40))
    assert abs(same_order / 3 - 1) > 5e-3


def test_pairs_alternate_which_job_starts() -> None:
    machine = Machine()
    result = measure(machine, machine.job(6 * MILLI, "A"), machine.job(6 * MILLI, "B"), pairs=16)
    assert (result.inner, result.base_inner, result.blocks) == (1, 1, 16)
    assert "".join(machine.calls[-32:]) == "ABBABAAB" * 4


def test_spikes_move_neither_median_nor_interval() -> None:
    # Another process takes 30 ms at every multiple of 67 ms: about a third of the pairs are hit, each on one side.
    machine = Machine()

    def job(nanoseconds: int) -> Callable[[], None]:
        def call() -> None:
            before = machine.now // (67 * MILLI)
            machine.now += nanoseconds
            machine.now += 30 * MILLI * (machine.now // (67 * MILLI) - before)

        return call

    result = measure(machine, job(300 * MICRO), job(100 * MICRO))
    assert (result.cost, result.cost_low, result.cost_high) == (3.0, 3.0, 3.0)
    assert (result.seconds, result.seconds_min) == (3e-4, 3e-4)


def test_of_an_even_number_the_median_ratio_is_the_geometric_midpoint() -> None:
    # Half of the pairs cost 2 and half cost 8: the median log ratio is that of 4, not of the arithmetic midpoint 5.
    machine = Machine()
    warm = 1 + WARM_BLOCKS
    costs = itertools.chain([20 * MILLI] * warm, itertools.cycle([20 * MILLI, 80 * MILLI]))
    result = measure(machine, machine.sequence(costs), machine.job(10 * MILLI), budget_seconds=100.0)
    assert result.cost == 4.0
    assert (result.cost_low, result.cost_high) == (2.0, 8.0)


@pytest.mark.parametrize(("spread", "noisy"), [(9, False), (11, True)])
def test_noisy_is_an_interquartile_range_over_a_tenth_of_the_median(spread: int, noisy: bool) -> None:
    machine = Machine()
    warm = 1 + WARM_BLOCKS
    steps = itertools.cycle([-spread, spread])
    costs = itertools.chain([10 * MILLI] * warm, ((200 + step) * 50 * MICRO for step in steps))
    result = measure(machine, machine.sequence(costs), machine.job(10 * MILLI))
    assert result.noisy is noisy
    assert result.seconds == pytest.approx(10e-3, rel=1e-12)


def test_a_ratio_that_wanders_is_noisy_even_where_the_seconds_stand_still() -> None:
    machine = Machine()
    warm = 1 + WARM_BLOCKS
    costs = itertools.chain([10 * MILLI] * warm, itertools.cycle([9 * MILLI, 11 * MILLI]))
    result = measure(machine, machine.job(10 * MILLI), machine.sequence(costs))
    assert result.seconds_iqr == 0
    assert result.noisy


def test_seconds_that_wander_are_noisy_even_where_the_ratio_stands_still() -> None:
    machine = Machine(lambda now: 1.5 if now > SECOND // 2 else 1.0)
    result = measure(machine, machine.job(6 * MILLI), machine.job(6 * MILLI), pairs=80)
    assert result.cost == 1.0
    assert result.cost_iqr == 0.0
    assert result.noisy


# --- looks at the intervals ---


def misses(pairs: int, confidence: float) -> float:
    """The probability that the interval of a median over so many pairs misses it, by the binomial law of ranks."""
    below = median_rank(pairs, confidence) - 1
    return 2 * sum(math.comb(pairs, k) for k in range(below + 1)) / 2**pairs


@pytest.mark.parametrize("pairs", [12, 14, 24, 26, 40, 48, 100, 400])
def test_the_intervals_of_all_looks_together_miss_with_five_per_cent_at_most(pairs: int) -> None:
    looks = looks_of(pairs)
    assert looks[0] == FLOOR
    assert looks[-1] == pairs
    assert looks == sorted(set(looks))
    share = 0.05 / len(looks)
    assert sum(misses(look, 1 - share) for look in looks) <= 0.05
    if len(looks) > 1:  # as if each look were the only one
        assert sum(misses(look, 0.95) for look in looks) > 0.05


def test_a_timing_ends_at_the_first_look_whose_intervals_are_narrow() -> None:
    machine = Machine()
    warm = 1 + WARM_BLOCKS

    def costs(rough: int) -> Iterator[int]:
        wander = itertools.cycle([9 * MILLI, 11 * MILLI])
        return itertools.chain([10 * MILLI] * warm, itertools.islice(wander, rough), itertools.repeat(10 * MILLI))

    def blocks(rough: int, narrow: float | None) -> int:
        job = machine.sequence(costs(rough))
        return measure(machine, job, machine.job(10 * MILLI), narrow=narrow, budget_seconds=9.0).blocks

    found = [blocks(0, 0.05), blocks(8, 0.05), blocks(8, 0.2), blocks(40, 0.05), blocks(0, None)]
    assert found == [12, 24, 12, 40, 40]


def test_an_interval_has_the_level_of_its_look_and_not_of_a_single_one() -> None:
    # Twelve different ratios: at 98.3 % the second lowest and highest bound the median, at 95 % the third.
    machine = Machine()
    steps = itertools.chain([100] * (1 + WARM_BLOCKS), range(101, 113), itertools.repeat(106))
    result = measure(
        machine,
        machine.sequence(100 * MICRO * s for s in steps),
        machine.job(10 * MILLI),
        narrow=0.06,
        budget_seconds=9.0,
    )
    assert result.blocks == 12
    assert (result.cost_low, result.cost_high) == (1.02, 1.11)


def test_a_timing_ends_at_a_look_where_its_time_is_up() -> None:
    machine = Machine(lambda now: 1.0 if now < 100 * MILLI else 3.0)
    result = measure(machine, machine.job(10 * MILLI), machine.job(10 * MILLI), budget_seconds=0.65, narrow=1e-9)
    assert result.blocks == 12


# --- warm-up, inner loop, budget -------------------------------------------------------------------------------------


def test_warm_up_ends_at_the_first_two_blocks_that_agree() -> None:
    machine = Machine()
    cooling = itertools.chain([40 * MILLI, 30 * MILLI, 20 * MILLI, 10 * MILLI], itertools.repeat(10 * MILLI))
    result = measure(machine, machine.sequence(cooling, "A"), machine.job(10 * MILLI, "B"))
    assert result.steady
    assert result.seconds == 10e-3
    # The first call, then 30, 20, 10, 10 of A; the first call, then 10, 10, 10 of B.
    assert machine.blocks()[:4] == [("A", 1), ("B", 1), ("A", 4), ("B", WARM_BLOCKS)]


def test_warm_up_gives_up_on_a_job_that_never_settles() -> None:
    machine = Machine()
    costs = itertools.cycle([100 * MILLI, 200 * MILLI])
    result = measure(machine, machine.sequence(costs, "A"), machine.job(10 * MILLI, "B"), budget_seconds=100.0)
    assert not result.steady
    # After the first call 200 and 100 ms in turn, up to 2 s.
    assert machine.blocks()[2] == ("A", 13)


def test_a_slow_first_call_does_not_set_the_inner_loop() -> None:
    machine = Machine()
    costs = itertools.chain([10 * SECOND], itertools.repeat(10 * MICRO))
    result = measure(machine, machine.sequence(costs), machine.job(10 * MICRO))
    assert result.inner == result.base_inner
    assert result.inner * 10 * MICRO >= 5 * MILLI
    assert result.blocks == 40


def test_the_inner_loop_grows_at_most_tenfold_to_a_full_block() -> None:
    machine = Machine()
    result = measure(machine, machine.job(MICRO, "A"), machine.job(5 * MILLI, "B"))
    assert 5_000 <= result.inner <= 10_000
    assert result.base_inner == 1
    warm = machine.blocks()[2]
    assert warm == ("A", 1 + 10 + 100 + 1000 + WARM_BLOCKS * result.inner)


def test_a_loop_that_became_too_short_grows_again() -> None:
    # Fast from the second block on: the loop calibrated on the slow start would be a tenth of a block.
    machine = Machine()
    costs = itertools.chain([6 * MILLI] * 2, itertools.repeat(100 * MICRO))
    result = measure(machine, machine.sequence(costs), machine.job(6 * MILLI))
    assert result.inner * 100 * MICRO >= 5 * MILLI


def test_a_clock_that_does_not_tick_within_a_block_only_means_a_longer_loop() -> None:
    machine = Machine()
    coarse = lambda: machine.now // MILLI * MILLI  # noqa: E731
    result = measure(machine, machine.job(10 * MICRO), machine.job(10 * MICRO), clock=coarse)
    assert result.inner * 10 * MICRO >= 5 * MILLI


def test_a_budget_shortens_the_number_of_pairs() -> None:
    machine = Machine()
    result = measure(machine, machine.job(10 * MILLI), machine.job(10 * MILLI), budget_seconds=0.43)
    # Warm-up takes 60 of 430 ms and a pair 20: 18 fit; an even number keeps the two orders balanced.
    assert result.blocks == 18
    assert machine.now == (2 + 6 + 36) * 10 * MILLI


def test_a_budget_too_small_for_the_floor_shortens_the_blocks() -> None:
    machine = Machine()
    result = measure(machine, machine.job(10 * MICRO), machine.job(10 * MICRO), budget_seconds=0.1)
    assert result.blocks == FLOOR
    assert 1 < result.inner * 10 * MICRO < 5 * MILLI
    assert machine.now <= 0.1 * SECOND + 2 * 10 * MICRO
    assert result.cost == 1.0


def test_the_floor_is_kept_where_even_single_calls_overrun_the_budget() -> None:
    machine = Machine()
    result = measure(machine, machine.job(2 * SECOND), machine.job(SECOND), budget_seconds=1.0)
    assert (result.inner, result.base_inner, result.blocks, result.cost) == (1, 1, FLOOR, 2.0)
    assert not result.steady


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": 11}, "pairs >= 12 .*pairs=11"),
        ({"block_seconds": 0.0}, "block_seconds=0.0"),
        ({"budget_seconds": -1.0}, "budget_seconds=-1.0"),
        ({"device": "meta"}, "'meta'"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_any_call(options: dict[str, object], message: str) -> None:
    machine = Machine()
    with pytest.raises(ValueError, match=message):
        measure(machine, machine.job(MILLI), machine.job(MILLI), **options)
    assert machine.calls == []


# --- the process is left as it was -----------------------------------------------------------------------------------


@pytest.fixture(params=[True, False])
def collecting(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_garbage_collection_is_off_inside_and_as_before_after(collecting: bool) -> None:
    machine, seen = Machine(), []
    job = machine.job(MILLI)
    measure(machine, lambda: (seen.append((gc.isenabled(), torch.get_num_threads())), job()), job)
    assert set(seen) == {(False, 1)}
    assert gc.isenabled() is collecting


@pytest.mark.parametrize("fatal", [1, 2, 30])  # the first call, the warm-up, the pairs
def test_an_exception_inside_leaves_the_process_as_it_was(collecting: bool, fatal: int) -> None:
    machine, threads = Machine(), torch.get_num_threads()
    job = machine.job(6 * MILLI)
    left = itertools.count(1)

    def failing() -> None:
        job()
        if next(left) == fatal:
            raise RuntimeError("planted")

    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="planted"):
            measure(machine, failing, job)
        assert gc.isenabled() is collecting
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


# --- memory ---------------------------------------------------------------------------------------------------------


def test_a_ratio_with_memory_asked_for_calls_the_job_once_more() -> None:
    machine = Machine()
    job = machine.job(10 * MILLI, "A")

    def hungry() -> torch.Tensor:
        job()
        return torch.zeros(256)

    assert measure(machine, hungry, machine.job(10 * MILLI, "B"), memory=True).peak_bytes == 1024
    with_memory = machine.calls.count("A")
    machine.calls.clear()
    assert measure(machine, hungry, machine.job(10 * MILLI, "B"), memory=False).peak_bytes is None
    assert with_memory == machine.calls.count("A") + 1


# --- records ---------------------------------------------------------------------------------------------------------


def test_the_default_clock_times_a_real_job() -> None:
    x = torch.ones(16)
    result = time_pair(lambda: x.exp().log(), lambda: x.exp(), pairs=12, block_seconds=1e-4, budget_seconds=0.1)
    assert 0 < result.seconds_min <= result.seconds_low <= result.seconds <= result.seconds_high
    assert 0 < result.cost_low <= result.cost <= result.cost_high
    assert result.peak_bytes == 2 * 16 * 4


# --- CUDA, acted out -------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """torch.cuda with one GPU; a call costs the host 10 us to launch and the device the microseconds it is given."""
    machine = SimpleNamespace(now=0, idle_at=0, log=[])

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "current"
            machine.log.append("record")
            self.at = max(machine.now, machine.idle_at)

        def elapsed_time(self, end: Event) -> float:
            assert machine.log[-1] == "synchronize", "an event was read before the device was waited for"
            return (end.at - self.at) / MILLI

    def synchronize(device: torch.device) -> None:
        machine.log.append("synchronize")
        machine.now = max(machine.now, machine.idle_at)

    def launch(microseconds: int) -> Callable[[], None]:
        def call() -> None:
            machine.log.append("launch")
            machine.now += 10 * MICRO
            machine.idle_at = max(machine.now, machine.idle_at) + microseconds * MICRO

        return call

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "current")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: machine.log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5000)
    machine.launch = launch
    return machine


def test_cuda_reads_both_clocks_with_the_device_idle(stage: SimpleNamespace) -> None:
    result = time_pair(stage.launch(100), stage.launch(50), device="cuda", clock=lambda: stage.now)
    # The device runs behind the host: a block ends one launch (10 us) after the sum of its calls.
    assert result.seconds == pytest.approx(100e-6 + 10e-6 / result.inner, rel=1e-12)
    assert result.device_seconds == pytest.approx(result.seconds, rel=1e-12)
    assert result.cost == pytest.approx(2, rel=1e-2)
    assert result.peak_bytes == 4000
    phases = [phase for phase, _ in itertools.groupby(stage.log)]
    block, memory = ["synchronize", "record", "launch", "record", "synchronize"], ["reset", "launch", "synchronize"]
    assert phases[-8:] == block + memory


def test_cuda_warms_up_for_its_clocks(stage: SimpleNamespace) -> None:
    time_pair(stage.launch(10_000), stage.launch(10_000), device="cuda", clock=lambda: stage.now, block_seconds=1e-3)
    # Three blocks of 10 ms would do on a CPU too; blocks of 1 ms need more of them to make 25 ms.
    calls = stage.log.count("launch")
    stage.log.clear()
    time_pair(stage.launch(1_000), stage.launch(1_000), device="cuda", clock=lambda: stage.now, block_seconds=1e-3)
    assert stage.log.count("launch") - calls == 2 * (25 - 3)


# --- CUDA, where there is one ----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_is_timed() -> None:
    x = torch.ones(1 << 20, device="cuda")
    result = time_pair(lambda: x.exp().log(), lambda: x.exp(), device="cuda", pairs=12, budget_seconds=1.0)
    assert 0 < result.cost_low <= result.cost <= result.cost_high
    assert result.device_seconds is not None
    assert 0 < result.device_seconds <= result.seconds * 1.1
    assert result.peak_bytes == 2 * 4 * (1 << 20)
