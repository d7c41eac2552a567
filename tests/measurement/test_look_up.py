"""Gradients by look-up: those of autograd on the samples of one call, and samples of the exact law."""

import functools
import math
from dataclasses import dataclass, replace

import pytest
import torch

from bench.measurement import score_table
from bench.measurement.engine import Engine
from bench.measurement.look_up import look_up_of, too_large
from bench.objectives import BestOfK, Verifier
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from estimators import (
    PKPO,
    RLOO,
    VIMCO,
    InvalidLoss,
    MultiSample,
    PolicyGradient,
    PolicyReturn,
    Repeated,
    ScoreFunction,
    SetFunction,
    TokenSequence,
    catalogue,
    rows,
)
from tests.measurement.objectives import POLICIES, Answers
from tests.problems import seeded
from tests.tolerances import z_limit

SHARP = Settings(replicates=256, dtype="float64")
ROWS = 3
ESTIMATORS = [
    *(PolicyGradient(n=3, reduction=each) for each in ("sequence-mean", "constant")),
    *(PolicyGradient(n=3, baseline=each) for each in ("none", "length", "optimal-token", "greedy")),
    *(PolicyGradient(n=3, scaling=each) for each in ("group", "tokens")),
    *(PolicyGradient(n=2, ratio=each) for each in ("none", "token", "geometric", "cumulative", "per-decision")),
    *(PolicyGradient(n=2, ratio="token", clipping=each) for each in ("ppo", "truncate")),
    *(PolicyGradient(n=2, kl=k, kl_in=where, kl_per="token") for k in ("k2", "k3") for where in ("loss", "reward")),
    PolicyGradient(n=2, kl="k3", kl_in="loss", kl_ratio=True),
]


@functools.lru_cache
def engine(estimator, policy="table", settings=SHARP, **fields):
    return Engine(Cell(estimator, Answers(policy, **fields)), settings)


def drawn_by_autograd(engine, generator):
    """Return the sequences that one call of the estimator draws, ``[n, rows, P, T]``, and its gradients."""
    r, drawn = rows(engine.q, ROWS), []

    def around(reward):
        return lambda x: drawn.append(x) or reward(x)

    f = engine.problem.integrand(r)
    gradients = engine.own_gradients_on(r, f.through(around, r), generator)
    return max(drawn, key=torch.Tensor.dim), gradients


FEW = [RLOO(n=3), ScoreFunction(n=2, baseline=0.5), PolicyGradient(n=3), PolicyGradient(n=3, reduction="token-mean")]
CASES = [*((each, Answers()) for each in ESTIMATORS), *((each, Answers(name)) for name in POLICIES for each in FEW)]
SETS = [RLOO(n=3), ScoreFunction(), PKPO(), *(MultiSample(n=2, baseline=b) for b in ("others", "left-out", "mean"))]
CASES += [(each, Verifier(vocabulary=3, length=3, prompts=2, k=3)) for each in SETS]


@pytest.mark.parametrize(("estimator", "objective"), CASES)
def test_the_gradients_are_those_of_autograd_on_the_samples_of_one_call(estimator, objective):
    cell = Engine(Cell(estimator, objective), SHARP)
    x, expected = drawn_by_autograd(cell, seeded(1))
    look_up = cell.look_up
    policy = look_up.sequences.policy
    support = {tuple(s): k for k, s in enumerate(policy.enumerate_support()[:, 0].tolist())}
    numbers = [
        [
            [support[tuple(s)] + p * len(support) for sample in x[:, r, p].tolist() for s in listed(sample)]
            for p in range(policy.prompts)
        ]
        for r in range(ROWS)
    ]
    weights = look_up.sequences.weights(torch.tensor(numbers))
    found = look_up.table.gradients(torch.tensor(numbers), weights / policy.prompts)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert any(g.abs().max() > 1e-3 for g in expected)


def listed(sample):
    """Return the sequences of a sample, one or a set of them."""
    return sample if isinstance(sample[0], list) else [sample]


PUBLISHED = [estimator for estimator in catalogue().values() if hasattr(estimator, "weights")]


@pytest.mark.parametrize("estimator", PUBLISHED)
def test_published_losses_are_looked_up(estimator):
    assert len(PUBLISHED) > 9
    assert engine(estimator()).look_up is not None, "and agree with autograd, as a trial finds"


@pytest.mark.parametrize("sampler", [False, True], ids=["RLOO", "PolicyGradient"])
def test_the_law_of_the_samples_is_exact(sampler):
    """Each uniform number belongs to one sequence, on an interval as long as the sequence is probable."""
    estimator = PolicyGradient(n=2) if sampler else RLOO(n=2)
    cell = engine(estimator)
    sequences, f = cell.look_up.sequences, cell.problem.integrand(cell.q)
    law = f.sampler if sampler else cell.q
    lengths = sequences.bounds.diff(prepend=torch.zeros(2, 1).double())
    torch.testing.assert_close(lengths.T, law.log_prob(law.enumerate_support()).exp(), rtol=1e-12, atol=1e-15)


def test_the_samples_have_this_law():
    """Count each sequence: scores of multinomial counts, at the failure rate of ``tests.tolerances``."""
    cell, rows, n = engine(RLOO(n=2)), 20_000, 2
    sequences = cell.look_up.sequences
    numbers = sequences.draw(rows, seeded(3))
    assert numbers.shape == (rows, 2, n)
    count = torch.bincount(numbers.flatten(), minlength=2 * sequences.size).double()
    p = cell.q.log_prob(sequences.x).exp().T.flatten().detach()
    z = (count - rows * n * p) / (rows * n * p * (1 - p)).sqrt()
    assert z.abs().max() < z_limit(len(z))
    pairs = (numbers[:, 0, 0] % sequences.size == 0) & (numbers[:, 1, 1] % sequences.size == 0)
    both = p[0] * p[sequences.size]  # prompts and samples are independent
    assert abs(pairs.sum() - rows * both) < z_limit() * (rows * both * (1 - both)).sqrt()


def test_numbers_are_those_of_the_sequences():
    sequences = engine(RLOO(n=2)).look_up.sequences
    every = sequences.numbers(sequences.x.unsqueeze(1))
    assert every.flatten().tolist() == list(range(2 * sequences.size))


@pytest.mark.parametrize("estimator", [PolicyGradient(n=4), RLOO(n=4)], ids=["off-policy", "on-policy"])
def test_the_mean_is_that_of_calls_of_the_estimator(estimator):
    """Two samples of the same law: means over 2,000 calls each, at the failure rate of ``tests.tolerances``."""
    count = 2_000
    found = engine(estimator).gradients(count, seeded(5))
    calls = Engine(Cell(estimator, Answers()), SHARP, looks_up=False)
    assert calls.look_up is None
    other = calls.gradients(count, seeded(6))
    z = (found.mean(0) - other.mean(0)) / ((found.var(0) + other.var(0)) / count).sqrt()
    assert z.abs().max() < z_limit(len(z))
    assert (found.var(0) / other.var(0)).log().abs().median() < math.log(1.2)


@dataclass(frozen=True)
class Wrong(PolicyGradient):
    """A loss that is not the one of its weights."""

    factor: float = 1.01

    def __call__(self, f, q, generator=None, state=None):
        return self.factor * super().__call__(f, q, generator)

    def weights(self, *args, **kwargs):
        return super().weights(*args, **kwargs)


@dataclass(frozen=True)
class Doubled(RLOO):
    """A loss of its own, without coefficients."""

    def __call__(self, f, q, generator=None, state=None):
        return 2 * super().__call__(f, q, generator)


def test_estimates_that_are_not_finite_in_both_ways_are_no_difference():
    f = SetFunction(lambda x: x.sum(-1).double(), lambda v: (v.mean(-1) - 2).sqrt())
    q = Repeated(engine(RLOO()).q, 2)
    found = look_up_of(RLOO(), q, f)
    found.check(engine(RLOO()).own_gradients_on, seeded())
    rows_of = torch.cat([g.flatten(1) for g in found(50, seeded())], 1).isfinite().all(1)
    assert rows_of.any()
    assert not rows_of.all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_are_not_the_gradient_of_the_loss_are_refused(dtype):
    settings = replace(SHARP, dtype=dtype)
    assert engine(Wrong(factor=1.0), settings=settings).look_up is not None
    with pytest.raises(InvalidLoss, match="has weights that are not the gradient of its loss"):
        engine(Wrong(), settings=settings).gradients(4, seeded())


def test_a_policy_that_gives_one_answer_only_has_gradients_that_are_rounding():
    objective = Verifier(policy="recurrent")
    problem = objective.build()
    with torch.no_grad():
        for name, w in problem.theta.items():
            w.fill_(1.0 if name in ("prompts", "tokens") else 0.0)
        problem.theta["output"][:, 3] = 8 / 12  # nearly always token 3: the samples agree, and the rewards
    assert Engine(Cell(RLOO(n=8), objective), Settings(replicates=64), problem=problem).look_up is not None


def test_nothing_is_said_about_tables_where_sets_are_not_of_sequences():
    assert too_large(BestOfK()) == ""


def test_gradients_are_left_to_autograd_if_the_table_is_too_large(monkeypatch):
    monkeypatch.setattr(score_table, "MOST_BYTES", 1_000)
    cell = Engine(Cell(RLOO(), Answers()), SHARP)
    assert cell.look_up is None
    assert cell.gradients(4, seeded()).shape == (4, cell.size)


@pytest.mark.parametrize("estimator", [Doubled(), ScoreFunction(n=2, baseline="optimal"), VIMCO()])
def test_gradients_are_left_to_autograd_without_weights(estimator):
    assert engine(estimator).look_up is None


@pytest.mark.parametrize("estimator", [RLOO(), PolicyGradient()])
def test_an_f_with_noise_or_a_gradient_of_its_own_is_not_looked_up(estimator):
    q, noise = engine(RLOO()).q, seeded()

    def noisy(x):
        return torch.rand(x.shape[:-1], generator=noise, dtype=torch.float64)

    assert look_up_of(estimator, q, PolicyReturn(lambda x: x.sum(-1).double())) is not None
    assert look_up_of(estimator, q, PolicyReturn(noisy)) is None
    assert look_up_of(estimator, q, PolicyReturn(q.log_prob)) is None


def test_weights_of_tokens_are_not_for_sets_nor_for_another_law():
    q, f = engine(RLOO()).q, SetFunction(lambda x: x.sum(-1).double(), lambda v: v.amax(-1))
    assert look_up_of(RLOO(), Repeated(q, 2), f) is not None
    assert look_up_of(PolicyGradient(), Repeated(q, 2), f) is None

    class Own(TokenSequence):
        """A subclass, which may have another density."""

    assert look_up_of(RLOO(), Own(q.weights, q.policy, q.prompts, q.length), f) is None


def test_a_draw_depends_on_its_number_alone():
    one, other = (Engine(Cell(PolicyGradient(n=2), Answers()), replace(SHARP, replicates=512)) for _ in range(2))
    other.draw_gradients(0)
    assert one.draw_gradients(1).equal(other.draw_gradients(1))
    assert not one.draw_gradients(1).equal(one.draw_gradients(0))
