import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal, Poisson

from estimators import RLOO, ScoreFunction, draw, parameters, rows, spread
from tests.problems import FAMILIES, black_box, hermite, moments, row_gradients, seeded, t, weighted_outcomes


def gradient_and_formula(estimator, name, weights):
    """Return the estimator's gradient, and ``sum_k weights(f)_k score(x_k)`` from the same draws."""
    family = FAMILIES[name]
    theta = [p.clone().requires_grad_() for p in family.theta]
    q = family.build(*theta)
    f = black_box(q)
    got = torch.autograd.grad(estimator(f, q, seeded()).sum(), theta)
    x = draw(q, estimator.n, seeded())
    w = weights(f(x))
    expected = []
    for score in family.score(x, *family.theta):
        expected.append((spread(w, score) * score).sum(0))
    return got, expected


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("n", "baseline"), [(1, 0.0), (5, 0.0), (3, -1.7)])
def test_score_function_is_its_formula(name, n, baseline):
    got, expected = gradient_and_formula(ScoreFunction(n, baseline), name, lambda fx: (fx - baseline) / n)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("n", [2, 5])
def test_rloo_is_its_formula_with_the_others_mean(name, n):
    got, expected = gradient_and_formula(RLOO(n), name, lambda fx: (fx - (fx.sum(0) - fx) / (n - 1)) / n)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [2, 5])
def test_rloo_is_its_formula_with_the_mean_of_all(n):
    got, expected = gradient_and_formula(RLOO(n), "normal-batch", lambda fx: (fx - fx.mean(0)) / (n - 1))
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [ScoreFunction(n=4), RLOO(n=4)], ids=repr)
def test_value_is_the_mean_of_f(estimator):
    q = Normal(t(0.5, 2.0), t(1.0, 0.3))
    loss = estimator(torch.sin, q, seeded())
    torch.testing.assert_close(loss, draw(q, 4, seeded()).sin().mean(0), rtol=1e-14, atol=0)


def test_n_samples_are_the_mean_of_n_calls():
    q = Independent(Normal(t(0.5, -0.8).requires_grad_(), t(0.9, 0.6).requires_grad_()), 1)
    f = black_box(q)
    together = torch.autograd.grad(ScoreFunction(n=16)(f, q, seeded()), [q.base_dist.loc, q.base_dist.scale])
    r = rows(q, 16)
    apart = torch.autograd.grad(ScoreFunction()(f, r, seeded()).sum(), list(parameters(r).values()))
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b.mean(0), rtol=1e-12, atol=1e-12)


def test_rloo_does_not_feel_a_constant():
    q = Normal(t(0.5, 2.0).requires_grad_(), t(1.0, 0.3).requires_grad_())
    plain = torch.autograd.grad(RLOO(n=3)(torch.sin, q, seeded()).sum(), [q.loc, q.scale])
    raised = torch.autograd.grad(RLOO(n=3)(lambda x: x.sin() + 64.0, q, seeded()).sum(), [q.loc, q.scale])
    for a, b in zip(plain, raised, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_constant_f_has_no_gradient_under_rloo():
    q = Normal(t(0.5, 2.0).requires_grad_(), t(1.0, 0.3))
    (g,) = torch.autograd.grad(RLOO(n=3)(lambda x: x * 0 + 5, q, seeded()).sum(), [q.loc])
    assert torch.equal(g, torch.zeros(2, dtype=torch.float64))


# Moving average


def test_moving_average_recursion():
    e = ScoreFunction(n=2, baseline="moving-average")
    q = Normal(t(0.5).requires_grad_(), t(0.7).requires_grad_())
    state = e.init(q)
    b = 0.0
    for step in range(1, 31):
        x = draw(q, 2, seeded(step))
        loss = e(torch.exp, q, seeded(step), state)
        (g,) = torch.autograd.grad(loss.sum(), [q.loc])
        expected = ((x.exp() - b) * (x - 0.5) / 0.49).mean(0)
        torch.testing.assert_close(g, expected, rtol=1e-12, atol=1e-12)
        state.update(loss)
        b += max(1 / step, 0.1) * (x.exp().mean().item() - b)
    assert state.mean.item() == pytest.approx(b, rel=1e-12)


def test_moving_average_has_the_dtype_of_q():
    for dtype in (torch.float32, torch.float64):
        q = Bernoulli(torch.full((3,), 0.5, dtype=dtype))
        assert ScoreFunction(baseline="moving-average").init(q).mean.dtype == dtype


def test_moving_average_without_a_state_is_zero():
    q = Normal(t(0.5).requires_grad_(), t(0.7))
    with_state = ScoreFunction(baseline="moving-average")(torch.exp, q, seeded())
    without = ScoreFunction()(torch.exp, q, seeded())
    assert torch.equal(*(torch.autograd.grad(loss.sum(), [q.loc])[0] for loss in (with_state, without)))


# Closed-form variances, exactly: rows are the nodes of a quadrature

QUADRATICS = [(a, sigma) for a in (-3.0, 0.0, 0.5, 4.0) for sigma in (0.5, 1.0, 2.0)]


def normal_variances(monkeypatch, estimator, a, sigma):
    """Return means and variances of the gradients at loc, scale and log scale, for f = (x - k)^2 and loc - k = a."""
    z, weights = hermite(6, estimator.n)
    q = Normal(t(1.3).squeeze().requires_grad_(), t(sigma).squeeze().requires_grad_())
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: z.T.clone())
    g = row_gradients(estimator, lambda x: (x - (1.3 - a)) ** 2, q, len(z))
    return moments(g["loc"], weights), moments(g["scale"], weights), moments(g["scale"] * sigma, weights)


@pytest.mark.parametrize(("a", "s"), QUADRATICS)
def test_variance_without_baseline(monkeypatch, a, s):
    loc, scale, log_scale = normal_variances(monkeypatch, ScoreFunction(), a, s)
    assert loc == pytest.approx((2 * a, a**4 / s**2 + 14 * a**2 + 15 * s**2), rel=1e-10, abs=1e-10)
    variance = 2 * a**4 / s**2 + 60 * a**2 + 74 * s**2
    assert scale == pytest.approx((2 * s, variance), rel=1e-10)
    assert log_scale == pytest.approx((2 * s**2, variance * s**2), rel=1e-10)


@pytest.mark.parametrize("s", [0.5, 1.0, 2.0])
def test_variance_in_several_dimensions(monkeypatch, s):
    """What the other coordinates add to f is noise: with m and v its mean and variance, ``(2 m (a^2 + 3 s^2) + v + m^2)
    / s^2`` on top of the variance of one dimension."""
    a = t(-1.5, 0.5, 2.0)
    z, weights = hermite(5, 3)
    q = Independent(Normal(a.clone().requires_grad_(), torch.full((3,), s, dtype=torch.float64)), 1)
    monkeypatch.setattr("estimators._draws.normal", lambda shape, like, generator: z.reshape(shape).clone())
    g = row_gradients(ScoreFunction(), lambda x: x.square().sum(-1), q, len(z))["loc"]
    for i, own in enumerate(a.tolist()):
        rest = [x for k, x in enumerate(a.tolist()) if k != i]
        m, v = sum(x**2 + s**2 for x in rest), sum(4 * x**2 * s**2 + 2 * s**4 for x in rest)
        alone = own**4 / s**2 + 14 * own**2 + 15 * s**2
        expected = (2 * own, alone + (2 * m * (own**2 + 3 * s**2) + v + m**2) / s**2)
        assert moments(g[:, i], weights) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("a", "s"), QUADRATICS)
def test_variance_with_the_mean_as_baseline(monkeypatch, a, s):
    loc, scale, _ = normal_variances(monkeypatch, ScoreFunction(baseline=a**2 + s**2), a, s)
    assert loc == pytest.approx((2 * a, 8 * a**2 + 10 * s**2), rel=1e-10, abs=1e-10)
    assert scale == pytest.approx((2 * s, 40 * a**2 + 56 * s**2), rel=1e-10)


@pytest.mark.parametrize(("a", "s"), QUADRATICS)
def test_variance_with_the_best_baseline_of_each_coordinate(monkeypatch, a, s):
    loc, _, _ = normal_variances(monkeypatch, ScoreFunction(baseline=a**2 + 3 * s**2), a, s)
    _, scale, _ = normal_variances(monkeypatch, ScoreFunction(baseline=a**2 + 5 * s**2), a, s)
    assert loc == pytest.approx((2 * a, 8 * a**2 + 6 * s**2), rel=1e-10, abs=1e-10)
    assert scale == pytest.approx((2 * s, 40 * a**2 + 24 * s**2), rel=1e-10)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize(("a", "s"), QUADRATICS)
def test_variance_of_rloo_on_a_normal(monkeypatch, a, s, n):
    loc, scale, log_scale = normal_variances(monkeypatch, RLOO(n), a, s)
    pairs = n * (n - 1)
    assert loc == pytest.approx(
        (2 * a, (8 * a**2 + 10 * s**2) / n + (8 * a**2 + 2 * s**2) / pairs), rel=1e-10, abs=1e-9
    )
    variance = (40 * a**2 + 56 * s**2) / n + (8 * a**2 + 8 * s**2) / pairs
    assert scale == pytest.approx((2 * s, variance), rel=1e-10)
    assert log_scale == pytest.approx((2 * s**2, variance * s**2), rel=1e-10)


def bernoulli_moments(monkeypatch, estimator, p, t_, module):
    x, weights = weighted_outcomes(p, estimator.n)
    logit = torch.logit(torch.tensor(p, dtype=torch.float64)).requires_grad_()
    monkeypatch.setattr(f"estimators.{module}.draw", lambda q, n, generator: x.T.clone())
    g = row_gradients(estimator, lambda b: (b - t_) ** 2, Bernoulli(logits=logit), len(x))
    return moments(g["logits"], weights)


BITS = [(p, target) for p in (0.1, 0.5, 0.8) for target in (0.45, 0.499, 0.0)]


@pytest.mark.parametrize(("p", "target"), BITS)
def test_variance_of_score_function_on_a_bit(monkeypatch, p, target):
    f0, f1, pq = target**2, (1 - target) ** 2, p * (1 - p)
    got = bernoulli_moments(monkeypatch, ScoreFunction(), p, target, "score_function")
    assert got == pytest.approx((pq * (f1 - f0), pq * ((1 - p) * f1 + p * f0) ** 2), rel=1e-10)


@pytest.mark.parametrize(("p", "target"), BITS)
def test_the_best_baseline_on_a_bit_leaves_no_variance(monkeypatch, p, target):
    best = (1 - p) * (1 - target) ** 2 + p * target**2
    _, variance = bernoulli_moments(monkeypatch, ScoreFunction(baseline=best), p, target, "score_function")
    assert variance == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("n", [2, 3, 4, 8])
@pytest.mark.parametrize(("p", "target"), BITS)
def test_variance_of_rloo_on_a_bit(monkeypatch, p, target, n):
    delta, pq = (1 - target) ** 2 - target**2, p * (1 - p)
    variance = delta**2 / n * (pq * (1 - 3 * pq) - (n - 3) / (n - 1) * pq**2)
    assert bernoulli_moments(monkeypatch, RLOO(n), p, target, "rloo") == pytest.approx((pq * delta, variance), rel=1e-9)


def test_published_values_on_a_bit(monkeypatch):
    def variance(estimator, p, target):
        module = "rloo" if isinstance(estimator, RLOO) else "score_function"
        return bernoulli_moments(monkeypatch, estimator, p, target, module)[1]

    assert variance(ScoreFunction(), 0.5, 0.45) == pytest.approx(0.0159390625, rel=1e-12)
    assert variance(RLOO(2), 0.5, 0.45) == pytest.approx(6.25e-4, rel=1e-12)
    assert variance(RLOO(4), 0.5, 0.45) == pytest.approx(1.041667e-4, rel=1e-6)
    assert variance(ScoreFunction(), 0.1, 0.45) == pytest.approx(0.00770006, rel=1e-6)
    assert variance(RLOO(2), 0.1, 0.45) == pytest.approx(3.69e-4, rel=1e-6)
    assert variance(RLOO(4), 0.1, 0.45) == pytest.approx(1.575e-4, rel=1e-6)
    assert variance(ScoreFunction(), 0.5, 0.499) == pytest.approx(0.015625125, rel=1e-9)
    assert variance(RLOO(2), 0.5, 0.499) == pytest.approx(2.5e-7, rel=1e-9)


def poisson_moments(monkeypatch, estimator, rate):
    points = torch.arange(40, dtype=torch.float64)
    grid = torch.cartesian_prod(*[points] * estimator.n).reshape(-1, estimator.n)
    q = Poisson(torch.tensor(rate, dtype=torch.float64, requires_grad=True))
    weights = Poisson(rate).log_prob(grid).sum(-1).exp()
    module = "rloo" if isinstance(estimator, RLOO) else "score_function"
    monkeypatch.setattr(f"estimators.{module}.draw", lambda q, n, generator: grid.T.clone())
    return moments(row_gradients(estimator, lambda x: x**2, q, len(grid))["rate"], weights)


def test_variance_on_a_family_without_closed_form_here(monkeypatch):
    assert poisson_moments(monkeypatch, ScoreFunction(), 3.0) == pytest.approx((7, 388 + 1 / 3), rel=1e-9)
    assert poisson_moments(monkeypatch, ScoreFunction(baseline=12.0), 3.0) == pytest.approx((7, 236 + 1 / 3), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3])
def test_variance_of_rloo_on_any_family(monkeypatch, n):
    """Var = Var[(f - E f) s] / n + (g^2 + Var f Var s) / (n (n-1)): RLOO is a U-statistic."""
    variance_f, variance_s = 309 - 144, 1 / 3  # of x^2 and (x - 3) / 3; E x^4 = 309
    expected = (236 + 1 / 3) / n + (49 + variance_f * variance_s) / (n * (n - 1))
    assert poisson_moments(monkeypatch, RLOO(n), 3.0) == pytest.approx((7, expected), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3])
def test_variance_of_rloo_with_categories(monkeypatch, n):
    """The same law, on a categorical and with numbers summed out here."""
    p, fx = t(0.2, 0.5, 0.3), t(1.0, -2.0, 5.0)
    grid = torch.cartesian_prod(*[torch.arange(3)] * n)
    weights = p[grid].prod(-1)
    theta = p.log().requires_grad_()
    monkeypatch.setattr("estimators.rloo.draw", lambda q, n, generator: grid.T.clone())
    g = row_gradients(RLOO(n), lambda x: fx[x], Categorical(logits=theta), len(grid))["logits"]
    g = g - p * g.sum(-1, keepdim=True)  # from normalised logits back to theta
    for i in range(3):
        s = (torch.arange(3) == i).double() - p[i]
        mean_f = (p * fx).sum()
        exact = (p * fx * s).sum()
        first = (p * ((fx - mean_f) * s - exact).square()).sum() / n
        second = exact**2 + (p * (fx - mean_f) ** 2).sum() * (p * s**2).sum()
        assert moments(g[:, i], weights) == pytest.approx(
            (exact.item(), (first + second / (n * (n - 1))).item()), rel=1e-10
        )
