"""The checks of the conformance suite: one method for each.

PYTEST_DONT_REWRITE: pytest would print the tensors of a failed comparison below the message.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, distributions
from torch.distributions import Bernoulli, Categorical, Distribution, Gamma, Independent, OneHotCategorical, Poisson

from bench.conformance.cases import CASES, RARE, Case, leaves
from bench.conformance.trial import FEW, Call, Ends, Trial, refusal, seeded
from estimators import Drawable, Estimator, Integrand, Refusal, State, inner, parameters, rows, spread


def suite(estimator: Estimator) -> type[Conformance]:
    """Return the conformance suite of an estimator: a class with one test method for each check, for pytest."""
    return type(f"Test{type(estimator).__name__}", (Conformance,), {"estimator": estimator})


def checks() -> list[str]:
    """Return the names of the checks in the conformance suite, in their order."""
    return [name for name in vars(Conformance) if name.startswith("test_")]


class Conformance:
    """The checks that every estimator must pass. Subclass it in a test file and set ``estimator``.

    A check is skipped, with a reason, if the facts that the estimator declares make it pointless.
    """

    estimator: ClassVar[Estimator]
    """The estimator under test."""
    cases: ClassVar[tuple[Case, ...]] = CASES
    """Problems to check the estimator on; problems that it refuses are left out."""

    # Identity

    def setup_method(self, method: Callable[[], None]) -> None:
        """Skip every check but ``test_is_a_frozen_dataclass_of_plain_values`` if the estimator is no frozen dataclass.

        The other checks would fail for this reason alone. pytest calls this method before each check; ``method`` is the
        check.
        """
        if not self._is_frozen() and method.__name__ != "test_is_a_frozen_dataclass_of_plain_values":
            raise SkipTest("the estimator must first be a frozen dataclass")

    def _is_frozen(self) -> bool:
        return getattr(type(self.estimator).__dict__.get("__dataclass_params__"), "frozen", False)

    def test_is_a_frozen_dataclass_of_plain_values(self) -> None:
        """The estimator is a frozen dataclass, and each of its fields is a number, a string or a tuple of these.

        The fields identify the estimator in records.
        """
        e = self.estimator
        assert self._is_frozen(), (
            f"{e!r} is not a frozen dataclass. Write @dataclass(frozen=True) above {type(e).__name__}."
        )
        for field in dataclasses.fields(e):  # type: ignore[arg-type]
            assert _plain(getattr(e, field.name)), f"{e!r}: {field.name} is not a number, string or tuple of them."

    def test_repr_is_its_identity(self) -> None:
        """For an estimator e, ``eval(repr(e))`` equals e and has the hash of e. Every field has a default."""
        e, name = self.estimator, type(self.estimator).__name__
        again = eval(repr(e), {"inf": math.inf, name: type(e)})
        assert again == e, f"{e!r} does not equal the estimator that its repr makes."
        assert hash(again) == hash(e), f"{e!r} and the equal estimator that its repr makes have different hashes."
        try:
            type(e)()
        except (TypeError, ValueError) as error:
            raise AssertionError(f"{name}() cannot be created: give every field a default ({error}).") from error

    # Value and gradient

    def test_value(self) -> None:
        """The mean of the loss is E_q[f].

        If the estimator declares ``value_unbiased = False``, at least one of ``cases``, the test problems, must show a
        bias.
        """
        self._assert_mean("value", 0, "value_unbiased")

    def test_gradient(self) -> None:
        """The mean of the gradient estimates is the gradient of E_q[f].

        If the estimator declares ``unbiased = False``, at least one of ``cases``, the test problems, must show a bias.
        """
        self._assert_mean("gradient", 1, "unbiased")

    def test_gradient_scale(self) -> None:
        """If the estimator declares a ``gradient_scale``, the mean gradient is that multiple of the exact one."""
        if (scale := self.estimator.gradient_scale) is None:
            raise SkipTest("gradient_scale is declared None")
        assert not self.estimator.unbiased or scale == 1, (
            f"{self.estimator!r} declares unbiased = True and gradient_scale = {scale}: only one of the two can hold."
        )
        for trial in self.trials():
            samples, exact = (f(trial.integrand)[1] for f in (trial.replicates, trial.case.exact))
            trial.bias(f"gradient over its gradient_scale {scale:g}", samples / scale, exact.flatten(), unbiased=True)

    def test_gradient_where_f_depends_on_q(self) -> None:
        """The gradient is unbiased even if f itself depends on q and passes gradients to q, as in an ELBO."""
        _skip_if(not self.estimator.unbiased, "unbiased is declared False")
        for trial in self.trials():

            def integrand(q: Distribution, trial: Trial = trial) -> Integrand:
                return trial.integrand(q, lambda x: trial.case.f(x) * trial.case.beside(2 + _level(q).sin()))

            _, gradients = trial.replicates(integrand)
            _, exact = trial.case.exact(integrand)
            trial.bias("gradient of an f that depends on q", gradients, exact, unbiased=True)

    def test_pass_through(self) -> None:
        """If f uses a tensor w, the gradient that ``loss.backward()`` gives w is the slope of the loss's value in w.

        The check compares this gradient with the change of the value, at the same noise, when w grows by 1; f is linear
        in w, and q does not depend on w. A loss may have terms of value 0 that serve only the gradient of q's
        parameters. These terms must add nothing to the gradient of w.
        """
        for trial in self.trials():
            q = rows(trial.case.q(), FEW)

            def loss(w: Tensor, trial: Trial = trial, q: Distribution = q) -> Tensor:
                summed = (
                    trial.case.particles or trial.case.combine
                )  # a bound is linear in its summand, and so is F here
                combine = torch.add if summed else torch.mul
                return trial.loss(q, lambda x: combine(trial.case.f(x), trial.case.beside(w)))

            w = torch.full(q.batch_shape, 0.7, dtype=torch.float64, requires_grad=True)
            at_w = loss(w)
            assert at_w.requires_grad, f"{trial} the loss is cut off from a tensor that f closes over."
            (got,) = torch.autograd.grad(at_w.sum(), w, materialize_grads=True)
            slope = (loss(w + 1) - loss(w)).detach()  # the integrand is linear in w
            trial.close("a tensor that f closes over does not get the gradient of the value", got, slope)

    def test_gradient_is_linear_in_f(self) -> None:
        """If f is multiplied by 4, so is the gradient, after the gradient for f = 0 is subtracted from both.

        An estimator that declares ``linear_in_f = False`` and learns nothing must fail this.
        """
        if not self.estimator.linear_in_f:
            _skip_if(self.estimator.needs_state, "linear_in_f is declared False")
            assert not self._is_linear(), (
                f"{self.estimator!r} declares linear_in_f = False, but is linear. Declare True."
            )
            return
        _skip_if(self.estimator.needs_bound, "a multiple of a bound is not a bound")
        _skip_if(self.estimator.needs_set, "a set function of multiples is no multiple of it")
        for trial in self.trials():
            for once, four in _of_multiples(trial):
                trial.close("4 f does not have 4 times the gradient of f", four, 4 * once)

    def _is_linear(self) -> bool:
        """Return whether 4 f has 4 times the gradient of f in every case."""
        pairs = itertools.chain.from_iterable(map(_of_multiples, self.trials()))
        return all(torch.allclose(four, 4 * once) for once, four in pairs)

    def test_loss_can_be_weighted(self) -> None:
        """If each element of the loss has a weight of its own, the gradient of the element is multiplied by its weight.

        An element belongs to one row (estimate) and one batch element.
        """
        for trial in self.trials():
            plain = trial.call()
            c = 3 + torch.arange(plain.loss.numel(), dtype=torch.float64).reshape(plain.loss.shape)
            for got, g in zip(trial.call(weight=c).gradient, plain.gradient, strict=True):
                trial.close("c * loss does not have c times the gradient of the loss", got, spread(c, g) * g)

    # Shapes and types

    def test_loss_has_one_value_per_batch_element_in_the_dtype_of_q(self) -> None:
        """The loss is ``[*batch]`` and has the dtype of q, float32 or float64."""
        for trial in self.trials():
            for dtype in (torch.float32, torch.float64):
                theta = tuple(t.to(dtype) for t in trial.case.theta)
                state = self.estimator.init(trial.case.q(theta), seeded(0))
                q = rows(trial.case.q(leaves(theta)), FEW)
                f = trial.integrand(q, lambda x, dtype=dtype, f=trial.case.f: f(x).to(dtype))
                loss = self.estimator(f, q, seeded(1), state)
                shape, expected = list(loss.shape), list(q.batch_shape)
                assert shape == expected, f"{trial} the loss has shape {shape} for a q of batch shape {expected}."
                assert loss.dtype == dtype, f"{trial} the loss is {loss.dtype} for a {dtype} q."
                assert loss.isfinite().all(), f"{trial} the loss is not finite."

    def test_f_sees_samples_first_then_batch_then_event(self) -> None:
        """Each x that f gets is ``[..., *batch, *event]``, in q's dtype.

        The axes on the left hold the points at which f is evaluated. The estimator's method ``points`` says how many
        points one call of f gets at most.
        """
        for trial in self.trials():
            q = trial.case.q()
            shape, most = (FEW, *q.batch_shape, *q.event_shape), self.estimator.points(q)
            for x in trial.seen():
                points = x.shape[: max(x.dim() - len(shape), 0)]
                assert x.shape == (*points, *shape), (
                    f"{trial} f got x of shape {list(x.shape)}, expected {list(shape)} with any axes on the left."
                )
                assert x.dtype in (torch.float64, torch.int64), f"{trial} f got x of {x.dtype} from a float64 q."
                count = points.numel()
                assert count <= most, f"{trial} f got {count} points at once, but points(q) is {most}."

    def test_f_is_checked(self) -> None:
        """An f that changes x, keeps an event axis or returns nothing is refused.

        If the estimator does not use df/dx, f may be a black box. Its values may be whole numbers, an array or a list.
        """
        wrong: dict[str, Callable[[Tensor, Integrand], Any]] = {
            "changes x in place": lambda x, f: f(x.zero_()),
            "keeps an event axis": lambda x, f: f(x).unsqueeze(-1),
            "returns nothing": lambda _, __: None,
        }
        boxes: dict[str, Callable[[Tensor], Any]] = {
            "whole numbers": lambda fx: fx.long(),
            "an array": lambda fx: fx.numpy(),
            "a list": lambda fx: fx.tolist(),
        }
        for trial in self.trials():
            f = trial.case.f
            for slip, g in wrong.items():
                call = partial(trial.loss, trial.case.q(), lambda x, g=g, f=f: g(x, f))
                assert _raises(call), f"{trial} an f that {slip} is not refused."
            if self.estimator.needs_df:
                continue

            def count(x: Tensor, box: Callable[[Tensor], Any], f: Integrand = f) -> Any:
                return box((10 * f(x.detach())).round().detach())

            expected = trial.call(f=partial(count, box=torch.clone))
            for values, box in boxes.items():
                trial.same(f"an f that returns {values}", trial.call(f=partial(count, box=box)), expected)

    def test_memory_layout_of_theta_does_not_matter(self) -> None:
        """Strided and expanded tensors in theta give the same losses and gradients as contiguous ones."""
        for trial in self.trials():
            theta = trial.case.theta
            strided = tuple(torch.stack([t, t], -1)[..., 0].requires_grad_() for t in theta)
            trial.same("a strided theta", trial.call(strided), trial.call(leaves(theta)))
            expanded = tuple(t.expand(FEW, *t.shape).requires_grad_() for t in theta)
            trial.same("an expanded theta", trial.call(expanded), trial.call(leaves(theta, FEW)))

    def test_parameters_may_be_tied(self) -> None:
        """Copies of one number in theta may share memory: losses and gradients are those of separate copies."""
        for trial in self.trials():
            tied = tuple(t.flatten()[0].expand(t.shape).requires_grad_() for t in trial.case.theta)
            trial.same("a tied theta", trial.call(tied), trial.call(leaves(tied)))

    def test_cached_probs_are_not_trusted(self) -> None:
        """If q has ``logits``, a wrong value in torch's cache of ``probs`` changes nothing."""

        def caches(case: Case) -> bool:
            known = isinstance(inner(case.q()), Bernoulli | Categorical | OneHotCategorical)
            return known and "logits" in parameters(case.q())

        for trial in self._trials_with("logits and a cache of probs", caches):
            stale = dataclasses.replace(trial.case, build=lambda *theta, case=trial.case: _stale(case.q(theta)))
            trial.same("a stale cache of probs", Trial(self.estimator, stale).call(), trial.call())

    def test_works_where_not_everything_is_differentiated(self) -> None:
        """The loss has the same value if no gradient is computed.

        If only one tensor of theta requires a gradient, its gradient is the same as if all tensors required one.
        """
        for trial in self.trials():
            theta = leaves(trial.case.theta)
            plain = trial.call(theta)
            trial.close("a q without gradients changes the loss", trial.call(trial.case.theta).loss, plain.loss)
            with torch.no_grad():
                trial.close("no_grad changes the loss", trial.loss(trial.case.q(theta)), plain.loss)
            for i, expected in enumerate(plain.gradient):
                only = tuple(t.detach().requires_grad_(i == k) for k, t in enumerate(leaves(trial.case.theta)))
                trial.close("freezing one parameter changes another's gradient", trial.call(only).gradient[0], expected)

    def test_float32_has_the_moments_of_float64(self) -> None:
        """The gradient has the same mean and the same variance in float32 as in float64, except for rounding."""
        for trial in self.trials():
            _, double = trial.replicates(trial.integrand)
            single = trial.cast(torch.float32)
            trial.same_moments("the gradient in float32", single.replicates(single.integrand)[1], double)

    def test_half_precision_draws_from_the_law_of_q(self) -> None:
        """In bfloat16, losses and gradients are finite, f gets samples in q's dtype, and rare bits are not too rare.

        A rare bit is a Bernoulli variable that is 1 with probability 0.0019. If its noise were drawn in half precision,
        the bit would be 1 only half as often.
        """
        for trial in self.trials():
            half, seen = trial.cast(torch.bfloat16), set[torch.dtype]()
            half.finite("half precision")
            half.loss(half.case.q(), lambda x, f=half.case.f, seen=seen: (seen.add(x.dtype), f(x))[1])
            allowed = seen <= {torch.bfloat16, torch.int64}
            assert allowed, f"{trial} f got samples of {seen} from a q of torch.bfloat16."
        if self.estimator.value_unbiased and not self.estimator.needs_bound and self._serves(RARE):
            rare = Trial(self.estimator, RARE)
            losses, _ = rare.cast(torch.bfloat16).replicates(rare.integrand)
            rare.bias("value in half precision", losses.double(), rare.case.exact(rare.integrand)[0].flatten(), True)

    # Hazards

    def test_saturated_logits(self) -> None:
        """At logits of ±50, where a sigmoid in float32 is 1 or nearly 0, losses and gradients are finite."""
        for trial in self._trials_with("logits", lambda case: "logits" in parameters(case.q())):
            theta = tuple(50 * t.sign() for t in trial.case.theta)
            self._assert_finite(trial, "logits of ±50", case=dataclasses.replace(trial.case, theta=theta))

    def test_probabilities_of_zero_and_one(self) -> None:
        """If some probabilities are exactly 0 and others exactly 1, losses and gradients are finite."""

        def finite(case: Case) -> bool:
            known = isinstance(inner(case.q()), Bernoulli | Categorical | OneHotCategorical)
            return known and "probs" in parameters(case.q())

        for trial in self._trials_with("probs of bits or categories", finite):
            bits = isinstance(inner(trial.case.q()), Bernoulli)
            certain = tuple(t.round() if bits else (t == t.amax(-1, keepdim=True)).to(t) for t in trial.case.theta)
            self._assert_finite(trial, "probabilities of 0 and 1", case=dataclasses.replace(trial.case, theta=certain))

    def test_noise_at_its_ends(self) -> None:
        """Losses and gradients are finite even if a uniform random number is 0 or the largest number below 1."""
        ends = Ends()
        for trial in self.trials():
            with ends:
                self._assert_finite(trial, "uniforms of 0 and almost 1")
        _skip_if(not ends.seen, "no uniforms are drawn")

    def test_extreme_temperatures(self) -> None:
        """If the estimator has a field ``temperature``, losses and gradients are finite for the values 1e-3 and 1e3."""
        _skip_if(not hasattr(self.estimator, "temperature"), "the estimator has no temperature")
        for trial in self.trials():
            for temperature in (1e-3, 1e3):
                self._assert_finite(trial, f"temperature={temperature:g}", temperature=temperature)

    def test_one_sample(self) -> None:
        """If the estimator has a field ``n``, losses and gradients are finite for n = 1, or n = 1 is refused.

        The message of a refusal must say what to use instead.
        """
        _skip_if(not hasattr(self.estimator, "n"), "the estimator has no n")
        for trial in self.trials():
            try:
                self._assert_finite(trial, "n=1", n=1)
            except ValueError as no:
                self._assert_helpful(str(no), itself=True)

    def test_large_constant_in_f(self) -> None:
        """With f + 1e6, which float32 rounds to multiples of 1/16, losses and gradients are finite."""
        for trial in self.trials():
            case = dataclasses.replace(trial.case, f=lambda x, f=trial.case.f: f(x) + 1e6)
            self._assert_finite(trial, "f + 1e6", case=case)

    # Independence

    def test_rows_do_not_touch(self) -> None:
        """A change of theta in row 0 (one estimate), under the same noise, changes no bit in any other row."""
        for trial in self._trials_with("noise that does not depend on q", lambda case: case.steady):
            _assert_untouched(trial, 0, "row")

    def test_batch_elements_do_not_touch(self) -> None:
        """A change of theta in batch element 0, under the same noise, changes no bit in any other batch element.

        If the estimator declares ``couples_batch = True``, the opposite is checked: in at least one case, another batch
        element must change. For this second check, all samples are drawn from q, even if the case has a sampler that
        does not depend on theta.
        """
        wanted = "a batch and noise that does not depend on q"
        trials = self._trials_with(wanted, lambda case: case.steady and case.q().batch_shape)
        if not self.estimator.couples_batch:
            for trial in trials:
                _assert_untouched(trial, 1, "batch element")
            return
        own = [dataclasses.replace(t, case=dataclasses.replace(t.case, around=None)) for t in trials]
        assert any(_fails(partial(_assert_untouched, t, 1, "batch element", -4.0)) for t in own), (
            f"{self.estimator!r} declares couples_batch = True, but no batch element depends on another. Declare False."
        )

    def test_rows_and_batch_elements_have_noise_of_their_own(self) -> None:
        """Two rows, and two batch elements, are estimated from independent noise.

        The losses of two rows (copies of q) are uncorrelated, and so are their gradients. The losses of two batch
        elements are uncorrelated, too.
        """
        _skip_if(self.estimator.deterministic, "deterministic is declared True")
        many = 2**12
        for trial in self.trials():
            q = rows(trial.case.q(leaves(trial.case.theta, many)), 2)
            loss = trial.loss(q)
            gradients = torch.autograd.grad(loss.sum(), [p for p in parameters(q).values() if p.requires_grad])
            for samples in (loss.detach(), *gradients):
                trial.uncorrelated("rows", *samples.reshape(2, many, -1))
            if trial.case.q().batch_shape:
                each = loss.detach().reshape(2 * many, -1)
                trial.uncorrelated("batch elements", each[:, :1], each[:, 1:2])

    # Noise

    def test_generator_is_the_only_source_of_noise(self) -> None:
        """The seed of the generator fixes every bit of a call, and torch's global generator is never used.

        A second call with the same generator gives other numbers. The estimator's method ``init``, which makes its
        state, does not use the global generator either.
        """
        for trial in self.trials():
            before, generator = torch.get_rng_state(), seeded(1)
            self.estimator.init(trial.case.q(), seeded(0))
            first, second, again = trial.call(noise=generator), trial.call(noise=generator), trial.call(noise=1)
            same = torch.equal(torch.get_rng_state(), before)
            assert same, f"{trial} the global random state changes, although a generator is given."
            _assert_repeats(trial, first, second, again)

    def test_without_a_generator_the_global_one_is_used(self) -> None:
        """If no generator is given, the noise is from the global one: ``torch.manual_seed`` makes a call repeatable."""
        for trial in self.trials():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                first, second = trial.call(noise=None), trial.call(noise=None)
                torch.manual_seed(1)
                _assert_repeats(trial, first, second, trial.call(noise=None))

    # Declared facts

    def test_deterministic(self) -> None:
        """An estimator declared ``deterministic`` gives the same result for all generators, and does not use them."""
        _skip_if(not self.estimator.deterministic, "deterministic is declared False; the generator's check verifies it")
        for trial in self.trials():
            generator = seeded(1)
            trial.same("another generator", trial.call(noise=generator), trial.call(noise=2))
            drawn = not torch.equal(generator.get_state(), seeded(1).get_state())
            assert not drawn, f"{trial} it is declared deterministic, but draws from the generator."

    def test_needs_df(self) -> None:
        """An f without df/dx is refused if ``needs_df`` is True.

        If ``needs_df`` is False, losses and gradients are the same with and without df/dx.
        """
        _skip_if(self.estimator.needs_bound, "a bound is differentiable in x through log q")
        for trial in self.trials():

            def black_box(x: Tensor, f: Integrand = trial.case.f) -> Tensor:
                return f(x.detach()).detach()

            if not self.estimator.needs_df:
                trial.same("an f without gradient in x", trial.call(f=black_box), trial.call())
                continue
            sentence = refusal(partial(trial.call, f=black_box))
            assert sentence, f"{trial} it needs df/dx, but an f without any gradient in x is not refused."
            self._assert_helpful(sentence)

    def test_needs_relaxed_f(self) -> None:
        """If ``needs_relaxed_f`` is False, f gets only points in the support of q.

        If it is True, f also gets other points.
        """
        e, relaxed, inside = self.estimator, self.estimator.needs_relaxed_f, True
        for trial in self.trials():
            check = trial.case.q().support.check  # type: ignore[union-attr]
            inside = all(bool(check(x.detach()).all()) for x in trial.seen()) and inside
            assert inside or relaxed, f"{trial} f got a point off the support of q. Declare needs_relaxed_f = True."
        modest = inside and relaxed
        assert not modest, f"{e!r} declares needs_relaxed_f = True, but f gets points of the support only."

    def test_families(self) -> None:
        """Each family of q is served, or refused with a message that says what to use instead.

        The method ``refuses`` returns the reason for a family that the estimator refuses. There must be a reason for
        every family that is not in the field ``families``. If there is a reason, a call must raise a refusal.
        """
        rate = torch.tensor([1.5, 2.5], dtype=torch.float64, requires_grad=True)
        strangers = [Case(q.__name__, (rate,), q, torch.square, _unknown) for q in (Poisson, _gamma)]
        for case in (*self.cases, *strangers):
            trial, q, family = Trial(self.estimator, case), case.q(), type(inner(case.q()))
            reason, families = self.estimator.refuses(family), self.estimator.families
            assert reason or families is None or issubclass(family, families), (
                f"{trial} {family.__name__} is not among its families, but refuses() does not say so."
            )
            sentence = refusal(partial(trial.loss, q))
            assert sentence or not reason, f"{trial} the call is not refused, but refuses() says: {reason}"
            for message in filter(None, (reason, sentence)):
                self._assert_helpful(message)

    def test_a_subclass_with_its_own_law(self) -> None:
        """If the class of q has a sampler of its own, the samples come from that sampler, or q is refused."""
        for trial in self.trials():
            called: list[str] = []
            q = _of_own_law(trial.case.q(), called)
            sentence, reason = refusal(partial(trial.loss, q)), self.estimator.refuses(type(inner(q)))
            assert called or sentence, f"{trial} a subclass with its own sampler is neither refused nor sampled by it."
            assert sentence or not reason, f"{trial} the call is not refused, but refuses() says: {reason}"
            for message in filter(None, (reason, sentence)):
                self._assert_helpful(message)

    # State

    def test_state_is_made_where_it_is_declared(self) -> None:
        """The estimator's method ``init`` returns a ``State`` if and only if ``needs_state`` is True.

        A state holds what the estimator learns.
        """
        for trial in self.trials():
            made, declared = self.estimator.init(trial.case.q(), seeded(0)), self.estimator.needs_state
            fits = isinstance(made, State) == declared
            assert fits, f"{trial} needs_state is {declared}, but init returns {type(made).__name__}."

    def test_state_changes_only_from_outside(self) -> None:
        """A call and its backward pass do not change the state, which is what the estimator has learned.

        The function ``adapt`` or the state's method ``update`` changes it.
        """
        _skip_if(not self.estimator.needs_state, "needs_state is declared False")
        for trial in self.trials():
            state = self.estimator.init(trial.case.q(), seeded(0))
            assert state is not None
            before = {name: t.clone() for name, t in state.state_dict().items()}
            q = rows(trial.case.q(), FEW)
            torch.autograd.backward(self.estimator(trial.integrand(q), q, seeded(1), state).sum())
            assert _equal(state, before), f"{trial} a call changes the state. Change it in update()."
            reached = [name for name, p in state.named_parameters() if p.grad is not None]
            assert not reached, f"{trial} loss.backward() reaches {reached} of the state. Use score or inject."
            trial.learn(state, steps=2)
            assert not _equal(state, before), f"{trial} neither adapt nor update changes the state."

    def test_learning_does_not_depend_on_the_scale_of_f(self) -> None:
        """If f is multiplied by 2^10 before learning, the gradients after learning are 2^10 times as large."""
        _skip_if(not self.estimator.needs_state, "needs_state is declared False")
        _skip_if(not self.estimator.linear_in_f, "linear_in_f is declared False")
        for trial in self.trials():
            if trial.case.particles or trial.case.around:
                continue  # the bound of a multiple is no multiple of the bound, nor a penalised multiple of a return
            c, f = 2.0**10, trial.case.f
            case = dataclasses.replace(trial.case, f=lambda x, f=f, c=c: c * f(x))
            plain, raised = Trial(self.estimator, trial.case).call(), Trial(self.estimator, case).call()
            for own, got in zip(plain.gradient, raised.gradient, strict=True):
                what = "learning depends on the scale of f: in_units_of_f names the parameters that grow with f"
                trial.close(what, got / c, own)

    def test_a_state_that_does_not_fit_is_refused(self) -> None:
        """A state of another class is refused. A state that was made for another q is refused, or the call works.

        The state is what an estimator has learned.
        """
        _skip_if(not self.estimator.needs_state, "needs_state is declared False")
        trials = self.trials()
        for trial, other in itertools.product(trials, trials):
            what = f"the state of {self.estimator!r} made for {other.case.name}"
            _refuses_or_works(dataclasses.replace(trial, learned=other.state), what)
        for trial in trials:
            sentence = _refuses_or_works(dataclasses.replace(trial, learned=State()), "a state of another class")
            assert sentence, f"{trial} a state of another class is accepted. Use checked_state in __call__."

    def test_frozen_state_gives_the_same_numbers(self) -> None:
        """Losses and gradients are equal whether the state (what an estimator has learned) is frozen or not."""
        _skip_if(not self.estimator.needs_state, "needs_state is declared False")
        for trial in self.trials():
            frozen = trial.call()
            assert trial.state is not None
            trial.state.requires_grad_(True)
            trial.same("a state that requires gradients", trial.call(), frozen)

    # Tools

    def trials(self) -> list[Trial]:
        """Return the trials: the estimator paired with each of ``cases``, the test problems, that it serves.

        Raises:
            AssertionError: the estimator serves none of ``cases``.
        """
        served = [case for case in self.cases if self._serves(case)]
        assert served, f"{self.estimator!r} serves none of the problems here. Set `cases` to problems of its family."
        return [Trial(self.estimator, case, len(served)) for case in served]

    def _trials_with(self, what: str, wanted: Callable[[Case], object]) -> list[Trial]:
        trials = [trial for trial in self.trials() if wanted(trial.case)]
        _skip_if(not trials, f"no case with {what} is served")
        return trials

    def _serves(self, case: Case) -> bool:
        e = self.estimator
        fits = e.refuses_particles(case.particles) is None if e.needs_bound else case.particles is None
        fits = fits and not (e.needs_bound and case.around)
        return fits and e.needs_set == (case.combine is not None) and e.refuses(type(inner(case.q()))) is None

    def _assert_mean(self, what: str, index: int, fact: str) -> None:
        """Assert that the mean loss (index 0) or gradient (index 1) is exact if and only if the declared fact holds."""
        unbiased, biased = getattr(self.estimator, fact), []
        for trial in self.trials():
            samples, exact = (f(trial.integrand)[index] for f in (trial.replicates, trial.case.exact))
            biased.append(trial.bias(what, samples, exact.flatten(), unbiased))
        assert unbiased or any(biased), (
            f"{self.estimator!r} declares {fact} = False, but nothing here is biased. Declare True, or add a case that "
            "shows the bias."
        )

    def _assert_finite(self, trial: Trial, what: str, case: Case | None = None, **fields: Any) -> None:
        """Assert that losses and gradients are finite in both dtypes, or that a helpful refusal comes.

        Args:
            trial: the estimator on a problem.
            what: the hazard, for messages.
            case: another problem to use; None for the trial's own.
            **fields: fields of the estimator to change.
        """
        estimator = dataclasses.replace(self.estimator, **fields)  # type: ignore[type-var]
        for dtype in (torch.float32, torch.float64):
            if sentence := Trial(estimator, case or trial.case).cast(dtype).finite(what):
                self._assert_helpful(sentence, itself=True)

    def _assert_helpful(self, sentence: str, itself: bool = False) -> None:
        """Assert that a refusal names an estimator (with ``itself``, perhaps its own) or a distribution to use."""
        names = {cls.__name__ for cls in _derived(Estimator)} - (set() if itself else {type(self.estimator).__name__})
        _, *advice = re.split(r"\b[Uu]se\b", sentence)
        named = names.union(distributions.__all__).intersection(re.findall(r"\w+", " ".join(advice)))
        assert named, (
            f"{self.estimator!r} refuses without saying what to use instead: {sentence} "
            'End with a sentence such as "Use RLOO(n=2).", with the name of an estimator or a distribution.'
        )


def _derived(cls: type) -> Iterator[type]:
    """Yield every class derived from a class, at any depth: the catalogue's, and imported ones of the user."""
    found: list[type] = cls.__subclasses__()
    for derived in found:
        yield derived
        yield from _derived(derived)


def _skip_if(pointless: object, reason: str) -> None:
    if pointless:
        raise SkipTest(reason)


def _raises(call: Callable[[], object]) -> bool:
    """Return whether a call raises ``Refusal``, or torch's own error for a change in place that autograd forbids."""
    try:
        call()
    except (Refusal, RuntimeError):
        return True
    return False


def _fails(check: Callable[[], object]) -> str | None:
    """Return the message with which a check fails; None if it passes."""
    try:
        check()
    except AssertionError as error:
        return str(error)
    return None


def _of_multiples(trial: Trial) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each tensor of theta, the gradients for f and for 4 f, less the gradient for f = 0."""
    f = trial.case.f
    zero, once, four = (trial.call(f=lambda x, c=c: c * f(x)).gradient for c in (0.0, 1.0, 4.0))
    for g0, g1, g4 in zip(zero, once, four, strict=True):
        yield g1 - g0, g4 - g0


def _plain(value: Any) -> bool:
    return all(map(_plain, value)) if isinstance(value, tuple) else isinstance(value, int | float | str | None)


def _stale(q: Distribution) -> Distribution:
    """Return q with wrong probabilities in torch's cache."""
    base: Any = inner(q)
    holder = getattr(base, "_categorical", base)
    holder.__dict__["probs"] = holder.probs * 0.9
    return q


def _of_own_law(q: Distribution, called: list[str]) -> Distribution:
    """Return q as a subclass with samplers of its own. A call of a sampler adds the sampler's name to ``called``."""
    base = inner(q)

    def own(name: str) -> Callable[..., Tensor]:
        def sampler(self: Distribution, *args: Any) -> Tensor:
            called.append(name)
            drawn: Tensor = getattr(super(type(self), self), name)(*args)
            return drawn

        return sampler

    names = ("draw", "rdraw") if isinstance(base, Drawable) else ("sample", "rsample")
    mine = copy.copy(base)
    mine.__class__ = type(f"Own{type(base).__name__}", (type(base),), {name: own(name) for name in names})
    return Independent(mine, len(q.event_shape) - len(base.event_shape), validate_args=False)


def _level(q: Distribution) -> Tensor:
    """Return a smooth function of the parameters of q that require gradients, ``[*batch]``."""
    free = [t for t in parameters(q).values() if t.requires_grad]
    return torch.stack([t.reshape(*q.batch_shape, -1).sum(-1) for t in free]).sum(0)


def _gamma(rate: Tensor) -> Distribution:
    return Gamma(rate, rate)


def _unknown(q: Distribution) -> tuple[Tensor, Tensor]:
    raise NotImplementedError(f"{q} is only for the check of families, and has no exact answer.")


def _refuses_or_works(trial: Trial, what: str) -> str | None:
    """Return the refusal of a call, None if it works; fail if it raises anything else."""
    try:
        return refusal(lambda: trial.loss(rows(trial.case.q(), FEW)))
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{trial} {what} raises {told}. Use checked_state in __call__.") from error


def _equal(state: State, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(t, before[name]) for name, t in state.state_dict().items())


def _assert_untouched(trial: Trial, axis: int, what: str, factor: float = 1.2) -> None:
    """Assert that theta times ``factor`` in the first element of an axis does not change the others."""
    worlds = []
    for change in (1.0, factor):
        theta = leaves(trial.case.theta, FEW)
        shift = torch.zeros(FEW, *trial.case.q().batch_shape, dtype=torch.float64)
        with torch.no_grad():
            for t in (*theta, shift.add_(1)):
                t.select(axis, 0).mul_(change)
        call = trial.call(theta, f=lambda x, shift=shift: trial.case.f(x) + trial.case.beside(shift))
        worlds.append([t.narrow(axis, 1, t.shape[axis] - 1) for t in (call.loss, *call.gradient)])
    loss, *gradient = (torch.equal(a, b) for a, b in zip(*worlds, strict=True))
    assert loss, f"{trial} the loss of one {what} depends on another {what}."
    assert all(gradient), f"{trial} the gradient of one {what} depends on another {what}."


def _assert_repeats(trial: Trial, first: Call, second: Call, again: Call) -> None:
    """Assert that the second call from a generator differs from the first, and one from a new generator does not."""
    for a, b in zip((first.loss, *first.gradient), (again.loss, *again.gradient), strict=True):
        assert torch.equal(a, b), f"{trial} a second call with the same seed gives other numbers."
    moved = any(not torch.equal(a, b) for a, b in zip(first.gradient, second.gradient, strict=True))
    moved = moved or trial.estimator.deterministic
    assert moved, f"{trial} a second call repeats the first: the generator does not advance."
