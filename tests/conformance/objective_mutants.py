"""Deliberately wrong objectives, each with the check that refuses it, and what it says."""

import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator
from torch.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
)

from bench.objectives import (
    BernoulliQuadratic,
    BestOfK,
    GaussianQuadratic,
    GaussianThenCategorical,
    ImportanceWeighted,
    Objective,
    PoissonQuadratic,
    Problem,
    RandomWalk,
)
from bench.objectives.random_walk import Walk
from estimators import Bound, Chain, Drawable, Enumeration, Layers, Reparameterization, Return, StraightThrough


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Attention(Objective):
    """Hard attention on a batch of 6 with 4 places: right, and the base of most mutants."""

    dim = 1
    family = OneHotCategorical

    def build(self, dtype=torch.float32, device="cpu"):
        data, keys = (seeded(*shape, seed=s).to(device, dtype) for s, shape in enumerate(((6, 5), (4, 5))))
        theta = {"w": (0.5 * seeded(5, 4, seed=2)).to(device, dtype).requires_grad_()}
        return self.problem(theta, data, keys)

    def problem(self, theta, data, keys):
        def q(theta):
            return OneHotCategorical(logits=data.to(theta["w"]) @ theta["w"], validate_args=False)

        def f(x):
            return (x @ keys - data).square().sum(-1)

        def exact(theta):
            return Enumeration()(lambda x: (x @ keys.to(x) - data.to(x)).square().sum(-1), q(theta)).mean()

        return Problem(theta, q, lambda _q: f, exact)


@dataclass(frozen=True)
class Mutant:
    objective: Objective
    check: str
    says: str


MUTANTS: list[Mutant] = []


def dies(check: str, says: str):
    """Return a decorator that adds a class to the mutants."""

    def listed(cls: type) -> type:
        MUTANTS.append(Mutant(cls(), check, says))
        return cls

    return listed


class Changed:
    """A base class for mutants: ``change`` maps the right problem to the wrong one."""

    def build(self, dtype=torch.float32, device="cpu"):
        return self.change(super().build(dtype, device))

    def change(self, problem: Problem) -> Any:
        raise NotImplementedError


def with_f(problem: Problem, wrong: Any) -> Problem:
    """Return the problem with ``wrong(f, x)`` as its f(x)."""

    def integrand(q):
        f = problem.integrand(q)
        return lambda x: wrong(f, x)

    return replace(problem, integrand=integrand)


# Declared facts -------------------------------------------------------------------------------------------------------


@dies("test_declared_facts", "declares dim = None, which must be a whole number")
@dataclass(frozen=True)
class NoDim(Attention):
    dim = None


@dies("test_declared_facts", "declares reference_estimator = 'reparameterization', which must be None or an instance")
@dataclass(frozen=True)
class EstimatorByName(Attention):
    reference_estimator = "reparameterization"


@dies(
    "test_declared_facts",
    "declares family = 'Normal', which must be a class of distributions. It declares dim = 'many'",
)
@dataclass(frozen=True)
class TwoWrong(Attention):
    family = "Normal"
    dim = "many"


@dies("test_reference_estimator", "StraightThrough(n=1) is biased")
@dataclass(frozen=True)
class BiasedReference(Attention):
    has_exact = False
    reference_estimator = StraightThrough()


@dies("test_reference_where_f_jumps", "f jumps, and df/dx lacks that part. Declare reference_estimator = RLOO(n=8).")
@dataclass(frozen=True)
class Jumps(Changed, GaussianQuadratic):
    has_exact = False
    reference_estimator = Reparameterization(n=8)

    def change(self, problem):
        return replace(problem, integrand=lambda q: lambda x: x.square().sum(-1) + 30 * (x[..., 0] > 0), exact=None)


@dies("test_f_has_a_gradient", "declares differentiable = True")
@dataclass(frozen=True)
class NotDifferentiable(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x.detach()))


@dies("test_size_of_a_row", "declares row_elements = 1")
@dataclass(frozen=True)
class Understated(Attention):
    row_elements = 1


@dies("test_f_has_one_value_each", "declares bound = True, and its integrand is not a Bound")
@dataclass(frozen=True)
class NoBound(Attention):
    bound = True


# Theta ----------------------------------------------------------------------------------------------------------------


@dies("test_build_returns_a_problem", "build returned a tuple. Return bench.objectives.Problem")
@dataclass(frozen=True)
class Tuple(Changed, Attention):
    def change(self, problem):
        return problem.theta, problem.q, problem.integrand


@dies("test_build_returns_a_problem", "theta['w'] does not require gradients")
@dataclass(frozen=True)
class NoGradient(Attention):
    def problem(self, theta, data, keys):
        return super().problem({"w": theta["w"].detach()}, data, keys)


@dies("test_build_returns_a_problem", "theta['w'] is computed from another tensor")
@dataclass(frozen=True)
class NoLeaf(Attention):
    def problem(self, theta, data, keys):
        return super().problem({"w": 2 * theta["w"]}, data, keys)


@dies("test_build_returns_a_problem", "theta['w'] is torch.float32, but build was called with dtype=torch.float64")
@dataclass(frozen=True)
class AlwaysFloat32(Attention):
    def build(self, dtype=torch.float32, device="cpu"):
        return super().build(torch.float32, device)


@dies("test_build_returns_a_problem", "build raised KeyError")
@dataclass(frozen=True)
class Raises(Changed, Attention):
    def change(self, problem):
        return problem.theta["v"]


# q --------------------------------------------------------------------------------------------------------------------


@dies("test_q_is_of_the_declared_family", "declares family = Bernoulli, and its q is Normal")
@dataclass(frozen=True)
class OtherFamily(GaussianQuadratic):
    family = Bernoulli


@dies("test_q_is_of_the_declared_family", "has a gradient at theta")
@dataclass(frozen=True)
class Detached(Changed, Attention):
    def change(self, problem):
        return replace(problem, q=lambda theta: problem.q({k: t.detach() for k, t in theta.items()}))


class Policy(Distribution):
    """A distribution that holds a network."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, net):
        self.net = net
        super().__init__(torch.Size([2]), validate_args=False)

    def logits(self):
        return self.net(torch.ones(2, 1, dtype=self.net.weight.dtype)).squeeze(-1)

    def sample(self, sample_shape=()):
        return torch.bernoulli(self.logits().sigmoid().detach().expand(*sample_shape, 2))

    def log_prob(self, x):
        return Bernoulli(logits=self.logits()).log_prob(x)


@dies("test_q_is_of_the_declared_family", "no tensor is found among the constructor's arguments of Policy")
@dataclass(frozen=True)
class HoldsAModule(Objective):
    dim = 1
    family = Policy
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        net = torch.nn.Linear(1, 1).to(device, dtype)
        return Problem(dict(net.named_parameters()), lambda _theta: Policy(net), lambda _q: lambda x: x)


@dies("test_trained_probabilities_are_inside", "a probability of q is exactly 0 or 1 at theta, and theta moves it")
@dataclass(frozen=True)
class CertainOutcome(Objective):
    dim = 2
    family = Bernoulli

    def build(self, dtype=torch.float32, device="cpu"):
        def q(theta):
            return Independent(Bernoulli(probs=theta["p"], validate_args=False), 1)

        def exact(theta):
            return theta["p"].sum()

        theta = {"p": torch.tensor([1.0, 0.5], dtype=dtype, device=device).requires_grad_()}
        return Problem(theta, q, lambda _q: lambda x: x.sum(-1), exact)


@dataclass(frozen=True)
class Saturated(Attention):
    """The softmax of a policy that has become certain: some probabilities are 0, and their derivatives too."""

    def problem(self, theta, data, keys):
        problem = super().problem(theta, data, keys)

        def q(theta):
            sharp = (500 * data.to(theta["w"]) @ theta["w"]).softmax(-1)
            return OneHotCategorical(probs=sharp, validate_args=False)

        def exact(theta):
            return Enumeration()(lambda x: (x @ keys.to(x) - data.to(x)).square().sum(-1), q(theta)).mean()

        return replace(problem, q=q, exact=exact)


class Folded(Normal):
    """A subclass with its own sampler, and the density of its parent."""

    def sample(self, sample_shape=()):
        return super().sample(sample_shape).abs()

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape).abs()


@dies("test_log_prob_is_the_density_of_the_samples", "the log_prob of q is not the density of its samples")
@dataclass(frozen=True)
class DensityOfTheParent(Objective):
    dim = 1
    family = Normal
    has_exact = False
    reference_estimator = Reparameterization()

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"loc": torch.tensor([0.3], dtype=dtype, device=device).requires_grad_()}

        def q(theta):
            return Independent(Folded(theta["loc"], torch.ones_like(theta["loc"]), validate_args=False), 1)

        return Problem(theta, q, lambda _q: lambda x: x.square().sum(-1))


class Shared(Drawable):
    """Bits with weights that all batch elements share: its parameter is not [*batch, ...]."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, inputs, weights, validate_args=None):
        self.inputs, self.weights = inputs, weights
        super().__init__(inputs.shape[:1], weights.shape[1:], validate_args=False)

    def bits(self):
        return Bernoulli(logits=self.inputs @ self.weights)

    def draw(self, sample_shape, generator):
        return self.bits().sample(sample_shape)

    def log_prob(self, value):
        return self.bits().log_prob(value).sum(-1)


@dies("test_q_can_be_split_into_rows", "Every parameter must be a tensor [*batch, ...]")
@dataclass(frozen=True)
class SharedWeights(Objective):
    dim = 3
    family = Shared
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        inputs = seeded(4, 2).to(device, dtype)
        theta = {"w": seeded(2, 3, seed=1).to(device, dtype).requires_grad_()}
        return Problem(theta, lambda theta: Shared(inputs, theta["w"]), lambda _q: lambda x: x.sum(-1))


class Steps(Chain):
    """Three bits, each with logits that depend on the bit before: right for a ``factor`` of 1 for every bit."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, logits, factor=(1.0, 1.0, 1.0), validate_args=None):
        self.logits, self.factor = logits, factor
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def draw(self, sample_shape, generator):
        bits = torch.zeros(*sample_shape, *self.batch_shape, 0, dtype=self.logits.dtype, device=self.logits.device)
        for t in range(3):
            p = (self.logits[..., t] + (bits[..., -1] if t else 0)).sigmoid().expand(bits.shape[:-1])
            bits = torch.cat([bits, torch.bernoulli(p, generator=generator).unsqueeze(-1)], -1)
        return bits

    def log_probs(self, value):
        before = torch.nn.functional.pad(value[..., :-1], (1, 0))
        each = Bernoulli(logits=self.logits + before, validate_args=False).log_prob(value)
        return each * torch.tensor(self.factor, dtype=value.dtype, device=value.device)


@dataclass(frozen=True)
class OwnChain(Objective):
    dim = 3
    family = Steps
    has_exact = False
    factor: tuple[float, ...] = (1.0, 1.0, 1.0)

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": seeded(2, 3).to(device, dtype).requires_grad_()}
        return Problem(theta, lambda theta: Steps(theta["logits"], self.factor), lambda _q: lambda x: x.sum(-1))


@dies("test_ratios_of_densities", "after a small step of theta, the density of choice 0 (counted from 0)")
@dataclass(frozen=True)
class TwiceTheLogarithm(OwnChain):
    factor: tuple[float, ...] = (2.0, 2.0, 2.0)


@dies("test_ratios_of_densities", "the density of choice 1 (counted from 0) of a sample is on average 1.00")
@dataclass(frozen=True)
class OneChoiceCountedTwice(OwnChain):
    factor: tuple[float, ...] = (1.0, 2.0, 1.0)


class Tempered(Drawable):
    """A Normal whose density has been raised to the power 1.5, with its own sampler."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, loc, validate_args=None):
        self.loc = loc
        super().__init__(loc.shape, validate_args=False)

    def draw(self, sample_shape, generator):
        shape = self._extended_shape(sample_shape)
        return self.loc + torch.randn(shape, generator=generator, dtype=self.loc.dtype, device=self.loc.device)

    def log_prob(self, value):
        return 1.5 * Normal(self.loc, 1.0, validate_args=False).log_prob(value)


@dies("test_ratios_of_densities", "the density of a sample is on average 1.00")
@dataclass(frozen=True)
class PowerOfTheDensity(Objective):
    dim = 2
    family = Tempered
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"loc": seeded(2).to(device, dtype).requires_grad_()}

        def q(theta):
            return Independent(Tempered(theta["loc"]), 1)

        return Problem(theta, q, lambda _q: lambda x: x.square().sum(-1))


# f --------------------------------------------------------------------------------------------------------------------


@dies("test_f_has_one_value_each", "Wrap q in Independent(q, 1)")
@dataclass(frozen=True)
class ForgottenIndependent(Changed, BernoulliQuadratic):
    dim: int = 3

    def change(self, problem):
        return replace(problem, q=lambda theta: problem.q(theta).base_dist)


@dies("test_f_has_one_value_each", "integrand returned a NoneType. Let it return the function f")
@dataclass(frozen=True)
class NoIntegrand(Changed, Attention):
    def change(self, problem):
        return replace(problem, integrand=lambda q: None)


@dies("test_f_has_one_value_each", "f returned None")
@dataclass(frozen=True)
class NoReturn(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: None)


@dies("test_f_has_one_value_each", "expected [2, 6]")
@dataclass(frozen=True)
class KeepsAnAxis(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x).unsqueeze(-1))


@dies("test_f_has_one_value_each", "expected [2, 6]")
@dataclass(frozen=True)
class MeanOverTheBatch(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x).mean())


@dies("test_f_has_one_value_each", "f changes the samples")
@dataclass(frozen=True)
class InPlace(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x.mul_(0.5)))


@dies("test_f_has_one_value_each", "f changes the samples")
@dataclass(frozen=True)
class InPlaceThroughNumpy(Changed, Attention):
    def change(self, problem):
        def wrong(f, x):
            a = x.numpy()
            a *= 0.5
            return f(x).numpy()

        return with_f(problem, wrong)


@dies("test_f_has_one_value_each", "f of one sample depends on the other samples")
@dataclass(frozen=True)
class Normalised(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) / f(x).std(0, keepdim=True).clamp(min=1).mean(1, keepdim=True))


@dies("test_f_has_one_value_each", "f of one sample depends on the other samples")
@dataclass(frozen=True)
class CentredOverSamples(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) - f(x).mean(0))


@dies("test_f_has_one_value_each", "f of one sample depends on the other samples")
@dataclass(frozen=True)
class DividedByTheNumberOfSamples(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) / len(x))


@dies("test_f_has_one_value_each", "for samples [1, 3, 6, 4] of a q with batch shape [3, 6] and event shape [4]")
@dataclass(frozen=True)
class Squeezed(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x).squeeze(0))


@dies("test_f_has_one_value_each", "f of one batch element depends on the samples of other batch elements")
@dataclass(frozen=True)
class NormalisedOverTheBatch(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) / f(x).sum(-1, keepdim=True))


@dies("test_f_has_one_value_each", "f of one batch element depends on the samples of other batch elements")
@dataclass(frozen=True)
class NeighbourInTheBatch(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) + f(x).roll(1, -1))


@dies("test_f_has_one_value_each", "f is NaN")
@dataclass(frozen=True)
class NotANumber(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: (f(x) - 1e9).log())


@dies("test_f_has_one_value_each", "f raised TypeError: ")
@dataclass(frozen=True)
class FRaises(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x, 1))


@dies("test_f_has_one_value_each", "f raised SystemExit(0), which would end the program (objective_mutants.py, line")
@dataclass(frozen=True)
class FExits(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: sys.exit(0))


# Builds ---------------------------------------------------------------------------------------------------------------


@dies("test_build_can_be_repeated", "two builds differ in the parameters of q: logits")
@dataclass(frozen=True)
class UnseededData(Attention):
    def problem(self, theta, data, keys):
        return super().problem(theta, torch.randn_like(data), keys)


@dies("test_build_can_be_repeated", "f differs between two builds")
@dataclass(frozen=True)
class UnseededKeys(Attention):
    def problem(self, theta, data, keys):
        return super().problem(theta, data, torch.randn_like(keys))


@dies("test_build_can_be_repeated", "two builds differ in theta: w")
@dataclass(frozen=True)
class UnseededTheta(Attention):
    def problem(self, theta, data, keys):
        return super().problem({"w": torch.randn_like(theta["w"]).requires_grad_()}, data, keys)


@dies("test_build_can_be_repeated", "f differs between float32 and float64")
@dataclass(frozen=True)
class DrawnInTheDtype(Attention):
    def problem(self, theta, data, keys):
        drawn = torch.randn(data.shape, generator=Generator().manual_seed(0), dtype=data.dtype)
        return super().problem(theta, data, keys + drawn.mean(0))


@dies("test_f_has_one_value_each", "f returned complex numbers. Return real ones")
@dataclass(frozen=True)
class Complex(Attention):
    def problem(self, theta, data, keys):
        problem = super().problem(theta, data, keys)
        return with_f(problem, lambda f, x: f(x) * 1j)


@dies("test_f_has_one_value_each", "f returned other values at the same samples")
@dataclass(frozen=True)
class Stateful(Changed, Attention):
    def change(self, problem):
        calls = []
        return with_f(problem, lambda f, x: f(x) + len(calls) if calls.append(1) is None else None)


@dies("test_f_has_one_value_each", "declares particles = None, and its Bound has another number")
@dataclass(frozen=True)
class UndeclaredParticles(Objective):
    dim = 2
    family = Normal
    bound = True
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"loc": torch.zeros(3, 2, dtype=dtype, device=device, requires_grad=True)}

        def log_joint(x):
            return -x.square().sum(-1)

        return Problem(theta, lambda t: Independent(Normal(t["loc"], 1.0), 2), lambda q: Bound(log_joint, q, 3))


@dies("test_f_has_one_value_each", "f returned other values at the same samples")
@dataclass(frozen=True)
class Noisy(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) + torch.rand_like(f(x)))


SHARED = torch.nn.Linear(5, 4, bias=False)


@dies("test_build_returns_a_problem", "two builds share theta['weight']")
@dataclass(frozen=True)
class SharedModule(Attention):
    """Its network is a global, which ``to`` changes in place."""

    def problem(self, theta, data, keys):
        net = SHARED.to(data.dtype)
        right = super().problem({"w": net.weight}, data, keys)

        def q(theta):
            return right.q({"w": theta["weight"].T})

        return replace(
            right,
            theta=dict(net.named_parameters()),
            q=q,
            exact=lambda theta: Enumeration()(right.integrand(q(theta)), q(theta)).mean(),
        )


KEPT = {}


@dies("test_build_can_be_repeated", "two builds share theta['w']")
@dataclass(frozen=True)
class KeptProblem(Attention):
    """It builds once for each dtype, so that a training run would begin where the last one ended."""

    def build(self, dtype=torch.float32, device="cpu"):
        return KEPT.setdefault(dtype, super().build(dtype, device))


@dies("test_build_can_be_repeated", "f differs between two builds")
@dataclass(frozen=True)
class NumpyData(Changed, Attention):
    def change(self, problem):
        shift = np.random.default_rng().normal()
        return with_f(problem, lambda f, x: f(x) + shift)


@dataclass(frozen=True)
class Sparse(Objective):
    """f is 0 unless all of three bits are 1, with probability 0.05: right, and the base of mutants."""

    dim = 3
    family = Bernoulli
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": torch.full((3,), -0.5, dtype=dtype, device=device, requires_grad=True)}
        return Problem(
            theta, lambda t: Independent(Bernoulli(logits=t["logits"]), 1), lambda _q: lambda x: 10 * x.prod(-1)
        )


@dies("test_build_can_be_repeated", "f differs between two builds")
@dataclass(frozen=True)
class SparseUnseeded(Changed, Sparse):
    def change(self, problem):
        factor = torch.rand((), dtype=torch.float64).item()
        return with_f(problem, lambda f, x: f(x) * factor)


@dies("test_build_can_be_repeated", "f differs between float32 and float64")
@dataclass(frozen=True)
class SparseDrawnInTheDtype(Changed, Sparse):
    def change(self, problem):
        dtype = problem.theta["logits"].dtype
        factor = torch.randn(30, generator=Generator().manual_seed(0), dtype=dtype).sum()
        return with_f(problem, lambda f, x: f(x) * factor)


@dies("test_f_has_one_value_each", "f returned other values at the same samples")
@dataclass(frozen=True)
class SparseNoise(Changed, Sparse):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) * torch.rand_like(f(x)))


@dies("test_f_has_one_value_each", "f is NaN at samples of q")
@dataclass(frozen=True)
class SparseNaN(Changed, Sparse):
    def change(self, problem):
        return with_f(problem, lambda f, x: (0.5 - f(x)).sqrt())


@dies("test_f_has_one_value_each", "f of one sample depends on the other samples")
@dataclass(frozen=True)
class SparseCentred(Changed, Sparse):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) - f(x).mean(0))


# Theta inside f -------------------------------------------------------------------------------------------------------


@dies("test_f_depends_on_theta_through_q_alone", "f uses theta['w'] itself")
@dataclass(frozen=True)
class SharedTrunk(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) * problem.theta["w"].square().sum())


@dies("test_f_depends_on_theta_through_q_alone", "f uses values of theta itself")
@dataclass(frozen=True)
class SharedTrunkOfABlackBox(Changed, Attention):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) * problem.theta["w"].detach().square().sum())


@dies("test_f_depends_on_theta_through_q_alone", "f uses theta['logits'] itself")
@dataclass(frozen=True)
class SparseSharedTrunk(Changed, Sparse):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) * (3 + problem.theta["logits"].sum()))


@dies("test_f_depends_on_theta_through_q_alone", "f uses values of theta itself")
@dataclass(frozen=True)
class SparseSharedTrunkOfABlackBox(Changed, Sparse):
    def change(self, problem):
        return with_f(problem, lambda f, x: f(x) * (3 + problem.theta["logits"].detach().sum()))


@dies("test_f_depends_on_theta_through_q_alone", "f uses theta['mean'] and theta['log_scale'] itself")
@dataclass(frozen=True)
class EntropyOfTheOuterQ(Changed, GaussianQuadratic):
    def change(self, problem):
        outer = problem.q(problem.theta)
        return with_f(problem, lambda f, x: f(x) - outer.log_prob(x))


# The exact value ------------------------------------------------------------------------------------------------------


@dies("test_exact_is_one_number", "builds a problem without exact")
@dataclass(frozen=True)
class NoExact(Changed, Attention):
    def change(self, problem):
        return replace(problem, exact=None)


@dies("test_exact_is_one_number", "exact returned shape [6], expected one number")
@dataclass(frozen=True)
class ExactOfAVector(Changed, Attention):
    def change(self, problem):
        return replace(problem, exact=lambda theta: problem.exact(theta).expand(6))


@dies("test_exact_is_one_number", "exact returned a float")
@dataclass(frozen=True)
class ExactOfAFloat(Changed, Attention):
    def change(self, problem):
        return replace(problem, exact=lambda theta: problem.exact(theta).item())


@dies("test_exact_is_one_number", "exact does not depend on the theta that it is given")
@dataclass(frozen=True)
class ExactOfAnotherTheta(Changed, Attention):
    def change(self, problem):
        return replace(problem, exact=lambda _theta: problem.exact(problem.theta))


@dies("test_exact_is_the_sum_over_all_states", "a factor of 6: the batch has 6 elements")
@dataclass(frozen=True)
class ForgottenMean(Changed, Attention):
    def change(self, problem):
        return replace(problem, exact=lambda theta: 6 * problem.exact(theta))


@dies("test_exact_is_the_sum_over_all_states", "apart")
@dataclass(frozen=True)
class RightAtThisPointAlone(Changed, Attention):
    def change(self, problem):
        total = problem.theta["w"].sum().item()
        return replace(problem, exact=lambda theta: problem.exact(theta) + theta["w"].sum() - total)


@dies("test_exact_is_one_number", "along a direction, and its gradient says")
@dataclass(frozen=True)
class HalfTheGradient(Changed, Attention):
    def change(self, problem):
        def exact(theta):
            value = problem.exact(theta)
            return value.detach() / 2 + value / 2

        return replace(problem, exact=exact)


@dies("test_exact_is_the_mean_over_samples", "its exact value is")
@dataclass(frozen=True)
class FifthTooLarge(Changed, GaussianQuadratic):
    def change(self, problem):
        return replace(problem, exact=lambda theta: 1.2 * problem.exact(theta))


@dies("test_exact_is_the_mean_over_samples", "its exact value is")
@dataclass(frozen=True)
class ForgottenVariance(Changed, PoissonQuadratic):
    def change(self, problem):
        return replace(problem, exact=lambda theta: problem.exact(theta) - theta["log_rate"].exp().sum())


@dies("test_exact_is_the_mean_over_samples", "its exact value has the gradient 0 at log_scale")
@dataclass(frozen=True)
class ConstantScale(Changed, GaussianQuadratic):
    def change(self, problem):
        constant = {"log_scale": problem.theta["log_scale"].detach()}
        return replace(problem, exact=lambda theta: problem.exact(theta | constant))


@dies("test_exact_is_one_number", "along a direction, and its gradient says")
@dataclass(frozen=True)
class DetachedScale(Changed, ImportanceWeighted):
    def change(self, problem):
        return replace(problem, exact=lambda theta: problem.exact(theta | {"log_scale": theta["log_scale"].detach()}))


# Training -------------------------------------------------------------------------------------------------------------


@dies("test_training_data", "minibatch(0) has a theta of its own")
@dataclass(frozen=True)
class OwnTheta(Changed, Attention):
    def change(self, problem):
        return replace(problem, minibatch=lambda i: Attention().build(problem.theta["w"].dtype))


# Right objectives that a careless check would refuse ------------------------------------------------------------------


@dataclass(frozen=True)
class Jump(Changed, GaussianQuadratic):
    """f jumps; f32 and f64 differ at no sample that counts."""

    dim: int = 2
    has_exact = False
    differentiable = False

    def change(self, problem):
        return replace(with_f(problem, lambda f, x: (f(x) > 1).to(x)), exact=None)


@dataclass(frozen=True)
class BlackBox(Changed, Attention):
    """f returns numpy."""

    differentiable = False

    def change(self, problem):
        return with_f(problem, lambda f, x: f(x.detach()).numpy())


@dataclass(frozen=True)
class LargeConstant(Changed, Attention):
    """f has a constant beside which its differences are small."""

    def change(self, problem):
        return replace(with_f(problem, lambda f, x: f(x) + 1e5), exact=lambda theta: problem.exact(theta) + 1e5)


@dataclass(frozen=True)
class Integers(Objective):
    """A q over integers, with one parameter for all batch elements."""

    dim = 2
    family = Categorical
    differentiable = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": seeded(3).to(device, dtype).requires_grad_()}

        def q(theta):
            return Independent(Categorical(logits=theta["logits"].expand(5, 2, 3)), 1)

        def exact(theta):
            return (theta["logits"].softmax(-1) @ torch.arange(3.0).to(theta["logits"])) * 2

        return Problem(theta, q, lambda _q: lambda x: x.sum(-1).to(dtype), exact)


@dataclass(frozen=True)
class RareTail(Objective):
    """f has a Pareto tail of index 1.5: its variance is infinite, and means over samples say little."""

    dim = 1
    family = Normal

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"mean": torch.zeros(1, dtype=dtype, device=device, requires_grad=True)}

        def f(x):
            return torch.special.ndtr(-x.double().squeeze(-1)).pow(-1 / 1.5).to(x)

        def exact(theta):
            z = torch.linspace(-12, 30, 20_001, dtype=torch.float64)
            exponent = -torch.special.log_ndtr(-z) / 1.5 - (z - theta["mean"].double()).square() / 2
            return torch.trapezoid(exponent.exp(), z).to(theta["mean"]) / (2 * torch.pi) ** 0.5

        return Problem(theta, lambda t: Independent(Normal(t["mean"], 1.0), 1), lambda _q: f, exact)


@dataclass(frozen=True)
class Simplex(Objective):
    """A q by torch's own sampler, without an exact value and without a batch."""

    dim = 3
    family = Dirichlet
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"log_a": torch.zeros(3, dtype=dtype, device=device, requires_grad=True)}
        return Problem(theta, lambda t: Dirichlet(t["log_a"].exp()), lambda _q: lambda x: x[..., 0])


@dataclass(frozen=True)
class Counts(Objective):
    """A batch of counts."""

    dim = 1
    family = Poisson

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"log_rate": seeded(4).to(device, dtype).requires_grad_()}

        def exact(theta):
            return theta["log_rate"].exp().mean()

        return Problem(theta, lambda t: Poisson(t["log_rate"].exp()), lambda _q: lambda x: x, exact)


@dataclass(frozen=True)
class WholeNumbers(Objective):
    """f counts in whole numbers."""

    dim = 4
    family = Bernoulli
    differentiable = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"probs": torch.full((4,), 0.999, dtype=dtype, device=device, requires_grad=True)}

        def exact(theta):
            return Independent(Bernoulli(probs=theta["probs"]), 1).mean.sum()

        return Problem(
            theta, lambda t: Independent(Bernoulli(probs=t["probs"]), 1), lambda _q: lambda x: (x > 0).sum(-1), exact
        )


@dataclass(frozen=True)
class Slow(Changed, Attention):
    """f takes 3 ms for each sample."""

    def change(self, problem):
        def slow(f, x):
            time.sleep(0.003 * x[..., 0, 0].numel())
            return f(x)

        return with_f(problem, slow)


@dataclass(frozen=True)
class SparseReward(Objective):
    """f is 1 if all of 24 bits are 1, which no sample shows."""

    dim = 24
    family = Bernoulli
    maximise = True

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": torch.zeros(24, dtype=dtype, device=device, requires_grad=True)}

        def q(theta):
            return Independent(Bernoulli(logits=theta["logits"]), 1)

        return Problem(theta, q, lambda _q: lambda x: x.prod(-1), lambda theta: theta["logits"].sigmoid().prod())


@dataclass(frozen=True)
class RareJump(Changed, GaussianQuadratic):
    """f jumps at a threshold that few samples pass, and computes in float32 whatever it is given."""

    dim: int = 2
    has_exact = False
    differentiable = False

    def change(self, problem):
        return replace(with_f(problem, lambda f, x: (f(x.float()) > 12).to(x) * f(x.float()).to(x)), exact=None)


@dataclass(frozen=True)
class Ties(Objective):
    """Float32 and float64 differ at a tie of f, which many samples hit: 3 of 6 bits times 0.1."""

    dim = 6
    family = Bernoulli
    differentiable = False
    has_exact = False

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": torch.zeros(6, dtype=dtype, device=device, requires_grad=True)}
        weights = torch.full((6,), 0.1, dtype=dtype, device=device)
        return Problem(
            theta,
            lambda t: Independent(Bernoulli(logits=t["logits"]), 1),
            lambda _q: lambda x: ((x * weights).sum(-1) > 0.3).to(x),
        )


RIGHT = [
    OwnChain(),
    Saturated(),
    RareJump(),
    Ties(),
    Sparse(),
    SparseReward(),
    Slow(),
    WholeNumbers(),
    Attention(),
    Jump(),
    BlackBox(),
    LargeConstant(),
    Integers(),
    RareTail(),
    Simplex(),
    Counts(),
]


@dies("test_q_can_be_split_into_rows", "log q depends on theta['slope'], and no parameter of q does")
@dataclass(frozen=True)
class HiddenWeights(GaussianThenCategorical):
    """The second layer holds a tensor of theta, not of the weights that it gets."""

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)

        def q(theta):
            right = problem.q(theta)
            second = lambda w, z: right.layers[1]({**w, "slope": theta["slope"]}, z)  # noqa: E731
            own = {name: t for name, t in right.weights.items() if name != "slope"}
            return Layers(own, (right.layers[0], second))

        return replace(problem, q=q)


@dies("test_q_can_be_split_into_rows", "log q at one sample depends on the other samples")
@dataclass(frozen=True)
class LayerNormalisedOverSamples(GaussianThenCategorical):
    """The second layer subtracts the mean over the samples, as batch norm does."""

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)

        def q(theta):
            right = problem.q(theta)
            centred = lambda w, z: right.layers[1](w, z - z.mean(0, keepdim=z.dim() > 1))  # noqa: E731
            return Layers(right.weights, (right.layers[0], centred))

        return replace(problem, q=q)


class Costs(RandomWalk):
    """A short walk whose costs are what a subclass says."""

    def costs_of(self, x):
        raise NotImplementedError

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)
        return replace(problem, integrand=lambda q: Return(self.costs_of, total=problem.integrand(q).total))


@dies("test_costs_do_not_look_ahead", "cost 0 (counted from 0) changes with choice 1: it looks at later choices")
@dataclass(frozen=True)
class CostAhead(Costs):
    dim: int = 5

    def costs_of(self, x):
        return (x * (2 * x.cumsum(-1) - x)).flip(-1)


@dies("test_costs_do_not_look_ahead", "the costs do not sum to f")
@dataclass(frozen=True)
class CostMissing(Costs):
    dim: int = 5

    def costs_of(self, x):
        return x * x.cumsum(-1)


class Permuted(Walk):
    """Steps whose log-probabilities are in the columns of other steps."""

    def log_probs(self, value):
        return super().log_probs(value).flip(-1)


@dies("test_choices_do_not_look_ahead", "the log-probability of choice 0 (counted from 0) changes with choice 1")
@dataclass(frozen=True)
class ColumnsPermuted(RandomWalk):
    dim: int = 5

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)

        def q(theta):
            right = problem.q(theta)
            return Permuted(right.length, right.steps)

        return replace(problem, q=q)


@dies("test_costs_do_not_look_ahead", "declares costs = True, and its integrand is not a Return")
@dataclass(frozen=True)
class CostsDeclared(RandomWalk):
    dim: int = 5

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)
        return replace(problem, integrand=lambda q: problem.integrand(q).total)


@dataclass(frozen=True)
class Sets(BestOfK):
    """A set function whose ``combine`` is what a subclass says."""

    def combine(self, values):
        raise NotImplementedError

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)
        return replace(problem, integrand=lambda q: replace(problem.integrand(q), combine=self.combine), exact=None)


@dies("test_sets_have_no_order", "combine depends on the order of the values")
@dataclass(frozen=True)
class FirstOfK(Sets):
    def combine(self, values):
        return values[..., 0]


@dies("test_sets_have_no_order", "declares sets = True, and its integrand is not a SetFunction")
@dataclass(frozen=True)
class SetsDeclared(BestOfK):
    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)
        return replace(problem, integrand=lambda q: lambda x: problem.integrand(q)(x))
