"""Objectives: exact values and gradients against independent computations, then against unbiased estimators."""

import dataclasses
import inspect
import itertools
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from sklearn.datasets import load_breast_cancer
from torch import Generator
from torch.autograd import forward_ad
from torch.distributions import Bernoulli, Distribution, Normal, OneHotCategorical, kl_divergence
from torch.nn.functional import logsigmoid

from bench import objectives
from bench.objectives import (
    BernoulliQuadratic,
    BernoulliVAE,
    BestOfK,
    BetaMoment,
    CategoricalLinearQuadratic,
    CategoricalPolynomial,
    CategoricalVAE,
    Corridor,
    DirichletMultinomial,
    Discontinuous,
    ExponentialMoment,
    GammaQuadratic,
    GaussianCosine,
    GaussianExponential,
    GaussianMixture,
    GaussianQuadratic,
    GaussianThenCategorical,
    GaussianVAE,
    HierarchicalPoisson,
    ImportanceWeighted,
    LinearQuadraticRegulator,
    LogisticRegression,
    Objective,
    PoissonNegativeBinomial,
    PoissonQuadratic,
    Problem,
    Qubo,
    RandomWalk,
    SharedBernoulli,
    SigmoidBeliefNetwork,
    SubsetQuadratic,
    Verifier,
    VonMisesMean,
    catalogue,
    logistic_regression,
)
from bench.objectives.categorical_linear_quadratic import linear_quadratic
from bench.objectives.log_sigmoid import sum_log_sigmoid
from bench.objectives.logistic_regression import expected_log_sigmoid, log_likelihood, signed_data
from bench.objectives.mean_field import mean_field
from bench.objectives.squares import squared_distance
from estimators import RLOO, Bound, Enumeration, Reparameterization, ScoreFunction, draw, inner, parameters, rows
from tests.objectives.problems import flat, gradient_of, sharp
from tests.tolerances import z_limit

POINTS = [
    GaussianQuadratic(),
    GaussianQuadratic(dim=1, target=-0.5, mean=-2.0, scale=0.5),
    GaussianQuadratic(dim=3, target=0.7, mean=0.2, scale=1.7),
    GaussianExponential(),
    GaussianExponential(k=0.3, mean=-0.7, scale=0.5),
    GaussianExponential(k=8.0, mean=0.4, scale=1.5),
    ExponentialMoment(),
    ExponentialMoment(rate=0.4, mean=0.3, scale=0.7),
    ExponentialMoment(rate=0.1, power=2, mean=-0.5),
    ExponentialMoment(rate=1.1, power=2, scale=0.5),
    GaussianCosine(),
    GaussianCosine(k=2.5, mean=0.4, scale=0.6),
    BernoulliQuadratic(),
    BernoulliQuadratic(dim=4, target=0.3, logit=-2.0),
    BernoulliQuadratic(dim=200, target=0.45, logit=1.0),
    CategoricalLinearQuadratic(),
    CategoricalLinearQuadratic(dim=3, classes=4, seed=5),
    CategoricalPolynomial(),
    CategoricalPolynomial(dim=5, power=1.5, target=0.3, seed=7),
    CategoricalPolynomial(dim=3, power=3.0, target=-0.2, seed=1),
    LogisticRegression(),
    LogisticRegression(mean=0.3, log_scale=-1.5),
    Qubo(),
    Qubo(dim=7, degree=3.0, seed=4),
    SharedBernoulli(),
    SharedBernoulli(logit=-4.0),
    PoissonQuadratic(),
    PoissonQuadratic(dim=3, target=1.5, rate=0.4),
    PoissonNegativeBinomial(),
    PoissonNegativeBinomial(failures=2.5, probability=0.6, rate=45.0),
    GammaQuadratic(),
    GammaQuadratic(dim=3, target=1.5, concentration=0.7, rate=2.0),
    BetaMoment(),
    BetaMoment(dim=3, power=2.5, concentration1=0.7, concentration0=1.4),
    DirichletMultinomial(),
    DirichletMultinomial(dim=4, count=30, prior=0.5, concentration=1.3, seed=2),
    SubsetQuadratic(),
    SubsetQuadratic(dim=6, k=2, seed=3),
    VonMisesMean(),
    VonMisesMean(dim=3, target=0.7, loc=-2.5, concentration=0.4),
    GaussianMixture(),
    GaussianMixture(components=4, spread=1.5, scale=0.2),
    GaussianMixture(spread=-6.0, scale=5.0),
    HierarchicalPoisson(),
    HierarchicalPoisson(groups=3, places=4, mean=0.2, log_scale=-1.5, seed=3),
    LinearQuadraticRegulator(),
    LinearQuadraticRegulator(horizon=3, discount=0.8, gain=-0.3, scale=1.2, noise=0.4),
    RandomWalk(),
    RandomWalk(dim=9, length=4.0),
    Discontinuous(),
    Discontinuous(dim=3, target=1.0, jump=-2.0, threshold=0.3, mean=-0.2, scale=0.6),
]
SMALL = [o for o in POINTS if o.family in (Bernoulli, OneHotCategorical) and o.dim <= 10]
ELSEWHERE = {  # tested in other files
    BernoulliVAE,
    BestOfK,
    CategoricalVAE,
    Corridor,
    GaussianThenCategorical,
    GaussianVAE,
    ImportanceWeighted,
    SigmoidBeliefNetwork,
    Verifier,
}
LOGISTICS = [o for o in POINTS if type(o) is LogisticRegression]
over_points = pytest.mark.parametrize("objective", POINTS, ids=repr)
LOGISTIC = LogisticRegression()


def integrand(problem: Problem):
    return problem.integrand(problem.q(problem.theta))


def points_of_q(problem: Problem, n: int, seed: int = 0) -> torch.Tensor:
    return draw(problem.q(problem.theta), n, Generator().manual_seed(seed))


# Checks: each of them asserts, so that the mutants below can show what it refutes -------------------------------------


def check_derivative(problem: Problem) -> None:
    """Compare autograd of the exact value with a five-point difference, along random directions."""
    theta = flat(problem.theta.values()).detach()
    sizes = [t.numel() for t in problem.theta.values()]

    def exact(at: torch.Tensor) -> float:
        parts = at.split(sizes)
        return problem.exact(
            {k: part.reshape(t.shape) for (k, t), part in zip(problem.theta.items(), parts, strict=True)}
        ).item()

    gradient, h = gradient_of(problem), 2e-3
    for seed in range(3):
        v = torch.randn(len(theta), generator=Generator().manual_seed(seed), dtype=torch.float64)
        v /= v.norm()
        f = {k: exact(theta + k * h * v) for k in (-2, -1, 1, 2)}
        difference = (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * h)
        scale = gradient.norm().item() + abs(f[1])  # error: h^4 of the fifth derivative, and rounding of f / h
        assert (gradient @ v).item() == pytest.approx(difference, rel=0, abs=1e-9 * scale)


def check_value(objective: Objective, problem: Problem) -> None:
    """Compare the exact value with an independent integral or sum of the problem's own f."""
    expected = independent_value(objective, problem)
    assert problem.exact(problem.theta).item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def replicates(objective: Objective) -> int:
    quick = objective.dim <= 10 and objective.family in (Normal, Bernoulli, OneHotCategorical)
    return 4_096 if objective.bound else 2**18 if quick else 2**14


def estimates(objective: Objective, problem: Problem, estimator) -> torch.Tensor:
    """Return the values and gradients in theta of independent calls, ``[R, 1 + size]``."""
    q, generator = problem.q(problem.theta), Generator().manual_seed(0)
    names, theta = list(parameters(q)), list(problem.theta.values())
    count = min(replicates(objective), 2**20 // objective.row_elements)
    out = []
    for _ in range(0, replicates(objective), count):
        many = rows(q, count)
        loss = estimator(problem.integrand(many), many, generator)
        own = torch.autograd.grad(loss.sum(), [parameters(many)[name] for name in names])
        made = [parameters(q)[name] for name in names]
        pulled = torch.autograd.grad(made, theta, own, is_grads_batched=True, retain_graph=True)
        out.append(torch.cat([loss.detach().unsqueeze(-1), *(t.flatten(1) for t in pulled)], 1))
    return torch.cat(out)


COMPARISONS = sum(1 + sum(t.numel() for t in o.build().theta.values()) for o in POINTS)


def check_unbiased(objective: Objective, problem: Problem) -> None:
    """Compare exact value and gradient with the mean of an unbiased estimator, in standard errors per coordinate."""
    smooth = objective.family is Normal and type(objective) is not Discontinuous
    estimator = Reparameterization() if smooth else RLOO(n=4)
    sample = estimates(objective, problem, estimator)
    expected = torch.cat([problem.exact(problem.theta).detach().reshape(1), gradient_of(problem)])
    z = (sample.mean(0) - expected) / (sample.std(0) / math.sqrt(len(sample)))
    assert z.isfinite().all()
    assert z.abs().max() < z_limit(COMPARISONS)


def check_rows_apart(problem: Problem) -> None:
    """f accepts any axes on the left, and the value of one element does not depend on the others."""
    f, x = integrand(problem), points_of_q(problem, 12)
    deep = f(x.reshape(3, 2, 2, *x.shape[1:]))
    assert deep.shape == (3, 2, 2)
    singly = torch.stack([f(one) for one in x])
    torch.testing.assert_close(deep.reshape(12), singly, rtol=1e-12, atol=1e-12)
    others = points_of_q(problem, 50, seed=1)
    changed = x.clone()
    changed[0] = others[f(others) != f(x)[0]][0]
    assert torch.equal(f(changed)[1:], f(x)[1:])


def check_dtype(objective: Objective, dtype: torch.dtype) -> None:
    problem = objective.build(dtype)
    q = problem.q(problem.theta)
    x = draw(q, 2, Generator().manual_seed(0))
    tensors = [*problem.theta.values(), *parameters(q).values(), problem.integrand(q)(x), problem.exact(problem.theta)]
    assert {t.dtype for t in tensors} == {dtype}


def independent_value(objective: Objective, problem: Problem) -> float:
    f = integrand(problem)
    match objective:
        case GaussianQuadratic(dim=dim, mean=mean, scale=scale):
            # Equal weights at distance sqrt(dim) along each axis are exact for polynomials of degree 3.
            axes = torch.eye(dim, dtype=torch.float64) * scale * math.sqrt(dim)
            return f(mean + torch.cat([axes, -axes])).mean().item()
        case GaussianExponential(mean=mean, scale=scale) | GaussianCosine(mean=mean, scale=scale):
            z, weight = np.polynomial.legendre.leggauss(400)
            x = torch.from_numpy(mean + scale * 10 * z).unsqueeze(-1)
            return float(f(x).numpy() @ (weight * 10 * np.exp(-50 * z**2) / math.sqrt(2 * math.pi)))
        case ExponentialMoment(mean=mean, scale=scale):
            z, weight = np.polynomial.legendre.leggauss(1000)
            x = torch.from_numpy(mean + scale * 36 * z).unsqueeze(-1)
            return float(f(x).numpy() @ (weight * 36 * np.exp(-648 * z**2) / math.sqrt(2 * math.pi)))
        case BernoulliQuadratic(dim=dim, logit=logit):
            p = np.full(dim, 1 / (1 + math.exp(-logit)))
            return value_on_bits(f, p)
        case CategoricalPolynomial():
            odds = np.exp(problem.theta["logits"].detach().numpy())
            p = odds[:, 0] / odds.sum(1)
            return value_on_bits(lambda b: f(torch.stack([b, 1 - b], -1)), p)
        case CategoricalLinearQuadratic(dim=dim, classes=classes):
            # E (b.z)^2 is the square of the mean plus the variance; the variances of independent variables add up.
            p = problem.theta["logits"].softmax(-1).detach()
            each = torch.eye(classes, dtype=torch.float64)
            base = p.expand(classes, dim, classes)
            at_p = f(p)
            moved = [f(torch.cat([base[:, :i], each[:, None], base[:, i + 1 :]], 1)) for i in range(dim)]
            return (at_p + sum(p[i] @ (moved[i] - at_p) for i in range(dim))).item()
        case Qubo(dim=dim):
            # At most two bits interact: f at no bit, at every single bit and at every pair determines E f.
            p = problem.theta["logits"].sigmoid().detach()
            i, j = torch.triu_indices(dim, dim, 1)
            eye = torch.eye(dim, dtype=torch.float64)
            none, each = f(torch.zeros_like(p)), f(eye)
            pairs = f(eye[i] + eye[j]) - each[i] - each[j] + none
            return (none + p @ (each - none) + (p[i] * p[j]) @ pairs).item()
        case SharedBernoulli(logit=logit):
            return value_on_bits(f, np.full(3, 1 / (1 + math.exp(-logit))))
        case PoissonQuadratic(dim=dim, rate=rate) | PoissonNegativeBinomial(dim=dim, rate=rate):
            x = np.arange(400.0)
            return float(stats.poisson.pmf(x, rate) @ alike(f, x, dim))
        case GammaQuadratic(dim=dim, concentration=a, rate=rate):
            x, weight = special.roots_genlaguerre(20, a - 1)
            return float(weight / weight.sum() @ alike(f, x / rate, dim))
        case BetaMoment(dim=dim, concentration1=a, concentration0=b):
            integral, _ = integrate.quad(
                lambda x: alike(f, np.array([x]), dim).item(),
                0,
                1,
                weight="alg",
                wvar=(a - 1, b - 1),
                epsabs=0,
                epsrel=1e-13,
            )
            return integral / special.beta(a, b)
        case DirichletMultinomial(dim=dim, concentration=a):
            # f is a constant plus multiples of log x_k, off the simplex too; x_k ~ Beta(a, (dim - 1) a).
            ones = torch.ones(dim, dtype=torch.float64)
            slopes = f(ones + (math.e - 1) * torch.eye(dim, dtype=torch.float64)) - f(ones)
            rest = (dim - 1) * a
            log_x = integrate.quad(
                lambda u: u * math.exp(a * u) * (-math.expm1(u)) ** (rest - 1), -100, 0, epsabs=0, epsrel=1e-13
            )[0]
            return (f(ones) + slopes.sum() * log_x / special.beta(a, rest)).item()
        case SubsetQuadratic(dim=dim, k=k):
            states = np.array([x for x in itertools.product([0.0, 1.0], repeat=dim) if sum(x) == k])
            weight = np.exp(states @ problem.theta["logits"].detach().numpy())
            return float(weight / weight.sum() @ f(torch.from_numpy(states)).numpy())
        case VonMisesMean(dim=dim, loc=loc, concentration=k):
            x = np.arange(400) * math.tau / 400
            weight = np.exp(k * np.cos(x - loc))
            return float(weight / weight.sum() @ alike(f, x, dim))
        case GaussianMixture(components=count, spread=spread, scale=scale):
            return sum(normal_panels(f, m, scale, 1) for m in np.linspace(-spread, spread, count)) / count
        case HierarchicalPoisson(groups=groups, places=places, mean=m, log_scale=log_s):
            # Given the other variables, f is a sum over the effects of groups and of places: all may move together.
            node, weight = np.polynomial.hermite_e.hermegauss(10)
            x = m + math.exp(log_s) * torch.from_numpy(np.array(list(itertools.product(node, repeat=5))))
            parts = [x[:, :3], x[:, 3:4].expand(-1, groups), x[:, 4:].expand(-1, places)]
            weights = np.prod(list(itertools.product(weight / weight.sum(), repeat=5)), axis=1)
            return float(weights @ f(torch.cat(parts, 1)).detach().numpy())
        case LinearQuadraticRegulator(dim=dim):
            q = problem.q(problem.theta)
            axes = q.scale_tril.T * math.sqrt(dim)
            return f(q.loc + torch.cat([axes, -axes])).mean().item()
        case RandomWalk(dim=dim, length=length) if dim <= 10:
            paths = np.array(list(itertools.product([1.0, -1.0], repeat=dim)))
            up = np.exp(-np.maximum(paths.cumsum(1) - paths, 0) / length)
            return float(np.where(paths > 0, up, 1 - up).prod(1) @ f(torch.from_numpy(paths)).numpy())
        case RandomWalk(dim=dim, length=length):
            up = np.exp(-np.arange(dim + 1) / length)
            move = np.diag(up[:-1], 1) + np.diag(1 - up[1:], -1)
            ends = torch.arange(dim + 1.0, dtype=torch.float64).unsqueeze(-1)
            return float(np.linalg.matrix_power(move, dim)[0] @ f(ends).numpy())
        case Discontinuous(dim=dim, threshold=threshold, mean=mean, scale=scale):
            return normal_panels(f, mean, scale, dim, threshold)
        case LogisticRegression():
            mean, scale = (t.detach().numpy() for t in parameters(problem.q(problem.theta)).values())
            x, sign = breast_cancer()
            m, s = sign * (x @ mean), np.sqrt(x**2 @ scale**2)
            likelihood = panels(m, s, lambda a: -np.logaddexp(0, -a)).sum()
            prior = mean_field({k: torch.zeros_like(t) for k, t in problem.theta.items()})
            return float(likelihood - kl_divergence(problem.q(problem.theta), prior).item())
    raise AssertionError(f"no independent value for {objective!r}")


def value_on_bits(f, p: np.ndarray) -> float:
    """Return E f as the sum over all states; if there are too many, over single flips, exact for an affine f."""
    if len(p) <= 10:
        states = np.array(list(itertools.product([0.0, 1.0], repeat=len(p))))
        probability = np.where(states == 1, p, 1 - p).prod(1)
        return float(probability @ f(torch.from_numpy(states)).numpy())
    none, each = f(torch.zeros(len(p), dtype=torch.float64)), f(torch.eye(len(p), dtype=torch.float64))
    return float(none + torch.from_numpy(p) @ (each - none))


def alike(f, x: np.ndarray, dim: int) -> np.ndarray:
    """Return f with equal coordinates; it has the mean of f if f is a sum over coordinates with the same law."""
    return f(torch.from_numpy(x).unsqueeze(-1).expand(-1, dim)).detach().numpy()


def normal_panels(f, mean: float, scale: float, dim: int, jump: float | None = None) -> float:
    """Return E f(x, ..., x), x ~ N(mean, scale^2), by 10-point Gauss-Legendre panels that end at the jump."""
    node, weight = np.polynomial.legendre.leggauss(10)
    ends = np.sort(np.append(np.linspace(-12, 12, 241), [] if jump is None else [(jump - mean) / scale]))
    half = np.diff(ends)[:, None] / 2
    z, w = (ends[:-1, None] + half * (1 + node)).ravel(), (half * weight).ravel()
    return float((w * stats.norm.pdf(z)) @ alike(f, mean + scale * z, dim))


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    return np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(x))]), np.where(y == 1, 1.0, -1.0)


def panels(m: np.ndarray, s: np.ndarray, g) -> np.ndarray:
    """Return E g(a), a ~ N(m, s^2), by 240 panels of 10-point Gauss-Legendre between -9 and 9 standard deviations."""
    node, weight = np.polynomial.legendre.leggauss(10)
    left = np.linspace(-9, 9, 241)[:-1]
    half = 9 / 240
    z = (left[:, None] + half * (1 + node)).ravel()
    w = np.tile(weight * half, 240) * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return g(m[:, None] + s[:, None] * z) @ w


# Exact ---------------------------------------------------------------------------------------------------------------


def test_every_objective_is_tested_at_its_default_and_at_another_point():
    for cls in set(catalogue().values()) - ELSEWHERE:
        assert cls() in POINTS
        assert sum(type(o) is cls for o in POINTS) >= 2


@over_points
def test_autograd_gives_the_derivative_of_the_exact_value(objective):
    check_derivative(sharp(objective))


@over_points
def test_exact_value_is_the_expectation_of_f(objective):
    check_value(objective, sharp(objective))


@pytest.mark.parametrize("objective", SMALL, ids=repr)
def test_exact_gradient_equals_the_sum_over_all_states(objective):
    problem = sharp(objective)
    q = problem.q(problem.theta)
    loss = Enumeration()(problem.integrand(q), q)
    gradient = flat(torch.autograd.grad(loss, list(problem.theta.values())))
    torch.testing.assert_close(gradient_of(problem), gradient, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(problem.exact(problem.theta), loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", [o for o in POINTS if type(o) is GaussianQuadratic], ids=repr)
def test_gaussian_quadratic_gradient(objective):
    a, variance = objective.mean - objective.target, objective.scale**2
    expected = torch.tensor([2 * a, 2 * variance], dtype=torch.float64).repeat_interleave(objective.dim)
    torch.testing.assert_close(gradient_of(sharp(objective)), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("target", "p", "expected"), [(0.45, 0.5, 0.025), (0.45, 0.1, 0.009), (0.499, 0.5, 5e-4), (0.49, 0.9, 0.0018)]
)
def test_bernoulli_quadratic_gradient_is_pq_times_the_difference_of_f(target, p, expected):
    objective = BernoulliQuadratic(dim=2, target=target, logit=math.log(p / (1 - p)))
    assert gradient_of(sharp(objective)).tolist() == pytest.approx([expected] * 2, rel=1e-12)


@pytest.mark.parametrize(("power", "value"), [(1.5, 0.354880), (2.0, 0.252500), (3.0, 0.128750)])
def test_categorical_polynomial_at_equal_odds(power, value):
    problem = sharp(CategoricalPolynomial(power=power))
    even = {"logits": torch.zeros(128, 2, dtype=torch.float64, requires_grad=True)}
    assert problem.exact(even).item() == pytest.approx(value, abs=5e-7)
    (gradient,) = torch.autograd.grad(problem.exact(even), [even["logits"]])
    slope = 0.25 * (0.55**power - 0.45**power) / 128
    expected = torch.tensor([slope, -slope], dtype=torch.float64).expand(128, 2)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", LOGISTICS, ids=repr)
def test_logistic_regression_gradient_by_the_gaussian_identities(objective):
    """Bonnet: d/dmean E g = E g'. Price: d/dvariance E g = E g'' / 2. Neither differentiates through a node."""
    problem = sharp(objective)
    mean, scale = (t.detach().numpy() for t in parameters(problem.q(problem.theta)).values())
    x, sign = breast_cancer()
    m, s = sign * (x @ mean), np.sqrt(x**2 @ scale**2)
    first = panels(m, s, lambda a: 0.5 * (1 - np.tanh(a / 2)))
    second = panels(m, s, lambda a: -0.25 / np.cosh(a / 2) ** 2)
    by_mean = x.T @ (sign * first) - mean
    by_log_scale = scale**2 * ((x**2).T @ second) - scale**2 + 1
    gradient = gradient_of(problem).numpy()
    np.testing.assert_allclose(gradient, np.concatenate([by_mean, by_log_scale]), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("m", "s"),
    [(0.0, 1e-6), (0.0, 0.5), (2.0, 0.74), (-3.0, 0.76), (0.0, 21.0), (-30.0, 5.0), (800.0, 2.0), (5.0, 160.0)],
)
def test_the_integral_of_log_sigmoid(m, s):
    def weighted(z: float) -> float:
        return -np.logaddexp(0, -(m + s * z)) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    kink = min(max(-m / s, -9.0), 9.0)
    parts = [
        integrate.quad(weighted, a, b, epsabs=1e-13, epsrel=1e-13, limit=500)[0]
        for a, b in itertools.pairwise(sorted([-10.0, kink - 20 / max(s, 2), kink, kink + 20 / max(s, 2), 10.0]))
    ]
    alone = expected_log_sigmoid(torch.tensor([m], dtype=torch.float64), torch.tensor([s], dtype=torch.float64))
    beside = expected_log_sigmoid(
        torch.tensor([m, 1.0], dtype=torch.float64), torch.tensor([s, 40.0], dtype=torch.float64)
    )
    assert alone.item() == pytest.approx(sum(parts), rel=1e-12, abs=1e-14)
    assert beside[0].item() == pytest.approx(sum(parts), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 1e4])
def test_a_sum_of_log_sigmoids_is_the_sum_of_its_terms(scale, dtype, tolerance):
    """The products are smallest at 0; far from 0 a sigmoid underflows and has no logarithm."""
    x = torch.randn(569, 1, generator=torch.Generator().manual_seed(0), dtype=dtype)
    w = torch.tensor([[[scale], [-scale / 3]]], dtype=dtype)
    expected = logsigmoid((w * x.squeeze(1)).double()).sum(-1)
    a = w * x.squeeze(1)
    for got in (log_likelihood(w, x), sum_log_sigmoid(a), sum_log_sigmoid(a.requires_grad_())):
        assert (got.dtype, got.shape) == (dtype, (1, 2))
        torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=0.0)


def has_derivatives(f, x):
    assert torch.autograd.gradcheck(f, [x], check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, [x])
    along = torch.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).view_as(x)
    (slope,) = torch.autograd.grad(f(x).sum(), [x])
    with forward_ad.dual_level():  # x requires a backward gradient at the same time
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(x, along))).tangent
    torch.testing.assert_close(tangent.sum(), (slope * along).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [3, 16, 31])
@pytest.mark.parametrize("products", [1, 10, 15, 2**18])  # with 5 data rows: 1, 2, 3 points at a time, and all at once
def test_the_likelihood_of_logistic_regression_has_derivatives(monkeypatch, products, dim):
    monkeypatch.setattr(logistic_regression, "PRODUCTS", products)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, dim, generator=generator, dtype=torch.float64)
    w = torch.randn(2, 2, dim, generator=generator, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(log_likelihood(w, x), logsigmoid(w @ x.T).sum(-1), rtol=1e-13, atol=0)
    has_derivatives(lambda w: log_likelihood(w, x), w)


def test_the_likelihood_of_logistic_regression_keeps_a_gradient_for_each_point_and_no_products():
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (50, 4))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        log_likelihood(w.requires_grad_(), x)
    assert kept == [w.shape, w.shape]


@pytest.mark.parametrize("count", [2, 130])
def test_a_sum_of_log_sigmoids_has_derivatives(count):
    a = torch.randn(2, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    has_derivatives(sum_log_sigmoid, a)


@pytest.mark.parametrize("dim", [1, 3])
def test_a_squared_distance_has_derivatives(dim):
    x = torch.randn(2, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor(0.3, dtype=torch.float64)
    for each in (x, x.clone().requires_grad_()):
        assert squared_distance(each, target).tolist() == (x - 0.3).square().sum(-1).tolist()
    has_derivatives(lambda x: squared_distance(x, target), x.requires_grad_())
    none = torch.zeros(0, dim, requires_grad=True)
    (g,) = torch.autograd.grad(squared_distance(none, torch.tensor(0.3)).sum(), none)
    assert g.shape == (0, dim)


def test_a_linear_and_a_quadratic_term_have_derivatives():
    x, (a, b) = (torch.randn(2, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1))
    has_derivatives(lambda x: linear_quadratic(x, a, b), x.requires_grad_())


def test_the_data_of_logistic_regression():
    x, sign = breast_cancer()
    assert x.shape == (LOGISTIC.row_elements, LOGISTIC.dim)
    assert (sign == 1).sum() == 357
    np.testing.assert_allclose(signed_data().numpy(), sign[:, None] * x, rtol=1e-12, atol=1e-12)
    assert signed_data() is signed_data()


def test_the_bound_shows_its_weights():
    problem = sharp(LOGISTIC)
    q = problem.q(problem.theta)
    bound, w = problem.integrand(q), points_of_q(problem, 5)
    assert isinstance(bound, Bound)
    x, sign = (torch.from_numpy(a) for a in breast_cancer())
    likelihood = Bernoulli(logits=w @ x.T).log_prob((sign + 1) / 2).sum(-1)
    prior = Normal(torch.zeros(31, dtype=torch.float64), 1.0).log_prob(w).sum(-1)
    torch.testing.assert_close(bound.log_joint(w), likelihood + prior, rtol=1e-12, atol=0)
    torch.testing.assert_close(bound(w), likelihood + prior - q.log_prob(w), rtol=1e-12, atol=0)


@over_points
def test_f_keeps_elements_apart(objective):
    check_rows_apart(sharp(objective))


@over_points
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_is_respected(objective, dtype):
    check_dtype(objective, dtype)


@over_points
def test_every_dtype_has_the_same_point(objective):
    single, double = objective.build(torch.float32).theta, sharp(objective).theta
    assert single.keys() == double.keys()
    for name, t in single.items():
        assert torch.equal(double[name].float(), t)


@over_points
def test_device_is_respected(objective, monkeypatch):
    monkeypatch.setattr(Distribution, "_validate_args", False)  # OneHotCategorical does not pass its own setting on
    problem = objective.build(device="meta")
    q = problem.q(problem.theta)
    x = torch.empty(3, *q.event_shape, device="meta")
    tensors = [*problem.theta.values(), *parameters(q).values(), problem.integrand(q)(x)]
    assert {t.device.type for t in tensors} == {"meta"}


# Declarations --------------------------------------------------------------------------------------------------------


@over_points
def test_the_problem_is_what_was_declared(objective):
    problem = objective.build()
    q = problem.q(problem.theta)
    assert type(inner(q)) is objective.family
    assert not q._validate_args
    assert not inner(q)._validate_args
    assert q.batch_shape == ()
    event = q.event_shape[:-1] if objective.family is OneHotCategorical else q.event_shape
    assert event == (objective.dim,)
    assert isinstance(problem.integrand(q), Bound) == objective.bound
    assert objective.reference
    assert problem.extra == {}
    for t in problem.theta.values():
        assert t.is_leaf
        assert t.requires_grad


@over_points
def test_gradients_of_f_exist_off_the_support_too(objective):
    assert objective.differentiable
    assert objective.relaxable
    problem = sharp(objective)
    x = points_of_q(problem, 3).mul(0.8).add(0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(integrand(problem)(x).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.count_nonzero() > 0


@over_points
def test_an_objective_is_plain_values(objective):
    assert all(type(v) in (int, float, str) for v in dataclasses.astuple(objective))
    assert eval(repr(objective)) == objective
    assert hash(eval(repr(objective))) == hash(objective)
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.dim = 2


def test_an_infinite_exponential_moment_is_refused():
    with pytest.raises(ValueError, match=r"below 1 / \(2 scale\^2\) with power=2 \(got rate=0\.5 .*Use rate=0\.35\."):
        ExponentialMoment(rate=0.5, power=2)
    ExponentialMoment(rate=0.5, power=2, scale=0.9)


@pytest.mark.parametrize(("power", "value", "gradient"), [(1, math.exp(0.5), [1, 1]), (2, 5**0.5, [0, 4])])
def test_the_exponential_moments_by_hand(power, value, gradient):
    problem = sharp(ExponentialMoment(rate=1.0 if power == 1 else 0.4, power=power))
    assert problem.exact(problem.theta).item() == pytest.approx(value, rel=1e-14)
    assert gradient_of(problem).tolist() == pytest.approx([g * value for g in gradient], rel=1e-14)


def test_whole_numbers_and_floats_have_the_same_identity():
    assert repr(GaussianQuadratic(mean=2, scale=3)) == repr(GaussianQuadratic(mean=2.0, scale=3.0))
    assert repr(CategoricalPolynomial(power=3)) == repr(CategoricalPolynomial(power=3.0))


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (GaussianQuadratic, "dim", 0),
        (GaussianQuadratic, "dim", 2.0),
        (GaussianQuadratic, "dim", True),
        (GaussianQuadratic, "target", math.nan),
        (GaussianQuadratic, "mean", "1"),
        (GaussianQuadratic, "mean", True),
        (GaussianQuadratic, "scale", 0.0),
        (GaussianExponential, "k", -1.0),
        (GaussianExponential, "mean", math.inf),
        (GaussianExponential, "scale", -1.0),
        (ExponentialMoment, "rate", 0.0),
        (ExponentialMoment, "power", 3),
        (ExponentialMoment, "power", True),
        (ExponentialMoment, "mean", math.nan),
        (ExponentialMoment, "scale", math.inf),
        (GaussianCosine, "k", math.nan),
        (GaussianCosine, "mean", None),
        (GaussianCosine, "scale", math.inf),
        (BernoulliQuadratic, "dim", -3),
        (BernoulliQuadratic, "target", math.inf),
        (BernoulliQuadratic, "logit", math.inf),
        (CategoricalPolynomial, "dim", 0),
        (CategoricalPolynomial, "power", 0.5),
        (CategoricalPolynomial, "power", math.nan),
        (CategoricalPolynomial, "target", math.nan),
        (CategoricalPolynomial, "seed", -1),
        (LogisticRegression, "mean", math.nan),
        (LogisticRegression, "log_scale", 3.5),
        (LogisticRegression, "log_scale", -math.inf),
        (Qubo, "dim", 1),
        (Qubo, "degree", 0.0),
        (Qubo, "seed", -1),
        (SharedBernoulli, "logit", math.nan),
        (PoissonQuadratic, "dim", 0),
        (PoissonQuadratic, "target", math.inf),
        (PoissonQuadratic, "rate", 0.0),
        (PoissonNegativeBinomial, "failures", 0.0),
        (PoissonNegativeBinomial, "probability", 1.0),
        (PoissonNegativeBinomial, "rate", 1e4),
        (GammaQuadratic, "dim", 0),
        (GammaQuadratic, "target", "0"),
        (GammaQuadratic, "concentration", 0.0),
        (GammaQuadratic, "rate", -1.0),
        (BetaMoment, "dim", 0),
        (BetaMoment, "power", 0.5),
        (BetaMoment, "concentration1", 0.0),
        (BetaMoment, "concentration0", math.inf),
        (DirichletMultinomial, "dim", 1),
        (DirichletMultinomial, "count", 0),
        (DirichletMultinomial, "prior", 0.0),
        (DirichletMultinomial, "concentration", -1.0),
        (DirichletMultinomial, "seed", -1),
        (SubsetQuadratic, "dim", 1),
        (SubsetQuadratic, "k", 0),
        (SubsetQuadratic, "seed", -1),
        (VonMisesMean, "dim", 0),
        (VonMisesMean, "target", math.nan),
        (VonMisesMean, "loc", math.inf),
        (VonMisesMean, "concentration", 0.0),
        (GaussianMixture, "components", 1),
        (GaussianMixture, "spread", math.inf),
        (GaussianMixture, "scale", 0.0),
        (HierarchicalPoisson, "groups", 0),
        (HierarchicalPoisson, "places", 0),
        (HierarchicalPoisson, "mean", 11.0),
        (HierarchicalPoisson, "log_scale", 1.5),
        (HierarchicalPoisson, "seed", -1),
        (LinearQuadraticRegulator, "horizon", 0),
        (LinearQuadraticRegulator, "discount", 1.5),
        (LinearQuadraticRegulator, "gain", math.nan),
        (LinearQuadraticRegulator, "scale", 0.0),
        (LinearQuadraticRegulator, "noise", 0.0),
        (RandomWalk, "dim", 0),
        (RandomWalk, "length", 0.0),
        (Discontinuous, "dim", 0),
        (Discontinuous, "target", math.nan),
        (Discontinuous, "jump", math.inf),
        (Discontinuous, "threshold", math.nan),
        (Discontinuous, "mean", math.nan),
        (Discontinuous, "scale", 0.0),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(cls, field, value):
    with pytest.raises(ValueError, match="needs") as caught:
        cls(**{field: value})
    message = str(caught.value)
    assert message.startswith(f"{cls.__name__} needs a ")
    assert f"(got {field}={value!r}" in message
    assert message.endswith(f"Use {field}={getattr(cls, field)!r}.")


def test_the_catalogue_has_every_exported_objective_by_its_name():
    exported = [getattr(objectives, name) for name in objectives.__all__]
    classes = {x for x in exported if inspect.isclass(x) and issubclass(x, Objective)} - {Objective}
    assert set(catalogue().values()) == classes
    assert len(catalogue()) == len(classes) >= 25
    assert [name.replace("-", "") for name in catalogue()] == [c.__name__.lower() for c in catalogue().values()]
    assert catalogue()["gaussian-quadratic"] is GaussianQuadratic
    assert catalogue()["bernoulli-vae"] is BernoulliVAE


def test_another_seed_is_another_point():
    a, b = (CategoricalPolynomial(seed=s).build().theta["logits"] for s in (0, 1))
    assert not torch.equal(a, b)
    assert a.abs().max() < 0.01
    assert a.std() > 0.005


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    for objective in POINTS:
        objective.build()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_catalogue_imports_no_scikit_learn():
    code = "import sys, bench.objectives; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Statistical ---------------------------------------------------------------------------------------------------------


@over_points
def test_exact_agrees_with_an_unbiased_estimator(objective):
    check_unbiased(objective, sharp(objective))


def test_the_score_function_agrees_on_the_bound():
    """The bound's q enters f; the gradient through it has mean zero and must add no bias."""
    objective = LogisticRegression(mean=0.1, log_scale=-2.0)
    problem = sharp(objective)
    sample = estimates(objective, problem, ScoreFunction(baseline=problem.exact(problem.theta).item()))
    z = (sample.mean(0)[1:] - gradient_of(problem)) / (sample.std(0)[1:] / math.sqrt(len(sample)))
    assert z.abs().max() < z_limit(len(z))


# Mutants: each of them is wrong in one place, and a check above refutes it --------------------------------------------


def with_exact(objective: Objective, exact) -> Problem:
    problem = sharp(objective)
    return replace(problem, exact=lambda theta: exact(problem.exact, theta))


def with_f(objective: Objective, mutate) -> Problem:
    problem = sharp(objective)
    return replace(problem, integrand=lambda q: mutate(problem.integrand(q)))


def gauss_hermite(_exact, theta):
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(64))
    variance = (2 * theta["log_scale"]).exp()
    m, s = signed_data() @ theta["mean"], (signed_data().square() @ variance).sqrt()
    a = m.unsqueeze(-1) + s.unsqueeze(-1) * z
    kl = (theta["mean"].square() + variance - 1 - 2 * theta["log_scale"]).sum() / 2
    return (torch.nn.functional.logsigmoid(a) @ w).sum() / math.sqrt(2 * math.pi) - kl


@pytest.mark.parametrize(
    ("objective", "mutant"),
    [
        (GaussianQuadratic(), lambda exact, theta: 1.001 * exact(theta)),
        (GaussianCosine(), lambda exact, theta: exact(theta) * (-(2 * theta["log_scale"]).exp() / 2).exp().sum()),
        (BernoulliQuadratic(dim=200), lambda exact, theta: exact(theta) / 200),
        (CategoricalPolynomial(), lambda exact, theta: exact({"logits": theta["logits"].flip(-1)})),
        (LOGISTIC, lambda exact, theta: exact(theta) - theta["log_scale"].exp().sum()),
        (LOGISTIC, gauss_hermite),
    ],
)
def test_a_wrong_exact_value_is_refuted(objective, mutant):
    with pytest.raises(AssertionError):
        check_value(objective, with_exact(objective, mutant))


def test_a_right_value_with_a_wrong_gradient_is_refuted():
    def detached(exact, theta):
        return exact(theta | {"log_scale": theta["log_scale"].detach()}) + 0 * theta["log_scale"].sum()

    problem = with_exact(LOGISTIC, detached)
    check_value(LOGISTIC, problem)
    with pytest.raises(AssertionError):
        check_derivative(problem)


@pytest.mark.parametrize(
    "objective",
    [GaussianQuadratic(), GaussianCosine(), BernoulliQuadratic(dim=4), CategoricalPolynomial(dim=5), LOGISTIC],
    ids=repr,
)
def test_estimators_refute_a_factor_in_exact(objective):
    with pytest.raises(AssertionError):
        check_unbiased(objective, with_exact(objective, lambda exact, theta: 1.05 * exact(theta)))


def test_estimators_refute_another_q():
    problem = sharp(GaussianQuadratic(scale=0.5))
    squared = replace(problem, q=lambda theta: mean_field(theta | {"log_scale": 2 * theta["log_scale"]}))
    check_value(GaussianQuadratic(scale=0.5), squared)
    with pytest.raises(AssertionError):
        check_unbiased(GaussianQuadratic(scale=0.5), squared)


@pytest.mark.parametrize("mutate", [lambda f: lambda x: f(x) - f(x).mean(), lambda f: lambda x: f(x.flip(0))])
def test_an_f_that_mixes_elements_is_refuted(mutate):
    with pytest.raises(AssertionError):
        check_rows_apart(with_f(GaussianQuadratic(), mutate))


def test_a_promoted_dtype_is_refuted():
    class Promoted(GaussianQuadratic):
        def build(self, dtype=torch.float32, device="cpu"):
            wide = torch.zeros(self.dim, dtype=torch.float64)
            problem = super().build(dtype, device)
            return replace(problem, integrand=lambda q: lambda x: problem.integrand(q)(x + wide))

    check_dtype(Promoted(), torch.float64)
    with pytest.raises(AssertionError):
        check_dtype(Promoted(), torch.float32)
