"""What an estimator's variance does to learning: runs of training, one estimator and one seed each.

All estimators of a seed begin at the same weights, see the same minibatches in the same order, and draw from the same
stream of noise. At stated steps a run stops to look at itself: at its objective, and at the variance of its gradient.
A look has noise of its own and changes nothing: a run that is looked at is the run that is not, bit for bit.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator
from torch.distributions import Distribution
from torch.optim import Optimizer

from bench import record, store
from bench.cells import Lost, collect, common, failed_record, safely, single_thread, skipped_record
from bench.counting import Counter, counted
from bench.engine import DTYPES, Engine, Settings, checked_loss
from bench.execute import Pool, Preload, cores
from bench.heap import keep_memory
from bench.learn import count_evaluations
from bench.moments import block_partial
from bench.objectives import Objective, Problem, _weights
from bench.plan import Cell, plan
from bench.record import Record
from bench.run import Progress
from bench.selectors import label
from bench.spec import Spec
from bench.stats import Summary, summarise
from estimators import State, adapt, draw, rows

KIND = "training"
"""Kind of the record."""
WEIGHTS = "weights"
"""Folder, inside the study's, of the weights that are kept."""

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
ADAPT_RATE = 1e-2
"""Learning rate of a learned control variate, with Adam; the same as where ``bench run`` lets it learn."""
EXPLODED = 100.0
"""A run has diverged if its objective is worse than at the start by more than this many times the larger of its size at
the start and 1; or if a value is not finite."""
SAMPLES = 2**13
"""About how many values of f an objective without an exact value is the mean of, at every look."""
LOOKS = 20
"""Looks after the first, where their distance is not given."""
WORTH_WORKERS = 5_000
"""Steps of all runs from which it pays to start processes."""


@dataclass(frozen=True)
class Training:
    """How runs are trained.

    Args:
        steps: of the optimizer, at least 1.
        seeds: runs of each estimator; their seeds are 0, 1, 2 ...
        optimizer: "adam", "sgd" or "rmsprop", all else as torch has it.
        rate: learning rate, above 0.
        measure_every: steps between two looks, at least 1; a twentieth of all when None.
        replicates: of each measurement of the variance, rounded up to whole draws; 0 to leave it out.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".

    Raises:
        ValueError: one of them is not what it has to be.
    """

    steps: int = 2_000
    seeds: int = 6
    optimizer: str = "adam"
    rate: float = 1e-3
    measure_every: int | None = None
    replicates: int = 256
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("seeds", 1), ("replicates", 0), ("measure_every", 1)):
            value = getattr(self, name)
            if name == "measure_every" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a whole number of at least {least} (got {value!r}).")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is one of {', '.join(OPTIMIZERS)} (got {self.optimizer!r}).")
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 < self.rate < math.inf:
            raise ValueError(f"rate, the learning rate, is a finite number above 0 (got {self.rate!r}).")
        self.settings(0)  # refuses dtype and device

    def settings(self, seed: int) -> Settings:
        """Return how the variance of a seed's gradients is measured."""
        return Settings(max(1, self.replicates), seed, self.dtype, self.device)

    @property
    def looks(self) -> list[int]:
        """Steps after which a run is looked at: 0 and the last are among them."""
        every = self.measure_every or max(1, self.steps // LOOKS)
        return [*range(0, self.steps, every), self.steps]


@dataclass(frozen=True)
class Run:
    """One estimator on one objective, trained once."""

    cell: Cell
    how: Training
    seed: int
    keep: Path | None = None
    """Folder for the weights that it ends with; None to forget them."""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.cell.label}, seed {self.seed}"

    def as_training(self, line: Record) -> Record:
        """Return a line of the cell as one of this run."""
        how = {key: value for key, value in asdict(self.how).items() if key not in ("seeds", "measure_every")}
        given = {**how, "looks": self.how.looks}
        identity = record.digest([self.cell.id, KIND, given, self.seed])
        facts = {"maximise": _upwards(self.cell.objective), "learning_rate": given.pop("rate")}
        return {**line, "kind": KIND, "run": identity, **given, **facts, "seed": self.seed}

    def identity(self) -> Record:
        """Return the keys that are known before the run."""
        return self.as_training(common(self.cell, self.how.settings(self.seed), KIND))

    def done(self, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Record:
        """Train, and return the line, whatever happens.

        Args:
            progress: called with the steps done and in all at every look.
        """
        settings = self.how.settings(self.seed)

        def work() -> Record:
            trainee = _Trainee(self)
            found = trainee.trained(progress)
            if self.keep is not None:
                _weights.save(trainee.problem, self.keep)
            return {**self.identity(), **found}

        with single_thread():
            return self.as_training(safely(work, self.cell, settings, KIND))

    def lost(self, reason: str) -> Record:
        """Return the line of a run that could not be made."""
        return self.as_training(failed_record(self.cell, self.how.settings(self.seed), reason, KIND))


class Divergence(NamedTuple):
    """Where and why a run went wrong: the step by which it was seen, and a sentence."""

    step: int
    reason: str


def _upwards(objective: Objective) -> bool:
    return objective.bound or objective.maximise


class _Trainee:
    """The weights of a run, the state of its estimator, and the optimizers of both."""

    def __init__(self, run: Run) -> None:
        self.run, self.estimator = run, run.cell.estimator
        self.objective = run.cell.objective.restarted(run.seed)
        self.device = torch.device(run.how.device)
        if self.device.type == "cpu":
            keep_memory()
        self.problem = self.objective.build(DTYPES[run.how.dtype], self.device)
        self.sharp = self.objective.build(torch.float64, "cpu")
        for t in self.problem.extra.values():
            t.requires_grad_()
        self.weights = [*self.problem.theta.values(), *self.problem.extra.values()]
        if not self.problem.theta or not all(t.is_leaf and t.requires_grad for t in self.weights):
            raise ValueError(
                f"{label(self.objective)} cannot be trained: its theta has to hold leaf tensors that require "
                f"gradients, and at least one (got {list(self.problem.theta)})."
            )
        self.optimizer = OPTIMIZERS[run.how.optimizer](self.weights, lr=run.how.rate)
        self.sign = -1.0 if _upwards(self.objective) else 1.0
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
        seed = record.draw_seed(self.run.seed, f"{KIND} {stage}", record.identity(self.run.cell.objective), index)
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
            "pictures": self.pictures() if self.run.seed == 0 else None,
        }

    def looks(self, progress: Callable[[int, int], None]) -> tuple[list[Record], Divergence | None]:
        """Train; return what was seen at every look, and how the run has diverged if it has."""
        found = [self.look(0, math.nan, 0.0)]
        divergence = self.exploded(found)
        for start, stop in pairwise(self.run.how.looks):
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
            progress(stop, self.run.how.steps)
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
        if not self.run.how.replicates:
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
        total, centre = sum(engine.sizes), engine.gradients(0, stage).double().mean(0)
        partials = (
            block_partial(
                engine.gradients(draw, stage),
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
        return summarise(
            sums, exact=None, dtype=self.run.how.dtype, deterministic=self.run.cell.estimator.deterministic
        )

    def engine(self) -> Engine:
        """Return what measures the gradient at the weights of now, with the state of now."""
        engine = Engine(self.run.cell, self.run.how.settings(self.run.seed), problem=self.problem)
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


def train(
    spec: Spec, how: Training, folder: Path, progress: Progress, workers: int | None = 1, *, keep_weights: bool = False
) -> list[Record]:
    """Train what a study folder lacks, and return the records of the runs that were asked for.

    A record is on disk when its run ends: an interruption loses only the runs under way. Runs that failed, or whose
    code has changed, are made again; those that diverged are not.

    Args:
        spec: estimators and objectives; all else in it counts for nothing.
        how: how to train, on a device that there is.
        folder: the study folder, made if there is none.
        progress: is told how far the runs are.
        workers: processes that train, one thread each; None for as many as there are processors and work for. Their
            number changes no figure but the seconds.
        keep_weights: write what every run ends with to ``weights`` in the folder, under the digest on its record.

    Raises:
        UsageError: an estimator or an objective cannot be made.
        Damaged: the folder's records cannot be read.
        OSError, Busy: the folder cannot be written.
    """
    cells, skips = plan(*spec.instances())
    keep = folder / WEIGHTS if keep_weights else None
    runs = [Run(cell, how, seed, keep) for seed in range(how.seeds) for cell in cells]
    wanted = {run.identity()["run"]: run for run in runs}
    refused = [
        Run(skip.cell, how, 0).as_training(skipped_record(skip.cell, how.settings(0), skip.reason)) for skip in skips
    ]
    with store.Store(folder) as writer:
        lines = {line["run"]: line for line in store.read(folder) if line["kind"] == KIND}
        for line in refused:
            if line["run"] not in lines:
                writer.append(line)
        lacking = [run for id_, run in wanted.items() if _lacks(lines.get(id_), run)]
        progress.start(len(runs), len(runs) - len(lacking))
        try:
            for line in _done(lacking, spec, progress, _workers(workers, lacking)):
                writer.append(line)
                progress.finish(line)
        finally:
            progress.end()
    asked = wanted.keys() | {line["run"] for line in refused}
    return [line for line in store.read(folder) if line["kind"] == KIND and line["run"] in asked]


def _lacks(line: Record | None, run: Run) -> bool:
    if line is None or line["outcome"] == "failed" or line["code"] != run.identity()["code"]:
        return True
    return run.keep is not None and not (run.keep / f"{line.get('weights_digest')}.pt").exists()


def _workers(workers: int | None, runs: Sequence[Run]) -> int:
    """Return how many processes to use: starting them must be worth it, and one drives a GPU."""
    if not runs or runs[0].how.device != "cpu":
        return 1
    return workers or (cores() if sum(run.how.steps for run in runs) > WORTH_WORKERS else 1)


def _done(runs: Sequence[Run], spec: Spec, progress: Progress, workers: int) -> Iterator[Record]:
    """Yield the line of every run."""
    if workers == 1:
        for run in runs:
            progress.cell(run.label)
            yield run.done(progress.block)
        return
    preload: Preload = [(s, "estimator") for s in spec.estimators] + [(s, "objective") for s in spec.objectives]
    progress.cell(f"{len(runs)} runs on {workers} workers")
    with Pool(min(workers, len(runs)), preload) as pool:
        yield from pool.cells(runs)
