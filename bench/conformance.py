"""The conformance suite: what every estimator must do, as checks that pytest runs.

A test file of two lines puts an estimator through all of it::

    class TestMine(Conformance):
        estimator = Mine()

Each check is a method with one subject, and plain asserts that say what is wrong. The problems are small, and made so that
faults show: f is neither affine nor separable, and batch elements differ. Exact answers are sums over the support or
Gauss-Hermite quadrature; samples are rows of q, in float64. An estimator that serves none of the families here brings
problems of its own (``cases``).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar
from unittest import SkipTest

import numpy as np
import torch
from torch import Generator, Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gamma,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
)
from torch.nn.functional import one_hot

from estimators import Bound, Estimator, Integrand, Refusal, State, adapt, catalogue, parameters, rows

FAILURE_RATE = 1e-6
"""Probability with which one statistical check may refuse a correct estimator, over the seeds (Bonferroni inside)."""
REPLICATES = 2**15
"""Rows of a statistical check."""
FEW = 7
"""Rows of an exact check: no other axis here has as many."""

Theta = tuple[Tensor, ...]
Nodes = Callable[[Distribution], tuple[Tensor, Tensor]]


# Problems ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """A problem whose expectation is a finite sum.

    Args:
        name: for messages.
        theta: float64 tensors, ``[*batch, ...]``.
        build: theta to q, for any further axes on the left of every tensor.
        f: ``[..., *batch, *event] -> [..., *batch]``.
        nodes: q to points and weights, ``[N, *batch, *event]`` and ``[N, *batch]``, attached to q's parameters, with
            E_q[f] the weighted sum of f.
    """

    name: str
    theta: Theta
    build: Callable[..., Distribution]
    f: Integrand
    nodes: Nodes

    def q(self, theta: Theta | None = None) -> Distribution:
        """Return q at theta, or at fresh leaves with the case's own values."""
        return self.build(*(leaves(self.theta) if theta is None else theta))

    def exact(self, integrand: Callable[[Distribution], Integrand]) -> tuple[Tensor, Tensor]:
        """Return E_q[f], ``[*batch]``, and its gradient in theta, flat."""
        theta = leaves(self.theta)
        q = self.q(theta)
        points, weights = self.nodes(q)
        value = (weights * integrand(q)(points)).sum(0)
        return value.detach(), flat(torch.autograd.grad(value.sum(), theta), 0)


def leaves(theta: Theta, *left: int) -> Theta:
    """Return copies of theta with further axes on the left, that require gradients."""
    return tuple(t.detach().expand(*left, *t.shape).clone().requires_grad_() for t in theta)


def flat(tensors: tuple[Tensor, ...], axes: int) -> Tensor:
    """Return tensors side by side, all but their first axes flattened."""
    return torch.cat([t.flatten(axes) if t.dim() > axes else t.unsqueeze(-1) for t in tensors], -1)


def quadrature(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return Gauss-Hermite nodes of independent normals: exact to rounding for f as smooth as here."""
    own = parameters(q)
    count = len(q.event_shape)
    variables = math.prod(q.event_shape)
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(32))
    grid = torch.stack(torch.meshgrid(*[z] * variables, indexing="ij"), -1).reshape(-1, variables)
    mass = torch.stack(torch.meshgrid(*[w / w.sum()] * variables, indexing="ij"), -1).reshape(-1, variables).prod(-1)
    ones = (1,) * len(q.batch_shape)
    grid = grid.reshape(-1, *ones, *q.event_shape) if count else grid.reshape(-1, *ones)
    return own["loc"] + own["scale"] * grid, mass.reshape(-1, *ones)


def support(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return every point of a Bernoulli or categorical q, with its probability."""
    base = inner(q)
    hot = isinstance(base, OneHotCategorical)
    classes = 2 if isinstance(base, Bernoulli) else next(iter(parameters(q).values())).shape[-1]
    variables = math.prod(q.event_shape[:-1] if hot else q.event_shape)
    x = torch.tensor(list(itertools.product(range(classes), repeat=variables)))
    if not isinstance(base, Categorical):
        x = one_hot(x, classes).double() if hot else x.double()
    x = x.reshape(-1, *(1 for _ in q.batch_shape), *q.event_shape).expand(-1, *q.batch_shape, *q.event_shape)
    return x, q.log_prob(x).exp()


def inner(q: Distribution) -> Distribution:
    """Return q without its ``Independent`` wrappers."""
    while isinstance(q, Independent):
        q = q.base_dist
    return q


def _tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def wave(features: Callable[[Tensor], Tensor], *shift: float) -> Integrand:
    """Return a smooth f that mixes all features: ``sin(a.u + t) - cos(b.u)/2 + a.u b.u``, one t per batch element."""
    t = _tensor(*shift) if len(shift) > 1 else _tensor(shift[0]).squeeze(0)

    def f(x: Tensor) -> Tensor:
        u = features(x)
        k = torch.arange(1.0, u.shape[-1] + 1, dtype=u.dtype)
        a, b = (u * (1 + 0.3 * k).cos()).sum(-1), (u * (1.5 * k).sin()).sum(-1)
        return (a + t.to(u.dtype)).sin() - (2 * b).cos() / 2 + a * b

    return f


def _vector(x: Tensor) -> Tensor:
    return x


def _scalar(x: Tensor) -> Tensor:
    return x.unsqueeze(-1)


def _matrix(x: Tensor) -> Tensor:
    return x.flatten(-2)


def _classes(x: Tensor) -> Tensor:
    return one_hot(x, 3).double().flatten(-2)


CASES: tuple[Case, ...] = (
    Case(
        "Normal, 2 variables",
        (_tensor(0.5, -0.8), _tensor(0.9, 0.6)),
        lambda loc, scale: Independent(Normal(loc, scale, validate_args=False), 1),
        wave(_vector, 0.4),
        quadrature,
    ),
    Case(
        "Normal, batch of 3",
        (_tensor(-1.1, 0.3, 0.7), _tensor(0.5, 1.2, 0.8)),
        lambda loc, scale: Normal(loc, scale, validate_args=False),
        wave(_scalar, 0.4, -0.9, 1.3),
        quadrature,
    ),
    Case(
        "Bernoulli by logits, batch of 2, 3 variables",
        (_tensor([0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]),),
        lambda logits: Independent(Bernoulli(logits=logits, validate_args=False), 1),
        wave(_vector, 0.4, -0.9),
        support,
    ),
    Case(
        "Bernoulli by probs, 2 variables",
        (_tensor(0.3, 0.8),),
        lambda probs: Independent(Bernoulli(probs=probs, validate_args=False), 1),
        wave(_vector, -0.7),
        support,
    ),
    Case(
        "OneHotCategorical by logits, 2 variables of 3 categories",
        (_tensor([0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]),),
        lambda logits: Independent(OneHotCategorical(logits=logits, validate_args=False), 1),
        wave(_matrix, 0.8),
        support,
    ),
    Case(
        "OneHotCategorical by probs, batch of 2, 4 categories",
        (_tensor([0.1, 0.4, 0.2, 0.3], [0.6, 0.1, 0.1, 0.2]),),
        lambda probs: OneHotCategorical(probs=probs, validate_args=False),
        wave(_vector, 0.4, -0.9),
        support,
    ),
    Case(
        "integer Categorical by logits, batch of 2, 2 variables of 3 categories",
        (_tensor([[0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]], [[0.1, 0.2, -0.9], [0.7, -0.4, 0.0]]),),
        lambda logits: Independent(Categorical(logits=logits, validate_args=False), 1),
        wave(_classes, 0.4, -0.9),
        support,
    ),
)


# One call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Call:
    """What one call of an estimator gave: its loss and the gradient of the loss's sum in theta, flat after the rows."""

    loss: Tensor
    gradient: Tensor


def seeded(seed: int) -> Generator:
    """Return a fresh generator."""
    return Generator().manual_seed(seed)


def suite(estimator: Estimator) -> type[Conformance]:
    """Return the suite of one estimator, as a class that pytest collects."""
    return type(f"Test{type(estimator).__name__}", (Conformance,), {"estimator": estimator})


def checks() -> list[str]:
    """Return the names of the checks, in order."""
    return [name for name in vars(Conformance) if name.startswith("test_")]


class Conformance:
    """The checks. Subclass it in a test file and set ``estimator``.

    A check that an estimator's declared facts make pointless is skipped, with the fact.
    """

    estimator: ClassVar[Estimator]
    """The estimator under test."""
    cases: ClassVar[tuple[Case, ...]] = CASES
    """The problems; those of a family that the estimator refuses are left out."""

    # What it is

    def test_is_a_frozen_dataclass_of_plain_values(self) -> None:
        """A tensor or a callable in a field has no identity; a field that can be set changes it."""
        e = self.estimator
        assert dataclasses.is_dataclass(e), f"{e!r} is not a dataclass. Write @dataclass(frozen=True) above it."
        frozen = type(e).__dict__.get("__dataclass_params__")
        assert frozen is not None and frozen.frozen, f"{e!r} can be changed. Write @dataclass(frozen=True) above it."
        for field in dataclasses.fields(e):
            value = getattr(e, field.name)
            assert _plain(value), f"{e!r}: {field.name} is not a number, a string or a tuple of those."

    def test_its_repr_is_its_identity(self) -> None:
        """``eval(repr(e))`` is e, with the same hash; and the class can be made from its defaults."""
        e = self.estimator
        names = {"inf": math.inf, type(e).__name__: type(e)}
        try:
            again = eval(repr(e), {"__builtins__": {}}, names)
        except Exception as error:
            raise AssertionError(f"repr {e!r} does not make the estimator again: {error}.") from error
        assert again == e, f"{e!r} is not equal to what its repr makes."
        assert hash(again) == hash(e), f"{e!r} and its equal have different hashes."
        try:
            type(e)()
        except Exception as error:
            raise AssertionError(f"{type(e).__name__}() cannot be made: give every field a default. {error}") from error

    # What it promises

    def test_value(self) -> None:
        """The loss is an unbiased estimate of E_q[f]; where that is declared not to be so, it shows."""
        worst = 0.0
        for case, integrand in self._problems():
            exact, _ = case.exact(integrand)
            samples = self._call(case, integrand).loss.reshape(REPLICATES, -1)
            worst = max(
                worst, self._compare("value", case, samples, exact.flatten(), strict=self.estimator.value_unbiased)
            )
        if not self.estimator.value_unbiased:
            assert worst > 0, (
                f"{self.estimator!r} declares value_unbiased = False, and no value here is biased. "
                "Declare True, or add a case that shows the bias."
            )

    def test_gradient(self) -> None:
        """The gradient is an unbiased estimate of that of E_q[f]; where that is declared not to be so, it shows."""
        worst = 0.0
        for case, integrand in self._problems():
            _, exact = case.exact(integrand)
            samples = self._call(case, integrand).gradient
            worst = max(worst, self._compare("gradient", case, samples, exact, strict=self.estimator.unbiased))
        if not self.estimator.unbiased:
            assert worst > 0, (
                f"{self.estimator!r} declares unbiased = False, and no gradient here is biased. "
                "Declare True, or add a case that shows the bias."
            )

    def test_gradient_where_f_depends_on_q(self) -> None:
        """Of an ELBO the whole gradient is right: f is log p - log q, and q's part passes through the value."""
        if not self.estimator.unbiased:
            raise SkipTest("unbiased is declared False")
        for case, _ in self._problems():

            def elbo(q: Distribution, f: Integrand = case.f) -> Integrand:
                return Bound(f, q)

            _, exact = case.exact(elbo)
            self._compare("gradient of an ELBO", case, self._call(case, elbo).gradient, exact, strict=True)

    def test_pass_through(self) -> None:
        """What only f closes over gets the gradient of the value, the points held fixed, and nothing else."""
        for case, integrand in self._problems():
            state = self._state(case, integrand)

            def value(w: Tensor, case: Case = case, state: State | None = state) -> Tensor:
                q = rows(case.q(), FEW)
                return self.estimator(self._wrap(lambda x: case.f(x) * w, q), q, seeded(1), state)

            w = torch.full((FEW, *case.q().batch_shape), 0.7, dtype=torch.float64, requires_grad=True)
            loss = value(w)
            assert loss.requires_grad, f"{self._on(case)} the loss is cut off from what f closes over."
            (got,) = torch.autograd.grad(loss.sum(), w, materialize_grads=True)
            expected = value(w.detach() + 1) - value(w.detach())  # f is affine in w: the difference is the derivative
            self._close("what f closes over gets another gradient than the value's", case, got, expected)

    def test_gradient_is_linear_in_f(self) -> None:
        """C f has c times the gradient of f, once the gradient at f = 0 (of a fixed baseline) is taken off."""
        if self.estimator.needs_bound:
            raise SkipTest("a multiple of a bound is no bound")
        for case, integrand in self._problems():
            state = self._state(case, integrand)

            def gradient(c: float, case: Case = case, state: State | None = state) -> Tensor:
                q, theta = self._rows_of(case)
                return self._backward(theta, self.estimator(lambda x: c * case.f(x), q, seeded(1), state))

            zero = gradient(0.0)
            self._close("4 f has not 4 times the gradient of f", case, gradient(4.0) - zero, 4 * (gradient(1.0) - zero))

    def test_loss_can_be_weighted(self) -> None:
        """C * loss has c times the gradient, for another c in each row and batch element."""
        for case, integrand in self._problems():
            state = self._state(case, integrand)
            q, theta = self._rows_of(case)
            plain = self._backward(theta, self.estimator(integrand(q), q, seeded(1), state))
            q, theta = self._rows_of(case)
            loss = self.estimator(integrand(q), q, seeded(1), state)
            c = 3 + torch.arange(loss.numel(), dtype=loss.dtype).reshape(loss.shape)
            spread = [c.reshape(c.shape + (1,) * (t.dim() - c.dim())).expand(t.shape) for t in theta]
            self._close(
                "the gradient of c * loss is not c times that of the loss",
                case,
                self._backward(theta, c * loss),
                plain * flat(tuple(spread), 1),
            )

    # Shapes and types

    def test_loss_has_one_value_per_batch_element_in_the_dtype_of_q(self) -> None:
        """The loss is ``[*batch]``, float32 for a float32 q and float64 for a float64 q."""
        for case, _ in self._problems():
            for dtype in (torch.float32, torch.float64):
                theta = tuple(t.to(dtype).requires_grad_() for t in case.theta)
                q = rows(case.q(theta), FEW)
                f = self._wrap(lambda x, case=case, dtype=dtype: case.f(x).to(dtype), q)
                state = self.estimator.init(case.q(theta), seeded(0))
                loss = self.estimator(f, q, seeded(1), state)
                assert loss.shape == q.batch_shape, (
                    f"{self._on(case)} the loss has shape {list(loss.shape)}, and q has batch shape {list(q.batch_shape)}."
                )
                assert loss.dtype == dtype, f"{self._on(case)} the loss is {loss.dtype} for a {dtype} q."
                assert loss.isfinite().all(), f"{self._on(case)} the loss is not finite."

    def test_f_sees_samples_first_then_batch_then_event(self) -> None:
        """Every x is ``[..., *batch, *event]`` in q's dtype, with at most ``points(q)`` points for a batch element."""
        for case, integrand in self._problems():
            for x, q in self._seen(case, integrand):
                shape = (*q.batch_shape, *q.event_shape)
                left = x.shape[: x.dim() - len(shape)]
                assert x.dim() >= len(shape) and x.shape[len(left) :] == shape, (
                    f"{self._on(case)} f got x of shape {list(x.shape)}, which does not end in {list(shape)}."
                )
                assert x.dtype == torch.float64 or not x.is_floating_point(), f"{self._on(case)} f got x of {x.dtype}."
                points = self.estimator.points(case.q())
                assert left.numel() <= points, (
                    f"{self._on(case)} f got {left.numel()} points at once, and points(q) says {points}."
                )

    def test_memory_layout_of_theta_does_not_matter(self) -> None:
        """Strided and expanded parameters give what contiguous ones give."""
        for case, integrand in self._problems():
            state = self._state(case, integrand)

            def run(
                theta: Theta, case: Case = case, state: State | None = state, integrand: object = integrand
            ) -> Call:
                q = case.q(theta)
                loss = self.estimator(self._wrap(case.f, q), q, seeded(1), state)
                return Call(loss.detach(), flat(torch.autograd.grad(loss.sum(), theta), 0))

            plain = run(leaves(case.theta))
            strided = run(tuple(torch.stack([t, t], -1)[..., 0].requires_grad_() for t in case.theta))
            self._close("a strided theta changes the loss", case, strided.loss, plain.loss)
            self._close("a strided theta changes the gradient", case, strided.gradient, plain.gradient)
            plain = run(leaves(case.theta, FEW))
            expanded = run(tuple(t.detach().expand(FEW, *t.shape).requires_grad_() for t in case.theta))
            self._close("an expanded theta changes the loss", case, expanded.loss, plain.loss)
            self._close("an expanded theta changes the gradient", case, expanded.gradient, plain.gradient)

    def test_cached_parameterisation_is_not_trusted(self) -> None:
        """A ``probs`` that torch has cached beside ``logits`` (or the other way) changes nothing."""
        served = False
        for case, integrand in self._problems():
            if not hasattr(inner(case.q()), "probs"):
                continue
            served = True
            state = self._state(case, integrand)

            def run(cached: bool, case: Case = case, state: State | None = state) -> Call:
                theta = leaves(case.theta, FEW)
                q = case.q(theta)
                if cached:
                    with torch.no_grad():  # as in a user's logging line
                        assert inner(q).probs is not None and inner(q).logits is not None  # type: ignore[attr-defined]
                loss = self.estimator(self._wrap(case.f, q), q, seeded(1), state)
                return Call(loss.detach(), self._backward(theta, loss))

            plain, cached = run(cached=False), run(cached=True)
            self._close("a cached parameter changes the loss", case, cached.loss, plain.loss)
            self._close("a cached parameter changes the gradient", case, cached.gradient, plain.gradient)
        if not served:
            raise SkipTest("no family with probs and logits is served")

    def test_works_where_nothing_or_not_everything_is_differentiated(self) -> None:
        """Without gradients the value is the same; with some of q's parameters frozen the others' gradients are."""
        for case, integrand in self._problems():
            state = self._state(case, integrand)

            def run(theta: Theta, case: Case = case, state: State | None = state) -> Tensor:
                q = case.q(theta)
                return self.estimator(self._wrap(case.f, q), q, seeded(1), state)

            theta = leaves(case.theta)
            loss = run(theta)
            plain = torch.autograd.grad(loss.sum(), theta)
            self._close("a q without gradients changes the value", case, run(case.theta), loss.detach())
            with torch.no_grad():
                self._close("no_grad changes the value", case, run(theta), loss.detach())
            for i, expected in enumerate(plain):
                only = tuple(t.detach().clone().requires_grad_(i == k) for k, t in enumerate(case.theta))
                (got,) = torch.autograd.grad(run(only).sum(), only[i])
                self._close("freezing one parameter changes the gradient of another", case, got, expected)

    # Independence

    def test_rows_do_not_touch(self) -> None:
        """Whatever happens in row 0, under the same noise, every other row stays the same to the last bit."""
        for case, integrand in self._problems():
            self._untouched(case, integrand, 0, "row")

    def test_batch_elements_do_not_touch(self) -> None:
        """Whatever happens in batch element 0, under the same noise, every other stays the same to the last bit."""
        batched = [(case, integrand) for case, integrand in self._problems() if case.q().batch_shape]
        if not batched:
            raise SkipTest("no case with a batch is served")
        for case, integrand in batched:
            self._untouched(case, integrand, 1, "batch element")

    def test_rows_and_batch_elements_have_noise_of_their_own(self) -> None:
        """Losses and gradients of two rows, and of two batch elements, are uncorrelated."""
        if self.estimator.deterministic:
            raise SkipTest("deterministic is declared True")
        many = 2**12
        for case, integrand in self._problems():
            state = self._state(case, integrand)
            q = rows(case.q(leaves(case.theta, many)), 2)
            own = [t for t in parameters(q).values() if t.requires_grad]
            loss = self.estimator(self._wrap(case.f, q), q, seeded(1), state)
            gradient = flat(torch.autograd.grad(loss.sum(), own), 2)
            both = torch.cat([loss.detach().reshape(2, many, -1), gradient], -1)
            self._uncorrelated("rows", case, both[0], both[1])
            if case.q().batch_shape:
                each = loss.detach().reshape(2 * many, -1)
                self._uncorrelated("batch elements", case, each[:, :1], each[:, 1:2])

    # Noise

    def test_generator_is_the_only_source_of_noise(self) -> None:
        """Same seed, same bits; the generator moves on; the global one is not touched, by ``init`` neither."""
        for case, integrand in self._problems():

            def run(generator: Generator, case: Case = case, integrand: object = integrand) -> Call:
                theta = leaves(case.theta, FEW)
                q = case.q(theta)
                state = self.estimator.init(case.q(), generator)
                loss = self.estimator(self._wrap(case.f, q), q, generator, state)
                return Call(loss.detach(), self._backward(theta, loss))

            before = torch.get_rng_state()
            generator = seeded(1)
            first, second, again = run(generator), run(generator), run(seeded(1))
            assert torch.equal(torch.get_rng_state(), before), (
                f"{self._on(case)} the global random state has changed, although a generator was given."
            )
            assert torch.equal(first.loss, again.loss), f"{self._on(case)} the same seed gives another loss."
            assert torch.equal(first.gradient, again.gradient), (
                f"{self._on(case)} the same seed gives another gradient."
            )
            if not self.estimator.deterministic:
                assert not torch.equal(first.gradient, second.gradient), (
                    f"{self._on(case)} two calls with one generator gave the same gradient: the generator stands still."
                )

    def test_without_a_generator_the_global_one_is_used(self) -> None:
        """``torch.manual_seed`` makes a call repeatable."""
        for case, integrand in self._problems():
            state = self._state(case, integrand)

            def run(case: Case = case, state: State | None = state) -> Tensor:
                theta = leaves(case.theta, FEW)
                q = case.q(theta)
                return self._backward(theta, self.estimator(self._wrap(case.f, q), q, None, state))

            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                first, second = run(), run()
                torch.manual_seed(1)
                again = run()
            assert torch.equal(first, again), (
                f"{self._on(case)} torch.manual_seed does not make the gradient repeatable."
            )
            if not self.estimator.deterministic:
                assert not torch.equal(first, second), f"{self._on(case)} two calls gave the same gradient."

    # Declared facts

    def test_deterministic(self) -> None:
        """Declared deterministic, the gradient is the same for every generator, which is not asked for anything."""
        if not self.estimator.deterministic:
            raise SkipTest("deterministic is declared False; the check of the generator shows it")
        for case, integrand in self._problems():
            generator = seeded(1)
            before = generator.get_state()
            one, other = self._few(case, integrand, generator), self._few(case, integrand, seeded(2))
            assert torch.equal(one.gradient, other.gradient), f"{self._on(case)} the gradient depends on the generator."
            assert torch.equal(generator.get_state(), before), f"{self._on(case)} it draws, and declares deterministic."

    def test_needs_df(self) -> None:
        """Without the need, f may be a black box and nothing changes; with it, a black box is refused."""
        if self.estimator.needs_df and self.estimator.needs_bound:
            raise SkipTest("a bound is differentiable through log q")
        for case, integrand in self._problems():

            def black_box(q: Distribution, case: Case = case) -> Integrand:
                return self._wrap(lambda x: case.f(x.detach()).detach(), q)

            if self.estimator.needs_df:
                message = self._refusal(lambda case=case, black_box=black_box: self._few(case, black_box, seeded(1)))
                assert message, f"{self._on(case)} an f without any gradient in x is not refused, and it needs df/dx."
                self._helpful(message)
            elif not self.estimator.needs_bound:
                plain, black = self._few(case, integrand, seeded(1)), self._few(case, black_box, seeded(1))
                self._close("f as a black box has another loss", case, black.loss, plain.loss)
                self._close("f as a black box has another gradient", case, black.gradient, plain.gradient)

    def test_needs_relaxed_f(self) -> None:
        """Without the need, every point that f sees is in the support of q; with it, some are not."""
        off = False
        for case, integrand in self._problems():
            for x, _ in self._seen(case, integrand):
                inside = bool(case.q().support.check(x.detach()).all())  # type: ignore[attr-defined]
                off = off or not inside
                assert inside or self.estimator.needs_relaxed_f, (
                    f"{self._on(case)} f got a point off the support of q. Declare needs_relaxed_f = True."
                )
        assert off or not self.estimator.needs_relaxed_f, (
            f"{self.estimator!r} declares needs_relaxed_f = True, and f only saw points of the support."
        )

    def test_families(self) -> None:
        """A family is served, or refused in one sentence that names another estimator, by ``refuses`` and by the call."""
        strangers: list[tuple[Distribution, Integrand]] = [(case.q(), case.f) for case in self.cases]
        rate = torch.tensor([1.5, 2.5], dtype=torch.float64, requires_grad=True)
        strangers += [(Gamma(rate, rate), lambda x: x.square()), (Poisson(rate), lambda x: x.square())]
        for q, f in strangers:
            family = type(inner(q))
            reason = self.estimator.refuses(family)
            declared = self.estimator.families
            assert reason or declared is None or issubclass(family, declared), (
                f"{self.estimator!r} declares its families, {family.__name__} is not one, and refuses() does not say so."
            )
            state = None if reason else self.estimator.init(q, seeded(0))
            loss: list[Tensor] = []
            message = self._refusal(
                lambda q=q, f=f, state=state, loss=loss: loss.append(
                    self.estimator(self._wrap(f, q), q, seeded(1), state)
                )
            )
            if reason:
                assert message, f"{self.estimator!r} serves {family.__name__}, and refuses() says: {reason}"
                self._helpful(reason)
            if message:
                self._helpful(message)
            else:
                assert loss[0].shape == q.batch_shape and loss[0].isfinite().all(), (
                    f"{self.estimator!r} on {family.__name__}: the loss is not finite or has shape {list(loss[0].shape)}."
                )

    # State

    def test_state_is_made_where_it_is_declared(self) -> None:
        """``init`` returns a ``State`` if and only if ``needs_state``."""
        for case, _ in self._problems():
            state = self.estimator.init(case.q(), seeded(0))
            if self.estimator.needs_state:
                assert isinstance(state, State), f"{self._on(case)} init made {type(state).__name__}, not a State."
            else:
                assert state is None, f"{self._on(case)} init made a state, and needs_state is declared False."

    def test_state_is_changed_only_from_outside(self) -> None:
        """A call leaves the state alone, and so does the backward pass; ``adapt`` changes it, and leaves q alone."""
        if not self.estimator.needs_state:
            raise SkipTest("needs_state is declared False")
        for case, integrand in self._problems():
            state = self.estimator.init(case.q(), seeded(0))
            assert state is not None
            before = {name: t.clone() for name, t in state.state_dict().items()}
            q, theta = self._rows_of(case)
            self.estimator(integrand(q), q, seeded(1), state).sum().backward()
            assert _same(before, state.state_dict()), f"{self._on(case)} a call changes the state: do it in update()."
            touched = [name for name, p in state.named_parameters() if p.grad is not None]
            assert not touched, f"{self._on(case)} loss.backward() reaches the state's {touched}. Use score or inject."
            assert all(t.grad is not None for t in theta), f"{self._on(case)} loss.backward() does not reach q."
            learn(self.estimator, integrand, case.q(), state, steps=2)
            assert not _same(before, state.state_dict()), (
                f"{self._on(case)} adapt and update leave the state as it was."
            )

    def test_frozen_state_gives_the_same_gradient(self) -> None:
        """Whether the state requires gradients changes the graph, and no number."""
        if not self.estimator.needs_state:
            raise SkipTest("needs_state is declared False")
        for case, integrand in self._problems():
            state = self._state(case, integrand)
            assert state is not None
            frozen = self._few(case, integrand, seeded(1), state)
            learning = self._few(case, integrand, seeded(1), state.requires_grad_(True))
            self._close("freezing the state changes the loss", case, frozen.loss, learning.loss)
            self._close("freezing the state changes the gradient", case, frozen.gradient, learning.gradient)

    # Tools of the checks

    def _problems(self) -> Iterator[tuple[Case, Callable[[Distribution], Integrand]]]:
        """Return the cases that the estimator serves, each with its integrand as a function of q."""
        served = [case for case in self.cases if self.estimator.refuses(type(inner(case.q()))) is None]
        assert served, f"{self.estimator!r} serves no case of the suite. Add one of its family to ``cases``."
        for case in served:
            yield case, lambda q, f=case.f: self._wrap(f, q)

    def _wrap(self, f: Integrand, q: Distribution) -> Integrand:
        return Bound(f, q) if self.estimator.needs_bound else f

    def _state(self, case: Case, integrand: Callable[[Distribution], Integrand]) -> State | None:
        """Return a state that has learned a little, frozen."""
        state = self.estimator.init(case.q(), seeded(0))
        if state is not None:
            learn(self.estimator, integrand, case.q(), state, steps=5)
            state.requires_grad_(False)
        return state

    def _rows_of(self, case: Case) -> tuple[Distribution, Theta]:
        """Return a few rows of q whose theta is a leaf per row."""
        theta = leaves(case.theta, FEW)
        return case.q(theta), theta

    def _backward(self, theta: Theta, loss: Tensor) -> Tensor:
        """Return the gradient of the loss's sum, ``[rows, size]``."""
        return flat(torch.autograd.grad(loss.sum(), theta, materialize_grads=True), 1)

    def _few(
        self,
        case: Case,
        integrand: Callable[[Distribution], Integrand],
        generator: Generator,
        state: State | None = None,
    ) -> Call:
        """Return one call on a few rows; with a state that has learned, unless one is given."""
        state = self._state(case, integrand) if state is None else state
        q, theta = self._rows_of(case)
        loss = self.estimator(integrand(q), q, generator, state)
        return Call(loss.detach(), self._backward(theta, loss))

    def _call(self, case: Case, integrand: Callable[[Distribution], Integrand]) -> Call:
        """Return one call on many rows, as the benchmark makes it: ``rows(q, R)``, and back from q's leaves to theta."""
        state = self._state(case, integrand)
        theta = leaves(case.theta)
        q = case.q(theta)
        r = rows(q, REPLICATES)
        loss = self.estimator(integrand(r), r, seeded(1), state)
        assert loss.requires_grad, f"{self._on(case)} the loss is cut off from q's parameters."
        gradient = flat(torch.autograd.grad(loss.sum(), list(parameters(r).values()), materialize_grads=True), 1)
        own = flat(tuple(parameters(q).values()), 0)
        jacobian = torch.stack([flat(torch.autograd.grad(o, theta, retain_graph=True), 0) for o in own])
        return Call(loss.detach(), gradient @ jacobian)

    def _seen(self, case: Case, integrand: Callable[[Distribution], Integrand]) -> list[tuple[Tensor, Distribution]]:
        """Return every x that f is called with, and the q of the call."""
        state = self._state(case, integrand)
        q = rows(case.q(), FEW)
        seen: list[tuple[Tensor, Distribution]] = []

        def f(x: Tensor) -> Tensor:
            seen.append((x, q))
            return case.f(x)

        self.estimator(self._wrap(f, q), q, seeded(1), state)
        assert seen, f"{self._on(case)} f is never called."
        return seen

    def _untouched(self, case: Case, integrand: Callable[[Distribution], Integrand], axis: int, what: str) -> None:
        """Compare the elements behind the first of an axis, between two worlds that differ in the first."""
        state = self._state(case, integrand)
        worlds = []
        for changed in (False, True):
            theta = leaves(case.theta, FEW)
            shift = torch.zeros(FEW, *case.q().batch_shape, dtype=torch.float64)
            if changed:
                with torch.no_grad():
                    for t in theta:
                        t.select(axis, 0).mul_(1.2)
                shift.select(axis, 0).add_(1.0)
            q = case.q(theta)
            loss = self.estimator(self._wrap(lambda x, shift=shift: case.f(x) + shift, q), q, seeded(1), state)
            parts = (loss.detach(), *torch.autograd.grad(loss.sum(), theta))
            worlds.append([t.narrow(axis, 1, t.shape[axis] - 1) for t in parts])
        same = [torch.equal(a, b) for a, b in zip(*worlds, strict=True)]
        assert same[0], f"{self._on(case)} the loss of one {what} depends on another {what}."
        assert all(same), f"{self._on(case)} the gradient of one {what} depends on another {what}."

    def _limit(self, comparisons: int) -> float:
        """Return the |z| that some of so many scores exceeds with probability at most ``FAILURE_RATE``."""
        return -NormalDist().inv_cdf(FAILURE_RATE / (2 * comparisons * len(self.cases)))

    def _compare(self, what: str, case: Case, samples: Tensor, exact: Tensor, strict: bool) -> float:
        """Return by how much the worst z-score of the samples' mean exceeds its limit; where strict, assert it does not."""
        assert samples.isfinite().all(), f"{self._on(case)} the {what} is not finite."
        mean, error = samples.mean(0), samples.std(0) / math.sqrt(len(samples))
        rounding = 1e-9 * exact.abs().max().clamp(min=1)
        z = ((mean - exact).abs() - rounding).clamp(min=0) / (error + rounding * 1e-3)
        worst = int(z.argmax())
        excess = float(z[worst]) - self._limit(z.numel())
        assert not strict or excess <= 0, (
            f"{self._on(case)} the {what} is biased: coordinate {worst} is {float(mean[worst]):.6g} "
            f"± {float(error[worst]):.2g} (standard error of {len(samples)} rows), exactly {float(exact[worst]):.6g}; "
            f"z = {float(z[worst]):.1f}."
        )
        return excess

    def _uncorrelated(self, what: str, case: Case, a: Tensor, b: Tensor) -> None:
        """Assert that a and b, ``[many, k]``, have no covariance, column by column."""
        product = (a - a.mean(0)) * (b - b.mean(0))
        z = product.sum(0) / product.square().sum(0).sqrt().clamp(min=1e-300)
        assert z.abs().max() <= self._limit(2 * z.numel()), (
            f"{self._on(case)} two {what} share noise: their correlation has z = {float(z.abs().max()):.1f}."
        )

    def _close(self, what: str, case: Case, got: Tensor, expected: Tensor) -> None:
        """Assert equality up to rounding."""
        assert got.shape == expected.shape, (
            f"{self._on(case)} {what}: shape {list(got.shape)}, not {list(expected.shape)}."
        )
        scale = expected.abs().max().clamp(min=1)
        assert got.isfinite().all(), f"{self._on(case)} {what}: it is not finite."
        assert ((got - expected).abs() <= 1e-10 * scale).all(), (
            f"{self._on(case)} {what}: {got.flatten()[:4].tolist()}, expected {expected.flatten()[:4].tolist()}."
        )

    def _on(self, case: Case) -> str:
        return f"{self.estimator!r} on {case.name}:"

    def _refusal(self, call: Callable[[], object]) -> str | None:
        try:
            call()
        except Refusal as refusal:
            return str(refusal)
        return None

    def _helpful(self, message: str) -> None:
        """Assert that a refusal is a sentence that names another estimator."""
        others = [cls.__name__ for cls in catalogue().values() if cls is not type(self.estimator)]
        assert message.endswith(".") and any(name in message for name in others), (
            f"{self.estimator!r} refuses without naming an estimator to use instead: {message}"
        )


def learn(
    estimator: Estimator,
    integrand: Callable[[Distribution], Integrand],
    q: Distribution,
    state: State,
    steps: int,
) -> None:
    """Adapt a state for a few steps, on noise of its own."""
    trainable = list(state.parameters())
    optimizer = torch.optim.Adam(trainable, lr=1e-2) if trainable else None
    for step in range(steps):
        r = rows(q, 16)
        adapt(estimator, integrand(r), r, state, optimizer, seeded(1000 + step))


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, int | float | str)


def _same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(t, after[name]) for name, t in before.items())
