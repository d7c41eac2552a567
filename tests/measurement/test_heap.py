"""Freed memory stays with the process: a warm job that allocates much causes no page faults."""

import subprocess
import sys

import pytest

from bench.measurement.heap import keep_memory

CODE = """
import resource, torch
from bench.measurement.heap import keep_memory
keep_memory()
def job():
    tensors = [torch.ones(2**20) for _ in range(16)]
    return tensors[0] + 1
for _ in range(5):
    job()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    job()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_warm_job_has_no_page_faults():
    if not keep_memory():
        pytest.skip("the C library has no mallopt")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    pages = 20 * 17 * 1024
    assert int(done.stdout) < pages / 100
