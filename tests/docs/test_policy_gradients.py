"""What the study of policy gradients and the page about them say is what records and sums over all groups say."""

import re

import numpy as np
import pytest

from bench.planning.instances import expand
from bench.planning.selectors import parse
from bench.records import store
from bench.report import curves
from bench.report.frame import each
from bench.report.prepared import prepared
from bench.stats.seeds import across_seeds
from tests.docs.pages import ROOT
from tests.estimators.groups import World, angle, binary, logits, real, scale

FOLDER = ROOT / "results" / "policy-gradients"
SAID = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())


def runs(part):
    """The runs of one part of the study, by the estimator's label without n; several if there are several policies."""
    found = {}
    for run in each(prepared(store.read(FOLDER / part))):
        label = re.sub(r":?n=\d,?", ":", run.estimator).rstrip(":").replace(",kl_ratio=false", "")
        found.setdefault(label, {})[run.objective_params["policy"], run.objective_params["seed"]] = run
    return found


def range_of(values, form):
    """The least and the largest value, as text; one number if both look alike."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def angles(of_label):
    return range_of([run.angle for run in of_label.values()], ".0f")


def scales(of_label):
    return range_of([run.scale for run in of_label.values()], ".2f")


def ratios(mine, theirs):
    return [mine[policy].variance / theirs[policy].variance for policy in mine if policy in theirs]


def is_unbiased(of_label):
    return all(run.verdict == "UNBIASED" or not run.biased for run in of_label.values())


@pytest.fixture(scope="module")
def presets():
    return runs("presets")


def test_what_is_said_of_baselines(presets):
    rloo, dr_grpo = presets["rloo"], presets["dr-grpo"]
    opo, token = presets["opo:leave_one_out=false"], presets["optimal-token-baseline:leave_one_out=false"]
    for label in ("rloo", "remax", "opo:leave_one_out=true", "optimal-token-baseline:leave_one_out=true"):
        assert is_unbiased(presets[label]), label
    assert all(run.angle_low == 0 for run in dr_grpo.values())
    assert all(run.angle_low > 0 for run in (*opo.values(), *token.values()))
    assert f"by {scales(dr_grpo)}, which is 7/8 up to noise" in SAID
    assert f"and turned by {angles(opo)} and {angles(token)} degrees" in SAID
    assert np.allclose(ratios(dr_grpo, rloo), (7 / 8) ** 2, rtol=1e-3)
    none, greedy = (range_of(ratios(presets[label], rloo), ".1f") for label in ("score-function", "remax"))
    assert f"no baseline {none} times the variance of RLOO, the reward of greedy decoding {greedy} times" in SAID
    weighted = [f"{label}:leave_one_out=true" for label in ("opo", "optimal-token-baseline")]
    both = range_of([ratio for label in weighted for ratio in ratios(presets[label], rloo)], ".2f")
    assert f"weighted baselines without the own sample have {both} times" in SAID


def test_what_is_said_of_scales_and_means(presets):
    grpo, dapo, ppo = presets["grpo"], presets["dapo"], presets["ppo"]
    assert {policy for policy, _ in grpo} == {"table", "recurrent", "transformer"}
    assert f"turn the gradient by {angles(grpo)} degrees" in SAID
    assert f"DAPO, which has no 1/L, is turned by {angles(dapo)} degrees" in SAID
    assert all(run.angle_low == 0 for run in ppo.values())
    highest = max(run.angle_high for run in ppo.values())
    assert f"no turn was found (at most {highest:.1f} degrees), and a scale of {scales(ppo)}" in SAID
    for one, other in (("grpo", "gspo"), ("dapo", "cispo")):
        assert all(ratio == 1 for ratio in ratios(presets[other], presets[one]))


def test_what_is_said_of_penalties():
    found = runs("penalty")
    whole, to_go, k2 = (
        found[f"policy-gradient:{fields}"]
        for fields in (
            "kl=k1,kl_in=reward,kl_per=sequence",
            "kl=k1,kl_in=reward,kl_per=token",
            "kl=k2,kl_in=loss,kl_per=sequence",
        )
    )
    assert is_unbiased(whole)
    assert is_unbiased(to_go)
    assert is_unbiased(k2)
    (ratio,) = ratios(to_go, whole)
    assert f"{1 - ratio:.0%} less variance".replace("%", " %") in SAID
    in_reward = angles(found["policy-gradient:kl=k3,kl_in=reward,kl_per=sequence"])
    in_loss = angles(found["policy-gradient:kl=k3,kl_in=loss,kl_per=token"])
    weighted = angles(found["policy-gradient:kl=k3,kl_in=loss,kl_per=token,kl_ratio=true"])
    assert f"k3 turns it by {in_reward} degrees in the reward, by {in_loss} in the loss" in SAID
    assert f"and by {weighted} in the loss times the ratio" in SAID
    assert f"by {angles(found['policy-gradient:kl=k1,kl_in=loss,kl_per=sequence'])} degrees: it is left out" in SAID


def test_what_is_said_of_samples_of_another_policy():
    found = runs("off-policy")
    by_ratio = {label.partition("ratio=")[2]: of_label for label, of_label in found.items() if "ratio=" in label}
    assert is_unbiased(by_ratio["sequence"])
    assert is_unbiased(by_ratio["per-decision"])
    (ratio,) = ratios(by_ratio["sequence"], found["rloo"])
    assert f"{ratio:.2f} times the variance of RLOO with samples of its own" in SAID
    assert f"{angles(by_ratio['token'])} degrees with the weight of each token alone" in SAID
    assert f"{angles(by_ratio['none'])} without a weight" in SAID
    clipped = ", ".join(f"{name} {angles(found[label])}" for name, label in (
        ("CISPO", "cispo"), ("PPO", "ppo"), ("DAPO", "dapo"), ("GRPO", "grpo"), ("REINFORCE++", "reinforce-plus-plus"),
        ("GSPO", "gspo"),
    ))  # fmt: skip
    assert f"The presets, clipped: {clipped} degrees" in SAID


def test_what_is_said_of_several_answers():
    found = runs("pass-at-4")
    assert all(is_unbiased(of_label) for of_label in found.values())
    best = found["multi-sample:baseline=others"]
    (rloo,), (pkpo,) = ratios(found["rloo"], best), ratios(found["pkpo"], best)
    assert f"RLOO over two sets of four has {rloo:.0f} times the variance of `multi-sample`" in SAID
    assert f"PKPO without a baseline {pkpo:.0f} times" in SAID


def test_what_is_said_of_training():
    alone, penalised = curves.problems(store.read(FOLDER / "training"))

    def final(problem):
        return {curve.name: curve.final.median for curve in problem.curves}

    def behind(problem, name, other="rloo"):
        ends = {curve.name: curve.value[:, -1] for curve in problem.curves}
        return across_seeds(ends[other] - ends[name])

    close = ("rloo", "dr-grpo", "ppo", "grpo", "gspo", "dapo")
    assert all(behind(alone, name).low <= 0 for name in close)
    ends = range_of([final(alone)[name] for name in close], ".3f")
    assert f"RLOO, Dr. GRPO, PPO, GRPO, GSPO and DAPO end at {ends}, and none is seen to be behind RLOO" in SAID
    assert behind(alone, "remax").low > 0
    assert f"ReMax ends at {final(alone)['remax']:.3f}" in SAID
    right = range_of([final(penalised)[name] for name in ("rloo", "dr-grpo", "ppo")], ".3f")
    gap = behind(penalised, "grpo")
    assert gap.low > 0
    assert (
        f"RLOO, Dr. GRPO and PPO end at {right}, and GRPO {gap.median:.3f} [{gap.low:.3f}, {gap.high:.3f}] behind"
        in SAID
    )


def laws():
    """The rows of the page's tables of laws: heading, selector of a member of the family, scale and angle."""
    page = (ROOT / "docs" / "policy-gradients.md").read_text(encoding="utf-8")
    for section in page.split("\n### ")[1:]:
        heading, *lines = section.partition("\n## ")[0].split("\n")
        for line in lines:
            if line.startswith("| `"):
                field, _, at, off = (cell.strip() for cell in line.strip("|").split(" | "))
                zero_one = "0 and 1" in field
                for fields in re.findall(r"`([^`]+)`", field):
                    yield "0 and 1" if zero_one else heading, fields, at, off


WORLDS = {
    "0 and 1": World(binary(), logits(3)),
    "Baseline, scale and mean": World(real(), logits(3)),
    "Penalty": World(0 * real(), logits(3), ref=logits(5), beta=1.0),
    "Samples of another policy": World(real(), logits(3), mu=logits(6)),
}


@pytest.mark.parametrize(("heading", "fields", "at", "off"), list(laws()))
def test_scale_and_angle_of_a_law_are_those_of_the_case(heading, fields, at, off):
    (estimator,) = expand(parse(f"policy-gradient:n=3,{fields}"), "estimator")
    world = WORLDS[heading]
    gradient = world.expected(estimator, 3)
    assert f"{round(scale(gradient, world.target), 2) + 0:.2f}" == at
    assert off == ("–" if gradient.norm() < 1e-12 else f"{angle(gradient, world.target):.1f}°")
