"""The race: candidates are measured in rounds on fresh noise, and each round keeps at most the better half.

This is sequential halving (Karnin, Koren & Somekh 2013, ICML, algorithm 1), with two additions. A candidate leaves at
once if it is certainly worse than some other candidate, so that all evaluations go to possible winners. And a short
round comes first, in which only such candidates leave; it also shows how long an estimate takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, log, log2
from statistics import median

from bench.advice.arms import Arm
from bench.advice.budget import Budget
from bench.planning.selectors import UsageError
from bench.planning.settings import SMALLEST_DRAW
from bench.records.lines import Lost
from bench.records.text import described
from bench.stats import Reference, Summary
from bench.stats.selection import Loss, combined, level_of_limits, loss_of
from bench.stats.summary import BiasVerdict
from estimators import Refusal

RACE_SHARE, FINAL_SHARE = 0.5, 0.2
"""Shares of the budget for all rounds of the race, and for the last measurement. Learning takes the rest."""
FINALS = 3
"""Most last measurements: a further one follows if a last measurement shows a rival that is clearly better."""
LEAST_FINALISTS = 3
"""Candidates that every last measurement can take: the winner, the best one of another class, the best biased one."""
MOST = 2**14
"""Most replicates of a candidate in a round: more would sharpen figures that are sharp enough."""
SIMPLER = 0.05
"""A candidate with a state is chosen only if it needs at least this share less work than the best without one."""
OPEN_PENALTY = 10.0
"""A candidate whose variance has no upper limit is chosen only if all others need over this many times the work."""
REFUTED = 1e-7
"""p-value below which an estimator that declares itself unbiased is called biased: a race holds hundreds of tests."""
Report = Callable[[str], None]
"""A function that receives a sentence on what is being done."""


@dataclass(eq=False)
class Race:
    """A race between candidates, with all measurements so far.

    A candidate is an estimator with fixed fields, such as ``RLOO(n=4)``. It is measured in rounds, each on fresh noise.
    After every round but the first, at most the better half of the candidates (rounded up) go on.

    Args:
        arms: all candidates that are declared unbiased.
        biased: all other candidates, which are compared only with one another.
        budget: what may be spent.
        per_gradient: number of evaluations of f and df/dx that one gradient may take in training. The larger it is, the
            more a bias counts beside a variance.
        refuted: candidates that were declared unbiased, but found to be biased.
        failed: candidates that could not be measured, by label, with the reason.
    """

    arms: list[Arm]
    biased: list[Arm]
    budget: Budget
    per_gradient: int
    refuted: list[Arm] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runners = [*self.arms, *self.biased]
        self.offsets = [0.0] * len(self.runners[0].points)
        self.rounds = 1 + ceil(log2(max(2, len(self.arms), len(self.biased))))
        self.confidence = level_of_limits(self.rounds + 2 * FINALS)  # each last measurement may be followed by a check

    def loss(self, arm: Arm) -> Loss:
        """Return how bad a candidate is, by its last measurement: one loss, with limits, for all values of theta.

        A budget is the number of evaluations of f and df/dx that one gradient may take in training. The loss at one
        theta is the logarithm of the budget times the mean squared error that the candidate reaches with this budget.
        `combined` makes one loss of those at all values of theta.
        """
        return combined([self.loss_at(arm, at) for at in range(len(arm.looks))], self.offsets)

    def loss_at(self, arm: Arm, at: int) -> Loss:
        """Return how bad a candidate is at one point (value of theta): its loss, with limits.

        A budget is the number of evaluations of f and df/dx that one gradient may take in training. The loss is the
        logarithm of the budget times the mean squared error that the candidate reaches with this budget. ``at`` is the
        index of the point.
        """
        estimator = arm.estimator
        return loss_of(
            arm.looks[at].summary,
            arm.evaluations,
            self.per_gradient,
            unbiased=estimator.unbiased,
            deterministic=estimator.deterministic,
        )

    def run(self, report: Report) -> None:
        """Measure the candidates in rounds until the budget for the race is spent.

        The race also ends when at most one candidate of ``arms`` and one of ``biased`` are left. Each candidate keeps
        its last measurement (``Arm.looks``). ``report`` receives a sentence when a round begins. Two sorts of
        candidates leave the race: those declared unbiased but found to be biased, added to ``refuted``, and those that
        cannot be measured, added to ``failed``.

        Raises:
            UsageError: the budget does not pay for one round.
        """
        self.check_budget()
        running, running_biased = list(self.arms), list(self.biased)
        for number in range(self.rounds):
            runners = [*running, *running_biased]
            paid = self.affordable(runners, RACE_SHARE / self.rounds, FINAL_SHARE)
            if number and paid < SMALLEST_DRAW:
                break
            count = int(min(MOST, paid)) if number else SMALLEST_DRAW
            report(f"round {number + 1} of {self.rounds}: {len(runners)} candidates, {count:,} replicates")
            running = self.measured(running, f"advice round {number}", count)
            running, refuted = _refuted(running)
            self.refuted += refuted
            if number == 0:
                self.offsets = [self.typical(running, at) for at in range(len(self.offsets))]
            references = self.references(running)
            running_biased = self.measured(running_biased, f"advice round {number}, biased", count, references)
            running, running_biased = (
                self.kept(group, len(group) if number == 0 else ceil(len(group) / 2))
                for group in (running, running_biased)
            )
            if len(running) <= 1 and len(running_biased) <= 1:
                break

    def typical(self, arms: Sequence[Arm], at: int) -> float:
        """Return the median of the finite losses of the candidates ``arms`` at one point; 0 if no loss is finite.

        ``at`` is the index of the point, a value of theta.
        """
        works = [(arm.looks[at].summary.variance or 0.0) * arm.evaluations for arm in arms]
        losses = [log(work) for work in works if work > 0]
        return median(losses) if losses else 0.0

    def check_budget(self) -> None:
        """Raise ``UsageError`` if the budget does not pay for the first round.

        If ``budget.lenient`` is True, only the evaluations are checked, not the seconds.
        """
        budget, price = self.budget, SMALLEST_DRAW * sum(arm.price for arm in self.runners)
        price += SMALLEST_DRAW * sum(sorted(arm.price for arm in self.runners)[-LEAST_FINALISTS:])
        advice = "Give a larger --budget, or fewer candidates with -e."
        if budget.spent + price > budget.evaluations:
            raise UsageError(
                f"The budget of {budget.evaluations:,.0f} evaluations is too small for one round and the last "
                f"measurement: preparing {len(self.runners)} candidates took {budget.spent:,.0f}, and these take "
                f"{price:,.0f}. {advice}"
            )
        if budget.elapsed > budget.seconds and not budget.lenient:
            raise UsageError(
                f"The budget of {budget.seconds:g} s is too small for one round: preparing {len(self.runners)} "
                f"candidates took {budget.elapsed:.2g} s. {advice}"
            )

    def affordable(self, arms: Sequence[Arm], share: float, keep: float = 0.0) -> float:
        """Return for how many replicates a share of the budget pays, of each candidate in ``arms`` at every theta.

        ``share`` and ``keep`` are fractions of the whole budget, from 0 to 1. When the replicates are paid, at least
        the fraction ``keep`` must be left. If the share is larger than that allows, the result is what the rest pays
        for.
        """
        return self.budget.affords(sum(arm.price for arm in arms), sum(arm.seconds for arm in arms), share, keep)

    def measured(
        self, arms: Sequence[Arm], stage: str, count: int, references: Sequence[Reference | None] = ()
    ) -> list[Arm]:
        """Measure candidates at every point (value of theta), and return those whose measurement did not fail.

        Args:
            arms: the candidates.
            stage: name of the noise: equal names give equal noise to all candidates, different names independent noise.
            count: number of replicates of each candidate at each point.
            references: for each point, a mean gradient to use if the exact gradient is unknown, or None. If empty,
                there is none for any point.
        """
        found = []
        for arm in arms:
            try:
                made = arm.look(stage, count, references or [None] * len(arm.points), self.confidence)
                self.budget.spent += made * arm.price / len(arm.points)
                found.append(arm)
            except Exception as error:  # a candidate of one's own may raise anything
                self.budget.spent += count * arm.price
                self.failed[arm.label] = str(error) if isinstance(error, Lost | Refusal) else described(error)
        return found

    def references(self, arms: Sequence[Arm]) -> list[Reference | None]:
        """Return the mean gradient of the best candidate in ``arms`` at each point, in place of an unknown exact one.

        A point is a value of theta. The list is empty if no candidate has been measured.
        """
        ranked = self.ranked(arms)
        return [look.as_reference for look in ranked[0].looks] if ranked else []

    def ranked(self, arms: Sequence[Arm]) -> list[Arm]:
        """Return the measured candidates in ``arms``, from best to worst.

        The measure is the mean squared error that a candidate reaches with a given number of evaluations, by its last
        measurement. Of two equal candidates, the one with fewer evaluations per gradient is first.
        """
        return sorted((arm for arm in arms if arm.looks), key=lambda arm: (self.loss(arm).value, arm.evaluations))

    def kept(self, arms: Sequence[Arm], most: int) -> list[Arm]:
        """Return the candidates in ``arms`` that go on to the next round, from best to worst.

        At most ``most`` candidates go on. A candidate that is certainly worse than some other candidate is dropped.
        """
        losses = {arm.label: self.loss(arm) for arm in arms}
        bar = min((loss.high for loss in losses.values()), default=inf)
        return [arm for arm in self.ranked(arms)[:most] if losses[arm.label].low <= bar]

    def winner(self, arms: Sequence[Arm]) -> Arm | None:
        """Return the candidate in ``arms`` to recommend; None if the error of none of them could be estimated.

        The winner is the candidate with the lowest mean squared error for a given number of evaluations, with one
        exception. If that candidate has a state, or a variance without an upper limit, another one may be preferred.
        """
        ranked = [arm for arm in self.ranked(arms) if self.loss(arm).value < inf]
        return min(ranked, key=self._preference) if ranked else None

    def _preference(self, arm: Arm) -> tuple[float, float]:
        loss, handicap = self.loss(arm), 0.0
        handicap += SIMPLER if arm.estimator.needs_state else 0.0
        handicap += log(OPEN_PENALTY) if loss.is_open else 0.0
        return loss.value + handicap, arm.evaluations


def _refuted(arms: Sequence[Arm]) -> tuple[list[Arm], list[Arm]]:
    """Return the candidates whose declared unbiasedness is not refuted, and the others."""
    wrong = [arm for arm in arms if is_refuted(arm)]
    return [arm for arm in arms if arm not in wrong], wrong


def is_refuted(arm: Arm) -> bool:
    """Return whether the last measurement of a candidate shows a bias at any value of theta."""
    return any(_is_biased(look.summary) for look in arm.looks)


def _is_biased(summary: Summary) -> bool:
    certain = summary.p_bias is not None and summary.p_bias < REFUTED
    return summary.verdict == BiasVerdict.DETERMINISTIC_BIASED or (summary.verdict == BiasVerdict.BIASED and certain)
