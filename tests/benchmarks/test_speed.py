"""Benchmarks, one group for each row: ``python -m pytest tests/benchmarks/test_speed.py --benchmark-enable``.

Without that option every job runs once, with few replicates, to test that it works. ``python -m tests.benchmarks``
compares times; its jobs take turns.
"""

import functools

import pytest

from tests.benchmarks.__main__ import jobs
from tests.benchmarks.workloads import ROWS

JOBS = ("closed", "floor", "product, mean and variance", "product, every statistic", "Pyro", "reinmax", "JAX")
jobs_of = functools.lru_cache(1)(jobs)
"""The jobs of a row, made once for all its tests."""


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_speed(row, job, benchmark):
    benchmark.group = row.id
    found = jobs_of(row, 0.1 if benchmark.enabled else 1e-9)
    if job not in found:
        pytest.skip(f"{job} is not installed, or has no such estimator")
    benchmark.extra_info["estimates"] = found[job].estimates
    assert benchmark(found[job].run) is not False
