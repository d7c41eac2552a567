"""How often advice is right: ``python -m tests.calibration.advice --out results/calibration``, from the root.

On every problem, the variance of every candidate is measured first, with many more replicates than advice takes. Then
advice is asked many times, each time with other noise. It is right if the recommended candidate is the best one, or
needs at most 10 % more evaluations for equal precision.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributions import OneHotCategorical

from bench import Expectation, advise
from bench.advice.arms import Arm
from bench.advice.budget import Budget
from bench.advice.candidates import of_catalogue
from bench.advice.course import Prepared, prepare
from bench.advice.points import Point
from bench.measurement.threads import single_thread
from bench.objectives import Objective, catalogue
from bench.planning.instances import expand
from bench.planning.selectors import parse
from bench.planning.settings import Settings
from bench.stats.selection import Loss, loss_of

PROBLEMS = (
    "bernoulli-quadratic:dim=50,target=0.45",
    "qubo:dim=30",
    "categorical-polynomial:dim=16",
    "categorical-linear-quadratic:dim=8",
    "gaussian-quadratic",
    "gaussian-cosine",
    "gaussian-exponential",
    "importance-weighted",
    "linear-quadratic-regulator",
    "poisson-quadratic",
    "gamma-quadratic",
)
NETWORK, RUNS, NETWORK_RUNS = "Expectation with a network", 180, 20
BUDGET, PER_GRADIENT = "1e6-evals", 16
"""The default budget without its seconds, which would make the result depend on the machine."""
WITHIN = 0.10
"""Share of additional evaluations with which a recommendation still counts as right."""
FIRST, LAST, NEAR = 2**11, 2**16, 1.5
"""Replicates of every candidate, and of those that need less than ``NEAR`` times the evaluations of the best one."""
TRUTH_SEED = 10**6
"""Seed of the noise that measures the variances, far from the seeds of the advice."""


def network() -> Objective:
    """Return an expectation in which a network chooses one of 20 keys for each of 8 inputs."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 20))
    inputs, keys = (torch.randn(count, 8, generator=generator) for count in (8, 20))
    return Expectation(
        q=lambda net: OneHotCategorical(logits=net(inputs)),
        f=lambda x: (x @ keys - inputs).square().sum(-1),
        theta=net,
        name="network",
    )


def problem(name: str) -> Objective:
    """Return a problem by its name."""
    return network() if name == NETWORK else expand(parse(name), "objective")[0]


def truth(name: str, most: int = LAST) -> dict[str, Loss]:
    """Return the losses of all unbiased candidates of a problem, the near-best ones from ``most`` replicates."""
    settings = Settings(seed=TRUTH_SEED)
    with single_thread():
        points = [Point.of(problem(name), settings, name)]
        prepared: Prepared = prepare(of_catalogue(PER_GRADIENT), points, settings, Budget(), PER_GRADIENT)
        arms = [arm for arm in prepared.arms if arm.estimator.unbiased]
        for arm in arms:
            arm.look("truth, first", FIRST, [None], 0.95)
        best = min(_loss(arm).value for arm in arms)
        for arm in arms:
            if _loss(arm).value <= best + math.log(NEAR):
                arm.look("truth", most, [None], 0.95)
        return {arm.label: _loss(arm) for arm in arms}


def _loss(arm: Arm) -> Loss:
    return loss_of(
        arm.looks[0].summary, arm.evaluations, PER_GRADIENT, unbiased=True, deterministic=arm.estimator.deterministic
    )


@dataclass(frozen=True)
class Run:
    """One piece of advice: the recommended candidate, those that may be the best, and the seconds it took."""

    problem: str
    seed: int
    recommended: str
    possible: tuple[str, ...]
    least: float
    seconds: float


def run(name: str, seed: int) -> Run:
    """Ask for advice on a problem, with the noise of a seed."""
    begin = time.perf_counter()
    found = advise(problem(name), BUDGET, per_gradient=PER_GRADIENT, seed=seed, timing=False)
    return Run(name, seed, found.best.label, tuple(found.possible), found.least, time.perf_counter() - begin)


def rows(truths: dict[str, dict[str, Loss]], runs: Sequence[Run]) -> list[dict[str, object]]:
    """Return one row per problem: how often the advice was right, and how often its statements held."""
    table = []
    for name, losses in truths.items():
        mine = [each for each in runs if each.problem == name]
        best = min(losses, key=lambda label: losses[label].value)
        # Near ties count as the best: the variances are known up to their intervals.
        ties = [label for label in losses if losses[label].low <= losses[best].high]
        excess = [_ratio(losses[each.recommended].value, losses[best].value) for each in mine]
        table.append(
            {
                "problem": name,
                "runs": len(mine),
                "candidates": len(losses),
                "best": best,
                "ties": len(ties),
                "recommended": " ".join(sorted({each.recommended for each in mine})),
                "right": sum(value <= 1 + WITHIN for value in excess),
                "largest_excess": round(max(excess) - 1, 4),
                "best_named": sum(any(label in each.possible for label in ties) for each in mine),
                "limit_held": sum(
                    each.least <= _ratio(losses[best].high, losses[each.recommended].low) for each in mine
                ),
                "seconds": round(sum(each.seconds for each in mine) / max(1, len(mine)), 1),
            }
        )
    return table


def _ratio(loss: float, other: float) -> float:
    """Return exp(loss − other); 1 if neither candidate has noise."""
    return 1.0 if loss == other else math.exp(min(loss - other, 50.0))


def time_everything() -> list[dict[str, object]]:
    """Ask for advice on every objective of the catalogue with the default budget; return a row of seconds for each."""
    table = []
    for name, cls in catalogue().items():
        begin = time.perf_counter()
        found = advise(cls())
        seconds = round(time.perf_counter() - begin, 1)
        table.append(
            {
                "objective": name,
                "recommended": found.best.label,
                "candidates": found.candidates,
                "left_out": found.hurried,
                "evaluations": int(found.spent),
                "seconds": seconds,
            }
        )
        print(name, found.best.label, seconds, flush=True)
    return table


def write(path: Path, table: list[dict[str, object]]) -> None:
    """Write rows to a file of comma-separated values."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def main() -> None:
    """Measure the variances, ask for advice, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.calibration.advice", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--runs", type=float, default=1.0, help="part of the runs, as 0.05 for a quick look")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", action="store_true", help="only time advice on every objective of the catalogue")
    given = parser.parse_args()
    if given.seconds:
        write(given.out / "advice-seconds.csv", time_everything())
        return
    each = math.ceil(given.runs * RUNS / len(PROBLEMS))
    tasks = [(name, seed) for name in PROBLEMS for seed in range(each)]
    tasks += [(NETWORK, seed) for seed in range(math.ceil(given.runs * NETWORK_RUNS))]
    names = list(dict.fromkeys(name for name, _ in tasks))
    with ProcessPoolExecutor(given.processes) as pool:
        truths = dict(zip(names, pool.map(truth, names), strict=True))
        print("variances measured", flush=True)
        runs = []
        for found in pool.map(run, *zip(*tasks, strict=True)):
            runs.append(found)
            print(f"{found.problem}, seed {found.seed}: {found.recommended}, {found.seconds:.1f} s", flush=True)
    table = rows(truths, runs)
    write(given.out / "advice.csv", table)
    right, total = sum(int(str(row["right"])) for row in table), len(runs)
    print(f"right in {right} of {total} runs")


if __name__ == "__main__":
    main()
