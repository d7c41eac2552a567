"""Cost against the number of choices, of a chain and of a tree of samples: ``python -m tests.benchmarks.chains``.

A chain costs as many seconds for each choice however long it is; a tree of two samples at each layer doubles with
every layer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

from bench.measurement.engine import Engine
from bench.measurement.threads import single_thread
from bench.objectives import Corridor, Objective, SigmoidBeliefNetwork
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import RLOO, Estimator, Nested

ROWS = 256
"""Number of estimates in a timed call."""
CHAINS: dict[str, Callable[[int], tuple[Estimator, Objective]]] = {
    "chain, whole credit": lambda n: (RLOO(n=2), Corridor(horizon=n)),
    "chain, downstream credit": lambda n: (RLOO(n=2, credit="downstream"), Corridor(horizon=n)),
}
TREES: dict[str, Callable[[int], tuple[Estimator, Objective]]] = {
    "layers as a chain": lambda n: (RLOO(n=2, credit="downstream"), SigmoidBeliefNetwork(layers=n, width=4, batch=1)),
    "layers nested": lambda n: (Nested("rloo", "rloo"), SigmoidBeliefNetwork(layers=n, width=4, batch=1)),
}


def seconds(estimator: Estimator, objective: Objective, laps: int) -> float:
    """Return the median time of one estimate."""
    engine = Engine(Cell(estimator, objective), Settings(replicates=ROWS))
    taken = list[float]()
    for lap in range(laps + 1):
        begin = time.perf_counter()
        engine.gradients(ROWS, engine.generator("measure", lap))
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:]) / ROWS


def measured(laps: int, lengths: tuple[int, ...], depths: tuple[int, ...]) -> Iterator[tuple[str, int, float]]:
    """Yield what is timed, the number of choices, and the seconds of one estimate."""
    with single_thread():
        for cases, counts in ((CHAINS, lengths), (TREES, depths)):
            for name, case in cases.items():
                for count in counts:
                    yield name, count, seconds(*case(count), laps)


def main(quick: bool) -> None:
    lengths, depths = ((8, 16), (2, 3)) if quick else ((16, 32, 64, 128, 256), (2, 3, 4, 5, 6, 7))
    print(f"{'':26}{'choices':>8}{'us an estimate':>16}{'us a choice':>13}")
    for name, count, each in measured(2 if quick else 15, lengths, depths):
        print(f"{name:26}{count:>8}{1e6 * each:>16.2f}{1e6 * each / count:>13.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    main(parser.parse_args().quick)
