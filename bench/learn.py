"""What comes before the measurement of a cell: its state learns, its evaluations are counted."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass

import torch

from bench.counting import Counter, counted
from bench.engine import Engine
from estimators import adapt, rows

ADAPT_STEPS, ADAPT_ROWS = 200, 64
COUNT_ROWS = 64


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


def count_evaluations(engine: Engine) -> tuple[float, float]:
    """Return evaluations of f and of its gradient, per estimate, counted in a call of their own."""
    counter = Counter(event_dims=len(engine.q.event_shape))
    count = 1 if engine.cell.estimator.deterministic else COUNT_ROWS
    r = rows(engine.q, count)
    f = counted(engine.problem.integrand(r), counter)
    engine.own_gradients(r, f, engine.generator("count", 0))
    per = count * math.prod(engine.q.batch_shape)
    return counter.f / per, counter.df / per
