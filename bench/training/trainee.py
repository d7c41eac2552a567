"""One training run: weights, optimizers, and the checkpoints along the way."""

import base64
import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator
from torch.distributions import Distribution
from torch.optim import SGD, Adam, Optimizer, RMSprop

from bench.measurement.adaptation import ADAPT_RATE
from bench.measurement.counting import Counter, count_evaluations, counted
from bench.measurement.engine import DTYPES, Engine, checked_loss
from bench.measurement.heap import keep_memory
from bench.measurement.summaries import OnProgress, summarise_draws
from bench.objectives import Objective, Problem
from bench.objectives.autoencoders import weights
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.records.identity import identity
from bench.records.lines import LineKind, Lost, Outcome, Record
from bench.records.seeds import draw_seed
from bench.stats import Summary
from bench.training.settings import Training
from estimators import State, adapt, draw, rows

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {"adam": Adam, "sgd": SGD, "rmsprop": RMSprop}
EXPLODED = 100.0
"""A run diverges if its objective is not finite, or worse than at the start by over ``EXPLODED * max(1, |start|)``."""
SAMPLES = 2**13
"""Approximate number of values of f that a checkpoint averages if the objective has no exact value."""


class Divergence(NamedTuple):
    """The divergence of a training run: the step at which it was noticed, and a sentence that gives the reason."""

    step: int
    reason: str


def upwards(objective: Objective) -> bool:
    """Return whether training maximises the objective. Evidence lower bounds are always maximised."""
    return objective.bound or objective.maximise


class Trainee:
    """A training run in progress: the weights, the state of the estimator, and the optimizers of both.

    The state is what the estimator has learned.

    Args:
        cell: the estimator and the objective.
        how: the settings of the training.
        seed: seed of the weights, the minibatches and the noise.
    """

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
                f"{label(self.objective)} cannot be trained: its theta must hold at least one tensor, and only leaves "
                f"that require gradients (got {list(self.problem.theta)})."
            )
        self.optimizer = OPTIMIZERS[how.optimizer](self.weights, lr=how.rate)
        self.sign = -1.0 if upwards(self.objective) else 1.0
        self.state: State | None = None
        q = self.problem.q(self.problem.theta)
        if self.estimator.needs_state:
            self.state = self.estimator.init(q, self.generator("init"))
        learned = list(self.state.parameters()) if self.state is not None else []
        self.learner = Adam(learned, lr=ADAPT_RATE) if learned else None
        if self.state is not None:
            self.state.requires_grad_(False)
        self.noise, self.adapt_noise = self.generator("training"), self.generator("adaptation")
        self.adapted, self.adaptations = Counter(event_dims=len(q.event_shape)), 0

    def generator(self, stage: str, index: int = 0, device: torch.device | str | None = None) -> Generator:
        """Return the random generator of a stage, such as "training".

        The seed follows from the seed of the run, the stage, the objective and ``index``. It does not depend on the
        estimator, so all estimators on an objective share the noise.

        Args:
            stage: what the random numbers are for, in a word.
            index: a number that tells several generators of one stage apart.
            device: device of the generator; None for the device of the training.
        """
        seed = draw_seed(self.seed, f"{LineKind.TRAINING} {stage}", identity(self.cell.objective), index)
        return Generator(device or self.device).manual_seed(seed)

    def train(self, progress: OnProgress) -> Record:
        """Train, and return the part of the training record that holds the results.

        ``progress`` is called with the number of steps done and the number of all steps, at every checkpoint but the
        first.
        """
        f_evals, grad_evals = count_evaluations(self.engine())
        checkpoints, divergence = self.train_to_the_end(progress)
        batch = math.prod(self.problem.q(self.problem.theta).batch_shape)
        return {
            "outcome": Outcome.DIVERGED if divergence else Outcome.MEASURED,
            "reason": divergence and divergence.reason,
            "diverged_at": divergence and divergence.step,
            "held_out": self.sharp.held_out is not None,
            "exact_value": self.evaluated.exact is not None,
            "batch": batch,
            "size": sum(t.numel() for t in self.problem.theta.values()),
            "f_evals": f_evals,
            "grad_evals": grad_evals,
            "adapt_f_evals": self.adapted.f / (batch * max(1, self.adaptations)),
            "curves": {key: [checkpoint[key] for checkpoint in checkpoints] for key in checkpoints[0]},
            "weights_digest": weights.digest(weights.of(self.problem)),
            "pictures": self.pictures() if self.seed == 0 else None,
        }

    def train_to_the_end(self, progress: OnProgress) -> tuple[list[Record], Divergence | None]:
        """Train; return the results at every checkpoint, and when and why the run diverged.

        The second result is None if the run did not diverge. A divergence ends the run. ``progress`` is called with the
        number of steps done and the number of all steps, at every checkpoint but the first.
        """
        found = [self.checkpoint(0, math.nan, 0.0)]
        divergence = self.divergence(found)
        for start, stop in pairwise(self.how.checkpoints):
            if divergence:
                break
            begin, values = self.clock(), list[float]()
            for i in range(start, stop):
                values.append(self.step_or_nan(i))
                if not math.isfinite(values[-1]):
                    reason = f"The value of f in training became {values[-1]:g} at step {i + 1}."
                    return found, Divergence(i + 1, reason)
            seconds = found[-1]["training_seconds"] + self.clock() - begin
            found.append(self.checkpoint(stop, math.fsum(values) / len(values), seconds))
            divergence = self.divergence(found)
            progress(stop, self.how.steps)
        return found, divergence

    def divergence(self, checkpoints: Sequence[Record]) -> Divergence | None:
        """Return when and why a run has diverged, judged at its last checkpoint so far; None if it has not diverged.

        Let s be the objective at step 0. A run has diverged if its objective is not finite, or is worse than s by more
        than ``100 max(1, |s|)``.

        Args:
            checkpoints: the results at all checkpoints so far, step 0 first.
        """
        start, now, step = checkpoints[0]["value"], checkpoints[-1]["value"], checkpoints[-1]["step"]
        if not math.isfinite(now):
            return Divergence(step, f"The objective became {now:g} by step {step}.")
        if self.sign * (now - start) > EXPLODED * max(1.0, abs(start)):
            return Divergence(step, f"The objective went from {start:.4g} to {now:.4g} by step {step}.")
        return None

    def step_or_nan(self, i: int) -> float:
        """Take step ``i`` and return the estimated objective, or NaN if the step fails because of infinite weights.

        Weights that are NaN count as infinite.
        """
        try:
            return self.step(i)
        except Exception:
            if all(bool(t.isfinite().all()) for t in self.weights):
                raise
            return math.nan

    def step(self, i: int) -> float:
        """Take step ``i`` of the optimizer; return the estimated objective before the step, averaged over the batch."""
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
        """Let the estimator's state (what it has learned) learn for one more step.

        The state learns from ``problem``, whose distribution is ``q``. The noise is independent of the noise of the
        training.
        """
        assert self.state is not None
        r = rows(q, 1)
        f = counted(problem.integrand(r), self.adapted)
        self.state.requires_grad_(True)
        adapt(self.estimator, f, r, self.state, self.learner, self.adapt_noise)
        self.state.requires_grad_(False)  # from here to the next step it costs no graph
        self.adaptations += 1

    def checkpoint(self, step: int, training_value: float, seconds: float) -> Record:
        """Return the results at a checkpoint: the objective and, if measured, the gradient's variance.

        Args:
            step: the number of steps done.
            training_value: the mean estimate of the objective in the steps since the last checkpoint.
            seconds: the time spent on training so far.
        """
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
        """Return the value of the objective and its standard error, in float64, on held-out data if there are any.

        If the problem has an exact value, this is the value, and the error is 0. If not, the value is the mean of f
        over samples; all checkpoints use the same noise.
        """
        self.sharpen()
        problem = self.evaluated
        with torch.no_grad():
            if problem.exact is not None:
                return problem.exact(problem.theta).item(), 0.0
            q = problem.q(problem.theta)
            count = max(2, math.ceil(SAMPLES / math.prod(q.batch_shape)))
            x = draw(q, count, self.generator("evaluation", device="cpu"))
            each = problem.integrand(q)(x).reshape(count, -1).mean(1)
            return each.mean().item(), (each.std() / math.sqrt(count)).item()

    @property
    def evaluated(self) -> Problem:
        """The float64 problem on which the objective is evaluated: on held-out data if the objective has any."""
        return self.sharp.held_out or self.sharp

    def sharpen(self) -> None:
        """Copy the current weights to the float64 version of the problem."""
        with torch.no_grad():
            for mine, sharp in ((self.problem.theta, self.sharp.theta), (self.problem.extra, self.sharp.extra)):
                for name, t in mine.items():
                    sharp[name].copy_(t)

    def variance(self, step: int) -> Summary | None:
        """Return the statistics of the estimator's gradient at the current weights; None if an estimate is not finite.

        The statistics are computed as in ``bench run``. ``step`` is the number of steps done: every checkpoint has
        noise of its own.
        """
        try:
            ((_, summary),) = summarise_draws(self.engine(), f"{LineKind.TRAINING} variance at step {step}")
        except Lost:
            return None
        return summary

    def engine(self) -> Engine:
        """Return the engine that computes gradients of the estimator at the current weights.

        The estimator has its current state, which is what it has learned.
        """
        engine = Engine(self.cell, self.how.settings(self.seed), problem=self.problem)
        engine.state = self.state
        return engine

    def pictures(self) -> Record | None:
        """Return the objective's pictures by name, each with its shape and its grey levels; None if there are none.

        The grey levels are bytes in base 64.
        """
        if self.sharp.pictures is None:
            return None
        self.sharpen()
        found = self.sharp.pictures(self.generator("pictures", device="cpu"))
        greys = {name: (255 * x).nan_to_num().round().byte().numpy() for name, x in found.items()}
        encoded = {name: base64.b64encode(x.tobytes()).decode() for name, x in greys.items()}
        return {name: {"shape": list(x.shape), "grey": encoded[name]} for name, x in greys.items()}

    def clock(self) -> float:
        """Return the seconds since an arbitrary moment, after the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
