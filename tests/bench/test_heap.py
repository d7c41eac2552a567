"""Freed memory stays: a job that allocates much asks the system for pages once."""

import subprocess
import sys

import pytest

from bench.heap import keep_memory

CODE = """
import resource, torch
from bench.heap import keep_memory
if {keep}:
    keep_memory()
def job():
    tensors = [torch.ones(2**20) for _ in range(16)]
    return tensors[0] + 1
job()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    job()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run([sys.executable, "-c", CODE.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_page_faults_disappear():
    if not keep_memory():
        pytest.skip("the C library has no mallopt")
    assert 2 * faults(keep=True) < faults(keep=False)
