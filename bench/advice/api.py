"""``advise``: from an objective and a budget to a recommendation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bench.advice import course
from bench.advice.budget import Budget
from bench.advice.candidates import of_catalogue
from bench.advice.findings import found
from bench.advice.points import Point, along_training
from bench.advice.race import Report
from bench.advice.result import Advice
from bench.measurement.objective_checks import check_own
from bench.measurement.threads import single_thread
from bench.objectives import Objective
from bench.planning.selectors import UsageError, full_label
from bench.planning.settings import Settings
from bench.planning.user_code import set_apart
from estimators import Estimator

PER_GRADIENT = 16
"""Default for the most evaluations that one gradient may take in training."""
START_SHARE = 0.25
"""Share of the budget that chooses the estimator with which the training runs."""


def advise(
    objective: Objective | Sequence[Objective],
    budget: str | None = None,
    *,
    estimators: Iterable[Estimator] | None = None,
    per_gradient: int = PER_GRADIENT,
    train_steps: int = 0,
    learning_rate: float = 1e-3,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    timing: bool = True,
    report: Report = lambda _text: None,
) -> Advice:
    """Recommend an estimator, with its n, for an objective.

    A candidate is an estimator with fixed fields, such as ``RLOO(n=4)``. The candidates are measured in rounds, each on
    fresh noise. Each round but the first keeps the better half: the candidates with the lower variance times
    evaluations. The winner is measured once more, on noise that was not used to choose it.

    Args:
        objective: an objective of the catalogue, an ``Expectation`` or another objective of your own. For several
            objectives of one family, such as one expectation at several theta, one estimator is recommended.
        budget: what may be spent on measuring: ``1e5-evals`` (evaluations of f and df/dx), ``10s`` or
            ``1e5-evals,10s``. None for ``1e6-evals,10s``. An evaluation is at one sample x, for one batch element. A
            budget without seconds gives the same advice on every run.
        estimators: the candidates; None for the whole catalogue, with n = 1, 2, 4 ... and several temperatures.
        per_gradient: largest number of evaluations of f and df/dx that one gradient may take in training.
        train_steps: if above 0, train for this number of steps, and recommend one estimator for the start, the middle
            and the end of this training.
        learning_rate: learning rate of Adam in this training.
        seed: root of all noise.
        dtype: "float32" or "float64".
        device: "cpu" or "cuda".
        timing: whether to measure seconds too; nothing else may run on the machine meanwhile.
        report: called with a sentence that says what is being done, whenever a step begins.

    Returns:
        The advice. ``print(advice)`` prints the report of ``bench advise``; ``advice.best.label`` is the selector of
        the recommended estimator, and ``advice.code`` has the lines to paste into a training loop.

    Raises:
        TypeError: an argument is of the wrong kind.
        UsageError: the budget is too small for one round, an objective is at fault, or the objectives have q of several
            families.
        NothingFits: no candidate fits the objective.
        ValueError: a setting is invalid.
    """
    if budget is not None and not isinstance(budget, str):
        raise TypeError(f"budget is text, such as '1e5-evals' or '10s' (got {budget!r}).")
    whole = Budget.parse(budget)
    settings = Settings(seed=seed, dtype=dtype, device=device, timing=timing)
    settings.check_device()
    for name, value, least in (("per_gradient", per_gradient, 1), ("train_steps", train_steps, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a whole number of at least {least} (got {value!r}).")
    objectives: list[Objective] = _instances(objective, Objective, "objective", "bench.objectives.GaussianCosine()")
    given: list[Estimator] = of_catalogue(per_gradient)
    if estimators is not None:
        given = _instances(estimators, Estimator, "estimators", "estimators.RLOO(n=4)")
    if len(families := {each.family.__name__ for each in objectives}) > 1:
        raise UsageError(
            f"The objectives have q of several families ({', '.join(sorted(families))}): ask for each alone."
        )
    for each in objectives:
        check_own(each)
    with single_thread(), set_apart():
        points = [Point.of(each, settings, full_label(each)) for each in objectives]
        whole.begun = time.perf_counter()
        if train_steps:
            first = replace(
                whole,
                evaluations=START_SHARE * whole.evaluations,
                seconds=START_SHARE * whole.seconds,
                begun=time.perf_counter(),
            )
            start = course.run(given, points[:1], settings, first, per_gradient, report).winner
            whole.spent += first.spent
            report(f"training for {train_steps:,} steps with {start.label}")
            points[0].title = "start"
            points += along_training(objectives[0], start.estimator, train_steps, settings, learning_rate)
        outcome = course.run(given, points, settings, whole, per_gradient, report)
        return found(outcome, timing=timing, named_only=estimators is not None)


def _instances(given: Any, kind: Any, name: str, example: str) -> list[Any]:
    """Return an argument as a list of instances; raise ``TypeError`` if it holds anything else, or nothing."""
    found = [given] if isinstance(given, kind | type | str) or not isinstance(given, Iterable) else list(given)
    for each in found:
        if not isinstance(each, kind):
            got = f"the class {each.__name__}" if isinstance(each, type) else repr(each)
            raise TypeError(f"{name} needs instances, such as {example} (got {got}).")
    if not found:
        raise TypeError(f"{name} needs at least one, such as {example} (got none).")
    return found
