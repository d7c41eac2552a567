"""One objective under test: what its checks compute from it, and the faults that they raise."""

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.objectives import Objective, Problem
from bench.planning.selectors import UsageError, label
from bench.planning.user_code import Ended, set_apart
from bench.records.text import described
from estimators import draw, rows

LOOKED_AT, CALLS, ELEMENTS = 64, 12, 2**21
"""Most samples of each row at which values of f are compared; calls at all of them; most elements of all samples."""
BUDGET = 0.5
"""Seconds that f may take in a comparison, unless the fewest samples take longer: f may be a slow black box."""
SHORT = 0.02
"""A call of f that takes fewer seconds is timed again."""


class Fault(UsageError):
    """An objective is at fault. The message is one sentence: what is wrong, and what to do."""


class NotJudged(Exception):
    """A check cannot be made for this objective; the message is the reason."""


class ObjectiveTrial:
    """One objective, with all that its checks compute from it, in float64 on the CPU.

    Args:
        objective: the objective under test.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.built: dict[torch.dtype, Problem] = {}

    @property
    def problem(self) -> Problem:
        """What the objective's ``build`` returns in float64: theta, q, the integrand f and perhaps an exact value."""
        return self.first(torch.float64)

    def first(self, dtype: torch.dtype) -> Problem:
        """Return the problem that the objective's ``build`` makes in this dtype.

        There is only one build for each dtype, because a build may read much data.
        """
        if dtype not in self.built:
            self.built[dtype] = self.build(dtype)
        return self.built[dtype]

    @functools.cached_property
    def second(self) -> Problem:
        """The problem of a second ``build`` in float64, for a comparison with the first problem.

        The check ``theta_through_q`` changes the theta of this second problem, so no later check may use it.
        """
        return self.build(torch.float64)

    @functools.cached_property
    def q(self) -> Distribution:
        """The distribution q at the theta that the objective's ``build`` returns, in float64."""
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
        """How many samples of q the checks of f's values use, from 2 to 64; fewer if f is slow or samples are large.

        This number of samples is drawn for each of three rows (copies) of q.
        """
        seconds = _fastest(lambda: self.f(self.problem, self.rows, self.x)) / 2
        return int(max(2, min(LOOKED_AT, BUDGET / (CALLS * seconds), ELEMENTS / max(1, self.x[0].numel()))))

    @functools.cached_property
    def many(self) -> Tensor:
        """``count`` samples of each of three rows (copies) of q, ``[count, 3, *batch, *event]``."""
        return self.draw(self.rows, self.count)

    @functools.cached_property
    def exact(self) -> tuple[float, Tensor]:
        """Exact expectation of f and its exact gradient, ``[size of theta]``."""
        value = self.exact_value(self.theta())
        return value.item(), self.gradient(value)

    @functools.cached_property
    def seconds(self) -> float:
        """Seconds that f takes for one sample, in a call with 16 samples."""
        x = self.draw(self.q, 16)
        return _fastest(lambda: self.f(self.problem, self.q, x)) / 16

    def affordable(self, points: int) -> int:
        """Return how many samples a check may take if it evaluates f at ``points`` points for each sample.

        All evaluations of f together take at most half a second, and the tensors have at most 2^21 elements.
        """
        return int(min(ELEMENTS / self.objective.row_elements, BUDGET / self.seconds) / points)

    def theta(self) -> dict[str, Tensor]:
        """Return the tensors of theta with respect to which the exact value is differentiated."""
        return self.problem.theta

    def build(self, dtype: torch.dtype) -> Problem:
        """Call the objective's ``build`` again, and return the problem that it makes in this dtype."""
        with self.calling("build"):
            return self.objective.build(dtype, "cpu")

    def q_of(self, problem: Problem) -> Distribution:
        """Return q at a problem's theta."""
        with self.calling("q"):
            return problem.q(problem.theta)

    def f(self, problem: Problem, q: Distribution, x: Tensor) -> Tensor:
        """Return the values of f, the problem's integrand for q, at the samples ``x``.

        ``x`` is ``[..., *batch, *event]``, and the values should be ``[..., *batch]``, but this shape is not checked.
        """
        with self.calling("integrand"):
            f: Any = problem.integrand(q)
        if not callable(f):
            raise self.fault(f"integrand returned {kind_of(f)}. Let it return the function f")
        with self.calling("f"):
            fx: Any = f(x)
        if fx is None:
            raise self.fault("f returned None. Let it return one value per sample and batch element")
        try:
            values = torch.as_tensor(fx)
        except (TypeError, ValueError, RuntimeError):
            raise self.fault(f"f returned {type(fx).__name__}, which is not numbers. Return a tensor") from None
        if values.is_complex():
            raise self.fault("f returned complex numbers. Return real ones")
        return values

    def draw(self, q: Distribution, n: int, seed: int = 0) -> Tensor:
        """Return n samples of q, ``[n, *batch, *event]``, drawn from a generator with this seed."""
        with self.calling("q's sampler"):
            return draw(q, n, Generator().manual_seed(seed))

    def exact_value(self, theta: dict[str, Tensor]) -> Tensor:
        """Return the exact expectation of f at theta, a tensor.

        Raises:
            NotJudged: the problem has no exact value.
        """
        if self.problem.exact is None:
            raise NotJudged("it has no exact value")
        with self.calling("exact"):
            return self.problem.exact(theta)

    def gradient(self, value: Tensor) -> Tensor:
        """Return the gradient of ``value`` with respect to theta, ``[size of theta]``."""
        found = torch.autograd.grad(value, list(self.theta().values()), materialize_grads=True, retain_graph=True)
        return torch.cat([g.flatten() for g in found])

    def coordinate(self, i: int) -> str:
        """Return the name of the tensor of theta that holds coordinate ``i`` of the gradient, counted from 0."""
        return [name for name, t in self.theta().items() for _ in range(t.numel())][i]

    def fault(self, text: str) -> Fault:
        """Return the exception for a fault.

        ``text`` says what is wrong, with a small first letter and without a full stop.
        """
        return Fault(f"The objective {label(self.objective)} is at fault: {text}.")

    @contextmanager
    def calling(self, what: str) -> Iterator[None]:
        """Inside the ``with`` block, turn an exception or an exit of the objective's code into a ``Fault``.

        The fault says where the exception was raised. ``what`` names the function that is called.
        """
        try:
            with set_apart():
                yield
        except (Fault, NotJudged):
            raise
        except Exception as error:
            how = str(error) if isinstance(error, Ended) else described(error)
            raise self.fault(f"{what} raised {how}") from error


def kind_of(value: object) -> str:
    """Return the type of a value as text, such as ``a list``."""
    return f"a {type(value).__name__}"


def _fastest(call: Callable[[], object]) -> float:
    """Return the least seconds that a call takes, of up to five if they are short: a busy machine interrupts some."""
    least = math.inf
    for _ in range(5):
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
        if least > SHORT:
            break
    return least
