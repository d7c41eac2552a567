"""Adaptation: an estimator's state learns on noise of its own, then it is frozen."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import torch

from bench.measurement.counting import Counter, counted
from bench.measurement.engine import Engine
from estimators import adapt, rows

ADAPT_STEPS, ADAPT_ROWS = 200, 64


@dataclass(frozen=True)
class Learned:
    """What adaptation took: steps, seconds, evaluations of f per step and row, digest of the final state."""

    steps: int = 0
    seconds: float = 0.0
    f_evals: int = 0
    digest: str | None = None


def learn(engine: Engine) -> Learned:
    """Adapt the state on noise of its own, then freeze it."""
    if engine.state is None:
        return Learned()
    begin = time.perf_counter()
    trainable = list(engine.state.parameters())
    optimizer = torch.optim.Adam(trainable, lr=1e-2) if trainable else None
    counter = Counter()
    for step in range(ADAPT_STEPS):
        r = rows(engine.q, ADAPT_ROWS)
        f = counted(engine.problem.integrand(r), counter)
        adapt(engine.cell.estimator, f, r, engine.state, optimizer, engine.generator("adapt", step))
    engine.freeze()
    seconds = time.perf_counter() - begin
    return Learned(ADAPT_STEPS, seconds, counter.f, hashlib.sha256(engine.state_bytes() or b"").hexdigest()[:16])
