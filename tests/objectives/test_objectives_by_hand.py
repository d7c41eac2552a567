"""What each objective promises beyond its expectation: its data, its q, its formulas at given points."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.distributions import Dirichlet, HalfNormal, Independent, Multinomial, Normal, Poisson

from bench import measure
from bench.objectives import (
    DirichletMultinomial,
    Discontinuous,
    GammaQuadratic,
    GaussianMixture,
    HierarchicalPoisson,
    LinearQuadraticRegulator,
    Objective,
    PoissonNegativeBinomial,
    PoissonQuadratic,
    Problem,
    Qubo,
    RandomWalk,
    SharedBernoulli,
    SubsetQuadratic,
    VonMisesMean,
)
from bench.objectives.random_walk import Walk
from estimators import RLOO, Reparameterization, ScoreFunction, draw, rdraw, score
from tests.objectives.problems import made
from tests.problems import seeded
from tests.tolerances import z_limit


def gradients(objective):
    problem = objective.build(torch.float64)
    found = torch.autograd.grad(problem.exact(problem.theta), list(problem.theta.values()))
    return dict(zip(problem.theta, found, strict=True))


# Published gradients --------------------------------------------------------------------------------------------------


def test_poisson_quadratic_at_rate_3_has_gradient_7_in_the_rate():
    assert gradients(PoissonQuadratic(rate=3.0))["log_rate"].item() / 3 == pytest.approx(7, rel=1e-14)


def test_gamma_quadratic_at_concentration_2_3_has_gradient_5_6_in_the_concentration():
    found = gradients(GammaQuadratic(concentration=2.3))
    assert found["log_concentration"].item() / 2.3 == pytest.approx(5.6, rel=1e-14)
    assert found["log_rate"].item() == pytest.approx(-2 * 2.3 * 3.3, rel=1e-14)


@pytest.mark.parametrize("logit", [0.0, -4.0])
def test_shared_bernoulli_gradient(logit):
    p = 1 / (1 + math.exp(-logit))
    assert gradients(SharedBernoulli(logit=logit))["logit"].item() == pytest.approx(-0.18 * p * (1 - p), rel=1e-12)


@pytest.mark.parametrize("k", [0.3, 2.0, 80.0])
def test_von_mises_gradient(k):
    """A' = 1 - A^2 - A / k, A the mean resultant length."""
    found = gradients(VonMisesMean(loc=1.0, target=0.2, concentration=k))
    length = special.i1e(k) / special.i0e(k)
    assert found["loc"].item() == pytest.approx(-math.sin(0.8) * length, rel=1e-12)
    slope = 1 - length**2 - length / k
    assert found["log_concentration"].item() == pytest.approx(k * math.cos(0.8) * slope, rel=1e-10)


@pytest.mark.parametrize("rate", [1e-6, 0.3, 10.0, 29.0, 1e3])
def test_poisson_negative_binomial_gradient(rate):
    """d/drate E lgamma(x + r) = E log(x + r); the sum here ends much later."""
    x = np.arange(round(rate + 40 * math.sqrt(rate) + 400))
    slope = stats.poisson.pmf(x, rate) @ np.log(x + 10) + math.log(0.75) - math.log(rate)
    found = gradients(PoissonNegativeBinomial(rate=rate))["log_rate"].item()
    assert found == pytest.approx(rate * slope, rel=1e-9, abs=1e-9 * rate)


def test_poisson_negative_binomial_f():
    _, _, f = made(PoissonNegativeBinomial(failures=3.5, probability=0.4, rate=6.0))
    x = np.arange(50.0)
    expected = stats.nbinom.logpmf(x, 3.5, 0.4) - stats.poisson.logpmf(x, 6.0)
    np.testing.assert_allclose(f(torch.from_numpy(x).unsqueeze(-1)).detach().numpy(), expected, rtol=0, atol=1e-12)


# The graph ------------------------------------------------------------------------------------------------------------


def weights_of(objective):
    """Return the graph, read off f: one bit cuts its edges, two bits do not cut the edge between them."""
    _, _, f = made(objective)
    eye = torch.eye(objective.dim, dtype=torch.float64)
    each = f(eye)
    both = f((eye.unsqueeze(1) + eye).clamp(max=1))
    return ((each.unsqueeze(1) + each - both) / 2).fill_diagonal_(0)


@pytest.mark.parametrize(("dim", "degree", "edges"), [(100, 8.0, 400), (7, 3.0, 11), (6, 0.1, 1), (5, 99.0, 10)])
def test_qubo_has_a_simple_graph_with_the_given_number_of_edges(dim, degree, edges):
    w = weights_of(Qubo(dim=dim, degree=degree))
    assert torch.equal(w, w.T)
    assert set(w.unique().tolist()) <= {0.0, 1.0}
    assert w.sum() == 2 * edges


def test_qubo_counts_the_edges_between_ones_and_zeros_and_its_gradient_by_hand():
    objective = Qubo(dim=9, degree=4.0, seed=2)
    problem, q, f = made(objective)
    w, b = weights_of(objective), draw(q, 20, seeded())
    cut = [sum(w[i, j] for i, j in itertools.combinations(range(9), 2) if row[i] != row[j]) for row in b]
    torch.testing.assert_close(f(b), torch.stack(cut))
    p = problem.theta["logits"].sigmoid()
    expected = p * (1 - p) * (w @ (1 - 2 * p))
    torch.testing.assert_close(gradients(objective)["logits"], expected, rtol=1e-12, atol=1e-15)


def test_qubo_of_two_thousand_bits():
    objective = Qubo(dim=2000)
    problem = objective.build()
    q = problem.q(problem.theta)
    f = problem.integrand(q)
    values = f(draw(q, 256, seeded()))
    z = (values.mean() - problem.exact(problem.theta)) / (values.std() / 16)
    assert abs(z) < z_limit()
    assert objective.row_elements == 2000


# Subsets --------------------------------------------------------------------------------------------------------------


def test_the_subset_gradient_comes_from_the_inclusion_probabilities():
    """f is affine on bits: E f = sum t^2 + sum (1 - 2 t_j) P(j is in)."""
    objective = SubsetQuadratic()
    problem, q, _ = made(objective)
    t = np.abs(np.random.RandomState(1234).randn(20)[10:])
    value = (t**2).sum() + q.mean @ torch.from_numpy(1 - 2 * t)
    (expected,) = torch.autograd.grad(value, problem.theta["logits"])
    torch.testing.assert_close(gradients(objective)["logits"], expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("dim", "k", "has"), [(18, 9, True), (19, 9, False), (362, 2, True), (363, 2, False)])
def test_subsets_are_summed_if_they_are_few(dim, k, has):
    objective = SubsetQuadratic(dim=dim, k=k)
    assert objective.has_exact is has
    assert (objective.build().exact is not None) is has
    assert objective.reference_estimator.unbiased


def test_a_subset_of_all_elements_is_refused():
    with pytest.raises(ValueError, match=r"SubsetQuadratic needs k < dim.*\(got k=5, dim=5\)\. Use k=2\."):
        SubsetQuadratic(dim=5)


# Variational inference ------------------------------------------------------------------------------------------------


def counts_of(objective):
    """Return the counts, read off f: it is (y_k + prior - a_k) log x_k plus a constant, off the simplex too."""
    _, _, f = made(objective)
    ones = torch.ones(objective.dim, dtype=torch.float64)
    slopes = f(ones + (math.e - 1) * torch.eye(objective.dim, dtype=torch.float64)) - f(ones)
    return slopes.detach() - objective.prior + objective.concentration


def test_dirichlet_multinomial_f():
    objective = DirichletMultinomial(dim=5, count=17, prior=0.7, concentration=1.5)
    _, q, f = made(objective)
    y, x = counts_of(objective).round(), draw(q, 6, seeded())
    torch.testing.assert_close(counts_of(objective), y, rtol=0, atol=1e-12)
    assert y.sum() == 17
    prior = Dirichlet(torch.full((5,), 0.7, dtype=torch.float64))
    expected = Multinomial(17, probs=x).log_prob(y.expand(6, 5)) + prior.log_prob(x) - q.log_prob(x)
    torch.testing.assert_close(f(x), expected, rtol=1e-12, atol=1e-12)


def test_dirichlet_multinomial_is_the_evidence_at_the_posterior():
    objective = DirichletMultinomial(dim=4, count=12, prior=0.5)
    problem, _, _ = made(objective)
    y = counts_of(objective).round()
    posterior = {"log_concentration": (y + 0.5).log().requires_grad_()}
    evidence = stats.dirichlet_multinomial.logpmf(y.int().numpy(), [0.5] * 4, 12)
    q = problem.q(posterior)
    values = problem.integrand(q)(draw(q, 9, seeded()))
    np.testing.assert_allclose(values.detach().numpy(), evidence, rtol=1e-12)
    value = problem.exact(posterior)
    assert value.item() == pytest.approx(evidence, rel=1e-12)
    (gradient,) = torch.autograd.grad(value, posterior["log_concentration"])
    assert gradient.abs().max() < 1e-10


def test_the_gaussian_mixture_is_exact_if_q_is_the_target():
    problem, _, _ = made(GaussianMixture())
    logits, mean = torch.tensor([0.3, 0.7], dtype=torch.float64).log(), torch.tensor([-1.0, 1.0], dtype=torch.float64)
    theta = {"logits": logits, "mean": mean, "log_scale": torch.full_like(mean, math.log(0.5))}
    for t in theta.values():
        t.requires_grad_()
    q = problem.q(theta)
    assert problem.integrand(q)(draw(q, 20, seeded())).abs().max() < 1e-12
    value = problem.exact(theta)
    assert abs(value.item()) < 1e-13
    assert torch.cat(torch.autograd.grad(value, list(theta.values()))).abs().max() < 1e-12
    assert problem.exact(problem.theta).item() < -0.01


def test_hierarchical_poisson_f():
    objective = HierarchicalPoisson(groups=3, places=5, log_scale=-1.0, seed=1)
    _, q, f = made(objective)
    exposure, counts = objective._data()
    x = draw(q, 7, seeded())
    mu, log_s, a, b = x.split([1, 2, 3, 5], -1)
    s = log_s.exp()
    rate = exposure * (mu.unsqueeze(-1) + a.unsqueeze(-1) + b.unsqueeze(-2)).exp()
    wide = torch.tensor(10.0, dtype=torch.float64)
    expected = Poisson(rate).log_prob(counts).sum((-1, -2))
    expected += Normal(0.0, wide).log_prob(mu).sum(-1) + (HalfNormal(wide).log_prob(s) + log_s).sum(-1)
    expected += Normal(0.0, s[:, :1]).log_prob(a).sum(-1) + Normal(0.0, s[:, 1:]).log_prob(b).sum(-1)
    torch.testing.assert_close(f(x), expected - q.log_prob(x), rtol=1e-12, atol=1e-10)


def test_the_data_of_hierarchical_poisson():
    objective = HierarchicalPoisson(groups=40, places=2000)
    assert HierarchicalPoisson().dim == 37
    assert HierarchicalPoisson().row_elements == 64
    exposure, counts = objective._data()
    assert exposure.shape == counts.shape == (40, 2000)
    assert 5 <= exposure.min() < 5.1
    assert 49.9 < exposure.max() <= 50
    places = (counts.sum(0) / exposure.sum(0)).log()
    groups = (counts.sum(1) / exposure.sum(1)).log()
    # Both scales as in the model; 5 standard errors of a standard deviation.
    assert places.std().item() == pytest.approx(1.0, abs=5 / math.sqrt(2 * 2000))
    assert groups.std().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2 * 40))


# Sequences ------------------------------------------------------------------------------------------------------------


def trajectory(objective, noise):
    """Run the system in a loop; return actions and states in turn, and the cost."""
    gain, state = np.full(2, objective.gain), np.array([1.0, 0.0])
    path, cost, discount = [], 0.0, 1.0
    for own in noise.reshape(objective.horizon, 3):
        action = -gain @ state + objective.scale * own[0]
        cost += discount * action**2 / 10
        position, velocity = state
        state = np.array([position + 0.1 * velocity, velocity + 0.1 * action]) + objective.noise * own[1:]
        discount *= objective.discount
        cost += discount * state @ state
        path += [action, *state]
    return path, cost


def test_the_regulators_samples_are_its_simulation():
    objective = LinearQuadraticRegulator(horizon=6, discount=0.9, gain=0.7, scale=0.4, noise=0.2)
    _, q, f = made(objective)
    noise = torch.randn((4, 18), generator=seeded(), dtype=torch.float64)
    x = q.loc + noise @ q.scale_tril.T
    for row, own in zip(x, noise, strict=True):
        path, cost = trajectory(objective, own.numpy())
        np.testing.assert_allclose(row.detach().numpy(), path, rtol=1e-12, atol=1e-14)
        assert f(row).item() == pytest.approx(cost, rel=1e-12)


def test_the_regulators_score_is_the_sum_of_the_policys_scores():
    objective = LinearQuadraticRegulator(horizon=6, gain=0.7, scale=0.4)
    problem, q, _ = made(objective)
    x = draw(q, 1, seeded())
    theta = list(problem.theta.values())
    by_q = torch.autograd.grad(score(q, x, torch.ones(1, dtype=torch.float64)), theta)
    steps = x.view(6, 3)
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    states = torch.cat([start, steps[:-1, 1:]])
    policy = Normal(-states @ problem.theta["gain"], problem.theta["log_scale"].exp())
    by_policy = torch.autograd.grad(policy.log_prob(steps[:, 0]).sum(), theta)
    for one, other in zip(by_q, by_policy, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


LENGTH = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)


def test_the_probabilities_of_walks_sum_to_one_and_no_walk_goes_below_zero():
    paths = torch.tensor(list(itertools.product([1.0, -1.0], repeat=8)), dtype=torch.float64)
    mass = Walk(LENGTH, 8).log_prob(paths).exp()
    assert mass.sum().item() == pytest.approx(1.0, rel=1e-13)
    assert torch.equal(mass > 0, (paths.cumsum(-1) >= 0).all(-1))


def test_walks_are_drawn_with_their_probabilities():
    paths = torch.tensor(list(itertools.product([1.0, -1.0], repeat=5)), dtype=torch.float64)
    mass = Walk(LENGTH, 5).log_prob(paths).exp().detach()
    count = 100_000
    sample = Walk(LENGTH, 5).draw(torch.Size((count,)), seeded())
    seen = (sample.unsqueeze(1) == paths).all(-1).double().mean(0)
    assert torch.equal(seen[mass == 0], mass[mass == 0])
    z = (seen - mass)[mass > 0] / (mass * (1 - mass) / count).sqrt()[mass > 0]
    assert z.abs().max() < z_limit(len(z))


def test_the_score_of_walks_is_the_gradient_of_their_log_probability():
    lengths = torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64, requires_grad=True)
    q = Walk(lengths, 12)
    x = draw(q, 6, seeded())
    weight = torch.randn((6, 3), generator=seeded(1), dtype=torch.float64)
    (expected,) = torch.autograd.grad((weight * q.log_prob(x)).sum(), lengths)
    torch.testing.assert_close(q.score(x, weight)["length"], expected, rtol=1e-12, atol=1e-13)


def test_a_walk_has_no_reparameterization():
    reason = Reparameterization().refuses(RandomWalk.family)
    assert "Walk has none" in reason
    assert measure(RLOO(n=4), RandomWalk(dim=6, length=5.0), replicates=2_000).verdict != "BIASED"


# A jump ---------------------------------------------------------------------------------------------------------------


def test_reparameterization_is_found_biased_at_a_jump_and_the_score_function_is_not():
    pathwise = measure(Reparameterization(), Discontinuous(), replicates=20_000)
    assert pathwise.cell.estimator.unbiased
    assert pathwise.verdict == "BIASED"
    assert measure(ScoreFunction(), Discontinuous(), replicates=20_000).verdict != "BIASED"


@dataclass(frozen=True)
class Rounded(Objective):
    """Rounded Gaussians plus their squares as a smooth part."""

    smooth: float = 1.0
    dim: int = 2

    family = Normal

    def build(self, dtype=torch.float32, device="cpu"):
        mean = torch.full((self.dim,), 0.3, dtype=dtype, requires_grad=True)

        def q(theta):
            return Independent(Normal(theta["mean"], 1.0, validate_args=False), 1, validate_args=False)

        def exact(theta):
            """E round(x) counts the halves between 0 and x."""
            halves = torch.arange(-12, 12, dtype=dtype) + 0.5
            above = torch.special.ndtr(theta["mean"].unsqueeze(-1) - halves).sum(-1) - 12
            return (above + self.smooth * (theta["mean"].square() + 1)).sum()

        return Problem({"mean": mean}, q, lambda _: lambda x: (x.round() + self.smooth * x.square()).sum(-1), exact)


def test_reparameterization_is_found_biased_if_f_has_a_rounded_part():
    assert measure(Reparameterization(), Rounded(), replicates=20_000).verdict == "BIASED"
    assert measure(ScoreFunction(), Rounded(), replicates=20_000).verdict in ("INCONCLUSIVE", "UNBIASED_WITHIN_TOL")


def test_rounding_alone_gives_gradients_of_zero_and_is_found_biased():
    found = measure(Reparameterization(), Rounded(smooth=0.0), replicates=1_000)
    assert (found.variance, found.status, found.verdict) == (0.0, "DEGENERATE", "DETERMINISTIC_BIASED")
    assert not found.mean["mean"].any()
    assert found.exact["mean"].min() > 0.9


@dataclass(frozen=True)
class Ramp(Rounded):
    """A function that is 0 below ten standard deviations: no sample distinguishes it from a constant."""

    def build(self, dtype=torch.float32, device="cpu"):
        problem = super().build(dtype, device)
        exact = lambda theta: theta["mean"].sum() * 1e-3  # noqa: E731  only its slope is not 0
        return Problem(problem.theta, problem.q, lambda _: lambda x: (x - 10).relu().sum(-1), exact)


def test_a_slope_that_no_sample_has_met_yet_is_no_bias():
    found = measure(Reparameterization(), Ramp(), replicates=1_000)
    assert (found.variance, found.verdict) == (0.0, "DEGENERATE")


def test_what_reparameterization_loses_at_a_jump_is_its_height_times_the_density_there():
    objective = Discontinuous(jump=3.0, threshold=0.2, mean=0.5, scale=0.8)
    problem, q, f = made(objective)
    x, theta = rdraw(q, 4000, seeded()), list(problem.theta.values())
    pathwise = torch.autograd.grad(f(x).mean(), theta, retain_graph=True)
    smooth = torch.autograd.grad(x.square().mean(), theta)
    expected = gradients(Discontinuous(jump=0.0, mean=0.5, scale=0.8))
    density = stats.norm.pdf(0.2, 0.5, 0.8)
    for one, other in zip(pathwise, smooth, strict=True):
        assert torch.equal(one, other)
    lost = {name: value - expected[name] for name, value in gradients(objective).items()}
    assert lost["mean"].item() == pytest.approx(3 * density, rel=1e-12)
    assert lost["log_scale"].item() == pytest.approx(3 * density * (0.2 - 0.5), rel=1e-12)
