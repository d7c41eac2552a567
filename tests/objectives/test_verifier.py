"""The verifier and the targets of a trainer's loss: sums over sequences, written out one by one."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from bench.objectives import Verifier, policy_targets
from bench.objectives.policy_targets import ENUMERATED, elements
from bench.objectives.verifier import right_checksums
from bench.planning.cells import Cell
from bench.training.settings import Training
from bench.training.trainee import Trainee
from estimators import RLOO, PolicyReturn, Refusal

SMALL = Verifier(vocabulary=3, length=3, prompts=2, kl=0.3)
POLICIES = [replace(SMALL, policy=policy) for policy in ("table", "recurrent", "transformer")]


class Listed:
    """A problem's sequences and, for each prompt, what the policy and the reference give every token, as numbers."""

    def __init__(self, objective):
        self.problem = objective.build(torch.float64)
        self.theta = self.problem.theta
        self.q = self.problem.q(self.theta)
        self.f = self.problem.integrand(self.q)
        v, length = objective.vocabulary, objective.length
        every = itertools.product(range(v), repeat=length)
        self.x = [x for x in every if all(b == 0 for a, b in itertools.pairwise(x) if a == 0)]
        table = torch.tensor(self.x).unsqueeze(1).expand(-1, objective.prompts, length)
        self.logits = self.q.logits(table).log_softmax(-1)
        self.ref = self.f.reference.logits(table).log_softmax(-1).detach()
        right = right_checksums(objective)
        self.right = [right[:, int("".join(map(str, x)), v) % 97].tolist() for x in self.x]

    def log_mass(self, logits, s, p):
        """Return log q of sequence s for prompt p."""
        going = itertools.accumulate((token != 0 for token in self.x[s][:-1]), lambda a, b: a and b, initial=True)
        return sum(logits[s, p, t, self.x[s][t]] for t, on in enumerate(going) if on)

    def prefix_kl(self, of, to, p):
        """Return sum over beginnings b of q(b), held fixed, times KL(of(. | b) || to(. | b))."""
        total = 0.0
        for t in range(len(self.x[0])):
            for start in {x[:t] for x in self.x if all(x[:t])}:
                same = [s for s, x in enumerate(self.x) if x[:t] == start]
                mass = sum(self.log_mass(self.logits, s, p).exp() for s in same).item()
                a, b = of[same[0], p, t], to[same[0], p, t]
                total = total + mass * (a.exp() * (a - b)).sum()
        return total


@pytest.fixture(scope="module", params=POLICIES, ids=lambda o: o.policy)
def listed(request):
    return Listed(request.param)


def expected(listed, beta, k=2):
    """Return every target, from its formula."""
    n, prompts = range(len(listed.x)), range(listed.q.prompts)
    own = [[listed.log_mass(listed.logits, s, p) for s in n] for p in prompts]
    ref = [[listed.log_mass(listed.ref, s, p) for s in n] for p in prompts]
    p_right = [sum(own[p][s].exp() * listed.right[s][p] for s in n) for p in prompts]
    reverse = [sum(own[p][s].exp() * (own[p][s] - ref[p][s]) for s in n) for p in prompts]
    each = {
        "reward": p_right,
        "penalised-reward": [r - beta * d for r, d in zip(p_right, reverse, strict=True)],
        "reverse-kl": reverse,
        "forward-kl": [sum(ref[p][s].exp() * (ref[p][s] - own[p][s]) for s in n) for p in prompts],
        "token-kl": [listed.prefix_kl(listed.logits, listed.ref, p) for p in prompts],
        "token-forward-kl": [listed.prefix_kl(listed.ref, listed.logits, p) for p in prompts],
        "arcsine": [2 * r.sqrt().asin() for r in p_right],
        "log": [r.log() for r in p_right],
        "pass@k": [1 - (1 - r) ** k for r in p_right],
    }
    return {name: sum(values) / len(values) for name, values in each.items()}


def gradient(value, theta):
    found = torch.autograd.grad(value, list(theta.values()), retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def off(found, wanted, theta):
    """Return the larger of the differences of two scalars and of their gradients."""
    slope = gradient(found, theta) - gradient(wanted, theta)
    return max((found - wanted).abs().item(), slope.abs().max().item())


def test_every_target_is_its_formula(listed):
    found = policy_targets(listed.q, listed.f, k=3)
    wanted = expected(listed, SMALL.kl, k=3)
    assert list(found) == list(wanted)
    for name in wanted:
        assert off(found[name], wanted[name], listed.theta) < 1e-12, name
    exact = listed.problem.exact(listed.theta)
    assert off(exact, wanted["penalised-reward"], listed.theta) < 1e-12


def test_no_two_targets_have_one_gradient(listed):
    """So the formulas of one would not pass for those of another, frozen beginnings included."""
    found = policy_targets(listed.q, listed.f, k=3)
    slopes = {name: gradient(value, listed.theta) for name, value in found.items()}
    for one, other in itertools.combinations(slopes, 2):
        assert (slopes[one] - slopes[other]).norm() > 1e-2 * slopes[one].norm(), (one, other)


def test_rewards_that_are_no_bits_have_no_probability():
    listed = Listed(SMALL)
    real = PolicyReturn(lambda x: 0.5 * listed.f.reward(x), listed.f.reference)
    assert not {"log", "arcsine", "pass@k"} & policy_targets(listed.q, real).keys()
    assert list(policy_targets(listed.q, PolicyReturn(listed.f.reward))) == ["reward", "arcsine", "log", "pass@k"]


@pytest.mark.parametrize("objective", [Verifier(), Verifier(vocabulary=8, length=3, prompts=6), Verifier(prompts=1)])
def test_the_probabilities_of_right_answers_go_from_one_in_a_hundred_to_nine_in_ten(objective):
    """With all tokens equally probable; so each answer of L tokens has the probability V^-L."""
    problem = objective.build(torch.float64)
    q = problem.q(problem.theta)
    x = q.enumerate_support()
    p = (float(objective.vocabulary) ** -q.lengths(x) * problem.integrand(q).reward(x)).sum(0)
    low, high = math.log(0.01 / 0.99), math.log(0.9 / 0.1)
    steps = [i / (objective.prompts - 1) for i in range(objective.prompts)] if objective.prompts > 1 else [0.5]
    targets = [1 / (1 + math.exp(-(low + step * (high - low)))) for step in steps]
    for found, target in zip(p.tolist(), targets, strict=True):
        assert target * 0.75 < found <= target


def test_no_prompt_has_always_or_never_the_right_answer():
    for size in ((2, 1), (2, 2), (3, 1), (97, 2)):
        problem = Verifier(vocabulary=size[0], length=size[1], policy="recurrent", prompts=3).build(torch.float64)
        q = problem.q(problem.theta)
        p = policy_targets(q, problem.integrand(q))
        every = problem.integrand(q).reward(q.enumerate_support())
        assert ((every.sum(0) > 0) & (every.sum(0) < q.support_size)).all(), size
        assert 0 < p["reward"] < 1


def test_distances_move_the_fixed_policies_from_none_to_another():
    def policies(**fields):
        problem = Verifier(**fields).build(torch.float64)
        q = problem.q(problem.theta)
        f = problem.integrand(q)
        return q, f, policy_targets(q, f)["reverse-kl"].item()

    apart = [policies(drift=drift)[2] for drift in (0.0, 0.1, 0.5, 1.0)]
    assert apart[0] == pytest.approx(0, abs=1e-12)
    assert apart == sorted(apart)
    assert apart[-1] > 0.5
    q, f, _ = policies(off_policy=0.25)
    _, far, _ = policies(off_policy=1.0)
    w, near, other = (p.weights["logits"] for p in (q, f.sampler, far.sampler))
    torch.testing.assert_close(near, 0.75 * w + 0.25 * other)
    assert policies()[1].sampler is None


def test_another_seed_has_other_weights_and_the_same_right_answers():
    one, other = Verifier().build(), Verifier().restarted(3).build()
    assert Verifier().restarted(3) == Verifier(seed=3)
    assert not torch.equal(one.theta["logits"], other.theta["logits"])
    q = one.q(one.theta)
    x = q.enumerate_support()
    assert torch.equal(one.integrand(q).reward(x), other.integrand(q).reward(x))


def test_what_is_too_large_is_refused_before_memory_is_taken():
    large = Verifier(policy="transformer", length=8)
    assert not large.has_exact
    assert large.reference_estimator == RLOO(n=8)
    problem = large.build()
    assert problem.exact is None
    assert elements(large.network, large.prompts, large.length) > ENUMERATED
    q = problem.q(problem.theta)
    with pytest.raises(
        Refusal, match=r"87,381 sequences of up to 8 tokens.*Lower the length from 8, or the vocabulary"
    ):
        policy_targets(q, problem.integrand(q))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"length": 30}, r"at most 1,048,576 weights .*length=30.* Lower length\."),
        ({"policy": "transformer", "vocabulary": 10**9}, r"at most 1,048,576 weights .* Lower vocabulary or prompts\."),
        ({"length": 10**9}, r"length <= 64 \(got length=1000000000\)"),
        ({"policy": "lstm"}, r"table, recurrent or transformer \(got policy='lstm'\)"),
        ({"drift": 1.5}, "drift from 0 to 1"),
        ({"kl": math.nan}, "finite number kl"),
        ({"vocabulary": 1}, "vocabulary >= 2"),
        ({"k": 0}, "k"),
        ({"k": 2, "kl": 0.1}, "k=1 with kl=0.1"),
    ],
)
def test_bad_fields_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Verifier(**fields)


def test_training_raises_the_reward():
    """Fifty steps: a policy that did not learn would keep its value, and one that minimised would lose it."""
    trainee = Trainee(Cell(RLOO(n=8), Verifier()), Training(steps=50, rate=0.1, replicates=0), 0)
    curve = trainee.train(lambda *_: None)["curves"]["value"]
    assert curve[-1] > curve[0] + 0.3


def test_answers_judged_together_have_the_value_of_pass_at_k():
    alone, together = (Verifier(k=k).build(torch.float64) for k in (1, 3))
    x = together.q(together.theta).base_dist.enumerate_support()
    right = together.integrand(together.q(together.theta)).values(x.unsqueeze(-2)).squeeze(-1)
    assert torch.equal(right, alone.integrand(alone.q(alone.theta)).reward(x))
    wanted = policy_targets(alone.q(alone.theta), alone.integrand(alone.q(alone.theta)), k=3)["pass@k"]
    value = together.exact(together.theta)
    assert torch.allclose(value, wanted, rtol=1e-13, atol=0)
    for got, expected in zip(
        torch.autograd.grad(value, list(together.theta.values())),
        torch.autograd.grad(wanted, list(alone.theta.values())),
        strict=True,
    ):
        assert torch.allclose(got, expected, rtol=0, atol=1e-13)
