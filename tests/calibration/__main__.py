"""Make the calibration study: ``python -m tests.calibration --out results/calibration``, from the repository's root."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from tests.calibration import overhead, write
from tests.calibration.study import WHOLE, study


def main() -> None:
    """Run the study and write its tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.calibration", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--runs", type=float, default=1.0, help="part of the runs, as 0.05 for a quick look")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", default=[], choices=write.PARTS, help="parts to make; the others stay")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = WHOLE.scaled(given.runs)
    results = study(plan, given.processes, lambda text: print(text, flush=True), given.only)
    if given.only:
        print(write.parts(given.out, results, given.only))
        return
    time_taken = [overhead.measure(timing) for timing in (False, True)]
    print(write.everything(given.out, results, time_taken))


if __name__ == "__main__":
    main()
