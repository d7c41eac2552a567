"""The race and what follows from it, on candidates whose measurements are given: every rule decides something."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench import objectives
from bench.advice.arms import Arm
from bench.advice.budget import Budget
from bench.advice.course import FINALISTS, check_the_doubtful, crown
from bench.advice.findings import crossing, noisier
from bench.advice.points import Point
from bench.advice.race import OPEN_PENALTY, SIMPLER, Race
from bench.planning.settings import Settings
from estimators import NVIL, RLOO
from tests.stats.test_selection import SUMMARY


class Given:
    """A candidate whose variance at each point is given, for every stage whose name contains a key of ``later``."""

    def __init__(self, label, *variances, cost=1.0, spread=0.01, is_open=False, state=False, later=None, bias=None):
        self.label, self.name, self.variances, self.evaluations = label, label, variances, cost
        self.price, self.seconds, self.points = cost * len(variances), 0.0, [None] * len(variances)
        self.spread, self.is_open, self.later, self.bias = spread, is_open, later or {}, bias
        self.estimator = SimpleNamespace(unbiased=bias is None, deterministic=False, needs_state=state)
        self.looks = []

    def look(self, stage, replicates, references, confidence):
        found = next((v for key, v in self.later.items() if key in stage), self.variances)
        self.looks = [SimpleNamespace(summary=self.summary(v, replicates), as_reference=None) for v in found]
        return replicates * len(found)

    def summary(self, v, replicates):
        bounds = {"variance": v, "variance_low": v * (1 - self.spread), "variance_high": v * (1 + self.spread)}
        if self.is_open:
            bounds |= {"status": "FEW_FOR_TAIL", "variance_high": None}
        return replace(SUMMARY, replicates=replicates, exact_norm=2.0, bias_norm=0.0, bias_bound=self.bias, **bounds)


def race_of(*arms, budget=1e6):
    race = Race(list(arms), [], Budget(budget), 16)
    for arm in arms:
        arm.look("first", 64, [], 0.95)
    return race


def ignore(_text):
    """Ignore a report."""


def test_an_open_variance_is_chosen_only_if_all_others_need_over_ten_times_as_much():
    for times, chosen in ((0.5 * OPEN_PENALTY, "closed"), (2 * OPEN_PENALTY, "open")):
        arms = Given("open", 1.0, is_open=True), Given("closed", times)
        assert race_of(*arms).winner(arms).label == chosen


def test_a_state_is_chosen_only_if_it_pays():
    for gain, chosen in ((0.5 * SIMPLER, "plain"), (2 * SIMPLER, "learned")):
        arms = Given("plain", 1.0), Given("learned", 1 - gain, state=True)
        assert race_of(*arms).winner(arms).label == chosen


def test_every_point_counts_in_units_of_a_typical_loss_there():
    arms = Given("best where gradients are large", 1.0, 1e6), Given("best by far elsewhere", 0.1, 1.5e6)
    race = race_of(*arms)
    race.run(ignore)
    assert race.winner(arms).label == "best by far elsewhere"


def test_a_round_keeps_the_better_half_and_none_that_is_certainly_worse():
    arms = [Given(str(v), v, spread=0.5) for v in (1.0, 1.1, 1.2, 1.3)]
    assert [arm.label for arm in race_of(*arms).kept(arms, 2)] == ["1.0", "1.1"]
    arms = [Given(str(v), v) for v in (1.0, 2.0, 3.0, 4.0)]
    assert [arm.label for arm in race_of(*arms).kept(arms, 2)] == ["1.0"]


def test_a_rival_that_left_early_is_checked_if_it_may_still_win():
    winner, near, far = Given("winner", 1.0), Given("near", 1.2, spread=0.5), Given("far", 5.0)
    race = race_of(winner, near, far)
    winner.look("last", 4096, [], 0.95)
    check_the_doubtful(race, winner, [near, far], "check", ignore)
    assert near.looks[0].summary.replicates > 64
    assert far.looks[0].summary.replicates == 64


def test_the_last_measurement_is_followed_by_this_check():
    arms = [Given(str(number), 1 + number / 100, spread=0.5) for number in range(FINALISTS + 4)]
    crown(race_of(*arms), ignore)
    assert min(arm.looks[0].summary.replicates for arm in arms) > 64


def test_a_rival_that_is_clearly_better_on_fresh_noise_becomes_the_winner():
    first = Given("first", 1.0, spread=0.5, later={"last": (2.0,)})
    second = Given("second", 1.1, spread=0.5, later={"last": (1.0,)})
    winner, rivals = crown(race_of(first, second), ignore)
    assert (winner.label, [arm.label for arm in rivals]) == ("second", ["first"])
    alike = Given("alike", 1.0, spread=0.5), Given("also", 1.1, spread=0.5, later={"last": (0.99,)})
    assert crown(race_of(*alike), ignore)[0].label == "alike"


def test_learning_takes_as_many_evaluations_again():
    point = Point.of(objectives.BernoulliQuadratic(dim=3, target=0.45), Settings(), "start")
    settings = Settings(adapt_steps=1)
    assert Arm(NVIL(n=4), [point], settings).evaluations == 8
    assert Arm(RLOO(n=4), [point], settings).evaluations == 4


def test_a_bias_wins_below_the_budget_at_which_both_errors_are_equal():
    """V c = 0.99 · 8 · 4 and V' c' = 1.01 · 1 · 2; with a bias of at most 0.5 they meet at (31.68 − 2.02)/0.25."""
    best, biased = Given("best", 8.0, cost=4.0), Given("biased", 1.0, cost=2.0, bias=0.5)
    race_of(best, biased)
    outcome = SimpleNamespace(winner=best)
    assert crossing(outcome, biased, 0) == pytest.approx((0.99 * 32 - 1.01 * 2) / 0.25)
    assert crossing(SimpleNamespace(winner=biased), best, 0) == 0


def test_a_cheaper_candidate_wins_where_other_noise_makes_both_works_equal():
    best, cheap = Given("best", 1.0, cost=8.0), Given("cheap", 6.0, cost=2.0)
    race_of(best, cheap)
    label, noise, relative = noisier(SimpleNamespace(winner=best, rivals=[cheap]))
    assert label == "cheap"
    assert 8 * (1 + noise) == pytest.approx(2 * (6 + noise))
    assert relative == pytest.approx(noise / 4)
