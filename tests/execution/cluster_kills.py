"""Kill workers of a Dask cluster at random instants: ``python -m tests.execution.cluster_kills [--times 20]``.

Every time, a study is measured by a cluster of two workers, one of which is killed in the middle; every second time the
process that measures for it is killed instead. The records must be those of an uninterrupted run in one process.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from distributed import Client

from bench.execution.cluster import coordinator
from bench.execution.cluster.address import Dask
from bench.execution.progress import Progress
from bench.planning.spec import Spec
from tests.execution.specs import without_clocks
from tests.running import run

CELLS = {
    "timing": False,
    "replicates": 100_000,
    "estimators": ["rloo:n=2,4,8", "score-function", "reparameterization", "measure-valued"],
    "objectives": ["gaussian-quadratic:dim=2,5,10", "gaussian-exponential"],
}


class Watch(Progress):
    """Counts records, and knows when the first and the last one came."""

    first = last = None
    done = 0

    def finish(self, record):
        self.done += 1
        self.last = time.monotonic()
        self.first = self.first or self.last


class Killer(Watch):
    """Kills one process of a cluster some seconds after the record with a given number."""

    def __init__(self, pids, number, wait, *, measuring):
        self.pids, self.number, self.measuring = pids, number, measuring
        self.timer, self.at = threading.Timer(wait, self.kill), None

    def finish(self, record):
        super().finish(record)
        if self.done == self.number:
            self.timer.start()

    def kill(self):
        worker = psutil.Process(random.choice(self.pids))
        last = [child for child in worker.children(recursive=True) if not child.children()]
        process = random.choice(last) if self.measuring else worker
        os.kill(process.pid, signal.SIGKILL)
        self.at = self.done


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    spec, wrong, late = Spec.of(CELLS), 0, 0
    with tempfile.TemporaryDirectory() as name, coordinator.local_cluster(2) as local:
        dask, client = Dask(local), Client(local, set_as_default=False)
        coordinator.Cluster.stop = lambda cluster: cluster._stack.close()  # measuring processes stay for the next time
        alone = without_clocks(run(spec, Path(name) / "alone", Progress()))
        watch = Watch()
        assert without_clocks(run(spec, Path(name) / "whole", watch, dask)) == alone
        for number in range(given.times):
            time.sleep(1)  # until the scheduler knows what has become of its workers
            client.wait_for_workers(2, 60)
            # Until the last two records both workers are at work. A wait for one record leaves another one to come.
            last, wait = random.randrange(1, len(alone) - 2), random.uniform(0, watch.last - watch.first) / watch.done
            killer = Killer([*client.run(os.getpid).values()], last, wait, measuring=number % 2 == 1)
            found = without_clocks(run(spec, Path(name) / str(number), killer, dask))
            killer.timer.join()
            wrong, late = wrong + (found != alone), late + (killer.at == len(alone))
            what, told = (
                "measuring process" if killer.measuring else "worker",
                "equal" if found == alone else "DIFFERENT",
            )
            print(f"{number + 1:3}: killed a {what} after {killer.at} of {len(alone)} records: {told}", flush=True)
        client.close()
    print(f"{given.times - wrong} of {given.times} runs have the records of an uninterrupted run")
    print(f"{given.times - late} of {given.times} kills fell while work remained")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
