"""Deliberately wrong estimators, each with the check of the conformance suite that refuses it, and what it says."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Size
from torch.distributions import Bernoulli, Categorical, Normal, OneHotCategorical

from estimators import (
    GRPO,
    RLOO,
    Enumeration,
    Estimator,
    GumbelSoftmax,
    Reparameterization,
    ScoreFunction,
    State,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    draw,
    grad_only,
    gumbel,
    inject,
    inject_at,
    inner,
    logits,
    normal,
    one,
    probs,
    score,
    spread,
)


@dataclass(frozen=True)
class Mutant:
    estimator: Estimator
    check: str
    says: str


MUTANTS: list[Mutant] = []


def dies(check: str, says: str, **fields: Any):
    """Return a decorator that adds a class to the mutants."""

    def listed(cls: type) -> type:
        MUTANTS.append(Mutant(cls(**fields), check, says))
        return cls

    return listed


def scaled(loss: torch.Tensor, c: float) -> torch.Tensor:
    """Return a loss with the value of the given one and c times its gradient."""
    return loss.detach() + c * grad_only(loss)


# The formula ------------------------------------------------------------------------------------------------------


@dies("test_gradient", "gradient is biased")
@dataclass(frozen=True)
class WrongSign(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        return scaled(super().__call__(f, q, generator, state), -1)


@dies("test_gradient", "gradient is biased")
@dataclass(frozen=True)
class FactorTwo(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        return scaled(super().__call__(f, q, generator, state), 2)


@dies("test_gradient", "gradient is biased", n=8)
@dataclass(frozen=True)
class DividesByNInsteadOfNMinusOne(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        return scaled(super().__call__(f, q, generator, state), (self.n - 1) / self.n)


@dies("test_gradient", "gradient is biased", n=8)
@dataclass(frozen=True)
class BaselineContainsItsOwnSample(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        return fx.mean(0) + score(q, x, (fx - fx.mean(0)).detach() / self.n)


@dies("test_gradient", "gradient is biased", baseline="moving-average")
@dataclass(frozen=True)
class MovingAverageContainsTheCurrentSample(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        b = 0.9 * state.mean + 0.1 * fx.detach().mean(0)
        return fx.mean(0) + score(q, x, (fx.detach() - b) / self.n)


@dies("test_state_changes_only_from_outside", "a call changes the state", baseline="moving-average")
@dataclass(frozen=True)
class MovingAverageUpdatesInsideTheCall(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        loss = super().__call__(f, q, generator, state)
        if state is not None:
            state.update(loss)
        return loss


@dies("test_gradient", "gradient is biased")
@dataclass(frozen=True)
class ScaleIsDetached(Reparameterization):
    families = (Normal,)

    def refuses(self, family):
        return Estimator.refuses(self, family)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        base = inner(q)
        noise = normal(Size((self.n, *q.batch_shape, *q.event_shape)), base.loc, generator)
        return f(base.loc + noise * base.scale.detach()).mean(0)


@dies("test_value", "value is biased")
@dataclass(frozen=True)
class GumbelNoiseHasTheWrongSign(StraightThroughGumbelSoftmax):
    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        u = torch.rand(self.n, *logits(q).shape, generator=generator, dtype=logits(q).dtype).clamp(1e-12)
        if isinstance(inner(q), Bernoulli):
            z = logits(q) - torch.logit(u)
            return f((z > 0).to(z.dtype) + grad_only(z.sigmoid())).mean(0)
        z = logits(q) + torch.log(-torch.log(u))
        hard = torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(z.dtype)
        return f(hard + grad_only(z.softmax(-1))).mean(0)


@dies("test_gradient", "gradient is biased")
@dataclass(frozen=True)
class StraightThroughDeclaredUnbiased(StraightThrough):
    unbiased = True


@dies("test_gradient", "gradient is biased")
@dataclass(frozen=True)
class GumbelSoftmaxDeclaredUnbiased(GumbelSoftmax):
    unbiased = True


@dies("test_value", "value is biased")
@dataclass(frozen=True)
class RelaxedValueDeclaredUnbiased(GumbelSoftmax):
    value_unbiased = True


@dies("test_gradient", "declares unbiased = False, but nothing here is biased")
@dataclass(frozen=True)
class DeclaredBiasedByHabit(RLOO):
    unbiased = False


@dies("test_value", "value is biased", baseline=0.3)
@dataclass(frozen=True)
class BaselineAddedToTheValue(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        return super().__call__(f, q, generator, state) + self.baseline


@dies("test_gradient", "gradient is biased")
@dataclass(frozen=True)
class SeedUsedTwice(ScoreFunction):
    """Its baseline is f at a second draw, with the noise of the first."""

    def __call__(self, f, q, generator=None, state=None):
        seed = int(torch.randint(2**62, (), generator=generator))
        x, other = (draw(q, 1, Generator().manual_seed(seed)) for _ in range(2))
        fx = f(x)
        return fx.mean(0) + score(q, x, (fx - 0.5 * f(other)).detach())


@dies("test_gradient_is_linear_in_f", "4 times the gradient")
@dataclass(frozen=True)
class AdvantagesAreStandardised(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        advantage = (fx - fx.mean(0)).detach()
        return fx.mean(0) + score(q, x, advantage / (advantage.norm(dim=0) + 0.1))


# The graph --------------------------------------------------------------------------------------------------------


@dies("test_pass_through", "does not get the gradient of the value")
@dataclass(frozen=True)
class ValueIsDetached(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x).detach()
        return fx.mean(0) + score(q, x, (fx - fx.mean(0)) / (self.n - 1))


@dies("test_pass_through", "does not get the gradient of the value")
@dataclass(frozen=True)
class WeightIsNotDetached(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        return fx.mean(0) + grad_only((fx * q.log_prob(x)).mean(0))


@dies("test_gradient_where_f_depends_on_q", "gradient of an f that depends on q is biased")
@dataclass(frozen=True)
class WeightIsNotDetachedEither(ScoreFunction):
    """What f closes over may be q itself."""

    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        return fx.mean(0) + grad_only((fx * q.log_prob(x)).mean(0))


@dies("test_pass_through", "does not get the gradient of the value")
@dataclass(frozen=True)
class ControlTermLeaks(RLOO):
    """A term of value and expectation zero that reaches what f closes over."""

    def __call__(self, f, q, generator=None, state=None):
        loss = super().__call__(f, q, generator, state)
        x = draw(q, 2, generator)
        first, second = f(x)
        return loss + grad_only(first - second)


@dies("test_gradient_where_f_depends_on_q", "gradient of an f that depends on q is biased")
@dataclass(frozen=True)
class DetachesQInsideF(Enumeration):
    def __call__(self, f, q, generator=None, state=None):
        x = self._support(q)
        p = q.log_prob(x).exp()
        return (p * f(x).detach()).sum(0)


@dies("test_loss_can_be_weighted", "c times the gradient")
@dataclass(frozen=True)
class IgnoresTheCotangent(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        weight = (fx - fx.mean(0)).detach() / (self.n - 1)
        return fx.mean(0) + _Deaf.apply((weight * q.log_prob(x)).sum(0))


class _Deaf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x - x

    @staticmethod
    def backward(ctx, cotangent):
        return torch.ones_like(cotangent)


@dies("test_works_where_not_everything_is_differentiated", "freezing one parameter")
@dataclass(frozen=True)
class NeedsEveryParameterToLearn(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        loss = super().__call__(f, q, generator, state)
        base = inner(q)
        if isinstance(base, Normal) and not base.scale.requires_grad:
            return scaled(loss, 0.5)
        return loss


@dies("test_state_changes_only_from_outside", "reaches \\['b'\\] of the state")
@dataclass(frozen=True)
class BackwardReachesTheState(Estimator):
    needs_state = True

    def init(self, q, generator=None):
        return LearnedBaseline()

    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, 1, generator)
        fx = f(x)
        return fx.mean(0) + grad_only(((fx.detach() - state.b) * q.log_prob(x)).mean(0))


class LearnedBaseline(State):
    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))


@dies("test_state_is_made_where_it_is_declared", "needs_state is False")
@dataclass(frozen=True)
class StateIsNotDeclared(BackwardReachesTheState):
    needs_state = False


@dies("test_a_state_that_does_not_fit_is_refused", "a state of another class raises AttributeError")
@dies("test_frozen_state_gives_the_same_numbers", "a state that requires gradients changes the gradient")
@dataclass(frozen=True)
class ForgetsAFrozenState(Estimator):
    needs_state = True

    def init(self, q, generator=None):
        return LearnedBaseline()

    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, 1, generator)
        fx = f(x)
        b = state.b if state.b.requires_grad else 0.0
        return fx.mean(0) + score(q, x, fx.detach() - b)


@dies("test_learning_does_not_depend_on_the_scale_of_f", "learning depends on the scale of f: in_units_of_f names")
@dataclass(frozen=True)
class LearnsInAbsoluteUnits(ForgetsAFrozenState):
    def init(self, q, generator=None):
        state = LearnedBaseline()
        torch.nn.init.zeros_(state.b)
        return state

    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, 1, generator)
        fx = f(x)
        return fx.mean(0) + score(q, x, fx.detach() - state.b)


# Rows, batch, types -----------------------------------------------------------------------------------------------


@dies("test_batch_elements_do_not_touch", "declares couples_batch = True, but no batch element depends on another")
@dataclass(frozen=True)
class CouplesNothing(RLOO):
    couples_batch = True


@dies("test_rows_do_not_touch", "gradient of one row depends on another row")
@dataclass(frozen=True)
class BaselineIsTheMeanOverRows(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        return fx.mean(0) + score(q, x, (fx - fx.mean()).detach() / self.n)


@dies("test_batch_elements_do_not_touch", "gradient of one batch element depends on another batch element")
@dataclass(frozen=True)
class BaselineIsTheMeanOverBatch(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        others = tuple(range(2, fx.dim()))
        b = fx.mean(others, keepdim=True) if others else 0.0
        return fx.mean(0) + score(q, x, (fx - b).detach() / self.n)


@dies("test_rows_do_not_touch", "loss of one row depends on another row")
@dataclass(frozen=True)
class ValueIsTheMeanOverRows(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        loss = super().__call__(f, q, generator, state)
        return loss + (loss.mean(0) - loss).detach()


@dies("test_rows_and_batch_elements_have_noise_of_their_own", "two rows share noise")
@dataclass(frozen=True)
class NoiseIsBroadcastOverRows(Reparameterization):
    families = (Normal,)

    def refuses(self, family):
        return Estimator.refuses(self, family)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        base = inner(q)
        noise = normal(Size((self.n, *one(base.loc, q).shape)), base.loc, generator)
        return f(base.loc + noise * base.scale).mean(0)


@dies("test_rows_and_batch_elements_have_noise_of_their_own", "share noise")
@dataclass(frozen=True)
class NoiseIsBroadcastOverBatch(Reparameterization):
    families = (Normal,)

    def refuses(self, family):
        return Estimator.refuses(self, family)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        base = inner(q)
        shape = (self.n, *q.batch_shape[:-1], 1) if len(q.batch_shape) > 1 else (self.n, *q.batch_shape)
        noise = normal(Size((*shape, *q.event_shape)), base.loc, generator)
        return f(base.loc + noise * base.scale).mean(0)


@dies("test_loss_has_one_value_per_batch_element_in_the_dtype_of_q", "the loss is torch.float64 for a torch.float32 q")
@dataclass(frozen=True)
class PromotesToFloat64(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        return super().__call__(f, q, generator, state).double()


@dies("test_loss_has_one_value_per_batch_element_in_the_dtype_of_q", "the loss has shape")
@dataclass(frozen=True)
class LossIsOneNumber(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        return super().__call__(f, q, generator, state).sum()


@dies("test_f_sees_samples_first_then_batch_then_event", "f got x of shape")
@dataclass(frozen=True)
class SamplesComeLast(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, 1, generator)
        f(x.movedim(0, -1))
        return super().__call__(f, q, generator, state)


@dies("test_f_sees_samples_first_then_batch_then_event", "2 points at once, but points\\(q\\) is 1")
@dataclass(frozen=True)
class HoldsMoreThanItSays(RLOO):
    def points(self, q):
        return 1


@dies("test_f_is_checked", "an f that changes x in place is not refused")
@dataclass(frozen=True)
class EvaluatesFBehindTheChecks(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        return RLOO.__call__.__wrapped__(self, getattr(f, "f", f), q, generator, state)


@dies("test_f_is_checked", "an f that returns nothing is not refused")
@dataclass(frozen=True)
class TakesNothingForZero(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        shape = (self.n, *q.batch_shape)
        return super().__call__(lambda x: fx if (fx := f.f(x)) is not None else x.new_zeros(shape), q, generator)


@dies("test_memory_layout_of_theta_does_not_matter", "theta changes the gradient")
@dataclass(frozen=True)
class TrustsTheMemoryLayout(Estimator):
    """Takes any stride of 0 for a row."""

    families = (Normal,)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        base = inner(q)
        x = draw(q, 1, generator)
        fx = f(x)
        loc = (spread(fx.detach(), x) * (x - base.loc) / base.scale**2).mean(0).detach()
        dense = base.loc.is_contiguous()
        return fx.mean(0) + inject(q, loc=loc if dense else loc.flatten().flip(0).reshape(loc.shape))


@dies("test_cached_probs_are_not_trusted", "a stale cache of probs changes the gradient")
@dataclass(frozen=True)
class TrustsCachedProbs(StraightThrough):
    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        return f(draw(q, self.n, generator) + grad_only(inner(q).probs)).mean(0)


@dies("test_float32_has_the_moments_of_float64", "the gradient in float32 has another")
@dataclass(frozen=True)
class GuardsFloat32WithALargeNumber(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        loss = super().__call__(f, q, generator, state)
        return scaled(loss, 1 / (1 + 0.1 * (loss.dtype == torch.float32)))


# Hazards ----------------------------------------------------------------------------------------------------------


@dies("test_saturated_logits", "logits of ±50, in torch.float32: loss or gradient is not finite")
@dataclass(frozen=True)
class DividesByTheVarianceOfABit(ScoreFunction):
    families = (Bernoulli,)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        x, p = draw(q, 1, generator), probs(q)
        fx = f(x)
        slope = ((x - p) / (p * (1 - p))).detach()  # of log q in p
        return fx.mean(0) + inject(q, logits=(spread(fx.detach(), x) * slope * (p * (1 - p)).detach()).mean(0))


@dies(
    "test_probabilities_of_zero_and_one", "probabilities of 0 and 1, in torch.float32: loss or gradient is not finite"
)
@dataclass(frozen=True)
class DividesByTheVarianceOfAnyBit(ScoreFunction):
    families = (Bernoulli,)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        x, p = draw(q, 1, generator), probs(q)
        fx = f(x)
        slope = (spread(fx.detach(), x) * (x - p)).mean(0) / (p * (1 - p))
        return fx.mean(0) + inject_at(q.batch_shape, [(slope.detach(), p)])


@dies("test_half_precision_draws_from_the_law_of_q", "the value in half precision is biased")
@dataclass(frozen=True)
class DrawsUniformsOfHalfPrecision(ScoreFunction):
    families = (Bernoulli,)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        p = probs(q).detach()
        u = torch.rand(self.n, *p.shape, generator=generator, dtype=torch.bfloat16)
        x = (u < p).to(p)
        fx = f(x)
        return fx.mean(0) + score(q, x, fx.detach() / self.n)


@dies("test_a_subclass_with_its_own_law", "neither refused nor sampled by it")
@dataclass(frozen=True)
class TakesASubclassForItsParent(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        base = inner(q)
        if not isinstance(base, Normal):
            return super().__call__(f, q, generator, state)
        noise = normal(Size((self.n, *base.loc.shape)), base.loc, generator)
        x = (base.loc + base.scale * noise).detach()
        fx = f(x)
        return fx.mean(0) + score(q, x, fx.detach() / self.n)


@dies("test_parameters_may_be_tied", "a tied theta changes the gradient")
@dataclass(frozen=True)
class TakesATiedEventForRows(Estimator):
    families = (Bernoulli,)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        x, p = draw(q, 1, generator), probs(q).detach()
        row = p[:1] if p.stride(0) == 0 else p
        fx = f(x)
        gradient = (spread(fx.detach(), x) * (x - p)).mean(0) / row.sum(-1, keepdim=True)
        return fx.mean(0) + inject_at(q.batch_shape, [(gradient, logits(q))])


@dies("test_noise_at_its_ends", "uniforms of 0 and almost 1, in torch.float32: loss or gradient is not finite")
@dataclass(frozen=True)
class TakesTheLogarithmOfZero(GumbelSoftmax):
    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        theta = logits(q)
        u = torch.rand((self.n, *theta.shape), generator=generator, dtype=theta.dtype)
        if isinstance(inner(q), Bernoulli):
            return f((theta + torch.logit(u)).sigmoid()).mean(0)
        return f((theta - torch.log(-torch.log(u))).softmax(-1)).mean(0)


@dies("test_extreme_temperatures", "temperature=0.001, in torch.float32: loss or gradient is not finite")
@dataclass(frozen=True)
class SoftmaxOverflows(GumbelSoftmax):
    families = (OneHotCategorical,)

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        weight = ((logits(q) + gumbel(Size((self.n, *logits(q).shape)), logits(q), generator)) / self.temperature).exp()
        return f(weight / weight.sum(-1, keepdim=True)).mean(0)


@dies("test_one_sample", "n=1, in torch.float32: loss or gradient is not finite", n=2)
@dataclass(frozen=True)
class LeavesOneOutOfOne(Estimator):
    n: int = 2

    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        return fx.mean(0) + score(q, x, (fx - fx.mean(0)).detach() / torch.tensor(self.n - 1.0))


@dies("test_one_sample", "refuses without saying what to use instead", n=2)
@dataclass(frozen=True)
class RefusesOneSampleWithoutAdvice(LeavesOneOutOfOne):
    def __post_init__(self):
        if self.n < 2:
            raise ValueError("No.")


@dies("test_large_constant_in_f", "f \\+ 1e6, in torch.float32: loss or gradient is not finite", n=4)
@dataclass(frozen=True)
class SquaresBeforeItSubtracts(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        x = draw(q, self.n, generator)
        fx = f(x)
        mean = fx.detach().mean(0)
        sd = (fx.detach().square().mean(0) - mean.square()).sqrt()
        return fx.mean(0) + score(q, x, (fx.detach() - mean) / (self.n * sd.clamp(min=1)))


# Noise ------------------------------------------------------------------------------------------------------------


@dies("test_generator_is_the_only_source_of_noise", "the global random state changes")
@dataclass(frozen=True)
class IgnoresTheGenerator(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        return super().__call__(f, q, None, state)


@dies("test_generator_is_the_only_source_of_noise", "the global random state changes", baseline="moving-average")
@dataclass(frozen=True)
class InitIgnoresTheGenerator(ScoreFunction):
    def init(self, q, generator=None):
        draw(q, 1, None)
        return super().init(q, generator)


@dies("test_generator_is_the_only_source_of_noise", "the generator does not advance")
@dataclass(frozen=True)
class NeverMovesTheGeneratorOn(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        copy = None if generator is None else Generator().manual_seed(generator.initial_seed())
        return super().__call__(f, q, copy, state)


@dies("test_without_a_generator_the_global_one_is_used", "a second call with the same seed gives other numbers")
@dataclass(frozen=True)
class SeedsItselfFromTheClock(ScoreFunction):
    def __call__(self, f, q, generator=None, state=None):
        if generator is None:
            generator = Generator()
            generator.seed()
        return super().__call__(f, q, generator, state)


@dies("test_deterministic", "changes the loss")
@dataclass(frozen=True)
class NotDeterministic(ScoreFunction):
    deterministic = True


# Declared facts ---------------------------------------------------------------------------------------------------


@dies("test_is_a_frozen_dataclass_of_plain_values", "is not a frozen dataclass")
@dataclass
class CanBeChanged(Estimator):
    n: int = 1

    def __call__(self, f, q, generator=None, state=None):
        return ScoreFunction(self.n)(f, q, generator, state)


@dies("test_is_a_frozen_dataclass_of_plain_values", "is not a frozen dataclass")
class NoDataclass(ScoreFunction):
    pass


@dies("test_is_a_frozen_dataclass_of_plain_values", "link is not a number", link=torch.sigmoid)
@dataclass(frozen=True)
class HoldsACallable(ScoreFunction):
    link: Any = None


@dies("test_repr_is_its_identity", "does not equal the estimator that its repr makes", n=4)
@dataclass(frozen=True)
class HidesAField(RLOO):
    def __repr__(self):
        return "HidesAField()"


@dies("test_repr_is_its_identity", "give every field a default", n=2)
@dataclass(frozen=True)
class HasNoDefaults(Estimator):
    n: int

    def __call__(self, f, q, generator=None, state=None):
        return ScoreFunction(self.n)(f, q, generator, state)


@dies("test_families", "not among its families, but refuses\\(\\) does not say so")
@dataclass(frozen=True)
class SaysItServesEverything(StraightThrough):
    def refuses(self, family):
        return None


@dies("test_families", "the call is not refused, but refuses\\(\\) says")
@dataclass(frozen=True)
class AcceptsEveryFamilySilently(ScoreFunction):
    families = (Bernoulli, OneHotCategorical, Categorical)


@dies("test_families", "without saying what to use instead")
@dataclass(frozen=True)
class RefusesWithoutAdvice(StraightThrough):
    def refuses(self, family):
        return None if issubclass(family, self.families) else "No."


@dies("test_needs_df", "is not refused")
@dataclass(frozen=True)
class AcceptsABlackBox(StraightThrough):
    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        return f(draw(q, self.n, generator) + grad_only(probs(q))).mean(0) + grad_only(probs(q).sum()) * 0


@dies("test_needs_df", "an f without gradient in x changes the gradient")
@dataclass(frozen=True)
class UsesTheGradientUndeclared(Reparameterization):
    needs_df = False

    def __call__(self, f, q, generator=None, state=None):
        self.check(q)
        x = q.rsample(Size((self.n,))) if generator is None else self._rdraw(q, generator)
        return f(x).mean(0) + grad_only(sum(t.sum() for t in (inner(q).loc, inner(q).scale)))

    def _rdraw(self, q, generator):
        base = inner(q)
        noise = normal(Size((self.n, *q.batch_shape, *q.event_shape)), base.loc, generator)
        return base.loc + noise * base.scale


@dies("test_needs_relaxed_f", "a point off the support")
@dataclass(frozen=True)
class RelaxedUndeclared(GumbelSoftmax):
    needs_relaxed_f = False


@dies("test_needs_relaxed_f", "gets points of the support only")
@dataclass(frozen=True)
class RelaxedDeclaredByHabit(StraightThrough):
    needs_relaxed_f = True


# Scale --------------------------------------------------------------------------------------------------------------


@dies("test_gradient_scale", "the gradient over its gradient_scale 0.75 is biased", n=4)
@dataclass(frozen=True)
class DividesTwice(GRPO):
    normalise: bool = False

    def __call__(self, f, q, generator=None, state=None):
        return scaled(super().__call__(f, q, generator, state), 0.75)


@dies("test_gradient_scale", "only one of the two can hold")
@dataclass(frozen=True)
class ScaledAndUnbiased(GRPO):
    normalise: bool = False
    unbiased = True


@dies("test_gradient_is_linear_in_f", "declares linear_in_f = False, but is linear")
@dataclass(frozen=True)
class LinearAfterAll(RLOO):
    linear_in_f = False


@dies("test_gradient_is_linear_in_f", "4 f does not have 4 times the gradient of f")
@dataclass(frozen=True)
class NotLinear(GRPO):
    linear_in_f = True
