"""One training run: weights, optimizers, and the checkpoints along the way."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator
from torch.distributions import Distribution

from bench.measurement.counting import Counter, count_evaluations, counted
from bench.measurement.engine import DTYPES, Engine, checked_loss
from bench.measurement.heap import keep_memory
from bench.measurement.lines import Lost
from bench.measurement.moments import collect
from bench.measurement.reduction.blocks import block_partial
from bench.objectives import Objective, Problem, _weights
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.records.identity import identity
from bench.records.lines import Record
from bench.records.seeds import draw_seed
from bench.stats import Summary, summarise
from bench.training.settings import OPTIMIZERS, Training
from estimators import State, adapt, draw, rows

KIND = "training"
"""Kind of the record."""
ADAPT_RATE = 1e-2
"""Learning rate of a learned control variate, with Adam; the same as where ``bench run`` lets it learn."""
EXPLODED = 100.0
"""A run has diverged if its objective is worse than at the start by more than this many times the larger of its size at
the start and 1; or if a value is not finite."""
SAMPLES = 2**13
"""About how many values of f an objective without an exact value is the mean of, at every look."""


class Divergence(NamedTuple):
    """Where and why a run went wrong: the step by which it was seen, and a sentence."""

    step: int
    reason: str


def upwards(objective: Objective) -> bool:
    """Return whether training maximises the objective. Bounds always are maximised."""
    return objective.bound or objective.maximise


class Trainee:
    """The weights of a run, the state of its estimator, and the optimizers of both."""

    def __init__(self, cell: Cell, how: Training, seed: int) -> None:
        self.cell, self.how, self.seed = cell, how, seed
        self.estimator = cell.estimator
        self.objective = cell.objective.restarted(seed)
        self.device = torch.device(how.device)
        if self.device.type == "cpu":
            keep_memory()
        self.problem = self.objective.build(DTYPES[how.dtype], self.device)
        self.sharp = self.objective.build(torch.float64, "cpu")
        for t in self.problem.extra.values():
            t.requires_grad_()
        self.weights = [*self.problem.theta.values(), *self.problem.extra.values()]
        if not self.problem.theta or not all(t.is_leaf and t.requires_grad for t in self.weights):
            raise ValueError(
                f"{label(self.objective)} cannot be trained: its theta has to hold leaf tensors that require "
                f"gradients, and at least one (got {list(self.problem.theta)})."
            )
        self.optimizer = OPTIMIZERS[how.optimizer](self.weights, lr=how.rate)
        self.sign = -1.0 if upwards(self.objective) else 1.0
        self.state: State | None = None
        if self.estimator.needs_state:
            self.state = self.estimator.init(self.problem.q(self.problem.theta), self.generator("init"))
        learned = list(self.state.parameters()) if self.state is not None else []
        self.learner = torch.optim.Adam(learned, lr=ADAPT_RATE) if learned else None
        if self.state is not None:
            self.state.requires_grad_(False)
        self.noise, self.adapt_noise = self.generator("training"), self.generator("adaptation")
        self.adapted, self.adaptations = Counter(), 0

    def generator(self, stage: str, index: int = 0, device: torch.device | str | None = None) -> Generator:
        """Return a generator of the seed: the same for every estimator of the objective."""
        seed = draw_seed(self.seed, f"{KIND} {stage}", identity(self.cell.objective), index)
        return Generator(device or self.device).manual_seed(seed)

    def trained(self, progress: Callable[[int, int], None]) -> Record:
        """Train; return what there is to tell."""
        f_evals, grad_evals = count_evaluations(self.engine())
        looks, divergence = self.looks(progress)
        batch = math.prod(self.problem.q(self.problem.theta).batch_shape)
        return {
            "outcome": "diverged" if divergence else "measured",
            "reason": divergence and divergence.reason,
            "diverged_at": divergence and divergence.step,
            "held_out": self.sharp.held_out is not None,
            "exact_value": self.judged.exact is not None,
            "batch": batch,
            "size": sum(t.numel() for t in self.problem.theta.values()),
            "f_evals": f_evals,
            "grad_evals": grad_evals,
            "adapt_f_evals": self.adapted.f / (batch * max(1, self.adaptations)),
            "curves": {key: [look[key] for look in looks] for key in looks[0]},
            "weights_digest": _weights.digest(_weights.of(self.problem)),
            "pictures": self.pictures() if self.seed == 0 else None,
        }

    def looks(self, progress: Callable[[int, int], None]) -> tuple[list[Record], Divergence | None]:
        """Train; return what was seen at every look, and how the run has diverged if it has."""
        found = [self.look(0, math.nan, 0.0)]
        divergence = self.exploded(found)
        for start, stop in pairwise(self.how.looks):
            if divergence:
                break
            begin = self.clock()
            values = []
            for i in range(start, stop):
                values.append(self.survived(i))
                if not math.isfinite(values[-1]):
                    return found, Divergence(
                        i + 1, f"The value of f in training became {values[-1]:g} at step {i + 1}."
                    )
            seconds = found[-1]["training_seconds"] + self.clock() - begin
            found.append(self.look(stop, math.fsum(values) / len(values), seconds))
            divergence = self.exploded(found)
            progress(stop, self.how.steps)
        return found, divergence

    def exploded(self, looks: Sequence[Record]) -> Divergence | None:
        """Return how the run has diverged by its last look, or None."""
        start, now, step = looks[0]["value"], looks[-1]["value"], looks[-1]["step"]
        if not math.isfinite(now):
            return Divergence(step, f"The objective became {now:g} by step {step}.")
        if self.sign * (now - start) > EXPLODED * max(1.0, abs(start)):
            return Divergence(step, f"The objective went from {start:.4g} to {now:.4g} by step {step}.")
        return None

    def survived(self, i: int) -> float:
        """Take a step and return its value; NaN where weights that are not finite made it raise."""
        try:
            return self.step(i)
        except Exception:
            if all(bool(t.isfinite().all()) for t in self.weights):
                raise
            return math.nan

    def step(self, i: int) -> float:
        """Take step ``i`` of the optimizer; return the estimator's value of the objective, a mean over the batch."""
        problem = self.problem if self.problem.minibatch is None else self.problem.minibatch(i)
        q = problem.q(problem.theta)
        if self.learner is not None:
            self.adapt(problem, q)
        loss = checked_loss(self.estimator, self.estimator(problem.integrand(q), q, self.noise, self.state), q)
        self.optimizer.zero_grad()
        (self.sign * loss.mean()).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.state is not None and self.learner is None:
            self.state.update(loss.detach())
        return loss.detach().mean().item()

    def adapt(self, problem: Problem, q: Distribution) -> None:
        """Let the state learn for one step, on noise of its own."""
        assert self.state is not None
        r = rows(q, 1)
        f = counted(problem.integrand(r), self.adapted)
        self.state.requires_grad_(True)
        adapt(self.estimator, f, r, self.state, self.learner, self.adapt_noise)
        self.state.requires_grad_(False)  # from here to the next step it costs no graph
        self.adaptations += 1

    def look(self, step: int, training_value: float, seconds: float) -> Record:
        """Return what is to be seen after a step: the objective and the variance of the gradient."""
        value, error = self.value()
        seen = {"step": step, "value": value, "value_error": error}
        seen |= {"training_value": training_value, "training_seconds": seconds}
        if not self.how.replicates:
            return seen
        summary = self.variance(step) if math.isfinite(value) else None
        return seen | {
            "variance": summary and summary.variance,
            "variance_low": summary and summary.variance_low,
            "variance_high": summary and summary.variance_high,
            "variance_status": summary and summary.status,
        }

    def value(self) -> tuple[float, float]:
        """Return the objective and its standard error, on held-out data where there are; in float64.

        Exact where it can be; else the mean of f over samples, which are made of the same noise at every look.
        """
        self.sharpen()
        judged = self.judged
        with torch.no_grad():
            if judged.exact is not None:
                return judged.exact(judged.theta).item(), 0.0
            q = judged.q(judged.theta)
            count = max(2, math.ceil(SAMPLES / math.prod(q.batch_shape)))
            x = draw(q, count, self.generator("evaluation", device="cpu"))
            each = judged.integrand(q)(x).reshape(count, -1).mean(1)
            return each.mean().item(), (each.std() / math.sqrt(count)).item()

    @property
    def judged(self) -> Problem:
        """What the objective is computed on."""
        return self.sharp.held_out or self.sharp

    def sharpen(self) -> None:
        """Bring the problem in float64 to the weights of now."""
        with torch.no_grad():
            for mine, sharp in ((self.problem.theta, self.sharp.theta), (self.problem.extra, self.sharp.extra)):
                for name, t in mine.items():
                    sharp[name].copy_(t)

    def variance(self, step: int) -> Summary | None:
        """Return the statistics of the gradient at theta, where ``bench run`` measures it; None if it is not finite."""
        engine, stage = self.engine(), f"{KIND} variance at step {step}"
        total, centre = sum(engine.sizes), engine.draw_gradients(0, stage).double().mean(0)
        partials = (
            block_partial(
                engine.draw_gradients(draw, stage),
                index=draw,
                groups=engine.groups,
                centre=centre,
                exact=None,
                replicates=total,
            )
            for draw in range(len(engine.sizes))
        )
        try:
            sums, _ = collect(
                engine, ((partial, "") for partial in partials), centre.cpu().numpy(), None, lambda _done, _total: None
            )
        except Lost:
            return None
        return summarise(sums, exact=None, dtype=self.how.dtype, deterministic=self.cell.estimator.deterministic)

    def engine(self) -> Engine:
        """Return what measures the gradient at the weights of now, with the state of now."""
        engine = Engine(self.cell, self.how.settings(self.seed), problem=self.problem)
        engine.state = self.state
        return engine

    def pictures(self) -> Record | None:
        """Return what the objective has to look at: shape and grey levels, one byte each, in base 64."""
        if self.sharp.pictures is None:
            return None
        self.sharpen()
        found = self.sharp.pictures(self.generator("pictures", device="cpu"))
        greys = {name: (255 * x).nan_to_num().round().byte().numpy() for name, x in found.items()}
        return {
            name: {"shape": list(x.shape), "grey": base64.b64encode(x.tobytes()).decode()} for name, x in greys.items()
        }

    def clock(self) -> float:
        """Return seconds from any origin, after the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
