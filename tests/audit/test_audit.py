"""What an audit finds about losses whose expected gradients are known."""

import functools
import json
import math
import re
import shutil

import pytest
import torch

from bench.audit import audit, measure, words
from bench.audit import found as found_module
from bench.audit.loss import Loss
from bench.audit.measure import Batches, Traits, rloo, traits_of
from bench.audit.policies import audit_policies
from bench.planning.selectors import UsageError
from bench.stats.summary import Direction
from tests.audit import losses
from tests.tolerances import z_limit

EXACT = 1e-9


@functools.cache
def audited(name, **options):
    return audit(getattr(losses, name), **{"group": 2, **options})


@functools.cache
def policies():
    return audit_policies(prompts=4, vocabulary=3, length=3, k=2)


def scales(name, target, **options):
    return [each.scale for each in audited(name, **options).targets[target]]


def angles(name, target, **options):
    return [each.angle for each in audited(name, **options).targets[target]]


# expected gradients


@pytest.mark.parametrize(
    ("name", "target", "scale"),
    [
        ("rloo", "reward", 1),
        ("dr_grpo", "reward", 1 / 2),
        ("added_up", "reward", 4),
        ("with_item", "reward", 1),
        ("importance", "reward", 1),
        ("importance", "off-policy", 1),
        ("k1_in_the_reward", "penalised-reward", 1),
        ("k1_in_the_reward", "reverse-kl", 0.1),
        ("k1_in_the_loss", "reverse-kl", 0),
        ("k2_of_tokens", "token-kl", 0.1),
        ("k3_of_sequences", "forward-kl", 0.1),
        ("k3_of_tokens", "token-forward-kl", 0.1),
        ("best_less_second", "pass@k", 1),
    ],
)
def test_a_loss_has_the_gradient_that_theory_says(name, target, scale):
    assert scales(name, target) == pytest.approx([scale] * 9, rel=EXACT, abs=EXACT)
    assert max(angles(name, target)) < 1e-4


def test_a_group_of_three_and_a_longer_policy_have_their_own_factor():
    assert scales("dr_grpo", "reward", group=3, prompts=2, length=2) == pytest.approx([2 / 3] * 9, rel=EXACT)


@pytest.mark.parametrize(
    ("name", "target", "least"),
    [("grpo", "reward", 5), ("rloo", "off-policy", 5), ("k3_of_sequences", "reverse-kl", 2), ("rloo", "log", 5)],
)
def test_a_loss_of_another_direction_is_seen_on_every_policy(name, target, least):
    assert min(angles(name, target)) > least
    assert {each.direction for each in audited(name).targets[target]} == {Direction.TURNED}


def test_variance_is_that_of_rloo_at_equal_scale():
    for name in ("rloo", "dr_grpo", "added_up"):
        assert audited(name).variance == pytest.approx([1] * 9, rel=1e-6)
    assert min(audited("k1_in_the_loss").variance) > 1


def test_weights_of_rloo_are_those_of_the_loss():
    loss, policy = Loss(losses.rloo), policies()[0]
    batches = Batches(policy, 2, Traits(False, 1.0), 100, off_policy=False)
    ours, theirs = batches.estimate(rloo(2)), batches.estimate(loss.weights)
    torch.testing.assert_close(ours.mean, theirs.mean)
    assert ours.variance == pytest.approx(theirs.variance)


def test_a_penalty_alone_is_compared_with_divergences_alone():
    found = audited("k3_of_tokens")
    assert "reward" not in found.targets
    assert "penalised-reward" not in found.targets
    assert found.sentence == (
        "A step down this loss is, on average, minus 0.1 times the gradient of the token-level KL(ref||pi), not of "
        "KL(pi||ref)."
    )


def test_beta_is_the_one_that_fits_best_or_the_one_that_is_given():
    assert audited("k1_in_the_reward").beta == pytest.approx(0.1)
    given = audited("k1_in_the_reward", beta=0.2)
    assert (given.beta, given.is_fitted) == (0.2, False)
    assert min(angles("k1_in_the_reward", "penalised-reward", beta=0.2)) > 0.01
    assert audited("k1_in_the_loss").beta is None


# batches


def test_groups_in_any_order_and_sorted_groups_have_one_expectation():
    loss, policy = Loss(losses.grpo), policies()[4]
    first, second = (
        Batches(policy, 2, Traits(ordered, 1.0), 100, off_policy=True).estimate(loss.weights)
        for ordered in (False, True)
    )
    torch.testing.assert_close(first.mean, second.mean)
    assert first.variance == pytest.approx(second.variance)


def test_a_batch_in_one_piece_has_the_expectation_of_its_prompts_alone():
    loss, (policy, *_) = Loss(losses.grpo), audit_policies(prompts=2, vocabulary=2, length=2, k=2)
    first, second = (
        Batches(policy, 2, Traits(False, pieces), 100, off_policy=False).estimate(loss.weights)
        for pieces in (1.0, None)
    )
    torch.testing.assert_close(first.mean, second.mean)
    assert first.variance == pytest.approx(second.variance)


def test_what_a_loss_does_with_prompts_and_with_the_order_of_a_group_is_found_out():
    def found(name):
        return traits_of(Loss(getattr(losses, name)), policies(), 2)

    assert found("rloo") == Traits(ordered=False, pieces=1.0)
    assert found("added_up") == Traits(ordered=False, pieces=4.0)
    assert found("token_mean") == Traits(ordered=False, pieces=None)
    assert found("first_as_baseline") == Traits(ordered=True, pieces=1.0, signs=("order",))


@pytest.mark.parametrize(
    ("name", "signs"),
    [
        ("grpo", ()),
        ("importance", ()),
        ("k3_of_tokens", ()),
        ("unmasked", ("padding",)),
        ("inverted", ("padding", "tokens")),
        ("shifted", ("last",)),
        ("without_first", ("first",)),
        ("without_end", ("end",)),
        ("without_rewards", ("rewards",)),
        ("wrong_axis", ("mixed", "order")),
    ],
)
def test_signs_of_common_mistakes_are_found_and_no_others(name, signs):
    assert traits_of(Loss(getattr(losses, name)), policies(), 2).signs == signs


def test_a_gradient_that_is_left_without_rewards_is_that_of_advantages_that_are_not_detached():
    assert audited("not_detached").signs == ("rest",)
    assert audited("k1_in_the_loss").signs == ()


def test_a_baseline_of_other_prompts_has_its_factor_and_nothing_in_micro_batches():
    found = audited("wrong_axis", prompts=2, vocabulary=2)
    assert found.is_exact
    assert [each.scale for each in found.targets["reward"]] == pytest.approx([1 / 2] * 9)
    assert found.pieces == ()
    assert "2 prompts in one batch or in 2 micro-batches: the mean of the others is 0." in str(found)


def test_a_loss_that_permits_turns_of_a_group_but_no_other_order_has_its_own_expectation():
    assert audited("next_as_baseline", group=3, prompts=1).signs == ("order",)
    assert scales("next_as_baseline", "reward", group=3, prompts=1) == pytest.approx([1] * 9)


def test_there_is_no_variance_at_equal_scale_where_the_scale_is_rounding():
    found = audit(lambda logp, ref_logp, mask: ((logp - ref_logp) * mask).sum(-1).mean(), group=2)
    assert set(found.variance) == {None}


def test_a_token_mean_depends_on_micro_batches():
    found = audited("token_mean", prompts=2, vocabulary=2, length=2)
    assert found.is_exact
    assert found.batches == 6**2
    assert min(each.angle for each in found.pieces) > 0.1
    assert "2 prompts in one batch or in 2 micro-batches: the one is" in str(found)
    assert "no difference" in str(audited("rloo"))
    assert "the one is 4 times the mean of the others" in str(audited("added_up"))


@pytest.mark.parametrize(("name", "target"), [("grpo", "reward"), ("k3_in_the_reward", "reverse-kl")])
def test_sampled_batches_agree_with_all_batches(name, target, monkeypatch):
    exact = audited(name).targets
    monkeypatch.setattr(measure, "MOST_BATCHES", 0)
    found = audit(getattr(losses, name), group=2, samples=1000)
    assert not found.is_exact
    assert "1,000 sampled batches each" in str(found)
    assert re.search(r" ± [\d.e-]+ +[\d.]+ to [\d.]+°, at most \d+°  ", str(found))
    limit = z_limit(2 * 2 * 9) / 1.96  # failure rate: of all 36 comparisons together, in units of the half-width
    for each in (target, "off-policy"):
        for ours, truth in zip(found.targets[each], exact[each], strict=True):
            half = (ours.scale_high - ours.scale_low) / 2
            assert half > 0
            assert abs(ours.scale - truth.scale) < limit * half


def test_sampled_batches_of_a_multiple_of_rloo_are_exact(monkeypatch):
    monkeypatch.setattr(measure, "MOST_BATCHES", 0)
    found = audit(losses.dr_grpo, group=8, samples=200)
    assert [each.scale for each in found.targets["reward"]] == pytest.approx([7 / 8] * 9, rel=EXACT)
    assert (
        found.sentence
        == "A step down this loss is, on average, 0.875 times the gradient of the expected reward; no turn."
    )


def test_a_loss_is_computed_for_many_batches_at_once_or_one_by_one_with_one_result():
    policy = policies()[0]
    batches = Batches(policy, 2, Traits(False, 1.0), 100, off_policy=False)
    batch = policy.batch(batches.index[1], [1], off_policy=False, plain=False)
    results = []
    for name, averages in (("rloo", True), ("with_item", True), ("with_item", None), ("rarely_mixed", True)):
        loss = Loss(getattr(losses, name))
        loss.try_out(batch)
        assert loss.is_vectorised == (name == "rloo")
        loss.averages = averages
        results.append(loss.weights(batch))
    for each in results[1:]:
        torch.testing.assert_close(each, results[0])


def test_micro_batches_of_sampled_batches_are_those_of_all_batches(monkeypatch):
    """The gradients of the prompts are sampled too, and their noise is in the interval."""
    small = {"prompts": 2, "length": 2}
    exact = [each.scale for each in audited("token_mean", **small).pieces]
    monkeypatch.setattr(measure, "MOST_BATCHES", 10)
    found = audit(losses.token_mean, group=2, samples=1000, **small).pieces
    half = [(each.scale_high - each.scale_low) / 2 for each in found]
    scores = [(each.scale - one) / width * 1.96 for each, one, width in zip(found, exact, half, strict=True)]
    assert max(map(abs, scores)) < z_limit(9)
    assert max(half) < 0.1


def test_a_loss_that_has_to_be_called_for_each_batch_is_called_for_few_and_says_so(monkeypatch):
    for module in (found_module, words):
        monkeypatch.setattr(module, "FEWER", 64)
    calls, lines = [], []

    def counted(logp, mask, rewards):
        calls.append(1)
        return losses.token_mean_with_item(logp, mask, rewards)

    found = audit(counted, group=2, prompts=2, length=2, say=lines.append)
    assert (found.is_exact, found.batches, found.is_vectorised) == (False, 64, False)
    assert "64 sampled batches each.\nEach batch takes a call of the loss, without vmap: more --samples" in str(found)
    assert len(calls) < 9 * 6 * 64 + 1000
    assert [line for line in lines if "9 of 9" in line] == [
        f"{what}: policy 9 of 9" for what in ("gradients", "gradients off-policy", "micro-batches")
    ]
    assert audited("token_mean", prompts=2, length=2).is_exact


def test_a_loss_of_any_keywords_takes_those_that_it_reads():
    some, all_of_it = audited("of_some_keywords"), audited("of_all_keywords")
    assert some.takes == ("logp", "mask", "rewards")
    assert some.sentence == audited("rloo").sentence
    assert all_of_it.takes == ("logp", "ref_logp", "mask", "rewards")
    assert all_of_it.sentence == audited("k3_of_sequences").sentence


@pytest.mark.parametrize(("name", "averages"), [("rloo", True), ("added_up", False)])
def test_a_loss_that_does_not_permit_vmap_is_called_for_many_prompts_at_once(name, averages):
    policy, calls = policies()[0], []

    def counted(logp, mask, rewards):
        calls.append(rewards.sum().item())
        return getattr(losses, name)(logp, mask, rewards)

    batches = Batches(policy, 2, Traits(False, 1.0), 100, off_policy=False)
    loss, batch = Loss(counted), policy.batch(batches.index[0], [0], off_policy=False, plain=False)
    loss.averages = averages
    torch.testing.assert_close(loss.weights(batch), Loss(losses.rloo).weights(batch))
    assert len(batch["logp"]) == 120
    assert len(calls) == 2


# words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rloo", "is, on average, the gradient of the expected reward; no turn."),
        ("dr_grpo", "is, on average, 0.5 times the gradient of the expected reward; no turn."),
        ("grpo", "times the gradient of the expected reward, turned by "),
        ("k3_of_sequences", "penalty has, on average, 0.1 times the gradient of KL(ref||pi), not of KL(pi||ref)."),
        ("best_less_second", "is, on average, the gradient of pass@2, not of the expected reward."),
        ("k1_in_the_loss", "Its penalty does not change the expected gradient."),
        ("k3_in_the_reward", "Its penalty points away from the gradient of KL(pi||ref) for "),
        ("opposite", "is, on average, -0.5 times the gradient of the expected reward: it points the opposite way."),
        ("opposite_penalty", "-0.1 times the gradient of the token-level KL(pi||ref): it points the opposite way."),
        ("unmasked", "It reads log-probabilities after the end of a sequence"),
        ("importance", "With samples of an older policy it is the gradient of the expected reward; no turn."),
    ],
)
def test_the_sentence_says_what_was_found(name, said):
    assert said in audited(name).sentence


def test_the_text_begins_with_the_sentence_and_names_the_policies():
    lines = str(audited("rloo")).splitlines()
    assert lines[0] == "rloo(logp, mask, rewards)"
    assert lines[2].strip() == audited("rloo").sentence
    assert "9 policies: seeds 0, 1, 2; reference and older policy at the distances 0.25, 0.5, 1." in lines
    assert max(map(len, lines)) < 120


# faults


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("of_vectors", r"returns a tensor of shape \[2\], and a loss is one number"),
        ("with_metrics", "returns a tuple, and a loss is one number"),
        ("detached", "a number without a gradient: .* detach"),
        ("without_logp", "does not take logp, so it has no gradient"),
        ("unknown_name", r"unknown argument 'reward'\. Did you mean 'rewards'\? .*logp, old_logp, ref_logp, mask"),
        ("unguarded", r"not finite.* rewards \[(0.0, 0.0|1.0, 1.0)\]\. .*guard the division"),
        ("infinite", "not finite"),
        ("in_place", "changes its argument rewards in place"),
        ("in_place_of_logp", "changes its argument logp in place"),
        ("noisy", "another gradient when it is called with the same batch again"),
        ("without_target", "neither rewards nor ref_logp"),
        ("constant", "gradient of 0 for each of"),
        ("positional", "takes logp by position only"),
        ("not_a_function", "is of type int, and a loss is a function"),
        ("as_float", r"returns a float, which has no gradient: return the tensor itself, without float\(\)"),
        ("without_return", "returns nothing: end it with `return loss`"),
        ("complex_number", "returns a complex tensor"),
        ("later", "is an async function"),
        ("differentiated", r"cannot be computed \(Trying to .* a second time\)\. Return the loss, without backward"),
        ("in_place_without_effect", "changes its argument logp in place"),
        ("with_memory", "another gradient when it is called with the same batch again"),
        ("transposed", "with 2 prompts raises RuntimeError: The size .* Axis 0 of its arguments is prompts"),
        ("ModuleLoss", "is a class, and a loss is a function"),
    ],
)
def test_a_faulty_loss_gets_one_sentence(name, said):
    with pytest.raises(UsageError, match=said) as found:
        audit(getattr(losses, name), name=name, group=2 if name != "transposed" else 4)
    assert name in str(found.value)
    assert "\n" not in str(found.value)


def test_a_group_of_one_is_named_where_a_group_is_needed_without_a_warning_of_torch():
    for loss in (losses.rloo, losses.grpo):  # torch warns of the deviation of one number
        with pytest.raises(UsageError, match="A group of one has no other sample to compare with: give a group of 2"):
            audit(loss, group=1)
    found = audit(lambda logp, rewards: -(logp.sum(-1) * rewards).mean(), group=1)
    assert [each.scale for each in found.targets["reward"]] == pytest.approx([1] * 9)
    assert set(found.variance) == {None}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 9}, "is too large: .* Lower length from 9 to 8 or vocabulary from 3 to 2"),
        ({"length": 10**12}, r"needs length from 1 to 64 \(got length=1,000,000,000,000\)"),
        ({"vocabulary": 1}, "needs vocabulary from 2 to 64"),
        ({"prompts": 10**9}, "needs prompts from 1 to 64"),
        ({"group": 10**9}, "needs a group from 1 to 1,024 samples"),
        ({"beta": float("nan")}, "needs a finite beta above 0"),
        ({"beta": -0.1}, "needs a finite beta above 0"),
        ({"beta": 0.1}, r"beta weighs KL\(pi\|\|ref\) against the reward, and rloo takes no ref_logp"),
        ({"group": 3.5}, r"needs a whole number group \(got 3.5\)"),
        ({"prompts": True}, r"needs a whole number prompts \(got True\)"),
        ({"samples": 10}, "needs at least 100 samples"),
    ],
)
def test_what_is_too_large_or_no_number_is_refused_before_memory_is_taken(options, said):
    with pytest.raises(UsageError, match=said):
        audit(losses.rloo, **options)


# the command


@pytest.fixture
def written(tmp_path):
    shutil.copy(losses.__file__, tmp_path)


def test_the_command_prints_json(call, written):
    done = call("audit", "losses.py::dr_grpo", "--group", 2, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["sentence"].endswith("0.5 times the gradient of the expected reward; no turn.")
    assert [each["scale"] for each in found["targets"]["reward"]] == pytest.approx([0.5] * 9)
    assert {each["direction"] for each in found["targets"]["reward"]} == {"scaled"}
    assert len(found["points"]) == 9


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["losses.py::broken"], 1, "ValueError: no such adapter (losses.py, line "),
        (["losses.py::rlo"], 2, "losses.py has no function 'rlo'. Did you mean 'rloo'?"),
        (["losses.py::not_a_function"], 2, "has no function 'not_a_function'"),
        (["losses.py"], 2, "names no function"),
        (["nowhere.py::loss"], 2, "There is no file 'nowhere.py'"),
        (["losses.py::with_metrics"], 2, "losses.py::with_metrics returns a tuple"),
        (["losses.py::rloo", "--group", 1], 2, "give a group of 2"),
        (["losses.py::rloo", "--no-plugins"], 2, "which --no-plugins forbids"),
    ],
)
def test_the_command_ends_with_one_sentence(call, written, words, code, said):
    done = call("audit", *words)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1


# the assertion


def test_the_assertion_passes_and_fails(gradient_check):
    check = functools.partial(gradient_check.assert_policy_gradient, group=2)
    check(losses.rloo)
    check(losses.dr_grpo, up_to_scale=True)
    check(losses.importance, target="off-policy")
    check(losses.k3_of_sequences, target="forward-kl", up_to_scale=True)
    with pytest.raises(AssertionError, match=r"'reward' on the policy with seed 0, distance 0.25: scale 0.5, angle 0°"):
        check(losses.dr_grpo)
    with pytest.raises(AssertionError, match="turned by"):
        check(losses.grpo, up_to_scale=True)
    with pytest.raises(AssertionError, match="points away"):
        check(losses.k3_in_the_reward, target="reverse-kl", up_to_scale=True)
    with pytest.raises(ValueError, match="has no target 'kl'"):
        check(losses.rloo, target="kl")
    with pytest.raises(ValueError, match=r"No positive weight of .* fits the penalty of k1_in_the_loss"):
        check(losses.k1_in_the_loss, target="penalised-reward")
    with pytest.raises(
        AssertionError, match=r"would follow another gradient in a trainer. It reads .* multiply by the"
    ):
        check(lambda logp, rewards: losses.rloo(logp, torch.ones_like(logp), rewards))
    with pytest.raises(ValueError, match="needs a tolerance above 0"):
        check(losses.grpo, tolerance=math.nan, up_to_scale=True)


def test_a_module_is_a_loss():
    assert [each.scale for each in audit(losses.ModuleLoss(), group=2).targets["reward"]] == pytest.approx([0.5] * 9)


def test_the_assertion_wants_the_direction_to_be_shown_if_batches_are_sampled(gradient_check):
    with pytest.raises(AssertionError, match=r"scale [.\d]+ ± [.\d]+, angle [.\d]+°, at most [.\d]+°"):
        gradient_check.assert_policy_gradient(losses.token_mean, group=2, samples=200, up_to_scale=True)


def test_angles_are_numbers_between_0_and_180():
    for each in (each for found in audited("k3_in_the_reward").targets.values() for each in found):
        assert 0 <= each.angle <= 180
        assert math.isfinite(each.scale)
