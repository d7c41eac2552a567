"""Chains and returns: log-probabilities of choices, downstream credit, and costs that look ahead."""

import itertools
from functools import cached_property

import pytest
import torch
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from bench.objectives import Corridor, LinearQuadraticRegulator, RandomWalk, SigmoidBeliefNetwork
from estimators import (
    NVIL,
    RLOO,
    Chain,
    InvalidIntegrand,
    InvalidParameter,
    Nested,
    Refusal,
    Return,
    ScoreFunction,
    log_probs,
    parameters,
    rows,
    widths,
)
from tests.benchmarks import chains
from tests.problems import bits, leaf, outcomes, seeded, t

BITS, SAMPLES = 4, 2


class Sticky(Chain):
    """Bits in a row: each repeats the one before it with a trained log-odds. A draw is every pair of trajectories."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, logits, stick, validate_args=None):
        self.logits, self.stick = logits, stick  # [*batch, bits], [*batch]
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    def log_probs(self, value):
        before = torch.cat([torch.zeros_like(value[..., :1]), 2 * value[..., :-1] - 1], -1)
        return Bernoulli(logits=self.logits + self.stick.unsqueeze(-1) * before).log_prob(value)

    def draw(self, sample_shape, generator):
        assert sample_shape == (SAMPLES,)
        return PAIRS


class Other(Sticky):
    """Overrides a method that is no name of torch's."""

    def log_probs(self, value):
        return 2 * super().log_probs(value)


STATES = outcomes(BITS)
PAIRS = torch.stack([torch.stack(pair) for pair in itertools.product(STATES, STATES)], 1)
"""Every pair of trajectories, ``[2, 256, bits]``: one pair for each row."""


def changes(x):
    """Return local costs: the first bit, and then the price of each change."""
    return torch.cat([x[..., :1], 1.5 * (x[..., 1:] - x[..., :-1]).square()], -1) * t(1.0, 0.5, 2.0, 1.0)


class Enumerated:
    """The exact mean and variance of an estimator of two samples, over all pairs of trajectories."""

    def __init__(self, estimator, f):
        self.estimator, self.f = estimator, f
        self.q = Sticky(leaf(0.3, -0.4, 0.2, 0.6), leaf(0.7).squeeze())

    @cached_property
    def exact(self):
        mass = self.q.log_prob(STATES).exp()
        return torch.cat([g.flatten() for g in torch.autograd.grad((mass * self.f(STATES)).sum(), self.own)])

    @property
    def own(self):
        return list(parameters(self.q).values())

    @cached_property
    def moments(self):
        r = rows(self.q, len(STATES) ** 2)
        loss = self.estimator(self.f, r)
        found = torch.autograd.grad(loss.sum(), list(parameters(r).values()))
        g = torch.cat([each.reshape(len(each), -1) for each in found], 1)
        mass = self.q.log_prob(PAIRS).sum(0).exp().detach().unsqueeze(-1)
        mean = (mass * g).sum(0)
        return mean, (mass * (g - mean).square()).sum().item()


ESTIMATORS = {
    "score function": ScoreFunction(n=SAMPLES),
    "score function, downstream": ScoreFunction(n=SAMPLES, credit="downstream"),
    "baseline, downstream": ScoreFunction(n=SAMPLES, baseline=0.8, credit="downstream"),
    "leave-one-out": RLOO(n=SAMPLES),
    "leave-one-out, downstream": RLOO(n=SAMPLES, credit="downstream"),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_over_all_pairs_of_trajectories_is_the_exact_gradient(name):
    case = Enumerated(ESTIMATORS[name], Return(changes))
    torch.testing.assert_close(case.moments[0], case.exact, rtol=1e-12, atol=1e-12)


def test_downstream_credit_has_less_variance():
    variance = {name: Enumerated(e, Return(changes)).moments[1] for name, e in ESTIMATORS.items()}
    assert variance["score function, downstream"] < 0.7 * variance["score function"]
    assert variance["leave-one-out, downstream"] < 0.9 * variance["leave-one-out"]


def test_the_formula_of_downstream_leave_one_out():
    q = Sticky(leaf(0.3, -0.4, 0.2, 0.6), leaf(0.7).squeeze())
    x = PAIRS[:, 37]
    score = [torch.autograd.grad(q.log_probs(each)[k], q.logits, retain_graph=True)[0] for each in x for k in range(4)]
    to_go = changes(x).flip(-1).cumsum(-1).flip(-1)
    weight = (to_go - to_go.flip(0)).flatten() / SAMPLES
    r = rows(q, len(STATES) ** 2)
    value = RLOO(credit="downstream")(Return(changes), r)
    torch.testing.assert_close(value, changes(PAIRS).sum(-1).mean(0))
    (g,) = torch.autograd.grad(value.sum(), parameters(r)["logits"])
    torch.testing.assert_close(g[37], sum(w * s for w, s in zip(weight, score, strict=True)))


def test_rows_of_a_subclass_have_its_own_law():
    q = Other(leaf(0.3, -0.4, 0.2, 0.6), leaf(0.7).squeeze())
    assert type(rows(q, 3)) is Other
    torch.testing.assert_close(rows(q, 3).log_prob(STATES[:, None])[:, 0], q.log_prob(STATES))

    class Named(Sticky):
        def __init__(self, w):
            super().__init__(w["logits"], w["stick"])

    assert type(rows(Named({"logits": leaf(0.3, -0.4, 0.2, 0.6), "stick": leaf(0.7).squeeze()}), 3)) is Sticky


def test_a_matrix_says_which_choices_a_cost_reads():
    first_two = torch.tensor([[True, True, False, False], [True, False, False, True]])
    costs = lambda x: torch.stack([3 * x[..., 0] * x[..., 1], x[..., 0] + x[..., 3]], -1)  # noqa: E731
    f = Return(costs, first_two)
    assert f.downstream(BITS, STATES).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert f.looks_ahead(STATES, STATES.flip(0), bits(t(0.0, 0.0, 0.0, 0.0))) is None
    declared = Enumerated(RLOO(credit="downstream"), f)
    torch.testing.assert_close(declared.moments[0], declared.exact, rtol=1e-12, atol=1e-12)
    assert declared.moments[1] < Enumerated(RLOO(), f).moments[1]


# Costs that look ahead, and other slips ------------------------------------------------------------------------------


def test_a_cost_that_looks_ahead_is_found_with_the_choice_and_biases_downstream_credit():
    ahead = Return(lambda x: changes(x).flip(-1))
    q = bits(t(0.0, 0.0, 0.0, 0.0))
    assert ahead.looks_ahead(STATES, STATES.flip(0), q) == (0, 2)
    assert Return(changes).looks_ahead(STATES, STATES.flip(0), q) is None
    case = Enumerated(RLOO(credit="downstream"), ahead)
    assert (case.moments[0] - case.exact).abs().max() > 0.01


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: x.sum(-1), r"RLOO.* needs a Return, an f that shows its costs \(got a plain function\)"),
        (Return(lambda x: x.sum(-1)), r"costs returned shape \[2, 256\] .*expected \[2, 256\] and one more axis"),
        (Return(lambda x: x[..., :3]), r"has 3 costs, its q, Sticky, 4 choices, and reads is None"),
        (Return(lambda x: x, torch.ones(4, 3).bool()), r"reads is \[4, 3\]"),
        (Return(lambda x: x.zero_()), "costs changes its argument x in place"),
        (Return(lambda _: None), "costs returned None"),
    ],
)
def test_wrong_costs_are_refused_in_a_sentence(f, words):
    r = rows(Sticky(leaf(0.3, -0.4, 0.2, 0.6), leaf(0.7).squeeze()), len(STATES) ** 2)
    with pytest.raises((Refusal, InvalidIntegrand), match=words):
        RLOO(credit="downstream")(f, r)


def test_wrong_fields_are_refused():
    with pytest.raises(Refusal, match=r"boolean matrix reads, .* \(got torch.float32 of shape \[4, 4\]\)"):
        Return(changes, torch.ones(4, 4))
    with pytest.raises(Refusal, match=r"boolean matrix reads, .* \(got list\)"):
        Return(changes, [[True]])
    with pytest.raises(Refusal, match=r"a function costs of x \(got Tensor\)"):
        Return(torch.ones(4))
    with pytest.raises(Refusal, match=r"a function total of x \(got int\)"):
        Return(changes, total=3)
    with pytest.raises(InvalidParameter, match="credit"):
        RLOO(credit="half")
    with pytest.raises(InvalidParameter, match="baseline that is a number"):
        ScoreFunction(baseline="moving-average", credit="downstream")


def test_every_other_estimator_sees_an_ordinary_f():
    q = bits(leaf(0.3, -0.4, 0.2, 0.6))
    for estimator in (RLOO(n=3), NVIL()):
        plain = estimator(lambda x: changes(x).sum(-1), q, seeded(1))
        torch.testing.assert_close(estimator(Return(changes), q, seeded(1)), plain)
        cheap = Return(changes, total=lambda x: 2 * changes(x).sum(-1))
        torch.testing.assert_close(estimator(cheap, q, seeded(1)), 2 * plain)


def test_tensors_that_costs_close_over_get_the_gradient_of_the_value():
    w, q = leaf(0.7), bits(leaf(0.3, -0.4, 0.2, 0.6))
    value = RLOO(n=3, credit="downstream")(Return(lambda x: w * changes(x)), q, seeded(1))
    torch.testing.assert_close(torch.autograd.grad(value, w)[0], (value / w).detach())


# What the choices of a distribution are ------------------------------------------------------------------------------


def test_choices_of_distributions_of_torch():
    scale = t([1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [-0.3, 0.2, 0.7])
    joint = MultivariateNormal(t([0.1, 0.2, 0.3], [1.0, 0.0, -1.0]), scale_tril=scale)
    x = torch.randn((5, 2, 3), generator=seeded(), dtype=torch.float64)
    found = log_probs(joint, x)
    torch.testing.assert_close(found.sum(-1), joint.log_prob(x))
    torch.testing.assert_close(found[..., 0], Normal(joint.loc[:, 0], 1.0).log_prob(x[..., 0]))
    torch.testing.assert_close(log_probs(joint, x[0]), found[0])
    assert widths(joint) == (1, 1, 1)
    two = Independent(Normal(t([0.1, 0.2], [1.0, 0.0]), 1.0), 2)
    assert widths(two) == (1, 1)
    y = x[..., :2]
    torch.testing.assert_close(log_probs(two, y), two.base_dist.log_prob(y).sum(-1))
    single = Normal(t(0.1, 0.2), 1.0)
    assert widths(single) == (1,)
    torch.testing.assert_close(log_probs(single, y), single.log_prob(y).unsqueeze(-1))


OBJECTIVES = [Corridor(horizon=6), RandomWalk(dim=6), LinearQuadraticRegulator(horizon=3), SigmoidBeliefNetwork()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_log_probs_and_costs_of_the_objectives_sum_to_log_q_and_f(objective):
    problem = objective.build(torch.float64)
    q = problem.q(problem.theta)
    torch.manual_seed(0)
    x = q.sample((9,))
    torch.testing.assert_close(log_probs(q, x).sum(-1), q.log_prob(x), rtol=1e-10, atol=1e-10)
    f = problem.integrand(q)
    torch.testing.assert_close(f.each(x, q).sum(-1), f(x), rtol=1e-10, atol=1e-10)


def test_a_tree_doubles_with_every_layer_and_a_chain_does_not():
    for layers in (2, 3, 4):
        problem = SigmoidBeliefNetwork(layers=layers, width=2, batch=1).build()
        q = problem.q(problem.theta)
        assert Nested("rloo", "rloo").points(q) == 2**layers
        assert RLOO(credit="downstream").points(q) == 2


def test_the_command_that_shows_the_cost_runs():
    found = list(chains.measured(1, (3,), (2,)))
    assert [name for name, _, _ in found] == [*chains.CHAINS, *chains.TREES]
    assert all(seconds > 0 for _, _, seconds in found)
