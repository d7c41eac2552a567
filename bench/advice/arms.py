"""An arm of the race: one candidate at all points, ready to be measured again and again on fresh noise."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.advice.points import Point
from bench.measurement.adaptation import adapt_state
from bench.measurement.counting import count_evaluations
from bench.measurement.draws import cap
from bench.measurement.engine import Engine
from bench.measurement.summaries import summarise_draws
from bench.planning.cells import Cell
from bench.planning.selectors import full_label
from bench.planning.settings import SMALLEST_DRAW, Settings
from bench.stats import Reference, Summary, Sums
from estimators import Estimator, command_line_name


@dataclass(frozen=True)
class Look:
    """The measurement of one candidate (an estimator) at one point (an objective with a given theta).

    Args:
        summary: the statistics of the gradient estimates.
        sums: the sums from which the statistics were computed.
    """

    summary: Summary
    sums: Sums

    @property
    def as_reference(self) -> Reference:
        """The mean of the gradient estimates with its noise, to be used in place of an unknown exact gradient."""
        return Reference(self.sums.mean, self.sums.replicates, self.sums.variance, self.summary.trace_square)


class Arm:
    """A candidate that is ready to be measured, again and again, at all points of a race.

    A candidate is an estimator with fixed fields, such as ``RLOO(n=4)``. A point is an objective at one theta. If the
    estimator learns, it has learned a state at each point, and this state is frozen.

    Args:
        estimator: the candidate.
        points: the points at which it is measured.
        settings: seed, dtype and device; ``adapt_steps`` is the largest number of steps in which a state learns.
        learned: an arm that differs from this one only in n; its learned states are used here too. None to let new
            states learn.

    Raises:
        Refusal: the estimator cannot work with q or f.
        Lost: a gradient is not finite.
    """

    def __init__(
        self, estimator: Estimator, points: Sequence[Point], settings: Settings, learned: "Arm | None" = None
    ) -> None:
        self.estimator, self.points = estimator, points
        self.name, self.label = command_line_name(type(estimator)), full_label(estimator)
        states = [None] * len(points) if learned is None else [engine.state_bytes() for engine in learned.engines]
        self.engines: list[Engine] = [
            Engine(Cell(estimator, point.objective), settings, state, problem=point.problem)
            for point, state in zip(points, states, strict=True)
        ]
        begin = time.perf_counter()
        found = [adapt_state(engine) for engine in self.engines] if learned is None else []
        self.learning_seconds = time.perf_counter() - begin
        self.adapt_steps: int = (
            max((each.steps for each in found), default=0) if learned is None else learned.adapt_steps
        )
        self.adapt_evaluations = sum(
            each.f_evals / math.prod(engine.q.batch_shape) for each, engine in zip(found, self.engines, strict=False)
        )
        begin = time.perf_counter()
        evaluations = [count_evaluations(engine) for engine in self.engines]
        self.seconds = (time.perf_counter() - begin) / SMALLEST_DRAW
        self.f_evals: float = max(f for f, _ in evaluations)
        self.grad_evals: float = max(df for _, df in evaluations)
        self.looks: list[Look] = []
        self.stage = ""

    @property
    def evaluations(self) -> float:
        """Evaluations of f and of df/dx for one gradient in training, per batch element.

        The number is doubled if the estimator has a state with parameters. In training, this state learns at every
        step, with as many evaluations as an estimate takes.
        """
        return (self.f_evals + self.grad_evals) * (2 if self.learns else 1)

    @property
    def learns(self) -> bool:
        """Whether the estimator has a state whose parameters are to be learned."""
        state = self.engines[0].state
        return state is not None and any(True for _ in state.parameters())

    @property
    def price(self) -> float:
        """Evaluations of f and of df/dx for one estimate at each point (value of theta), added up over the points.

        Evaluations for learning a state do not count.
        """
        return (self.f_evals + self.grad_evals) * len(self.points)

    def look(self, stage: str, replicates: int, references: Sequence[Reference | None], confidence: float) -> int:
        """Measure the candidate at all points (values of theta); return the total number of replicates at all of them.

        The results are kept in ``looks``, with one entry for each point.

        Args:
            stage: name of the noise: equal names give equal noise to all candidates, different names independent noise.
            replicates: number of independent calls at each point, at least 64; rounded down to whole draws (batches).
            references: for each point, a mean gradient to use if the exact gradient is unknown; None if there is none.
            confidence: level of all intervals, such as 0.95.

        Raises:
            Lost: a gradient is not finite.
        """
        begin, found, done = time.perf_counter(), list[Look](), 0
        for engine, point, reference in zip(self.engines, self.points, references, strict=True):
            sizes = sizes_of(engine, replicates)
            ((sums, summary),) = summarise_draws(
                engine,
                stage,
                sizes,
                exact=point.exact,
                reference=reference if point.exact is None else None,
                confidence=confidence,
            )
            found.append(Look(summary, sums))
            done += sum(sizes)
        self.looks, self.stage = found, stage
        self.seconds = (time.perf_counter() - begin) * len(self.points) / done
        return done


def sizes_of(engine: Engine, replicates: int) -> list[int]:
    """Return the number of replicates in each draw (batch): ``[4096]`` for 5,000 replicates.

    ``engine`` has the estimator, the objective and the device. All draws have one size: the largest power of two that
    memory and ``replicates`` allow, but at least 64. Together they have at most ``replicates``, unless ``replicates``
    is below 64. A deterministic estimator gets one draw of size 64.
    """
    if engine.cell.estimator.deterministic:
        return [SMALLEST_DRAW]
    most = min(cap(engine.cell.objective, engine.settings.device), 1 << (replicates.bit_length() - 1))
    each = max(SMALLEST_DRAW, most)
    return [each] * max(1, replicates // each)
