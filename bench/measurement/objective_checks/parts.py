"""Checks of what the class declares and what ``build`` returns: theta, q and its rows, data for training."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from bench.measurement.graph import gradients_reached
from bench.measurement.objective_checks.comparisons import EXACT, mostly_equal
from bench.measurement.objective_checks.trial import NotJudged, ObjectiveTrial, kind_of
from bench.objectives import Objective, Problem, wrong_declarations
from bench.planning.cells import mismatch
from bench.records.text import described
from estimators import inner, parameters

UNDERSTATED = 16
"""A declared ``row_elements`` may be this many times too small: it decides speed and memory, but no result."""
ROUNDED_OFF = 1e-6
"""Largest derivative of a probability that is 0 or 1 only because it is rounded, as in a saturated softmax."""
LARGEST_ROW = 2**28
"""Most elements of the largest tensor of one estimate: 1 GiB in float32. A call holds several such tensors."""


def declared_facts(trial: ObjectiveTrial) -> None:
    """Check that ``family``, ``dim``, ``has_exact`` and the other declared facts have values of the right kind.

    Raises:
        Fault: the objective is at fault.
    """
    if wrong := wrong_declarations(trial.objective):
        raise trial.fault(" It ".join(wrong).rstrip("."))


def problem_and_theta(trial: ObjectiveTrial) -> None:
    """Check that ``build`` returns a Problem in the dtype that it is given, float64 or float32.

    The problem's ``theta`` must hold leaf tensors that require gradients.

    Raises:
        Fault: the objective is at fault.
    """
    for dtype in (torch.float64, torch.float32):
        problem: Any = trial.first(dtype)
        if not isinstance(problem, Problem):
            raise trial.fault(
                f"build returned {kind_of(problem)}. Return bench.objectives.Problem(theta, q, integrand, exact): a "
                "dict of tensors, then functions theta -> q, q -> f and theta -> value"
            )
        for part, tensors in (("theta", problem.theta), ("extra", problem.extra)):
            if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
                raise trial.fault(f"{part} must be a dict of named tensors (got {kind_of(tensors)})")
            for name, t in tensors.items():
                if t.dtype != dtype:
                    raise trial.fault(f"{part}[{name!r}] is {t.dtype}, but build was called with dtype={dtype}")
        if dtype == torch.float32:
            refuse_shared(trial, trial.problem, problem)
        if not problem.theta:
            raise trial.fault("theta is empty. Put the tensors there whose gradient is to be measured")
        for name, t in problem.theta.items():
            if not t.requires_grad:
                raise trial.fault(f"theta[{name!r}] does not require gradients. Call .requires_grad_() on it in build")
            if not t.is_leaf:
                raise trial.fault(
                    f"theta[{name!r}] is computed from another tensor. Make it a leaf, by .detach().requires_grad_()"
                )
        for name in ("q", "integrand"):
            if not callable(getattr(problem, name)):
                raise trial.fault(f"{name} must be a function (got {kind_of(getattr(problem, name))})")


def family_of_q(trial: ObjectiveTrial) -> None:
    """Check that q is of the declared family and depends on theta.

    The declared family is the class in the objective's attribute ``family``.

    Raises:
        Fault: the objective is at fault.
    """
    q, family = trial.q, trial.objective.family
    if not isinstance(q, Distribution):
        raise trial.fault(f"q returned {kind_of(q)}, which is not a distribution")
    if not issubclass(type(inner(q)), family):
        built = type(inner(q)).__name__
        raise trial.fault(f"it declares family = {family.__name__}, and its q is {built}. Declare family = {built}")
    own = parameters(q)
    if not own:
        raise trial.fault(
            f"no tensor is found among the constructor's arguments of {type(inner(q)).__name__}. Let a network compute "
            "the tensors before, give them to the constructor, and store each under its argument's name"
        )
    if not any(t.requires_grad for t in own.values()):
        raise trial.fault(
            f"no parameter of q ({', '.join(own)}) has a gradient at theta. Make them in q from the theta that it is "
            "given, without .detach() or .data"
        )
    if not gradients_reached(own.values(), trial.theta()):
        raise trial.fault("the parameters of q do not depend on theta. Make them in q from the theta that it is given")


def trained_probabilities(trial: ObjectiveTrial) -> None:
    """Check that no probability of q that depends on theta is exactly 0 or 1.

    With such a probability, samples never show one of the two outcomes. An estimator that only evaluates f at samples
    misses what this outcome contributes to the gradient, and seems biased.

    Raises:
        Fault: the objective is at fault.
    """
    for name, p in parameters(trial.q).items():
        at_edge = p.detach().eq(0) | p.detach().eq(1)
        if name.rpartition(".")[2] != "probs" or not p.requires_grad or not at_edge.any():
            continue
        if any(g.abs().gt(ROUNDED_OFF).any() for g in gradients_reached([p[at_edge]], trial.theta()).values()):
            raise trial.fault(
                "a probability of q is exactly 0 or 1 at theta, and theta moves it: the outcome that is never drawn "
                "has a part of the gradient. Start inside, for example at 0.01, or train logits"
            )


def rows_of_q(trial: ObjectiveTrial) -> None:
    """Check that q can be copied, with one copy for each replicate: every parameter must be ``[*batch, ...]``.

    The copies must have the log-probabilities of q, and log q at one sample must not depend on other samples.

    Raises:
        Fault: the objective is at fault.
    """
    q = trial.q
    advice = (
        "Every parameter must be a tensor [*batch, ...], stored under its argument's name, and products must allow for "
        "the axes on its left, as (x.unsqueeze(-2) @ weight).squeeze(-2) does"
    )
    own = ", ".join(f"{name} {list(t.shape)}" for name, t in parameters(q).items())
    try:
        r, x = trial.rows, trial.x
        expected = [2, *r.batch_shape, *q.event_shape]
        fits = list(r.batch_shape) == [3, *q.batch_shape] and list(x.shape) == expected
    except Exception as error:
        raise trial.fault(f"q cannot be split into rows: {described(error)}; q has {own}. {advice}") from error
    if not fits:
        raise trial.fault(
            f"three rows of q have batch shape {list(r.batch_shape)} and samples {list(x.shape)}, expected "
            f"{[3, *q.batch_shape]} and {expected}; q has {own}. {advice}"
        )
    try:
        together, alone = r.log_prob(x), q.log_prob(x)
    except NotImplementedError:
        return
    except Exception as error:
        raise trial.fault(f"log_prob of three rows of q raised {described(error)}; q has {own}. {advice}") from error
    if together.shape != x.shape[: together.dim()] or not mostly_equal(together, alone, EXACT):
        raise trial.fault(f"the log_prob of three rows of q is not the log_prob of q; q has {own}. {advice}")
    each = torch.stack([torch.stack([q.log_prob(point) for point in points]) for points in x])
    if not mostly_equal(together, each, EXACT):
        raise trial.fault(
            "log q at one sample depends on the other samples that q is given with it. Let q's functions keep all axes "
            "on the left, and reduce over the event axes alone"
        )
    _refuse_hidden(trial, alone, own)


def _refuse_hidden(trial: ObjectiveTrial, log_q: Tensor, own: str) -> None:
    """Raise a ``Fault`` if log q depends on a tensor of theta that no parameter of q depends on.

    Such a tensor sits in a network or a function inside q, and the gradient in it would not be measured.
    """
    seen, known = (gradients_reached(t, trial.theta()) for t in ([log_q], parameters(trial.q).values()))
    if hidden := [name for name, g in seen.items() if g.any() and name not in known]:
        raise trial.fault(
            f"log q depends on theta[{hidden[0]!r}], and no parameter of q does; q has {own}. Give it to the "
            "constructor of q, in a mapping of weights, and not to a network or a function that q holds"
        )


def size_of_a_row(trial: ObjectiveTrial) -> None:
    """Check that one estimate fits into memory, and that ``row_elements``, if it is declared, is not far too small.

    ``row_elements`` is the number of elements in the largest tensor of one estimate with one sample.

    Raises:
        Fault: the objective is at fault.
    """
    declared = measured = trial.objective.row_elements
    if type(trial.objective).row_elements is not Objective.row_elements:
        with trial.calling("f"):
            measured = trial.objective.measured_row_elements(with_theta=False)
    if measured > LARGEST_ROW:
        raise trial.fault(
            f"one sample takes a tensor of {measured:,} elements, and the limit is {LARGEST_ROW:,}. Use a smaller batch"
        )
    if measured > UNDERSTATED * declared:
        raise trial.fault(
            f"it declares row_elements = {declared}, and the largest tensor of one sample has about {measured:,} "
            f"elements, which takes {measured // declared} times the memory. Leave row_elements out, and it is measured"
        )


def reference(trial: ObjectiveTrial) -> None:
    """Check that the objective's reference estimator is unbiased and fits the objective.

    The mean gradient of a long run of this estimator takes the place of an unknown exact gradient.

    Raises:
        Fault: the objective is at fault.
        NotJudged: the objective has an exact gradient or names no reference estimator.
    """
    estimator = trial.objective.reference_estimator
    if estimator is None or trial.objective.has_exact:
        raise NotJudged("no reference is measured")
    if not estimator.unbiased:
        raise trial.fault(f"its reference_estimator {estimator!r} is biased. Name an unbiased one, such as RLOO(n=8)")
    if reason := mismatch(estimator, trial.objective):
        raise trial.fault(f"its reference_estimator does not fit: {reason.rstrip('.')}")


def training_data(trial: ObjectiveTrial) -> None:
    """Check that the problems on minibatches and on held-out data share the tensors of the whole problem.

    The shared tensors are ``theta`` and ``extra``; copies of them are a fault. All minibatches must have one batch
    shape. The objective's method ``restarted(seed)`` prepares another training run; ``restarted(0)`` must return the
    objective itself.

    Raises:
        Fault: the objective is at fault.
    """
    problem = trial.problem
    others = {} if problem.minibatch is None else {f"minibatch({i})": problem.minibatch for i in (0, 1)}
    made = {}
    for i, (name, function) in enumerate(others.items()):
        with trial.calling(name):
            made[name] = function(i)
    made |= {} if problem.held_out is None else {"held_out": problem.held_out}
    for name, other in made.items():
        if not isinstance(other, Problem):
            raise trial.fault(f"{name} is {kind_of(other)}, expected a Problem")
        for part in ("theta", "extra"):
            mine, theirs = getattr(problem, part), getattr(other, part)
            if mine.keys() != theirs.keys() or any(mine[k] is not theirs[k] for k in mine):
                raise trial.fault(f"{name} has a {part} of its own. Build it with the tensors of the problem itself")
    shapes = {name: list(trial.q_of(other).batch_shape) for name, other in made.items() if name != "held_out"}
    if len(set(map(str, shapes.values()))) > 1:
        raise trial.fault(f"its minibatches have different batch shapes ({shapes}). Make all of them equally large")
    if trial.objective.restarted(0) != trial.objective:
        raise trial.fault("restarted(0) is another objective. Seed 0 must return the objective itself")


def refuse_shared(trial: ObjectiveTrial, first: Problem, second: Problem) -> None:
    """Raise a ``Fault`` if two problems share a tensor of ``theta`` or of ``extra``, the two fields with tensors.

    The problems ``first`` and ``second`` were built one after the other by the objective of ``trial``.
    """
    for part in ("theta", "extra"):
        one, other = getattr(first, part), getattr(second, part)
        for k in one.keys() & other.keys():
            if one[k] is other[k] or (one[k].numel() and one[k].data_ptr() == other[k].data_ptr()):
                raise trial.fault(
                    f"two builds share {part}[{k!r}], so that training or a change of dtype in one changes the other. "
                    "Make new tensors in build, with copy.deepcopy for a network"
                )
