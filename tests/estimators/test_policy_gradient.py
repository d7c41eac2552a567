"""What each policy gradient estimates: its expected gradient over all groups, against targets by autograd."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch.distributions import Normal

from estimators import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    OPO,
    PPO,
    DrGRPO,
    InvalidParameter,
    OptimalTokenBaseline,
    PolicyGradient,
    PolicyReturn,
    Refusal,
    ReinforcePlusPlus,
    ReMax,
    TokenSequence,
    UnsupportedFamily,
    rows,
)
from tests.estimators.groups import World, angle, binary, family, logits, policy, real, scale
from tests.problems import seeded

ONE = {"real": World(real(), logits(3)), "0/1": World(binary(), logits(3))}
TWO = {"real, two prompts": World(real(2), logits(4, 2)), "0/1, two prompts": World(binary(2), logits(4, 2))}
ON_POLICY = ONE | TWO
PENALISED = {name: replace(w, ref=logits(5, w.prompts), beta=0.3) for name, w in ON_POLICY.items()}
ALONE = {name: replace(w, rewards=0 * w.rewards, beta=1.0) for name, w in PENALISED.items() if "real" in name}
OFF_POLICY = {name: replace(w, mu=logits(6, w.prompts)) for name, w in PENALISED.items()}


def means(world):
    """Return the expected reward of each prompt, ``[P]``."""
    return (world.seen["logp"].sum(-1).exp() * world.rewards).sum(0)


def mean_length(world):
    return float((world.seen["logp"].sum(-1).exp() * world.seen["mask"].sum(-1)).sum(0).mean())


def divided_by_the_deviation(world, n, epsilon=1e-4):
    """Return the targets of the prompts times ``c = E[m (1 - m) / (sd + epsilon)] / (p (1 - p))``."""
    factors = []
    for p in means(world).tolist():
        total = 0.0
        for ones in range(n + 1):
            m, chance = ones / n, math.comb(n, ones) * p**ones * (1 - p) ** (n - ones)
            total += chance * m * (1 - m) / (math.sqrt(n / (n - 1) * m * (1 - m)) + epsilon)
        factors.append(total / (p * (1 - p)))
    return (world.target.reshape(world.prompts, -1) * torch.tensor(factors, dtype=torch.float64)[:, None]).flatten()


def per_length(world, n):
    """Return the gradient of ``E (r - p) / L`` with p frozen."""
    cost = (world.rewards - means(world)) / world.seen["mask"].sum(-1)
    return world.gradient(lambda logp: (logp.sum(-1).exp() * cost).sum())


def of_the_rest(world, n):
    return (n - 1) / n * world.target


def exact(world, n):
    return world.target


@dataclass(frozen=True, eq=False)
class Row:
    """A claim: what the expected gradient of an estimator is; and a mutant, of which the claim does not hold."""

    name: str
    estimator: PolicyGradient
    mutant: PolicyGradient
    worlds: dict[str, World]
    says: Callable[[World, int], torch.Tensor]

    def check(self, estimator, n):
        for name, world in self.worlds.items():
            if n == 3 and world.prompts > 1:
                continue  # 462,400 pairs of groups
            found = world.expected(replace(estimator, n=n), n)
            torch.testing.assert_close(
                found, self.says(world, n), rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}"
            )


def in_loss(kl, per, **more):
    return PolicyGradient(kl=kl, kl_in="loss", kl_per=per, **more)


LEFT_OUT = {"leave_one_out": True}
ROWS = [
    Row("RLOO", family(), DrGRPO(), ON_POLICY, exact),
    Row("RLOO of one prompt is no other", family(), family(reduction="token-mean"), TWO, exact),
    Row("ReMax", ReMax(n=2), OPO(), ON_POLICY, exact),
    Row("no baseline", family(baseline="none"), family(baseline="none", reduction="constant"), ON_POLICY, exact),
    Row("the group's mean", DrGRPO(), family(), ON_POLICY, of_the_rest),
    Row(
        "the group's deviation, two values",
        family(leave_one_out=False, scaling="group"),
        family(leave_one_out=False, scaling="batch"),
        {"0/1": ONE["0/1"], "0/1, two prompts": TWO["0/1, two prompts"]},
        divided_by_the_deviation,
    ),
    Row("1/L", family(reduction="sequence-mean"), family(), ON_POLICY, per_length),
    Row(
        "1/L and the group's mean",
        family(leave_one_out=False, reduction="sequence-mean"),
        family(reduction="sequence-mean"),
        ON_POLICY,
        lambda world, n: (n - 1) / n * per_length(world, n),
    ),
    Row("1/T", DrGRPO(reduction="constant"), DrGRPO(), ON_POLICY, lambda w, n: of_the_rest(w, n) / 3),
    Row("OPO, own sample left out", OPO(**LEFT_OUT), OPO(), ON_POLICY, exact),
    Row("optimal token, left out", OptimalTokenBaseline(**LEFT_OUT), OptimalTokenBaseline(), ON_POLICY, exact),
    Row("optimal token, to go", OptimalTokenBaseline(**LEFT_OUT), OptimalTokenBaseline(), PENALISED, exact),
    Row("k1 in the loss", in_loss("k1", "token"), in_loss("k2", "token"), ALONE, lambda w, n: 0 * w.kl()),
    Row("k2 in the loss", in_loss("k2", "sequence"), in_loss("k2", "token"), ALONE, lambda w, n: -w.kl()),
    Row("k2, tokens", in_loss("k2", "token"), in_loss("k2", "sequence"), ALONE, lambda w, n: -w.prefix_kl()),
    Row(
        "k3 in the loss", in_loss("k3", "sequence"), in_loss("k2", "sequence"), ALONE, lambda w, n: -w.kl(reverse=True)
    ),
    Row(
        "k3, tokens", in_loss("k3", "token"), in_loss("k3", "sequence"), ALONE, lambda w, n: -w.prefix_kl(reverse=True)
    ),
    Row("k1 in the reward", PolicyGradient(), in_loss("k1", "sequence"), PENALISED, exact),
    Row("k1 to go", PolicyGradient(kl_per="token"), in_loss("k2", "token"), PENALISED, exact),
    Row(
        "k3 in the reward",
        PolicyGradient(kl="k3"),
        PolicyGradient(kl="k3", kl_per="token"),
        ALONE,
        lambda w, n: w.kl(reverse=True) - w.kl(),
    ),
    Row(
        "k3 times the ratio, tokens",
        in_loss("k3", "token", kl_ratio=True),
        in_loss("k3", "sequence", kl_ratio=True),
        ALONE,
        lambda w, n: -w.prefix_kl(),
    ),
    Row("k3 times the ratio", in_loss("k3", "sequence", kl_ratio=True), in_loss("k3", "sequence"), OFF_POLICY, exact),
    Row("k1 times the ratio", in_loss("k1", "sequence", kl_ratio=True), in_loss("k1", "sequence"), OFF_POLICY, exact),
    Row("ratio of the sequence", PolicyGradient(), PolicyGradient(ratio="cumulative"), OFF_POLICY, exact),
    Row("that ratio, no baseline", PolicyGradient(baseline="none"), PolicyGradient(ratio="none"), OFF_POLICY, exact),
    Row("that ratio, group's mean", DrGRPO(), DrGRPO(ratio="none"), OFF_POLICY, of_the_rest),
    Row(
        "per decision",
        PolicyGradient(ratio="per-decision", kl_per="token"),
        PolicyGradient(ratio="cumulative", kl_per="token"),
        OFF_POLICY,
        exact,
    ),
]


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_expected_gradient(row, n):
    row.check(row.estimator, n)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_claim_does_not_hold_of_a_mutant(row):
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        row.check(row.mutant, 2)


def test_multisets_stand_for_all_groups():
    world, estimator = OFF_POLICY["real"], OPO()
    index = torch.tensor(list(itertools.product(range(15), repeat=2)))[:, None]
    chance = policy(world.mu).log_prob(world.x).exp()[:, 0]
    weights = chance[index].prod(-1)[..., None, None] * world.weights(estimator, index)
    total = torch.zeros(15, 1, 3, dtype=torch.float64).index_put_((index, 0 * index), weights, accumulate=True)
    found = world.gradient(lambda logp: (total * logp).sum())
    torch.testing.assert_close(found, world.expected(estimator, 2), rtol=0, atol=1e-14)


def turned(estimator, world=ONE["real"], by=1.0):
    """Return scale and angle of an expected gradient, which is off in direction by more than ``by`` degrees."""
    g = world.expected(estimator, estimator.n)
    assert angle(g, world.target) > by
    return scale(g, world.target), angle(g, world.target)


@pytest.mark.parametrize("n", [2, 3])
def test_the_deviation_turns_the_gradient_of_other_rewards(n):
    estimator = family(n=n, leave_one_out=False, scaling="group")
    turned(estimator, by=10)
    with pytest.raises(AssertionError):
        turned(estimator, ONE["0/1"], by=1e-6)


def test_the_factor_of_the_deviation_may_exceed_1_and_weights_the_prompts():
    estimator, world = family(n=3, leave_one_out=False, scaling="group"), ONE["0/1"]
    assert scale(world.expected(estimator, 3), world.target) > 1.1
    two = TWO["0/1, two prompts"]
    assert angle(divided_by_the_deviation(two, 3, 1e-9), two.target) < 1e-5  # up to three samples, p cancels
    torch.testing.assert_close(
        world.expected(replace(estimator, n=5), 5), divided_by_the_deviation(world, 5), rtol=0, atol=1e-12
    )
    assert angle(divided_by_the_deviation(two, 5), two.target) > 0.5


@pytest.mark.parametrize("n", [2, 3])
def test_1_over_L_turns_the_gradient_unless_lengths_are_equal(n):
    turned(family(n=n, reduction="sequence-mean"), by=10)
    never_ends = ONE["real"].pi.clone()
    never_ends[:, :3, 0] = -60  # only the last token may be the end
    world = World(real(), never_ends)
    g = world.expected(family(n=n, reduction="sequence-mean"), n)
    torch.testing.assert_close(g, world.target / 3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("world", ONE.values(), ids=ONE)
def test_the_token_mean_tends_to_the_gradient_over_the_mean_length(world):
    scales, angles = [], []
    for n in (2, 3, 4, 5):
        g = world.expected(family(n=n, reduction="token-mean"), n)
        scales.append(scale(g, world.target) * mean_length(world))
        angles.append(angle(g, world.target))
    assert scales == sorted(scales, reverse=True)
    assert angles == sorted(angles, reverse=True)
    assert all(1 < s < 1.25 for s in scales)
    # the bias falls as 1/B: from B = 2 to B = 5 to two fifths, and the terms of second order make some difference
    assert angles[-1] / angles[0] == pytest.approx(2 / 5, rel=0.1)
    assert (scales[-1] - 1) / (scales[0] - 1) == pytest.approx(2 / 5, rel=0.2)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("estimator", [OPO(), OptimalTokenBaseline()], ids=repr)
@pytest.mark.parametrize("world", ONE.values(), ids=ONE)
def test_the_own_sample_in_the_baseline_turns_and_scales(world, estimator, n):
    found, _ = turned(replace(estimator, n=n), world)
    assert found == pytest.approx((n - 1) / n, rel=0.25)
    with pytest.raises(AssertionError):
        turned(replace(estimator, n=n, leave_one_out=True), world, by=1e-6)


def test_whitening_is_the_mean_by_length_over_a_random_scale():
    world = TWO["real, two prompts"]
    index, _ = world.groups(2)
    whitened = world.weights(ReinforcePlusPlus(reduction="sum", epsilon=1e-9), index)
    of = torch.arange(2)[:, None]
    r, lengths, live = world.rewards[index, of], world.seen["mask"].sum(-1)[index, of], world.seen["mask"][index, of]
    mean = ((lengths * r).sum((1, 2)) / lengths.sum((1, 2)))[:, None, None]
    centred = ((r - mean) / 2)[..., None] * live
    ratio = (whitened / centred)[live & (centred.abs() > 1e-9)]
    torch.testing.assert_close(
        whitened * centred.square().sum((1, 2, 3), keepdim=True),
        centred * (whitened * centred).sum((1, 2, 3), keepdim=True),
    )  # one factor for a batch
    assert ratio.min() > 0
    assert ratio.max() / ratio.min() > 5  # and another for another batch
    turned(ReinforcePlusPlus(reduction="sum"))
    turned(ReinforcePlusPlus())


def test_k3_in_the_reward_cancels_near_the_reference():
    """Its first orders cancel, so that its gradient is of second order in the distance, and that of KL of first."""
    zero, away = 0 * real(), logits(7)
    found, wanted = [], []
    for step in (0.02, 0.01):
        world = World(zero, logits(3), ref=logits(3) + step * away, beta=1.0)
        found.append(float(world.expected(PolicyGradient(kl="k3"), 2).norm()))
        wanted.append(float(world.kl().norm()))
    assert found[0] / found[1] == pytest.approx(4, rel=0.05)
    assert wanted[0] / wanted[1] == pytest.approx(2, rel=0.05)


def test_k3_in_the_reward_may_point_the_wrong_way():
    worlds = [World(0 * real(), logits(s), ref=logits(s + 100), beta=1.0) for s in range(12)]
    angles = [angle(w.expected(PolicyGradient(kl="k3"), 2), -w.kl()) for w in worlds]
    assert max(angles) > 90
    assert max(angle(w.expected(PolicyGradient(), 2), -w.kl()) for w in worlds) < 1e-5


BIASED = [
    PolicyGradient(ratio="cumulative"),
    PolicyGradient(ratio="cumulative", kl_per="token"),
    PolicyGradient(ratio="token"),
    PolicyGradient(ratio="none"),
    PolicyGradient(kl_of="sampler"),
    PolicyGradient(ratio="sequence", clipping="truncate"),
    PolicyGradient(ratio="sequence", clipping="ppo"),
    PolicyGradient(ratio="token", clipping="ppo"),
    PolicyGradient(ratio="token", clipping="truncate"),
    PolicyGradient(ratio="geometric"),
    PolicyGradient(ratio="geometric", reduction="sequence-mean"),
    *(preset() for preset in (CISPO, DAPO, GSPO, PPO)),
]


@pytest.mark.parametrize("estimator", BIASED, ids=lambda e: ",".join(map(str, vars(e).values())))
def test_what_is_biased_on_samples_of_another_policy(estimator):
    turned(estimator, OFF_POLICY["real"])
    with pytest.raises(AssertionError):
        turned(PolicyGradient(), OFF_POLICY["real"], by=1e-6)


def test_gspo_differentiated_and_stopped_are_two():
    world = OFF_POLICY["real"]
    g, h = (world.expected(PolicyGradient(ratio="geometric", reduction=r), 2) for r in ("sequence-mean", "sum"))
    assert angle(g, h) > 1


# Declared facts

WORDS = {
    "baseline": ("none", "length", "optimal-token", "greedy"),
    "leave_one_out": (False,),
    "scaling": ("group", "batch", "tokens"),
    "reduction": ("sequence-mean", "token-mean", "constant"),
    "kl": ("none", "k2", "k3"),
    "kl_in": ("loss",),
    "kl_per": ("token",),
    "kl_of": ("sampler",),
    "kl_ratio": (True,),
    "beta": (0.1,),
    "ratio": ("none", "token", "geometric", "cumulative", "per-decision"),
    "clipping": ("ppo", "truncate"),
}


def members():
    """Yield the members of the family that differ from the default in at most three fields."""
    changes = [(name, value) for name, values in WORDS.items() for value in values]
    for count in range(4):
        for chosen in itertools.combinations(changes, count):
            if len({name for name, _ in chosen}) == count:
                try:
                    yield PolicyGradient(**dict(chosen))
                except InvalidParameter:
                    continue


@functools.cache
def all_members():
    return list(members())


def test_the_declared_facts_of_the_family_hold():
    """Of every member: ``unbiased`` and ``gradient_scale``, on samples of another policy, with a penalty."""
    world = OFF_POLICY["real"]
    exact, scaled = [], []
    for estimator in all_members():
        g, factor = world.expected(estimator, 2), estimator.gradient_scale
        is_exact = bool((g - world.target).abs().max() < 1e-12)
        assert is_exact == estimator.unbiased, estimator
        exact.append(is_exact)
        is_half = bool((g - world.target / 2).abs().max() < 1e-12)
        assert is_half == (factor == 0.5), estimator
        scaled.append(is_half)
    for found in (exact, scaled):
        assert sum(found) > 3
        assert not all(found)


def test_the_coupling_and_the_linearity_of_the_family_are_as_declared():
    world = OFF_POLICY["real, two prompts"]
    index = torch.randint(15, (64, 2, 2), generator=seeded(1))
    other = torch.cat([index[:, :1], torch.randint(15, (64, 1, 2), generator=seeded(2))], 1)
    nothing, minus = (replace(world, rewards=c * world.rewards) for c in (0.0, -2.0))
    for estimator in all_members():
        weights = world.weights(estimator, index)
        coupled = bool((weights - world.weights(estimator, other))[:, 0].abs().max() > 1e-12)
        assert coupled == estimator.couples_batch, estimator
        at_nothing = nothing.weights(estimator, index)
        off = minus.weights(estimator, index) - at_nothing + 2 * (weights - at_nothing)
        assert bool(off.abs().max() < 1e-11) == estimator.linear_in_f, estimator


# Calls

RETURN = PolicyReturn(lambda x: (x.double() * torch.tensor([1.0, -0.7, 0.4])).sum(-1).sin())


def called(estimator, q, f):
    """Return the gradient at the logits of q that a call gives."""
    leaf = q.weights["logits"].detach().clone().requires_grad_()
    value = estimator(f, TokenSequence({"logits": leaf}, q.policy, q.prompts, q.length), seeded(3))
    return torch.autograd.grad(value.sum(), leaf)[0]


@pytest.mark.parametrize("estimator", [GRPO(3), GRPO(3, epsilon=0.1), GRPO(3, normalise=False)], ids=repr)
def test_grpo_on_token_sequences_is_a_member_of_the_family(estimator):
    f = replace(RETURN, reference=policy(logits(5, 2)), sampler=policy(logits(6, 2)), beta=0.3)
    q = policy(logits(4, 2))
    expected = PolicyGradient(
        3,
        leave_one_out=False,
        scaling="group",
        epsilon=estimator.epsilon,
        reduction="sequence-mean",
        kl="k3",
        kl_in="loss",
        kl_per="token",
        ratio="token",
        clipping="ppo",
    )
    assert torch.equal(called(estimator, q, f), called(expected if estimator.normalise else DrGRPO(3), q, f))


@pytest.mark.parametrize(
    "preset", [DAPO, GSPO, CISPO, PPO, DrGRPO, OPO, OptimalTokenBaseline, ReinforcePlusPlus, ReMax]
)
def test_a_call_multiplies_the_scores_with_the_weights(preset):
    """On one draw, for rows of policies: the gradient at the logits is the sum of weights times scores, by autograd."""
    f = replace(RETURN, reference=policy(logits(5, 2)), sampler=policy(logits(6, 2)), beta=0.3)
    estimator, q = replace(preset(), n=3), rows(policy(logits(4, 2)), 4)
    leaf = q.weights["logits"].detach().clone().requires_grad_()
    q = TokenSequence({"logits": leaf}, q.policy, 2, 3)
    (got,) = torch.autograd.grad(estimator(f, q, seeded(3)).sum(), leaf)
    x = f.through(lambda g: g, q).draw(3, seeded(3))
    logp = q.log_probs(x)

    def grouped(t):
        return t.detach().movedim(0, -2)

    weights = estimator.weights(
        f.rewards(x).movedim(0, -1),
        grouped(logp),
        grouped(f.log_ref(x)),
        grouped(f.log_mu(x)),
        grouped(q.mask(x)),
        greedy=f.rewards(q.mode),
        squares=grouped(q.logits(x).softmax(-1).square().sum(-1)),
        beta=f.beta,
    )
    (expected,) = torch.autograd.grad((weights * logp.movedim(0, -2)).sum(), leaf)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


# Refusals


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"baseline": "median"}, "PolicyGradient needs baseline='mean', 'none', 'length', 'optimal-token' or 'greedy'"),
        ({"beta": "much"}, "needs a finite beta, or None for that of the integrand"),
        ({"kl_ratio": True}, "needs kl_in='loss' for kl_ratio=True"),
        ({"kl_in": "loss", "kl_of": "sampler"}, "needs kl_in='reward' for kl_of='sampler'"),
        ({"clipping": "ppo", "ratio": "none"}, "needs a ratio to clip"),
        ({"n": 1}, "needs n >= 2 .got n=1.: baseline='mean' needs a group of at least two samples"),
        ({"n": 1, "baseline": "none", "scaling": "group"}, "scaling='group' needs a group of at least two samples"),
        ({"n": 1, "baseline": "none", "scaling": "batch"}, "scaling='batch' needs a group of at least two samples"),
        ({"n": 0, "baseline": "greedy"}, "needs n >= 1"),
        ({"clip_dual": 0.0}, "needs clip_dual > 0 and finite"),
        ({"clip_low": "wide"}, "needs a finite number as clip_low"),
        ({"clip_high": -0.1}, r"needs clip_high >= 0 \(got clip_high=-0.1\)"),
        ({"clip_dual": 3.0}, "needs clipping='ppo' for a clip_dual"),
        ({"clip_dual": 0.5, "clipping": "ppo"}, "and clip_dual > 1"),
        ({"beta": 0.1, "kl": "none"}, r"needs a penalty for beta=0.1 \(got kl='none'\)"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, says):
    with pytest.raises(InvalidParameter, match=says):
        PolicyGradient(**change)


@pytest.mark.parametrize("preset", [PolicyGradient, DAPO, ReMax])
def test_other_families_are_refused_in_one_sentence(preset):
    with pytest.raises(UnsupportedFamily, match=f"^{preset.__name__} serves TokenSequence, and q is Normal. Use RLOO"):
        preset()(torch.sin, Normal(torch.tensor(0.0), 1.0))


def test_a_penalty_needs_a_reference_and_a_policy():
    with pytest.raises(Refusal, match=r"a reference where beta is not 0 \(got beta=0.1 and reference=None\)"):
        PolicyReturn(torch.sin, beta=0.1)
    with pytest.raises(Refusal, match="needs its q"):
        PolicyReturn(lambda x: x.sum(-1), reference=policy(logits(1)), beta=0.1)(torch.zeros(2, 1, 3).long())


def test_a_beta_of_the_estimator_needs_a_reference():
    with pytest.raises(Refusal, match=r"^PolicyGradient needs a reference for beta=0.1, and f has none"):
        PolicyGradient(beta=0.1)(RETURN, policy(logits(1, 2)))


@pytest.mark.parametrize("reward", [None, 1.0])
def test_a_reward_that_is_no_function_is_refused(reward):
    with pytest.raises(Refusal, match="needs a function as reward"):
        PolicyReturn(reward)


@pytest.mark.parametrize("name", ["reference", "sampler"])
def test_policies_with_several_sets_of_weights_are_refused_by_name(name):
    with pytest.raises(
        Refusal, match=rf"needs a {name} with one set of weights, of batch shape \[2\] \(got \[4, 2\]\)"
    ):
        PolicyReturn(lambda x: x.sum(-1), **{name: rows(policy(logits(1, 2)), 4)})


@pytest.mark.parametrize("name", ["reference", "sampler"])
def test_policies_that_do_not_fit_q_are_refused_by_name(name):
    f = PolicyReturn(lambda x: x.sum(-1), **{name: policy(logits(1, 3))})
    with pytest.raises(Refusal, match=rf"needs a {name} with .* of q, \(2, 3, 3\) \(got \(3, 3, 3\)\)"):
        PolicyGradient()(f, policy(logits(1, 2)))
    with pytest.raises(Refusal, match=f"needs a TokenSequence as {name} .got a Normal"):
        PolicyReturn(lambda x: x.sum(-1), **{name: Normal(0.0, 1.0)})


def test_a_field_of_every_kind_is_among_the_members():
    named = {field.name for field in fields(PolicyGradient)} - {"n", "epsilon", "clip_low", "clip_high", "clip_dual"}
    assert named == set(WORDS)
