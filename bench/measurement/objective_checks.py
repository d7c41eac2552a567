"""The checks of an objective: an objective at fault is found before an estimator is blamed for it.

Every check is exact but two. If the states of q cannot be summed, these two compare the exact value and the exact
gradient with means over samples. Their bound holds for any law whose values stay within the range of the samples, and
each of them has the failure rate ``FAILURE_RATE``. A sample that is too heavy-tailed to tell is not judged.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.engine import Engine
from bench.measurement.threads import single_thread
from bench.objectives import Objective, Problem, is_own, wrong_declarations
from bench.planning.cells import Cell, mismatch
from bench.planning.selectors import UsageError, label
from bench.planning.settings import Settings
from bench.planning.user_code import Ended, set_apart
from bench.records.text import described
from estimators import RLOO, Bound, Enumeration, Refusal, draw, inner, parameters, rows

FAILURE_RATE = 1e-6
"""Probability, over seeds, that a comparison with samples rejects a correct objective (Bonferroni over coordinates)."""
SAMPLES, FEWEST, ELEMENTS = 2**15, 64, 2**21
"""Most and fewest samples of a comparison; largest number of elements for which the most samples are taken."""
LOOKED_AT, ALONE, CALLS = 64, 8, 12
"""Most samples of each row at which values of f are compared; those that are also given alone; calls at all of them."""
BUDGET = 0.5
"""Seconds that f may take in a comparison, unless the fewest samples take longer: f may be a slow black box."""
DOMINATED = 0.02
"""A mean is not judged if one sample makes up more than this share, and 8 / samples, of the sum of squares."""
EXACT = 1e-5
"""Relative difference of two exact numbers that counts as rounding, also of an f that computes in float32."""
ROUNDING = 1e-3
"""Relative difference between the typical values of f in float32 and in float64 that counts as rounding."""
STEP, SLOPE = 1e-3, 1e-2
"""Relative step of a finite difference of exact values; its relative difference from the gradient that is a fault."""
UNDERSTATED = 16
"""A declared ``row_elements`` may be this many times too small: it decides speed and memory, but no result."""
LARGEST_ROW = 2**28
"""Most elements of the largest tensor of one estimate: 1 GiB in float32. A call holds several such tensors."""


class Fault(UsageError):
    """An objective is at fault. The message is one sentence: what is wrong, and what to do."""


class NotJudged(Exception):
    """A check cannot be made for this objective; the message is the reason."""


class ObjectiveTrial:
    """One objective, and what its checks compute from it, in float64 on the CPU.

    Args:
        objective: the objective under test.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.built: dict[torch.dtype, Problem] = {}

    @property
    def problem(self) -> Problem:
        """The problem in float64."""
        return self.first(torch.float64)

    def first(self, dtype: torch.dtype) -> Problem:
        """Return the problem in a dtype. The problem is built only once, because a build may read much data."""
        if dtype not in self.built:
            self.built[dtype] = self.build(dtype)
        return self.built[dtype]

    @functools.cached_property
    def second(self) -> Problem:
        """The problem in float64, built again.

        The check ``theta_through_q``, which changes the theta of this problem, is the last check to use the problem.
        """
        return self.build(torch.float64)

    @functools.cached_property
    def q(self) -> Distribution:
        """The distribution q at the point of measurement."""
        return self.q_of(self.problem)

    @functools.cached_property
    def rows(self) -> Distribution:
        """Three rows (copies) of q, batch shape ``[3, *batch]``, with parameters that are cut off from theta."""
        return rows(self.q, 3)

    @functools.cached_property
    def x(self) -> Tensor:
        """Two samples of each of three rows (copies) of q, ``[2, 3, *batch, *event]``."""
        return self.draw(self.rows, 2)

    @functools.cached_property
    def count(self) -> int:
        """Number S of samples of each row in a comparison of values of f; at least 2, fewer if f is slow or x large."""
        start = time.perf_counter()
        self.f(self.problem, self.rows, self.x)
        seconds = (time.perf_counter() - start) / 2
        return int(max(2, min(LOOKED_AT, BUDGET / (CALLS * seconds), ELEMENTS / max(1, self.x[0].numel()))))

    @functools.cached_property
    def many(self) -> Tensor:
        """S samples of three rows, ``[S, 3, *batch, *event]``: enough to show values that are not the most common."""
        return self.draw(self.rows, self.count)

    @functools.cached_property
    def exact(self) -> tuple[float, Tensor]:
        """Exact value and exact gradient, ``[size of theta]``."""
        value = self.exact_value(self.theta())
        return value.item(), self.gradient(value)

    @functools.cached_property
    def seconds(self) -> float:
        """Seconds that f takes for one sample, in a call with 16 samples."""
        x = self.draw(self.q, 16)
        start = time.perf_counter()
        self.f(self.problem, self.q, x)
        return (time.perf_counter() - start) / 16

    def affordable(self, points: int) -> int:
        """Return how many samples a check may take in the time and memory that it has.

        For each sample, f is evaluated at ``points`` points.
        """
        return int(min(ELEMENTS / self.objective.row_elements, BUDGET / self.seconds) / points)

    def theta(self) -> dict[str, Tensor]:
        """Return the tensors of theta with respect to which the exact value is differentiated."""
        return self.problem.theta

    def build(self, dtype: torch.dtype) -> Problem:
        """Build the problem again."""
        with self.calling("build"):
            return self.objective.build(dtype, "cpu")

    def q_of(self, problem: Problem) -> Distribution:
        """Return q at a problem's theta."""
        with self.calling("q"):
            return problem.q(problem.theta)

    def f(self, problem: Problem, q: Distribution, x: Tensor) -> Tensor:
        """Return the values of the integrand over q at x, ``[..., *batch]``, as a tensor."""
        with self.calling("integrand"):
            f: Any = problem.integrand(q)
        if not callable(f):
            raise self.fault(f"integrand returned {_kind(f)}. Let it return the function f")
        with self.calling("f"):
            fx: Any = f(x)
        if fx is None:
            raise self.fault("f returned None. Let it return one value per sample and batch element")
        try:
            return torch.as_tensor(fx)
        except (TypeError, ValueError, RuntimeError):
            raise self.fault(f"f returned {type(fx).__name__}, which is not numbers. Return a tensor") from None

    def draw(self, q: Distribution, n: int, seed: int = 0) -> Tensor:
        """Return n samples of q, ``[n, *batch, *event]``."""
        with self.calling("q's sampler"):
            return draw(q, n, Generator().manual_seed(seed))

    def exact_value(self, theta: dict[str, Tensor]) -> Tensor:
        """Return the exact value at theta."""
        if self.problem.exact is None:
            raise NotJudged("it has no exact value")
        with self.calling("exact"):
            return self.problem.exact(theta)

    def gradient(self, value: Tensor) -> Tensor:
        """Return the gradient of a value at theta, ``[size of theta]``."""
        found = torch.autograd.grad(value, list(self.theta().values()), materialize_grads=True, retain_graph=True)
        return torch.cat([g.flatten() for g in found])

    def fault(self, text: str) -> Fault:
        """Return the exception for a fault.

        ``text`` says what is wrong, with a small first letter and without a full stop.
        """
        return Fault(f"The objective {label(self.objective)} is at fault: {text}.")

    @contextmanager
    def calling(self, what: str) -> Iterator[None]:
        """Turn an exception or an exit of the objective's code into a ``Fault`` that says where it was raised.

        ``what`` names the function that is called.
        """
        try:
            with set_apart():
                yield
        except (Fault, NotJudged):
            raise
        except Exception as error:
            how = str(error) if isinstance(error, Ended) else described(error)
            raise self.fault(f"{what} raised {how}") from error


# The checks -----------------------------------------------------------------------------------------------------------


def declared_facts(trial: ObjectiveTrial) -> None:
    """Check that family, dim, has_exact and the other declared facts have values of the right kind."""
    if wrong := wrong_declarations(trial.objective):
        raise trial.fault(" It ".join(wrong).rstrip("."))


def problem_and_theta(trial: ObjectiveTrial) -> None:
    """Check that build returns a Problem, whose theta holds leaves that require gradients, in the wanted dtype."""
    for dtype in (torch.float64, torch.float32):
        problem: Any = trial.first(dtype)
        if not isinstance(problem, Problem):
            raise trial.fault(
                f"build returned {_kind(problem)}. Return bench.objectives.Problem(theta, q, integrand, exact): a dict "
                "of tensors, then functions theta -> q, q -> f and theta -> value"
            )
        for part, tensors in (("theta", problem.theta), ("extra", problem.extra)):
            if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
                raise trial.fault(f"{part} must be a dict of named tensors (got {_kind(tensors)})")
            for name, t in tensors.items():
                if t.dtype != dtype:
                    raise trial.fault(f"{part}[{name!r}] is {t.dtype}, but build was called with dtype={dtype}")
        if dtype == torch.float32:
            _refuse_shared(trial, trial.problem, problem)
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
                raise trial.fault(f"{name} must be a function (got {_kind(getattr(problem, name))})")


def family_of_q(trial: ObjectiveTrial) -> None:
    """Check that q is of the declared family and depends on theta."""
    q, family = trial.q, trial.objective.family
    if not isinstance(q, Distribution):
        raise trial.fault(f"q returned {_kind(q)}, which is not a distribution")
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
    reached = torch.autograd.grad(
        [t.sum() for t in own.values() if t.requires_grad],
        list(trial.theta().values()),
        allow_unused=True,
        retain_graph=True,
    )
    if all(g is None for g in reached):
        raise trial.fault("the parameters of q do not depend on theta. Make them in q from the theta that it is given")


def rows_of_q(trial: ObjectiveTrial) -> None:
    """Check that q can be split into rows: every parameter is ``[*batch, ...]``."""
    q, advice = trial.q, "Every parameter must be a tensor [*batch, ...], stored under its argument's name"
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
    if together.shape != x.shape[: together.dim()] or not _mostly_equal(together, alone, EXACT):
        raise trial.fault(f"the log_prob of three rows of q is not the log_prob of q; q has {own}. {advice}")


def values_of_f(trial: ObjectiveTrial) -> None:
    """Check that f gives one number per sample and batch element, from this sample alone, and changes no sample."""
    q, r, x = trial.q, trial.rows, trial.many
    fx = [_values(trial, over, samples) for over, samples in ((q, trial.draw(q, 2)), (r, trial.x), (r, x))][-1]
    is_bound = isinstance(trial.problem.integrand(q), Bound)
    if is_bound != trial.objective.bound:
        built = "a Bound" if is_bound else "not a Bound"
        raise trial.fault(f"it declares bound = {trial.objective.bound}, and its integrand is {built}")
    if not torch.equal(fx, trial.f(trial.problem, r, x)):
        raise trial.fault("f returned other values at the same samples. It must not draw random numbers; draw in build")
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
    if not _mostly_equal(fx, each, EXACT) or not _mostly_equal(fx[:ALONE], alone, EXACT):
        raise trial.fault(advice)
    if _mixes(trial, fx, q.batch_shape):
        raise trial.fault(
            "f of one batch element depends on the samples of other batch elements, and its gradient would lack that "
            "part. Make the axes that f mixes event axes of q, with Independent"
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
        if not _all_equal(fx[stay], now[stay]):
            return True
    return False


def repeated_build(trial: ObjectiveTrial) -> None:
    """Check that two builds are equal, also in float32: all data come from a seed."""
    first, q, x = trial.problem, trial.q, trial.many
    fx = trial.f(first, trial.rows, x)
    same: dict[torch.dtype, Callable[[Tensor, Tensor], bool]] = {
        torch.float64: _all_equal,
        torch.float32: lambda a, b: _mostly_equal(a, b, ROUNDING),
    }
    advice = (
        "build runs several times: draw with Generator().manual_seed(seed), in float64, and convert with .to(dtype)"
    )
    for dtype, equal in same.items():
        second = trial.second if dtype == torch.float64 else trial.first(dtype)
        _refuse_shared(trial, first, second)
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
            raise trial.fault(f"f differs between {how}. {advice}")
        if first.exact is not None and second.exact is not None:
            a, b = (torch.as_tensor(exact(p.theta)) for exact, p in ((first.exact, first), (second.exact, second)))
            if not equal(a, b):
                raise trial.fault(f"the exact value differs between two builds. {advice}")


def theta_through_q(trial: ObjectiveTrial) -> None:
    """Check that f depends on theta through the q that f is given, and in no other way."""
    advice = (
        "Its gradient would lack that part. Let q alone use these tensors; what f needs of them belongs in extra, or "
        "in the parameters of q"
    )
    fx = trial.f(trial.problem, trial.rows, trial.many)
    if fx.requires_grad:
        theta = trial.theta()
        found = torch.autograd.grad(fx.sum(), list(theta.values()), allow_unused=True)
        used = [name for name, g in zip(theta, found, strict=True) if g is not None and bool(g.any())]
        if used:
            raise trial.fault(f"f uses {_listed(used)} itself, and not only through q. {advice}")
    moved = trial.second
    with torch.no_grad():
        for t in moved.theta.values():
            t.add_(0.01 * (1 + t.abs()))
    if not _all_equal(fx, trial.f(moved, trial.rows, trial.many)):
        raise trial.fault(f"f uses values of theta itself, and not only through q. {advice}")


def exact_number(trial: ObjectiveTrial) -> None:
    """Check that exact is one number, differentiable in the theta that exact is given, if has_exact is True."""
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
        raise trial.fault(f"exact returned {_kind(value)}. Return a tensor that is differentiable in theta")
    if value.dim():
        raise trial.fault(f"exact returned shape {list(value.shape)}, expected one number. Average over the batch")
    if not value.isfinite():
        raise trial.fault(f"exact returned {value.item()}")
    found = (
        torch.autograd.grad(value, list(theta.values()), allow_unused=True)
        if value.requires_grad
        else [None] * len(theta)
    )
    if all(g is None for g in found):
        raise trial.fault("exact does not depend on the theta that it is given. Compute it from its argument")
    generator = Generator().manual_seed(0)
    for _ in range(2):  # along a direction of relative changes, which keeps probabilities and scales in their ranges
        at = [t.detach() for t in theta.values()]
        v = [torch.randn(t.shape, generator=generator, dtype=t.dtype) * (t.abs() + (t == 0)) for t in at]
        slope = sum(float((g * part).sum()) for g, part in zip(found, v, strict=True) if g is not None)
        try:
            ahead, behind = (
                trial.exact_value({name: t + h * part for name, t, part in zip(theta, at, v, strict=True)}).item()
                for h in (STEP, -STEP)
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
    """Check that exact value and gradient agree with the sum over all states of q, if q has few states."""
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
    """Check that exact value and gradient agree with means over samples, up to the errors of these means."""
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
    apart = _apart(values, torch.tensor([exact], dtype=torch.float64), trial.objective.exact_error)
    if apart is not None:
        mean, error = values.mean().item(), (values.std() / math.sqrt(count)).item()
        raise trial.fault(
            f"its exact value is {exact:.6g}, and the mean of f over {count} samples is {mean:.6g} with standard error "
            f"{error:.2g}{_factor(exact, mean, _batch(trial.q))}"
        )
    estimator = RLOO(n=4)
    if mismatch(estimator, trial.objective):
        raise NotJudged("no estimator at hand fits q, so that the exact gradient was not compared")
    count = min(SAMPLES, max(FEWEST, trial.affordable(4)))
    engine = Engine(Cell(estimator, trial.objective), Settings(dtype="float64"), problem=trial.problem)
    try:
        gradients = engine.gradients(count, Generator().manual_seed(1))
    except (Refusal, NotImplementedError):
        raise NotJudged("no estimator at hand fits q, so that the exact gradient was not compared") from None
    apart = _apart(gradients, slope, trial.objective.exact_error)
    if apart is not None:
        name = [name for name, t in trial.theta().items() for _ in range(t.numel())][apart]
        mean, error = gradients[:, apart].mean().item(), (gradients[:, apart].std() / math.sqrt(count)).item()
        raise trial.fault(
            f"its exact value has the gradient {slope[apart].item():.6g} at {name}, and {count} estimates by "
            f"{estimator!r} have the mean {mean:.6g} with standard error {error:.2g}"
        )


def size_of_a_row(trial: ObjectiveTrial) -> None:
    """Check that one estimate fits into memory, and a declared row_elements is not far too small.

    row_elements is the number of elements in the largest tensor of one estimate with one sample.
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
    """Check that the reference estimator is unbiased and fits the objective.

    A long run of this estimator stands in for an unknown exact gradient.
    """
    estimator = trial.objective.reference_estimator
    if estimator is None or trial.objective.has_exact:
        raise NotJudged("no reference is measured")
    if not estimator.unbiased:
        raise trial.fault(f"its reference_estimator {estimator!r} is biased. Name an unbiased one, such as RLOO(n=8)")
    if reason := mismatch(estimator, trial.objective):
        raise trial.fault(f"its reference_estimator does not fit: {reason.rstrip('.')}")


def gradient_of_f(trial: ObjectiveTrial) -> None:
    """Check that f has a gradient at x, if the objective declares ``differentiable``."""
    if not trial.objective.differentiable or not trial.x.is_floating_point():
        raise NotJudged("differentiable is False, or x holds integers")
    x = trial.x.clone().requires_grad_()
    fx = trial.f(trial.problem, trial.rows, x)
    found = torch.autograd.grad(fx.sum(), x, allow_unused=True) if fx.requires_grad else (None,)
    if found[0] is None:
        raise trial.fault(
            "it declares differentiable = True, the default, and f has no gradient at x. Declare it False"
        )


def training_data(trial: ObjectiveTrial) -> None:
    """Check that minibatches and held-out data share theta and extra, and all minibatches have one shape."""
    problem = trial.problem
    others = {} if problem.minibatch is None else {f"minibatch({i})": problem.minibatch for i in (0, 1)}
    made = {}
    for i, (name, function) in enumerate(others.items()):
        with trial.calling(name):
            made[name] = function(i)
    made |= {} if problem.held_out is None else {"held_out": problem.held_out}
    for name, other in made.items():
        if not isinstance(other, Problem):
            raise trial.fault(f"{name} is {_kind(other)}, expected a Problem")
        for part in ("theta", "extra"):
            mine, theirs = getattr(problem, part), getattr(other, part)
            if mine.keys() != theirs.keys() or any(mine[k] is not theirs[k] for k in mine):
                raise trial.fault(f"{name} has a {part} of its own. Build it with the tensors of the problem itself")
    shapes = {name: list(trial.q_of(other).batch_shape) for name, other in made.items() if name != "held_out"}
    if len(set(map(str, shapes.values()))) > 1:
        raise trial.fault(f"its minibatches have different batch shapes ({shapes}). Make all of them equally large")
    if trial.objective.restarted(0) != trial.objective:
        raise trial.fault("restarted(0) is another objective. Seed 0 must return the objective itself")


Check = Callable[[ObjectiveTrial], None]
QUICK: tuple[Check, ...] = (
    declared_facts,
    problem_and_theta,
    family_of_q,
    rows_of_q,
    values_of_f,
    repeated_build,
    theta_through_q,
    exact_number,
    exact_against_the_sum,
    exact_against_samples,
    size_of_a_row,
    reference,
)
"""The checks that a user's objective must pass before it is measured. Each may rely on those before it."""
CHECKS: tuple[Check, ...] = (*QUICK, gradient_of_f, training_data)
"""All checks, in the order in which they are run."""


def judge(check: Check, trial: ObjectiveTrial) -> None:
    """Run one check on an objective.

    Raises:
        Fault: the objective is at fault.
        NotJudged: the check cannot be made for this objective.
    """
    with single_thread(), trial.calling(f"the check {check.__name__!r}"):
        check(trial)


@functools.lru_cache(maxsize=64)
def check_own(objective: Objective, checks: tuple[Check, ...] = QUICK) -> None:
    """Check an objective, unless it is from the catalogue, whose objectives are tested elsewhere.

    Equal objectives are checked once per process.

    Raises:
        Fault: the objective is at fault.
    """
    if not is_own(objective):
        return
    trial = ObjectiveTrial(objective)
    for check in checks:
        try:
            judge(check, trial)
        except NotJudged:
            continue


def _refuse_shared(trial: ObjectiveTrial, first: Problem, second: Problem) -> None:
    """Raise a fault if two builds share a tensor of theta or extra."""
    for part in ("theta", "extra"):
        one, other = getattr(first, part), getattr(second, part)
        for k in one.keys() & other.keys():
            if one[k] is other[k] or (one[k].numel() and one[k].data_ptr() == other[k].data_ptr()):
                raise trial.fault(
                    f"two builds share {part}[{k!r}], so that training or a change of dtype in one changes the other. "
                    "Make new tensors in build, with copy.deepcopy for a network"
                )


# Comparisons ----------------------------------------------------------------------------------------------------------


def _apart(samples: Tensor, expected: Tensor, error: float) -> int | None:
    """Return a column of samples, ``[R, k]``, whose mean is surely not the expected number, ``[k]``, or None.

    The bound on the difference is the empirical Bernstein inequality, with L = log(2 k / FAILURE_RATE)::

        sqrt(2 variance L / R) + 7 range L / (3 (R - 1))

    The range is that of the samples. The second term exceeds what values beyond the largest sample add to the mean of a
    law with a power tail, if the mean exists and the index of the tail is above 1.03. A column in which one sample
    dominates is not judged, nor is a constant one, as of a reward that no sample has earned.

    Reference: Maurer & Pontil 2009 (Empirical Bernstein bounds), theorem 4.
    """
    count, columns = samples.shape
    samples = samples.double()
    level = math.log(2 * columns / FAILURE_RATE)
    squares = (samples - samples.mean(0)).square()
    width = samples.amax(0) - samples.amin(0)
    bound = (2 * samples.var(0) * level / count).sqrt() + 7 * width * level / (3 * (count - 1))
    off = (samples.mean(0) - expected).abs() - bound - error - EXACT * samples.abs().mean(0)
    judged = samples.isfinite().all(0) & (
        squares.amax(0) <= max(DOMINATED, 8 / count) * squares.sum(0).clamp(min=1e-300)
    )
    surely = judged & (width > 0) & (off > 0)
    return int(surely.nonzero()[0]) if surely.any() else None


def _near(a: Tensor, b: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Return which elements agree within ``near``, relative to their size, and which are no typical value in a and b.

    The typical value is the median. Where f is mostly constant, as a rare reward is, the other values tell its errors.
    """
    a, b = a.detach().double(), b.detach().double()
    scale = torch.cat([a.flatten(), b.flatten()]).nan_to_num(0.0, 0.0, 0.0).abs().mean()
    same = ((a - b).abs() <= near * torch.maximum(scale, a.abs())) | (a == b) | (a.isnan() & b.isnan())
    rare = [(t - t.nanmedian()).abs() > near * torch.maximum(scale, t.nanmedian().abs()) for t in (a, b)]
    return same, rare[0] & rare[1]


def _all_equal(a: Tensor, b: Tensor) -> bool:
    """Return whether all elements agree: the numbers that one computation gives twice, without other roundings."""
    return a.shape == b.shape and (not a.numel() or bool(_near(a, b, EXACT)[0].all()))


def _mostly_equal(a: Tensor, b: Tensor, near: float) -> bool:
    """Return whether more than half of the elements agree within ``near``, and of those that are not typical.

    Rounding moves all elements a little, and a few of them far if f has jumps. Another law or other data move all far.
    """
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    same, rare = _near(a, b, near)
    return all(part.double().mean().item() > 0.5 for part in (same, same[rare]) if part.numel())


def _factor(exact: float, truth: float, batch: int) -> str:
    """Return a hint if the exact value is a batch size away from the truth."""
    ratio = exact / truth if truth else math.nan
    if batch > 1 and math.isclose(ratio, batch, rel_tol=0.2):
        return f", a factor of {ratio:.3g}: the batch has {batch} elements, and E f is their mean, not their sum"
    return f", a factor of {ratio:.3g}" if math.isfinite(ratio) and ratio > 1.5 else ""


def _batch(q: Distribution) -> int:
    return math.prod(q.batch_shape)


def _listed(names: list[str]) -> str:
    return " and ".join(f"theta[{name!r}]" for name in names)


def _kind(value: object) -> str:
    """Return what a value is, in a few characters."""
    return f"a {type(value).__name__}"
