"""One estimator on one case (an expectation with a known value): calls and assertions.

PYTEST_DONT_REWRITE: pytest would print the tensors of a failed comparison below the message.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, OneHotCategorical
from torch.overrides import TorchFunctionMode

from bench.conformance.cases import Case, Theta, flat, leaves
from estimators import (
    Bound,
    Estimator,
    Integrand,
    Refusal,
    Return,
    SetFunction,
    State,
    adapt,
    inner,
    parameters,
    rows,
    widths,
)

__tracebackhide__ = True  # pytest shows the check and the message, not this module's tensors
FAILURE_RATE = 1e-6
"""Probability, over seeds, that one check rejects a correct estimator; Bonferroni splits it inside the check."""
REPLICATES = 2**15
"""Number of rows (independent estimates) in a statistical check."""
FEW = 7
"""Number of rows (independent estimates) in an exact check; no other axis of the problems has this length."""
MANY = 64
"""Number of rows (independent estimates) in a check that every number is finite."""


@dataclass(frozen=True, eq=False)
class Call:
    """What one call of an estimator gave.

    Args:
        loss: what the call returned, without its graph.
        gradient: gradient of ``loss.sum()`` with respect to every tensor of theta that requires gradients.
    """

    loss: Tensor
    gradient: Theta


def seeded(seed: int, device: torch.device | str = "cpu") -> Generator:
    """Return a new generator with the given seed."""
    return Generator(device).manual_seed(seed)


@dataclass(frozen=True, eq=False)
class Trial:
    """One estimator on one case, with the assertions that the checks make.

    Args:
        estimator: the estimator under test.
        case: an expectation with a known value.
        comparisons: number of trials in one check. A check may fail by chance with probability 1e-6; each trial gets an
            equal part of it.
        learned: the frozen state of the estimator (what it has learned); if None, a state is made and learns for a few
            steps.
    """

    estimator: Estimator
    case: Case
    comparisons: int = 1
    learned: State | None = None

    def __str__(self) -> str:
        """Return the beginning of every message: the estimator and the problem."""
        return f"{self.estimator!r} on {self.case.name}:"

    @cached_property
    def state(self) -> State | None:
        """The state with which all calls are made: what the estimator has learned in a few steps, frozen.

        It is None if the estimator has no state.
        """
        if self.learned is not None:
            return self.learned
        state = self.estimator.init(self.case.q(), seeded(0))
        if state is not None:
            self.learn(state, steps=5)
            state.requires_grad_(False)
        return state

    def learn(self, state: State, steps: int) -> None:
        """Adapt ``state`` in place for a number of steps, with seeds that no check uses."""
        trainable = list(state.parameters())
        optimizer = torch.optim.Adam(trainable, lr=1e-2) if trainable else None
        for step in range(steps):
            q = rows(self.case.q(), 16)
            adapt(self.estimator, self.integrand(q), q, state, optimizer, seeded(1000 + step))

    def cast(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Trial:
        """Return a copy of the trial whose theta, f and state are in this dtype and on this device.

        The state stays in float32 if the dtype is less precise.
        """
        theta = tuple(t.to(device, dtype) for t in self.case.theta)
        case = replace(self.case, theta=theta, f=lambda x: self.case.f(x).to(dtype))
        state = (
            None
            if self.state is None
            else copy.deepcopy(self.state).to(device, torch.promote_types(dtype, torch.float32))
        )
        return replace(self, case=case, learned=state)

    # Calls

    def integrand(self, q: Distribution, f: Integrand | None = None) -> Integrand:
        """Return the integrand with which the estimator is called: f, or an object made from f.

        - If the estimator needs a ``Bound``, or the case has particles: the ``Bound`` over q whose log-joint is f.
        - If the estimator needs costs: f as a sum of costs.
        - If the case has a function F of the values of f at k samples: a ``SetFunction`` made from f and F.
        - Otherwise f, or what the function ``around`` of the case returns for f.

        If the argument ``f`` is None, the f of the case is used.
        """
        f = self.case.f if f is None else f
        whole = Bound(f, q, self.case.particles) if self.estimator.needs_bound or self.case.particles else f
        if self.case.combine is not None:
            whole = SetFunction(f, self.case.combine)
        if self.estimator.needs_costs:
            return in_costs(whole, q)
        return whole if self.case.around is None else self.case.around(whole, q)

    def loss(self, q: Distribution, f: Integrand | None = None, noise: int | Generator | None = 1) -> Tensor:
        """Return the loss that the estimator returns for f at q, ``[*batch]``.

        If ``f`` is None, the f of the case is used. ``noise`` is a seed, a generator, or None for torch's global
        generator.
        """
        generator = seeded(noise) if isinstance(noise, int) else noise
        return self.estimator(self.integrand(q, f), q, generator, self.state)

    def call(
        self,
        theta: Theta | None = None,
        f: Integrand | None = None,
        noise: int | Generator | None = 1,
        weight: Tensor | float = 1.0,
    ) -> Call:
        """Call the estimator; return the loss, and the gradient of ``(weight * loss).sum()`` at theta.

        Args:
            theta: the parameters; if None, copies of the case's theta that require gradients, for 7 rows (independent
                estimates).
            f: the function; if None, the case's f.
            noise: a seed, a generator, or None for torch's global generator.
            weight: one number, or one for each element of the loss.
        """
        theta = leaves(self.case.theta, FEW) if theta is None else theta
        loss = self.loss(self.case.q(theta), f, noise)
        wanted = [t for t in theta if t.requires_grad]
        if not wanted:
            return Call(loss.detach(), ())
        assert loss.requires_grad, f"{self} the loss is cut off from q's parameters."
        return Call(loss.detach(), torch.autograd.grad((weight * loss).sum(), wanted, materialize_grads=True))

    def replicates(self, integrand: Callable[[Distribution], Integrand]) -> tuple[Tensor, Tensor]:
        """Return the losses, ``[R, batch elements]``, and the gradients at theta, ``[R, size]``, of R estimates.

        ``integrand`` maps q to f. R is 32,768, or 7 for a deterministic estimator. ``size`` is the number of elements
        of theta.
        """
        theta = leaves(self.case.theta)
        q = self.case.q(theta)
        r = rows(q, FEW if self.estimator.deterministic else REPLICATES)
        loss = self.estimator(integrand(r), r, seeded(1, theta[0].device), self.state)
        assert loss.requires_grad, f"{self} the loss is cut off from q's parameters."
        free = [p for p in parameters(r).values() if p.requires_grad]
        gradients = torch.autograd.grad(loss.sum(), free, materialize_grads=True)
        own = flat(tuple(p for p in parameters(q).values() if p.requires_grad), 0)
        jacobian = torch.stack([flat(torch.autograd.grad(o, theta, retain_graph=True), 0) for o in own])
        return flat((loss.detach(),), 1), flat(gradients, 1) @ jacobian

    def seen(self) -> list[Tensor]:
        """Return every tensor x with which the estimator calls f, in a call with 7 rows (independent estimates)."""
        q = rows(self.case.q(), FEW)
        points: list[Tensor] = []

        def f(x: Tensor) -> Tensor:
            points.append(x)
            return self.case.f(x)

        self.loss(q, f)
        assert points, f"{self} f is never called."
        return points

    # Assertions

    def same(self, what: str, got: Call, expected: Call) -> None:
        """Assert that the calls ``got`` and ``expected`` have equal losses and gradients, up to rounding.

        ``what`` names the difference between the calls, such as "a strided theta", for messages.
        """
        self.close(f"{what} changes the loss", got.loss, expected.loss)
        for a, b in zip(got.gradient, expected.gradient, strict=True):
            self.close(f"{what} changes the gradient", a, b)

    def close(self, what: str, got: Tensor, expected: Tensor) -> None:
        """Assert that the tensors ``got`` and ``expected`` are equal up to rounding.

        ``what`` is the error message if they differ. The first numbers of both are added to it.
        """
        assert got.shape == expected.shape, (
            f"{self} {what}: got shape {list(got.shape)}, expected {list(expected.shape)}."
        )
        assert got.isfinite().all(), f"{self} {what}: got numbers that are not finite."
        assert ((got - expected).abs() <= 1e-10 * expected.abs().max().clamp(min=1)).all(), (
            f"{self} {what}: got {got.flatten()[:4].tolist()}, expected {expected.flatten()[:4].tolist()}."
        )

    def bias(self, what: str, samples: Tensor, exact: Tensor, unbiased: bool) -> bool:
        """Return whether the mean of ``samples`` differs significantly from ``exact``.

        ``samples`` is a matrix with a row for each sample, and ``exact`` a vector as long as a row. If ``unbiased`` is
        True, assert that the mean does not differ. ``what`` names the samples in messages.
        """
        assert samples.isfinite().all(), f"{self} the {what} is not finite."
        mean, error = samples.mean(0), samples.std(0) / math.sqrt(len(samples))
        rounding = 1e-9 * exact.abs().max().clamp(min=1)
        z = ((mean - exact).abs() - rounding).clamp(min=0) / error.clamp(min=rounding * 1e-3)
        i = int(z.argmax())
        biased = bool(z[i] > self._limit(z.numel()))
        assert not (unbiased and biased), (
            f"{self} the {what} is biased: coordinate {i} is {float(mean[i]):.6g}, expected {float(exact[i]):.6g} "
            f"(standard error {float(error[i]):.2g} of {len(samples)} rows, z = {float(z[i]):.1f})."
        )
        return biased

    def finite(self, what: str) -> str | None:
        """Assert that losses and gradients are finite; return None, or the message if the estimator refuses.

        ``what`` names the situation in messages, such as "logits of ±50".
        """
        calls: list[Call] = []
        sentence = refusal(lambda: calls.append(self.call(leaves(self.case.theta, MANY))))
        for call in calls:
            for t in (call.loss, *call.gradient):
                assert t.isfinite().all(), f"{self} {what}, in {t.dtype}: loss or gradient is not finite."
        return sentence

    def same_moments(self, what: str, a: Tensor, b: Tensor) -> None:
        """Assert that samples ``a`` and independent samples ``b`` have the same mean and variance.

        ``a`` and ``b`` are matrices with a row for each sample; each column is compared. Differences that noise or
        float32 rounding explains are allowed. ``what`` names the samples ``a`` in messages.
        """
        a, b = a.double().cpu(), b.double().cpu()
        assert a.isfinite().all(), f"{self} {what} is not finite."
        scale = float(b.abs().max().clamp(min=1))
        square_a, square_b = ((t - t.mean(0)).square() for t in (a, b))
        for moment, x, y, unit in (("mean", a, b, scale), ("variance", square_a, square_b, scale**2)):
            error = ((x.var(0) + y.var(0)) / len(x)).sqrt().clamp(min=1e-9 * unit)
            z = ((x.mean(0) - y.mean(0)).abs() - 1e-6 * unit).clamp(min=0) / error
            worst = float(z.max())
            assert worst <= self._limit(2 * z.numel()), f"{self} {what} has another {moment}, z = {worst:.1f}."

    def uncorrelated(self, what: str, a: Tensor, b: Tensor) -> None:
        """Assert that column i of ``a`` has no significant correlation with column i of ``b``, for every i.

        ``a`` and ``b`` are matrices with a row for each sample. ``what`` names the columns in messages.
        """
        product = (a - a.mean(0)) * (b - b.mean(0))
        z = product.sum(0).abs() / product.square().sum(0).sqrt().clamp(min=1e-300)
        worst = float(z.max())
        assert worst <= self._limit(z.numel()), f"{self} two {what} share noise: their correlation has z = {worst:.1f}."

    def _limit(self, scores: int) -> float:
        return -NormalDist().inv_cdf(FAILURE_RATE / (2 * scores * self.comparisons))


def in_costs(f: Integrand, q: Distribution) -> Return:
    """Return f as a sum of costs, one for each choice of q.

    Let x_1, x_2 ... be the choices in a sample x of q. The cost c_t of choice t is

    ``c_t = f(x_1 ... x_t, 0 ... 0) - f(x_1 ... x_(t-1), 0 ... 0)``

    The constant f(0 ... 0) is added to the first cost. In a one-hot event, the first category takes the place of 0.
    """
    ends, hot = [*accumulate(widths(q))], isinstance(inner(q), OneHotCategorical)

    def costs(x: Tensor) -> Any:
        values = []
        for end in ends:
            rest = torch.zeros_like(x)
            if hot:
                rest[..., 0] = 1
            if len(ends) > 1:
                place = torch.arange(ends[-1], device=x.device).reshape(-1, *(1 for _ in q.event_shape[1:]))
                rest = torch.where(place < end, x, rest)
            values.append(f(x if end == ends[-1] else rest))
        if any(value is None for value in values):
            return None
        first, *others = (v if isinstance(v, Tensor) else torch.as_tensor(v, dtype=torch.float64) for v in values)
        return torch.stack([first, *(b - a for a, b in pairwise([first, *others]))], -1)

    return Return(costs)


class Ends(TorchFunctionMode):
    """A context in which 40 % of torch's uniform numbers are 0, and 40 % are the largest number below 1.

    The other 20 % stay as drawn; without them, a rejection sampler would never end. ``seen`` says whether any uniform
    number was drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.rand, torch.rand_like) or (func is Tensor.uniform_ and len(args) == 1):  # of [0, 1)
            self.seen = True
            below = 1 - torch.finfo(out.dtype).eps / 2
            out.copy_(torch.where(out < 0.4, 0.0, torch.where(out > 0.6, below, out)))
        return out


def refusal(call: Callable[[], object]) -> str | None:
    """Return the message of the ``Refusal`` that a call raises; None if it raises none."""
    try:
        call()
    except Refusal as no:
        return str(no)
    return None
