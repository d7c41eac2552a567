"""Growth of time and memory with R, with D, and with the number of processes."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.execution.pool import Pool
from bench.measurement.moments import summarise_cell
from bench.measurement.threads import single_thread
from bench.objectives import GaussianQuadratic
from estimators import RLOO
from tests.benchmarks import closed
from tests.benchmarks.interleaved import Job, Laps, Ratio, interleave, of
from tests.benchmarks.product import Product
from tests.benchmarks.workloads import ROWS, Row


def named(name: str) -> Row:
    """Return a line of the table by its name."""
    return next(row for row in ROWS if row.id == name)


def against_replicates(seconds: float, *, small: bool) -> Iterator[tuple[str, str, int, float]]:
    """Yield row, job, R and seconds for R from 1e3 up, except for jobs that always make far more than R."""
    for name, most in (("W1 score", 10**7), ("W3 RLOO(2)", 10**5)):
        replicates, row = 10**3, named(name)
        while replicates <= (10**4 if small else most):
            jobs = _jobs(row, row.closed(), replicates)
            laps = interleave(jobs, seconds=seconds)
            for job, made in jobs.items():
                if made.estimates < 2 * replicates:
                    yield name, job, made.estimates, laps.median(job) * made.estimates
            replicates *= 10


def against_dimension(seconds: float, *, small: bool) -> Iterator[tuple[int, int, Laps]]:
    """Yield D, R and the laps for leave-one-out with n = 4 on the Gaussian quadratic."""
    for dim in (1, 10, 100) if small else (1, 10, 100, 1_000, 10_000):
        objective = GaussianQuadratic(dim=dim)
        yardstick = closed.GaussianRLOO(objective, 4)
        row = Row("W2", f"RLOO(4), D = {dim}", RLOO(n=4), objective, lambda y=yardstick: y, 0)  # type: ignore[misc]
        replicates = max(2_048, min(200_000, 10**6 // dim) // (20 if small else 1))
        yield dim, replicates, interleave(_jobs(row, yardstick, replicates), seconds=seconds)


def _jobs(row: Row, yardstick: closed.Closed, replicates: int) -> dict[str, Job]:
    product, made = Product(row, replicates), yardstick.replicates(replicates)
    return {
        "closed": Job(lambda: yardstick.measure(replicates), made),
        "floor": Job(lambda: yardstick.floor(replicates), made),
        "product, mean and variance": Job(product.lean, product.replicates),
        "product, every statistic": Job(product.whole, product.replicates),
    }


def memory(small: bool) -> list[dict[str, Any]]:
    """Return the highest resident memory of fresh processes that measure the same row with few and many replicates."""
    few, many = (20_000, 100_000) if small else (100_000, 3_000_000)
    out = []
    for name in ("W1 score",) if small else ("W1 score", "W2 pathwise", "W3 score"):
        low, high = (_child(name, replicates) for replicates in (few, many))
        out.append({"row": name, "few": few, "many": many, "few_bytes": low, "many_bytes": high, "grown": high - low})
    return out


def _child(name: str, replicates: int) -> int:
    command = [sys.executable, "-m", "tests.benchmarks.growth", name, str(replicates)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return int(json.loads(done.stdout)["peak_bytes"])


def processes(rounds: int, *, small: bool) -> dict[str, tuple[Ratio, Ratio]]:
    """Return two ratios of the time of one process to the time of two.

    The first ratio is for one large cell, whose draws are spread over the workers. The second is for two independent
    processes and shows the limit of the machine. Processes are started three times, since memory and cache favour some
    processes for their whole life.
    """
    out = {}
    for name, replicates in (("W2 pathwise", 1_000_000), ("W3 score", 500_000)):
        product = Product(named(name), replicates // (50 if small else 1))
        spread, apart = list[float](), list[float]()
        for _ in range(1 if small else 3):
            with Pool(1) as one, Pool(2) as two, _apart(name, product.replicates) as pair:
                for turn in range(-1, rounds):  # the first does not count
                    a, b = _in_turn(turn, partial(_spread, product, one), partial(_spread, product, two))
                    c, d = _in_turn(
                        turn, partial(_ask, pair[:1], product.replicates), partial(_ask, pair, product.replicates // 2)
                    )
                    if turn >= 0:
                        spread.append(a / b)
                        apart.append(c / d)
        out[name] = of(spread), of(apart)
    return out


@contextlib.contextmanager
def _apart(name: str, replicates: int) -> Iterator[list[Connection]]:
    """Start two independent processes that measure a row, with all replicates or half of them."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(2)]
    started = [context.Process(target=_alone, args=(theirs, name, replicates)) for _, theirs in pairs]
    for each in started:
        each.start()
    try:
        yield [ours for ours, _ in pairs]
    finally:
        for ours, _ in pairs:
            ours.send(0)
        for each in started:
            each.join()


def _alone(connection: Connection, name: str, replicates: int) -> None:
    """Measure the requested number of replicates again and again until 0 is requested: the life of a process."""
    torch.set_num_threads(1)
    products = {n: Product(named(name), n) for n in (replicates, replicates // 2)}
    for n in iter(connection.recv, 0):
        products[n].whole()
        connection.send(n)


def _ask(processes: list[Connection], replicates: int) -> None:
    """Make every process measure ``replicates``, all at the same time."""
    for process in processes:
        process.send(replicates)
    for process in processes:
        process.recv()


def _in_turn(turn: int, first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of two jobs; in every other turn the second runs first."""
    seconds = {}
    for job in (first, second) if turn % 2 else (second, first):
        start = time.perf_counter()
        job()
        seconds[job] = time.perf_counter() - start
    return seconds[first], seconds[second]


def _spread(product: Product, pool: Pool) -> None:
    exact = product.exact
    assert exact is not None
    with single_thread():
        summarise_cell(product.engine, exact, spread=pool.spread)


def slope(x: list[float], y: list[float]) -> float:
    """Return the slope between the last two points on log axes."""
    return float(np.diff(np.log(y[-2:]))[0] / np.diff(np.log(x[-2:]))[0])


def main(name: str, replicates: int) -> None:
    """Measure one row and print the highest resident memory of this process: the life of a child."""
    torch.set_num_threads(1)
    Product(named(name), replicates).whole()
    # Not getrusage: its peak starts at the memory of the parent process.
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    print(json.dumps({"peak_bytes": 1024 * int(peak)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
