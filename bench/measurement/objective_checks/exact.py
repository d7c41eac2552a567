"""Checks of the exact value and its gradient, against the sum over all states of q or means over samples."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.engine import Engine
from bench.measurement.graph import gradients_reached
from bench.measurement.objective_checks.comparisons import EXACT, column_apart
from bench.measurement.objective_checks.trial import Fault, NotJudged, ObjectiveTrial, kind_of
from bench.objectives import Problem
from bench.planning.cells import Cell, mismatch
from bench.planning.settings import Settings
from estimators import RLOO, Enumeration, Estimator, Refusal, ScoreFunction

SAMPLES, FEWEST = 2**15, 64
"""Most and fewest samples of a comparison with means."""
SCORES = RLOO(n=4)
"""The estimator that gradients are compared with: it needs nothing but log q."""
STEP, SLOPE = 1e-3, 1e-2
"""Relative step of a finite difference of exact values; its relative difference from the gradient that is a fault."""


def exact_number(trial: ObjectiveTrial) -> None:
    """Check that the exact value is one number, and that autograd gives its gradient at theta.

    The exact value is the expectation of f, as the problem's function ``exact`` returns it.

    Raises:
        Fault: the objective is at fault.
        NotJudged: the objective declares ``has_exact = False``.
    """
    if not trial.objective.has_exact:
        raise NotJudged("has_exact is False")
    if trial.problem.exact is None:
        raise trial.fault(
            "it declares has_exact = True, the default, and builds a problem without exact. Declare has_exact = False, "
            "and perhaps a reference_estimator such as RLOO(n=8)"
        )
    theta = {name: t.detach().clone().requires_grad_() for name, t in trial.theta().items()}
    value: Any = trial.exact_value(theta)
    if not isinstance(value, Tensor):
        raise trial.fault(f"exact returned {kind_of(value)}. Return a tensor that is differentiable in theta")
    if value.dim():
        raise trial.fault(f"exact returned shape {list(value.shape)}, expected one number. Average over the batch")
    if not value.isfinite():
        raise trial.fault(f"exact returned {value.item()}")
    found = gradients_reached([value], theta)
    if not found:
        raise trial.fault("exact does not depend on the theta that it is given. Compute it from its argument")
    generator = Generator().manual_seed(0)
    for _ in range(2):  # along a direction of relative changes, which keeps probabilities and scales in their ranges
        at = {name: t.detach() for name, t in theta.items()}
        v = {
            name: torch.randn(t.shape, generator=generator, dtype=t.dtype) * (t.abs() + (t == 0))
            for name, t in at.items()
        }
        slope = sum(float((g * v[name]).sum()) for name, g in found.items())
        try:
            ahead, behind = (
                trial.exact_value({name: t + h * v[name] for name, t in at.items()}).item() for h in (STEP, -STEP)
            )
        except Fault:  # the step has left the range of a parameter
            return
        difference = (ahead - behind) / (2 * STEP)
        if abs(difference - slope) > SLOPE * max(abs(difference), abs(slope)) + SLOPE / 10 * abs(value.item()):
            raise trial.fault(
                f"exact has the slope {difference:.6g} along a direction, and its gradient says {slope:.6g}. Leave out "
                ".detach(), .item() and float() in exact"
            )


def exact_against_the_sum(trial: ObjectiveTrial) -> None:
    """Check that the exact value and the exact gradient agree with the sum over all states of q.

    The exact value is the expectation of f, as the problem's function ``exact`` returns it. In the sum, f at each state
    is multiplied by the probability of the state.

    Raises:
        Fault: the objective is at fault.
        NotJudged: there is no exact value, or q has too many states to sum.
    """
    estimator, q = Enumeration(), trial.q
    try:
        estimator.check(q)
        states = estimator.points(q)
        if states > trial.affordable(1):
            raise NotJudged("q has too many states to sum")
    except Refusal:
        raise NotJudged("q has no finite number of states to sum, or too many") from None
    exact, slope = trial.exact
    value = estimator(lambda x: trial.f(trial.problem, q, x), q).mean()
    off = abs(exact - value.item()) - trial.objective.exact_error
    if off > EXACT * max(abs(exact), abs(value.item())) + EXACT**2:
        factor = _factor(exact, value.item(), _batch(q))
        raise trial.fault(
            f"its exact value is {exact:.6g}, and the sum over all states gives {value.item():.6g}{factor}"
        )
    gradient, error = trial.gradient(value), trial.objective.exact_error
    off, size = (slope - gradient).norm().item(), max(slope.norm().item(), gradient.norm().item(), EXACT * abs(exact))
    if off > EXACT * size + error:
        raise trial.fault(
            f"the gradient of its exact value has norm {slope.norm().item():.6g}, that of the sum over all states has "
            f"norm {gradient.norm().item():.6g}, and they are {off:.3g} apart"
        )


def exact_against_samples(trial: ObjectiveTrial) -> None:
    """Check that the exact value and the exact gradient agree with means over samples, up to statistical errors.

    The exact value is the expectation of f, as the problem's function ``exact`` returns it. The exact gradient is
    compared with the mean of score-function estimates.

    Raises:
        Fault: the objective is at fault.
        NotJudged: there is no exact value; q has so few states that ``exact_against_the_sum`` settles the matter; or
            only the value was compared, because the score-function estimator does not fit q.
    """
    try:
        exact_against_the_sum(trial)
    except NotJudged:
        pass
    else:
        raise NotJudged("the sum over all states has settled it")
    exact, slope = trial.exact
    count = min(SAMPLES, max(FEWEST, trial.affordable(1)))
    with torch.no_grad():
        values = trial.f(trial.problem, trial.q, trial.draw(trial.q, count)).double().reshape(count, -1).mean(1, True)
    apart = column_apart(values, torch.tensor([exact], dtype=torch.float64), trial.objective.exact_error)
    if apart is not None:
        mean, error = values.mean().item(), (values.std() / math.sqrt(count)).item()
        raise trial.fault(
            f"its exact value is {exact:.6g}, and the mean of f over {count} samples is {mean:.6g} with standard error "
            f"{error:.2g}{_factor(exact, mean, _batch(trial.q))}"
        )
    gradients = _gradients(SCORES, trial, 4)
    apart = column_apart(gradients, slope, trial.objective.exact_error)
    if apart is not None:
        name, said = trial.coordinate(apart), _said(gradients[:, apart])
        raise trial.fault(
            f"its exact value has the gradient {slope[apart].item():.6g} at {name}, and {len(gradients)} estimates by "
            f"{SCORES!r} have the mean {said}"
        )


def reference_against_scores(trial: ObjectiveTrial) -> None:
    """Check that a reference estimator that uses df/dx has the same mean gradient as a score-function estimator.

    A long run of the reference estimator takes the place of an unknown exact gradient. If f jumps, df/dx misses a part
    of the gradient, and the two means differ by more than their errors.

    Raises:
        Fault: the objective is at fault.
        NotJudged: the objective has an exact gradient or no reference estimator, the reference estimator does not use
            df/dx, or no score-function estimator fits q.
    """
    estimator = trial.objective.reference_estimator
    if trial.objective.has_exact or estimator is None or not estimator.needs_df:
        raise NotJudged("no reference that uses df/dx is measured")
    scores = _gradients(SCORES, trial, 32)
    gradients = _gradients(estimator, trial, 32)
    apart = column_apart(gradients - scores, torch.zeros(gradients.shape[1], dtype=torch.float64), 0.0)
    if apart is not None:
        one, other = (_said(each[:, apart]) for each in (gradients, scores))
        raise trial.fault(
            f"its reference_estimator {estimator!r} has the mean {one} at {trial.coordinate(apart)}, and {SCORES!r} "
            f"has {other}: f jumps, and df/dx lacks that part. Declare reference_estimator = RLOO(n=8)"
        )


def density_of_samples(trial: ObjectiveTrial) -> None:
    """Check that ``log_prob`` is the density of the samples: the mean of the score, grad log q(x), must be 0.

    Raises:
        Fault: the objective is at fault.
        NotJudged: q has no score, for example because its support moves with theta.
    """
    score = replace(trial.problem, integrand=lambda q: lambda x: torch.ones_like(x[(..., *[0] * len(q.event_shape))]))
    means = _gradients(ScoreFunction(), trial, 2, score)
    rounding = EXACT * means.abs().max().item()  # a coordinate whose score is 0 has the rounding of the others
    apart = column_apart(means, torch.zeros(means.shape[1], dtype=torch.float64), rounding)
    if apart is not None:
        raise trial.fault(
            f"the log_prob of q is not the density of its samples: the mean of its gradient at "
            f"{trial.coordinate(apart)} is {_said(means[:, apart])}, and not 0. Perhaps a subclass has its own sampler "
            "and its parent's log_prob, or log_prob lacks a constant that depends on theta"
        )


def _gradients(estimator: Estimator, trial: ObjectiveTrial, points: int, problem: Problem | None = None) -> Tensor:
    """Return gradients by an estimator, ``[R, size of theta]``; R follows from the evaluations of f for each."""
    reason = "no estimator at hand fits q, so that the gradient was not compared"
    if mismatch(estimator, trial.objective):
        raise NotJudged(reason)
    count = min(SAMPLES, max(FEWEST, trial.affordable(points)))
    engine = Engine(Cell(estimator, trial.objective), Settings(dtype="float64"), problem=problem or trial.problem)
    try:
        return engine.gradients(count, Generator().manual_seed(1))
    except (Refusal, NotImplementedError):
        raise NotJudged(reason) from None


def _said(samples: Tensor) -> str:
    """Return the mean of samples with its standard error, as text."""
    return f"{samples.mean().item():.6g} with standard error {(samples.std() / math.sqrt(len(samples))).item():.2g}"


def _factor(exact: float, truth: float, batch: int) -> str:
    """Return a hint if the exact value is a batch size away from the truth."""
    ratio = exact / truth if truth else math.nan
    if batch > 1 and math.isclose(ratio, batch, rel_tol=0.2):
        return f", a factor of {ratio:.3g}: the batch has {batch} elements, and E f is their mean, not their sum"
    return f", a factor of {ratio:.3g}" if math.isfinite(ratio) and ratio > 1.5 else ""


def _batch(q: Distribution) -> int:
    return math.prod(q.batch_shape)
