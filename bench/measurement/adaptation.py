"""Adaptation: an estimator's state learns, then it is frozen."""

import hashlib
import time
from dataclasses import dataclass

import torch

from bench.measurement.counting import Counter, counted
from bench.measurement.engine import Engine
from estimators import adapt, rows

ADAPT_STEPS, ADAPT_ROWS = 200, 64
"""Steps of adaptation, and the rows of q in each."""
ADAPT_RATE = 1e-2
"""Learning rate of a learned control variate, with Adam."""


@dataclass(frozen=True)
class Adaptation:
    """The number of steps, their wall time and evaluations of f; the digest of the final state, or None without one."""

    steps: int = 0
    seconds: float = 0.0
    f_evals: int = 0
    digest: str | None = None


def adapt_state(engine: Engine) -> Adaptation:
    """Adapt the engine's state on noise of its own, then freeze it."""
    if engine.state is None:
        return Adaptation()
    begin = time.perf_counter()
    trainable = list(engine.state.parameters())
    optimizer = torch.optim.Adam(trainable, lr=ADAPT_RATE) if trainable else None
    counter = Counter()
    for step in range(ADAPT_STEPS):
        r = rows(engine.q, ADAPT_ROWS)
        f = counted(engine.problem.integrand(r), counter)
        adapt(engine.cell.estimator, f, r, engine.state, optimizer, engine.generator("adapt", step))
    engine.freeze()
    seconds = time.perf_counter() - begin
    return Adaptation(ADAPT_STEPS, seconds, counter.f, hashlib.sha256(engine.state_bytes() or b"").hexdigest()[:16])
