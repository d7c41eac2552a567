"""Token sequences: the law of a policy's sequences against products of conditional probabilities, one by one."""

import itertools
import math

import pytest
import torch

from estimators import (
    GRPO,
    NVIL,
    RLOO,
    Enumeration,
    RecurrentPolicy,
    Refusal,
    ScoreFunction,
    SelfCritical,
    TablePolicy,
    TokenSequence,
    TransformerPolicy,
    UnsupportedFamily,
    draw,
    parameters,
    rows,
)
from tests.problems import seeded
from tests.tolerances import z_limit

PROMPTS, LENGTH, VOCABULARY = 2, 3, 3


def sequences(vocabulary, length):
    """Return every sequence that can occur, as tuples, from the definition."""
    every = itertools.product(range(vocabulary), repeat=length)
    return [x for x in every if all(b == 0 for a, b in itertools.pairwise(x) if a == 0)]


def made(policy, prompts=PROMPTS, length=LENGTH, lead=(), seed=0):
    like = torch.zeros((), dtype=torch.float64)
    shapes = policy.shapes(prompts, length)
    weights = {
        name: torch.randn((*lead, *own), generator=seeded(seed + i), dtype=like.dtype).requires_grad_()
        for i, (name, own) in enumerate(shapes.items())
    }
    return TokenSequence(weights, policy, prompts, length, validate_args=True)


def prefix_number(x, vocabulary):
    """Return the number of a beginning, by counting the beginnings in order of length, then of tokens."""
    shorter = sum((vocabulary - 1) ** t for t in range(len(x)))
    return shorter + sum((token - 1) * (vocabulary - 1) ** (len(x) - 1 - i) for i, token in enumerate(x))


@pytest.mark.parametrize(("vocabulary", "length", "size"), [(5, 4, 341), (3, 3, 15), (2, 3, 4), (4, 1, 4)])
def test_the_support_is_every_sequence_once(vocabulary, length, size):
    q = made(TablePolicy(vocabulary), length=length)
    found = q.enumerate_support()
    assert q.support_size == size == len(found)
    assert sorted(map(tuple, found[:, 1].tolist())) == sorted(sequences(vocabulary, length))
    assert q.enumerate_support(expand=False).shape == (size, 1, length)
    torch.testing.assert_close(q.log_prob(found).exp().sum(0), torch.ones(PROMPTS, dtype=torch.float64))


def test_log_probs_of_a_table_are_those_of_its_rows():
    q = made(TablePolicy(VOCABULARY), lead=(2,))
    every = q.enumerate_support()
    found, masks, lengths = q.log_probs(every), q.mask(every), q.lengths(every)
    table = q.weights["logits"]
    for s, x in enumerate(every[:, 0, 0].tolist()):
        going = [t == 0 or x[t - 1] != 0 for t in range(LENGTH)]
        assert masks[s, 1, 1].tolist() == going
        assert lengths[s, 1, 0].item() == sum(going)
        for r, p in itertools.product(range(2), range(PROMPTS)):
            for t in range(LENGTH):
                row = table[r, p, prefix_number(x[:t], VOCABULARY)] if going[t] else None
                expected = 0.0 if row is None else (row[x[t]] - row.logsumexp(-1)).item()
                assert found[s, r, p, t].item() == pytest.approx(expected, abs=1e-12)


def test_what_follows_the_end_has_probability_one_or_none():
    q = TokenSequence(dict(made(TablePolicy(VOCABULARY)).weights), TablePolicy(VOCABULARY), PROMPTS, LENGTH, False)
    x = torch.tensor([1, 0, 2]).expand(PROMPTS, LENGTH)
    assert q.log_probs(x)[:, 2].tolist() == [-math.inf, -math.inf]
    assert q.log_probs(x.clone().index_fill(-1, torch.tensor(2), 0))[:, 2].tolist() == [0, 0]
    (g,) = torch.autograd.grad(q.log_probs(x)[:, :2].sum(), q.weights["logits"])
    assert g.isfinite().all()
    with pytest.raises(ValueError, match="support"):
        made(TablePolicy(VOCABULARY)).log_probs(x)


def excess(q, count=20_000):
    """Return Pearson's chi-square of the draws for each row and prompt, as a standard normal (Wilson & Hilferty)."""
    x, every = draw(q, count, seeded(1)), q.enumerate_support()
    mass = q.log_prob(every).exp().detach()
    same = (x.unsqueeze(1) == every).all(-1).sum(0)  # [S, *batch]
    assert (same.sum(0) == count).all()
    found, freedom = ((same - count * mass).square() / (count * mass)).sum(0), len(every) - 1
    return ((found / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))


def test_draws_have_the_law_of_log_prob():
    found = excess(made(TablePolicy(VOCABULARY), lead=(2,)))
    assert found.max() < z_limit(found.numel())


def test_the_chi_square_sees_draws_of_another_temperature(monkeypatch):
    q = made(TablePolicy(VOCABULARY), lead=(2,))
    step = TablePolicy.step
    monkeypatch.setattr(TablePolicy, "step", lambda *a: (step(*a)[0] / 1.2, step(*a)[1]))
    assert excess(q).max() > z_limit(4)


def test_the_mode_is_greedy_decoding():
    q = made(TablePolicy(VOCABULARY), lead=(3,), seed=3)
    for r, p in itertools.product(range(3), range(PROMPTS)):
        x = []
        for _ in range(LENGTH):
            ended = bool(x) and x[-1] == 0
            x.append(0 if ended else int(q.weights["logits"][r, p, prefix_number(x, VOCABULARY)].argmax()))
        assert q.mode[r, p].tolist() == x


def test_rows_have_their_own_weights_and_gradients_and_share_draws():
    q = made(TablePolicy(VOCABULARY))
    r = rows(q, 4)
    assert r.batch_shape == (4, PROMPTS)
    x = draw(r, 5, seeded(2))
    assert x.dtype == torch.long
    one = TokenSequence({k: w.detach() for k, w in q.weights.items()}, q.policy, PROMPTS, LENGTH)
    torch.testing.assert_close(r.log_probs(x), one.log_probs(x))
    (g,) = torch.autograd.grad(r.log_prob(x).sum(), list(parameters(r).values()))
    for i in range(4):
        (own,) = torch.autograd.grad(q.log_prob(x[:, i]).sum(), list(q.weights.values()))
        torch.testing.assert_close(g[i], own)
    owned = {k: w.detach().expand(4, *w.shape).clone() for k, w in q.weights.items()}
    apart = TokenSequence(owned, q.policy, PROMPTS, LENGTH)  # rows in memory of their own: nothing is shared
    assert draw(apart, 5, seeded(2)).equal(x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": 0}, r"whole number prompts >= 1 \(got prompts=0\)"),
        ({"length": 1.5}, "whole number length >= 1"),
        ({"length": 4}, r"weights logits of shape \[\.\.\., 2, 15, 3\] for 2 prompts and 4 tokens \(got \[2, 7, 3\]\)"),
        ({"weights": {}}, r"needs the weights logits \(got none\)"),
        ({"weights": torch.zeros(2, 7, 3)}, r"needs weights by name, .* \(got a Tensor\)"),
        ({"weights": {"logits": [1.0]}}, r"floating-point numbers as weight 'logits' \(got a list\)"),
        ({"weights": {"logits": torch.zeros(2, 7, 3).long()}}, r"floating-point numbers .* \(got torch.int64\)"),
        ({"policy": TablePolicy}, "needs a policy, such as TablePolicy"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(change, words):
    q = made(TablePolicy(VOCABULARY))
    given = {"weights": q.weights, "policy": q.policy, "prompts": PROMPTS, "length": LENGTH} | change
    with pytest.raises(Refusal, match=words):
        TokenSequence(**given)


def test_tokens_are_whole_numbers():
    q = made(TablePolicy(VOCABULARY))
    with pytest.raises(Refusal, match=r"tokens that are whole numbers \(got torch.float32\). Use x.long\(\)"):
        q.log_prob(q.sample().float())
    assert torch.equal(q.log_prob(q.mode.to(torch.uint8)), q.log_prob(q.mode))


def test_a_vocabulary_of_one_is_refused():
    with pytest.raises(Refusal, match=r"vocabulary >= 2 \(got vocabulary=1\)"):
        TablePolicy(1)


# Estimators on sequences ---------------------------------------------------------------------------------------------


PAIRS = torch.tensor(list(itertools.product(sequences(VOCABULARY, LENGTH), repeat=2))).transpose(0, 1).unsqueeze(2)
"""Every pair of sequences for one prompt, ``[2, 225, 1, 3]``: one pair for each row."""


def coded(x):
    return (((x * torch.tensor([1, 2, 4])).sum(-1) % 5) * 0.7).double()


def gradient(value, q):
    return torch.cat([g.flatten(1) for g in torch.autograd.grad(value.sum(), list(parameters(q).values()))], 1)


@pytest.fixture
def mean_over_pairs(monkeypatch):
    """A function of an estimator and a policy: the mean gradient over all pairs of draws, and the exact gradient."""
    monkeypatch.setattr(TokenSequence, "draw", lambda *_: PAIRS)

    def found(estimator, policy):
        q = made(policy, prompts=1)
        r, every = rows(q, PAIRS.shape[1]), q.enumerate_support()
        mass = q.log_prob(PAIRS).sum(0).exp().detach()
        mean = (mass * gradient(estimator(coded, r), r)).sum(0)
        value = (q.log_prob(every).exp() * coded(every)).sum()
        exact = torch.autograd.grad(value, list(parameters(q).values()))
        return mean, torch.cat([g.flatten() for g in exact])

    return found


POLICIES = (TablePolicy(3), RecurrentPolicy(3, 4), TransformerPolicy(3, width=4, blocks=1))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("estimator", [ScoreFunction(n=2), RLOO(), SelfCritical(n=2), Enumeration()], ids=repr)
def test_the_mean_over_all_pairs_of_sequences_is_the_exact_gradient(estimator, policy, mean_over_pairs):
    torch.testing.assert_close(*mean_over_pairs(estimator, policy), rtol=1e-11, atol=1e-12)


def test_the_mean_over_all_pairs_sees_a_bias(mean_over_pairs):
    found, exact = mean_over_pairs(GRPO(n=2), TablePolicy(3))
    assert (found - exact).norm() > 0.05 * exact.norm()


def test_the_self_critical_baseline_is_greedy_decoding():
    q, seen = made(TablePolicy(VOCABULARY)), []
    SelfCritical()(lambda x: [seen.append(x), coded(x)][1], q, seeded())
    assert torch.equal(seen[1], q.mode)


def test_too_many_sequences_to_list_are_counted_not_listed():
    policy = TablePolicy(40)
    q = TokenSequence({"logits": torch.zeros(()).expand(policy.shapes(1, 5)["logits"])}, policy, 1, 5)
    words = r"at most 65,536 sequences \(got 92,598,520\).* length of 5 or the vocabulary of 40"
    with pytest.raises(Refusal, match=words):
        Enumeration().points(q)


def test_an_estimator_of_independent_coordinates_refuses_sequences():
    with pytest.raises(UnsupportedFamily, match=r"NVIL.* q is TokenSequence"):
        NVIL()(coded, made(TablePolicy(VOCABULARY)))
