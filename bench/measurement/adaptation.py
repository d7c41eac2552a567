"""Adaptation: the state of an estimator learns, and is then frozen."""

import hashlib
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.measurement.counting import Counter, counted
from bench.measurement.engine import Engine
from estimators import adapt, rows

ADAPT_ROWS, ADAPT_WINDOW = 64, 50
"""Number of rows of q in each step of an adaptation; number of steps whose second moments are averaged and compared."""
ADAPT_GAIN = 0.01
"""Smallest relative fall of the second moment, from one window to the next, for which learning goes on."""
ADAPT_RATE = 1e-2
"""Adam's learning rate for a learned control variate."""


@dataclass(frozen=True)
class Adaptation:
    """An adaptation, in which an estimator's state learns: its steps, and the digest of the final state.

    ``seconds`` is the wall time of all steps, ``f_evals`` the number of evaluations of f in these steps.

    ``settled`` says whether learning ended because it no longer paid, and not at the limit of its steps. If the
    estimator has no state, there are no steps, and ``digest`` and ``settled`` are None.
    """

    steps: int = 0
    seconds: float = 0.0
    f_evals: int = 0
    digest: str | None = None
    settled: bool | None = None


def adapt_state(engine: Engine) -> Adaptation:
    """Train the estimator's state, if it has one, on separate noise, then freeze the state.

    The state is what the estimator has learned. Return the ``Adaptation``, which tells how the state was learned.

    Learning stops after the settings' ``adapt_steps``, or at the end of a window of steps in which the second moment of
    the gradient was not at least 1 % lower than in the window before.
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
        if len(moments) == ADAPT_WINDOW:
            now = torch.stack(moments).mean().item()
            settled = not now < (1 - ADAPT_GAIN) * before
            before = now
            moments.clear()
    engine.freeze()
    seconds = time.perf_counter() - begin
    return Adaptation(steps, seconds, counter.f, hashlib.sha256(engine.state_bytes() or b"").hexdigest()[:16], settled)
