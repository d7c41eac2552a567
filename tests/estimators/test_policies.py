"""Policies with networks against their formulas, written out for one sequence and one token at a time."""

import itertools

import pytest
import torch
from torch.nn import functional

from estimators import InvalidParameter, Policy, RecurrentPolicy, TablePolicy, TokenSequence, TransformerPolicy, draw
from tests.problems import seeded

PROMPTS, LENGTH, VOCABULARY, ROWS = 2, 3, 3, 2
RECURRENT = RecurrentPolicy(VOCABULARY, width=4)
TRANSFORMER = TransformerPolicy(VOCABULARY, width=4, heads=2, blocks=2)
LIKE = torch.zeros((), dtype=torch.float64)


def recurrent(policy, w, prompt, before):
    h = w["prompts"][prompt].tanh()
    for token in before:
        h = (w["tokens"][token] + h @ w["recurrent"]).tanh()
    return h @ w["output"]


def norm(h, weight):
    return h / (h.square().mean() + torch.finfo(h.dtype).eps).sqrt() * weight


def transformer(policy, w, prompt, before):
    h = [w["prompts"][prompt], *(w["tokens"][token] for token in before)]
    h = [each + w["positions"][t] for t, each in enumerate(h)]
    size = policy.width // policy.heads
    for i in range(policy.blocks):
        parts = [(norm(each, w["attention_norm"][i]) @ w["attention"][i]).split(policy.width) for each in h]
        seen = []
        for t, (query, _, _) in enumerate(parts):
            heads = []
            for a in range(policy.heads):
                own = slice(a * size, (a + 1) * size)
                attention = torch.stack([query[own] @ key[own] / size**0.5 for _, key, _ in parts[: t + 1]]).exp()
                values = torch.stack([value[own] for _, _, value in parts[: t + 1]])
                heads.append((attention.unsqueeze(-1) * values).sum(0) / attention.sum())
            seen.append(torch.cat(heads))
        h = [a + b @ w["projection"][i] for a, b in zip(h, seen, strict=True)]
        h = [a + functional.gelu(norm(a, w["mlp_norm"][i]) @ w["up"][i]) @ w["down"][i] for a in h]
    return norm(h[-1], w["norm"]) @ w["output"]


FORMULAS = {RECURRENT: recurrent, TRANSFORMER: transformer}


def made(policy, lead=(ROWS,)):
    every = [policy.initial(PROMPTS, LENGTH, seeded(seed), LIKE) for seed in range(ROWS)]
    weights = {name: torch.stack([w[name] for w in every]) if lead else w for name, w in every[0].items()}
    weights = {
        name: (w + 0.1 * torch.randn(w.shape, generator=seeded(9))).requires_grad_() for name, w in weights.items()
    }
    return TokenSequence(weights, policy, PROMPTS, LENGTH)


def far(q):
    """Return the largest distance of q's logits from the formula, over rows, prompts, sequences and tokens."""
    x = q.enumerate_support()
    with torch.no_grad():
        found, going = q.logits(x), q.mask(x)
        off = [torch.zeros(())]
        for s, r, p, t in itertools.product(range(len(x)), range(ROWS), range(PROMPTS), range(LENGTH)):
            if going[s, r, p, t]:
                one = {name: w[r] for name, w in q.weights.items()}
                expected = FORMULAS[q.policy](q.policy, one, p, x[s, r, p, :t].tolist())
                off.append((found[s, r, p, t] - expected).abs().max())
    return max(off)


@pytest.mark.parametrize("policy", FORMULAS, ids=repr)
def test_logits_are_those_of_the_formula(policy):
    assert far(made(policy)) < 1e-12


def test_the_formula_sees_a_token_that_looks_ahead(monkeypatch):
    attend = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a, is_causal: attend(*a))
    assert far(made(TRANSFORMER)) > 1e-3


@pytest.mark.parametrize("policy", [TablePolicy(VOCABULARY), *FORMULAS], ids=repr)
def test_a_token_at_a_time_gives_the_logits_of_all(policy):
    """So draws, which go token by token through a cache, have the law of ``log_probs``."""
    q = made(policy)
    x = draw(q, 40, seeded()).transpose(0, 1)
    torch.testing.assert_close(Policy.logits(policy, q.weights, x), policy.logits(q.weights, x), rtol=0, atol=1e-12)


def test_the_formula_sees_a_cache_that_forgets(monkeypatch):
    q = made(TRANSFORMER)
    x = draw(q, 40, seeded()).transpose(0, 1)
    step = TransformerPolicy.step

    def forgetful(self, weights, last, cache, points):
        logits, cache = step(self, weights, last, cache, points)
        return logits, [(key[..., -1:, :].expand_as(key), value) for key, value in cache]

    monkeypatch.setattr(TransformerPolicy, "step", forgetful)
    off = Policy.logits(TRANSFORMER, q.weights, x) - TRANSFORMER.logits(q.weights, x)
    assert off.abs().max() > 1e-3


@pytest.mark.parametrize("policy", [TablePolicy(), RecurrentPolicy(), TransformerPolicy()], ids=repr)
def test_initial_weights_have_the_declared_shapes_and_logits_of_unit_size(policy):
    weights = policy.initial(4, 4, seeded(), torch.zeros(()))
    assert {name: tuple(w.shape) for name, w in weights.items()} == policy.shapes(4, 4)
    q = TokenSequence(weights, policy, 4, 4)
    assert 0.3 < q.logits(q.enumerate_support()).std() < 1.5


def test_the_default_transformer_has_about_20_000_weights():
    shapes = TransformerPolicy().shapes(prompts=4, length=4)
    assert sum(torch.Size(own).numel() for own in shapes.values()) == 19_460


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: TransformerPolicy(width=9), r"multiple of heads=2 \(got width=9\)"),
        (lambda: TransformerPolicy(blocks=0), r"blocks >= 1 \(got blocks=0\)"),
        (lambda: RecurrentPolicy(width="4"), r"width >= 1 \(got width='4', of type str\)"),
    ],
)
def test_wrong_sizes_are_refused(call, words):
    with pytest.raises(InvalidParameter, match=words):
        call()


@pytest.mark.parametrize("policy", [TablePolicy(VOCABULARY), *FORMULAS], ids=repr)
def test_sequences_of_one_token_are_categories(policy):
    q = TokenSequence(policy.initial(PROMPTS, 1, seeded(), LIKE), policy, PROMPTS, 1)
    torch.testing.assert_close(q.log_prob(q.enumerate_support()).exp().sum(0), LIKE.new_ones(PROMPTS))


@pytest.mark.parametrize("policy", [TablePolicy(VOCABULARY), *FORMULAS], ids=repr)
def test_no_samples_are_no_mistake(policy):
    q = made(policy)
    assert q.log_probs(q.sample((0,))).shape == (0, ROWS, PROMPTS, LENGTH)


@pytest.mark.parametrize("policy", [TablePolicy(), TransformerPolicy()], ids=repr)
@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((2.0, 3), r"needs a whole number prompts >= 1 \(got prompts=2\.0"),
        ((2, 0), r"needs a whole number length >= 1 \(got length=0\)"),
        ((2**40, 3), r"more than 2\^31 elements for prompts=1099511627776 and length=3\. Lower the length"),
    ],
)
def test_wrong_and_huge_sizes_of_weights_are_refused_before_anything_is_allocated(policy, sizes, said):
    with pytest.raises(InvalidParameter, match=said):
        policy.initial(*sizes, seeded(), LIKE)


def test_a_table_of_long_sequences_is_refused_and_a_short_one_counts_its_prefixes():
    for length in (40, 100_000):
        with pytest.raises(InvalidParameter, match=f"length={length}"):
            TablePolicy().initial(1, length, seeded(), LIKE)
    assert [TablePolicy(v).shapes(3, 3)["logits"] for v in (2, 3, 5)] == [(3, 3, 2), (3, 7, 3), (3, 21, 5)]
