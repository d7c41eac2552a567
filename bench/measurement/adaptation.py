"""Adaptation: the state of an estimator learns, and is then frozen."""

import hashlib
import time
from dataclasses import dataclass

import torch

from bench.measurement.counting import Counter, counted
from bench.measurement.engine import Engine
from estimators import adapt, rows

ADAPT_STEPS, ADAPT_ROWS = 200, 64
"""Number of steps of an adaptation; number of rows of q in each step."""
ADAPT_RATE = 1e-2
"""Adam's learning rate for a learned control variate."""


@dataclass(frozen=True)
class Adaptation:
    """The steps of an adaptation, their wall time, their evaluations of f, and the digest of the final state.

    An estimator without a state has no steps, and its digest is None.
    """

    steps: int = 0
    seconds: float = 0.0
    f_evals: int = 0
    digest: str | None = None


def adapt_state(engine: Engine) -> Adaptation:
    """Train the estimator's state, if it has one, on separate noise, then freeze it; return the ``Adaptation``."""
    if engine.state is None:
        return Adaptation()
    begin = time.perf_counter()
    trainable = list(engine.state.parameters())
    optimizer = torch.optim.Adam(trainable, lr=ADAPT_RATE) if trainable else None
    counter = Counter(event_dims=len(engine.q.event_shape))
    for step in range(ADAPT_STEPS):
        r = rows(engine.q, ADAPT_ROWS)
        f = counted(engine.problem.integrand(r), counter)
        adapt(engine.cell.estimator, f, r, engine.state, optimizer, engine.generator("adapt", step))
    engine.freeze()
    seconds = time.perf_counter() - begin
    return Adaptation(ADAPT_STEPS, seconds, counter.f, hashlib.sha256(engine.state_bytes() or b"").hexdigest()[:16])
