"""Adaptation: the state of an estimator learns, and is then frozen."""

import hashlib
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.measurement.counting import Counter, counted
from bench.measurement.engine import Engine
from bench.measurement.pulse import beat
from estimators import adapt, rows

ADAPT_ROWS, ADAPT_WINDOW = 64, 50
"""Number of rows of q in each step of an adaptation; number of steps whose second moments are averaged and compared."""
ADAPT_GAIN = 0.01
"""Smallest relative fall of the second moment, from one window to the next, for which learning goes on."""
ADAPT_RATE = 1e-2
"""Adam's learning rate for a learned control variate."""


@dataclass(frozen=True)
class Adaptation:
    """How an estimator's state (what it learns from samples) was trained before a measurement.

    Args:
        steps: number of optimizer steps; 0 if the estimator has no state.
        seconds: wall time of all steps.
        f_evals: number of evaluations of f in all steps.
        digest: digest of the final state; None if the estimator has no state.
        settled: True if training ended because more steps no longer paid, False if it ended at the largest number of
            steps. None if the estimator has no state.
    """

    steps: int = 0
    seconds: float = 0.0
    f_evals: int = 0
    digest: str | None = None
    settled: bool | None = None


def adapt_state(engine: Engine) -> Adaptation:
    """Train the state of the engine's estimator, then freeze the state; return how the training went.

    The state is what the estimator learns. If the estimator has no state, nothing is done. The training has noise of
    its own, separate from the noise of the measurement. Its number of steps is at most the settings' ``adapt_steps``.
    The second moment of the gradient is averaged over every 50 steps. Training ends when this average has fallen by
    less than 1 % since the 50 steps before.
    """
    if engine.state is None:
        return Adaptation()
    begin = time.perf_counter()
    trainable = list(engine.state.parameters())
    optimizer = torch.optim.Adam(trainable, lr=ADAPT_RATE) if trainable else None
    counter = Counter(event_dims=len(engine.q.event_shape))
    steps, before, moments, settled = 0, math.inf, list[Tensor](), False
    while steps < engine.settings.adapt_steps and not settled:
        r = rows(engine.q, ADAPT_ROWS)
        f = counted(engine.problem.integrand(r), counter)
        moments.append(adapt(engine.cell.estimator, f, r, engine.state, optimizer, engine.generator("adapt", steps)))
        steps += 1
        beat()
        if len(moments) == ADAPT_WINDOW:
            now = torch.stack(moments).mean().item()
            settled = not now < (1 - ADAPT_GAIN) * before
            before = now
            moments.clear()
    engine.freeze()
    seconds = time.perf_counter() - begin
    return Adaptation(steps, seconds, counter.f, hashlib.sha256(engine.state_bytes() or b"").hexdigest()[:16], settled)
