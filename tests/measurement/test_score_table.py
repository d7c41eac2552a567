"""The score table against autograd: every policy, prompts, weights of tokens and of whole sequences."""

from dataclasses import dataclass

import pytest
import torch

from bench.measurement import score_table
from bench.measurement.score_table import ScoreTable, size_in_bytes
from bench.records.lines import Lost
from estimators import RecurrentPolicy, TablePolicy, TokenSequence, TransformerPolicy, parameters, rows
from tests.problems import seeded

ROWS, PROMPTS, GROUP, LENGTH = 3, 2, 4, 3
POLICIES = {
    "table": TablePolicy(4),
    "recurrent": RecurrentPolicy(4, width=3),
    "transformer": TransformerPolicy(4, width=4, heads=2, blocks=1),
}


def made(policy, prompts=PROMPTS, length=LENGTH):
    like = torch.zeros((), dtype=torch.float64)
    weights = policy.initial(prompts, length, seeded(1), like)
    return TokenSequence({name: t.requires_grad_() for name, t in weights.items()}, policy, prompts, length)


@pytest.fixture(params=POLICIES.values(), ids=POLICIES.keys(), scope="module")
def q(request):
    return made(request.param)


@pytest.mark.parametrize("whole", [False, True], ids=["tokens", "sequences"])
@pytest.mark.parametrize("at_once", [5, score_table.SCORES])
def test_the_gradient_of_a_row_is_that_of_autograd(q, whole, at_once, monkeypatch):
    monkeypatch.setattr(score_table, "SCORES", at_once)
    table = ScoreTable(q)
    answers = torch.randint(q.support_size, (ROWS, PROMPTS, GROUP), generator=seeded(2))
    numbers = answers + q.support_size * torch.arange(PROMPTS)[:, None]
    size = (ROWS, PROMPTS, GROUP, 1 if whole else LENGTH)
    weights = torch.randn(size, generator=seeded(3), dtype=torch.float64).expand(-1, -1, -1, LENGTH)
    r = rows(q, ROWS)
    each = r.log_probs(q.enumerate_support(expand=False)[:, 0][answers].movedim(2, 0))
    expected = torch.autograd.grad((weights.movedim(2, 0) * each).sum(), list(parameters(r).values()))
    found = table.gradients(numbers, weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_weights_after_the_end_of_a_sequence_are_not_read(q):
    table, x = ScoreTable(q), q.enumerate_support(expand=False)[:, 0]
    numbers = (q.lengths(x) == 1).nonzero().view(1, 1, 1).expand(1, PROMPTS, 1)
    weights = torch.ones((1, PROMPTS, 1, LENGTH), dtype=torch.float64)
    spoilt = weights.clone()
    spoilt[..., 1:] = torch.nan
    torch.testing.assert_close(table.gradients(numbers, spoilt), table.gradients(numbers, weights))


def test_a_weight_for_each_prompt_keeps_one_slice_for_each_score():
    q = made(TablePolicy(4))
    (table,) = ScoreTable(q).of_tokens
    assert table.shape == (PROMPTS * 13 * 4, 13 * 4)  # 1 + 3 + 9 beginnings, 4 tokens


def test_a_table_is_as_large_as_is_said_before_it_is_made(q):
    table = ScoreTable(q)
    held = sum(t.nbytes for t in [*table.of_tokens, *table.of_sequences])
    assert held == size_in_bytes(q)


@pytest.mark.parametrize(
    ("most", "advice"),
    [
        (60_000, "Lower length from 3 to 2 or prompts from 2 to 1 or vocabulary from 4 to 3."),
        (600, "Lower length from 3 to 1."),
        (100, "Lower the size of the policy."),
    ],
)
def test_a_table_that_is_too_large_says_which_number_to_lower(most, advice, monkeypatch):
    monkeypatch.setattr(score_table, "MOST_BYTES", most)
    with pytest.raises(Lost, match="score table") as caught:
        ScoreTable(made(TablePolicy(4)))
    assert str(caught.value).endswith(advice)


def test_no_memory_is_taken_for_a_table_that_is_too_large():
    q = TokenSequence({"logits": torch.zeros(1).expand(1, 2_396_745, 9).requires_grad_()}, TablePolicy(9), 1, 8)
    with pytest.raises(Lost, match=r"would take [\d,.]+ GB \(at most 2\). Lower length from 8 to 4 or vocabulary"):
        ScoreTable(q)


@dataclass(frozen=True)
class Mixed(TablePolicy):
    """The logits of a prompt are those of all prompts together."""

    def logits(self, weights, x):
        table = weights["logits"]
        return super().logits({"logits": table.mean(1, keepdim=True).expand_as(table)}, x)


def test_a_policy_that_mixes_its_prompts_has_no_table():
    with pytest.raises(Lost, match=r"prompts of Mixed.* cannot be told apart"):
        ScoreTable(made(Mixed(4)))
