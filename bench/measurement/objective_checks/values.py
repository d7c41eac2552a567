"""Checks of f: its values, on what they depend, and its gradient."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.graph import gradients_reached
from bench.measurement.objective_checks.comparisons import EXACT, all_equal, mostly_equal
from bench.measurement.objective_checks.parts import refuse_shared
from bench.measurement.objective_checks.trial import NotJudged, ObjectiveTrial
from estimators import Bound, Return, SetFunction, log_probs, parameters, rows, widths

ALONE = 8
"""Number of samples that f is also given alone."""
ROUNDING = 1e-3
"""Relative difference between the typical values of f in float32 and in float64 that counts as rounding."""


def values_of_f(trial: ObjectiveTrial) -> None:
    """Check that f gives one number per sample and batch element.

    The number must depend on this sample alone. f must not change the samples that it is given.

    Raises:
        Fault: the objective is at fault.
    """
    q, r, x = trial.q, trial.rows, trial.many
    fx = [_values(trial, over, samples) for over, samples in ((q, trial.draw(q, 2)), (r, trial.x), (r, x))][-1]
    is_bound = isinstance(trial.problem.integrand(q), Bound)
    if is_bound != trial.objective.bound:
        built = "a Bound" if is_bound else "not a Bound"
        raise trial.fault(f"it declares bound = {trial.objective.bound}, and its integrand is {built}")
    if not torch.equal(fx, trial.f(trial.problem, r, x)):
        raise trial.fault(
            "f returned other values at the same samples. It must not draw random numbers: draw them before"
        )
    if is_bound and trial.problem.integrand(q).particles != trial.objective.particles:  # type: ignore[attr-defined]
        raise trial.fault(f"it declares particles = {trial.objective.particles}, and its Bound has another number")
    advice = (
        "f of one sample depends on the other samples that it is given. Reduce over the event axes alone, not over "
        "the axes in front of the batch"
    )
    if _mixes(trial, fx, torch.Size([*fx.shape[:2], *[1] * len(q.batch_shape)])):
        raise trial.fault(advice)
    each = torch.cat([_values(trial, rows(q, 1), x[:, i : i + 1]) for i in range(3)], 1)
    alone = torch.cat([_values(trial, r, x[i : i + 1]) for i in range(min(ALONE, len(x)))])
    if not mostly_equal(fx, each, EXACT) or not mostly_equal(fx[:ALONE], alone, EXACT):
        raise trial.fault(advice)
    if _mixes(trial, fx, q.batch_shape):
        raise trial.fault(
            "f of one batch element depends on the samples of other batch elements, and its gradient would lack that "
            "part. Make the axes that f mixes event axes of q, with Independent"
        )


def costs_of_f(trial: ObjectiveTrial) -> None:
    """Check that the costs of f, if it is a ``Return``, sum to f, and that no cost depends on a later choice.

    A ``Return`` is an f that is a sum of costs. The choices are the random variables of a sample, in the order in which
    q draws them. Cost t belongs to choice t, and all choices after t are later. If the ``Return`` has the matrix
    ``reads``, a cost must depend on no choices but those that ``reads`` names for it.

    Raises:
        Fault: the objective is at fault.
        NotJudged: f is no ``Return``.
    """
    q, r, x = trial.q, trial.rows, trial.many
    shown = trial.problem.integrand(q)
    if isinstance(shown, Return) != trial.objective.costs:
        built = "a Return" if isinstance(shown, Return) else "not a Return"
        raise trial.fault(f"it declares costs = {trial.objective.costs}, and its integrand is {built}")
    if not isinstance(shown, Return):
        raise NotJudged("f is no Return")
    f = trial.problem.integrand(r)
    assert isinstance(f, Return)
    with trial.calling("the costs of f"), torch.no_grad():
        if not mostly_equal(f.each(x, r).sum(-1), f(x), EXACT):
            raise trial.fault("the costs do not sum to f. Let costs be all that f is made of")
        other = trial.draw(r, trial.count, seed=1)
        ahead = f.looks_ahead(x, other, r)
    if ahead is not None:
        said = "later choices" if f.reads is None else "choices that reads leaves out"
        raise trial.fault(
            f"cost {ahead[0]} (counted from 0) changes with choice {ahead[1]}: it looks at {said}, so downstream "
            "credit would be biased. Move the cost to the column of the last choice that it reads, or declare reads"
        )


def sets_of_f(trial: ObjectiveTrial) -> None:
    """Check that f, if it is a ``SetFunction``, does not depend on the order of the samples in a set.

    A ``SetFunction`` computes a value for each sample of a set, and combines these values into one number.

    Raises:
        Fault: the objective is at fault.
        NotJudged: f is no ``SetFunction``.
    """
    shown = trial.problem.integrand(trial.q)
    if isinstance(shown, SetFunction) != trial.objective.sets:
        built = "a SetFunction" if isinstance(shown, SetFunction) else "not a SetFunction"
        raise trial.fault(f"it declares sets = {trial.objective.sets}, and its integrand is {built}")
    if not isinstance(shown, SetFunction):
        raise NotJudged("f is no SetFunction")
    f = trial.problem.integrand(trial.rows)
    assert isinstance(f, SetFunction)
    with trial.calling("the values of f"), torch.no_grad():
        values = f.each(trial.many, trial.rows)
        if not mostly_equal(f.together(values), f(trial.many), EXACT):
            raise trial.fault("combine of its values is not f. Let f depend on the values alone")
        if not all(
            mostly_equal(f.together(values), f.together(v), EXACT) for v in (values.flip(-1), values.roll(1, -1))
        ):
            raise trial.fault(
                "combine depends on the order of the values, and MultiSample puts them into other orders. Use a "
                "function of the set, such as the largest value"
            )


def columns_of_log_probs(trial: ObjectiveTrial) -> None:
    """Check that the log-probability of a choice does not depend on choices after it, if f is a ``Return``.

    A ``Return`` is an f that is a sum of costs. The choices are the random variables of a sample, in the order in which
    q draws them. The log-probabilities of all choices must sum to log q.

    Raises:
        Fault: the objective is at fault.
        NotJudged: f is no ``Return``.
    """
    q, r, x = trial.q, trial.rows, trial.many
    if not isinstance(trial.problem.integrand(q), Return):
        raise NotJudged("f is no Return")
    with trial.calling("log_probs of q"), torch.no_grad():
        each, choices = log_probs(r, x), len(widths(q))
        if each.shape != (*x.shape[: x.dim() - len(q.event_shape)], choices):
            raise trial.fault(
                f"log_probs of q returned shape {list(each.shape)} for samples {list(x.shape)}, and q has {choices} "
                "choices. Return one column for each choice"
            )
        if not mostly_equal(each.sum(-1), r.log_prob(x), EXACT):
            raise trial.fault("the log_probs of q do not sum to its log_prob")
        odd = Return(lambda x: log_probs(r, x)).looks_ahead(x, trial.draw(r, trial.count, seed=1), r)
    if odd is not None:
        raise trial.fault(
            f"the log-probability of choice {odd[0]} (counted from 0) changes with choice {odd[1]}: a column of "
            "log_probs depends on its own choice and those before it alone. Downstream credit would be biased"
        )


def _values(trial: ObjectiveTrial, q: Distribution, x: Tensor) -> Tensor:
    """Return f(x), one number per sample of q and batch element, or raise the fault that it is something else."""
    kept = x.clone()
    fx, expected = trial.f(trial.problem, q, x), [len(x), *q.batch_shape]
    if not torch.equal(x, kept):
        raise trial.fault("f changes the samples that it is given. Compute with x.clamp, not with x.clamp_, in f")
    if list(fx.shape) != expected:
        advice = "Sum over the event axes, and keep all others"
        if fx.dim() < len(expected) and trial.q.batch_shape and not trial.q.event_shape:
            advice = f"Wrap q in Independent(q, {len(expected) - fx.dim()}), so that its axes are one event"
        raise trial.fault(
            f"f returned shape {list(fx.shape)} for samples {list(x.shape)} of a q with batch shape "
            f"{list(q.batch_shape)} and event shape {list(q.event_shape)}, expected {expected}. {advice}"
        )
    if fx.isnan().any():
        raise trial.fault("f is NaN at samples of q")
    return fx


def _mixes(trial: ObjectiveTrial, fx: Tensor, axes: torch.Size) -> bool:
    """Return whether f gives other values than ``fx`` at samples that stay, if others along these axes are replaced.

    Either half of the samples is replaced in turn. The values at the other must stay, without any rounding.
    """
    x, other = trial.many, trial.draw(trial.rows, trial.count, seed=1)
    half = torch.randperm(axes.numel(), generator=Generator().manual_seed(0)).view(axes) % 2 == 0
    event = [*axes, *[1] * len(trial.q.event_shape)]
    for replaced in (half, ~half):
        now = trial.f(trial.problem, trial.rows, torch.where(replaced.view(event), other, x))
        stay = ~replaced.expand(fx.shape)
        if not all_equal(fx[stay], now[stay]):
            return True
    return False


def repeated_build(trial: ObjectiveTrial) -> None:
    """Check that two calls of ``build`` return equal problems, and that float32 and float64 agree up to rounding.

    Three problems are built: two in float64, which must be equal, and one in float32, which may differ from them by
    rounding. The problems are equal if ``build`` draws all random data from a fixed seed.

    Raises:
        Fault: the objective is at fault.
    """
    first, q, x = trial.problem, trial.q, trial.many
    fx = trial.f(first, trial.rows, x)
    same: dict[torch.dtype, Callable[[Tensor, Tensor], bool]] = {
        torch.float64: all_equal,
        torch.float32: lambda a, b: mostly_equal(a, b, ROUNDING),
    }
    advice = (
        "Draw data with Generator().manual_seed(seed), in float64, and convert them with .to(dtype): they are made "
        "several times"
    )
    for dtype, equal in same.items():
        second = trial.second if dtype == torch.float64 else trial.first(dtype)
        refuse_shared(trial, first, second)
        pairs = [("theta", first.theta, second.theta), ("extra", first.extra, second.extra)]
        pairs += [("the parameters of q", parameters(q), parameters(trial.q_of(second)))]
        for part, one, other in pairs:
            differ = [k for k in one if k not in other or one[k].shape != other[k].shape]
            differ += [k for k in one if k not in differ and not equal(one[k], other[k])]
            if differ:
                raise trial.fault(f"two builds differ in {part}: {', '.join(differ)}. {advice}")
        r = rows(trial.q_of(second), 3)
        given = x.to(dtype) if x.is_floating_point() else x
        if not equal(fx, trial.f(second, r, given)):
            how = "float32 and float64" if dtype == torch.float32 else "two builds"
            more = ". If its data are equal, f makes rounding large" if dtype == torch.float32 else ""
            raise trial.fault(f"f differs between {how}. {advice}{more}")
        if first.exact is not None and second.exact is not None:
            a, b = first.exact(first.theta), second.exact(second.theta)
            if isinstance(a, Tensor) and isinstance(b, Tensor) and not equal(a, b):
                raise trial.fault(f"the exact value differs between two builds. {advice}")


def theta_through_q(trial: ObjectiveTrial) -> None:
    """Check that f depends on theta through the q that f is given, and in no other way.

    Raises:
        Fault: the objective is at fault.
    """
    advice = (
        "Its gradient would lack that part. Let q alone use these tensors; what f needs of them belongs in extra, or "
        "in the parameters of q"
    )
    fx = trial.f(trial.problem, trial.rows, trial.many)
    if used := [name for name, g in gradients_reached([fx], trial.theta()).items() if g.any()]:
        raise trial.fault(f"f uses {_listed(used)} itself, and not only through q. {advice}")
    moved = trial.second
    with torch.no_grad():
        for t in moved.theta.values():
            t.add_(0.01 * (1 + t.abs()))
    if not all_equal(fx, trial.f(moved, trial.rows, trial.many)):
        raise trial.fault(f"f uses values of theta itself, and not only through q. {advice}")


def gradient_of_f(trial: ObjectiveTrial) -> None:
    """Check that f has a gradient df/dx at samples x of q, if the objective declares ``differentiable``.

    Raises:
        Fault: the objective is at fault.
        NotJudged: the objective declares ``differentiable = False``, or x holds integers.
    """
    if not trial.objective.differentiable or not trial.x.is_floating_point():
        raise NotJudged("differentiable is False, or x holds integers")
    x = trial.x.clone().requires_grad_()
    fx = trial.f(trial.problem, trial.rows, x)
    if not gradients_reached([fx], {"x": x}):
        raise trial.fault(
            "it declares differentiable = True, the default, and f has no gradient at x. Declare it False"
        )


def _listed(names: list[str]) -> str:
    return " and ".join(f"theta[{name!r}]" for name in names)
