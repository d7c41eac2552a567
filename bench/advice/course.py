"""The course of advice: candidates are prepared, run their race, and the leaders are measured once more."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import log
from statistics import median

from bench.advice.arms import Arm
from bench.advice.budget import Budget
from bench.advice.candidates import by_importance, screened, variant
from bench.advice.points import Point
from bench.advice.race import FINAL_SHARE, FINALS, MOST, Race, Report, is_refuted
from bench.measurement.counting import COUNT_ROWS
from bench.planning.selectors import NothingFits, UsageError, full_label
from bench.planning.settings import SMALLEST_DRAW, Settings
from bench.records.lines import Lost
from bench.records.text import described
from bench.stats.selection import still_possible
from estimators import Estimator, Refusal, command_line_name

LARGEST_TRIAL = 2**26
"""Most numbers in the points of a call that only counts evaluations; larger calls count as too expensive."""
LEARNING_SHARE = 0.15
"""Share of the budget for the learning of all estimators that have a state."""
LEARNING_PRICE = 3.0
"""Evaluations that a learning step is taken to need for each sample: two values of f and a slope."""
LEARNING_STEPS = 200
"""Most steps of learning: what learns goes on in training, and more steps change the ranks little."""
PREPARING_SHARE = 0.3
"""Share of the budget for making candidates ready. Every estimator is made ready once, even if that takes longer."""
CHECK_SHARE = 0.15
"""Share of the budget for candidates that left the race early and may still be the best."""
CLEARLY = 0.03
"""Share of the work by which a rival must be better, in the last measurement, to become the winner."""
FINALISTS = 8
"""Most unbiased candidates in the last measurement."""


@dataclass(eq=False)
class Prepared:
    """The candidates that are ready to be measured, and the reasons why the other candidates are not ready.

    A candidate is an estimator with fixed fields, such as ``RLOO(n=4)``.

    Args:
        arms: the candidates that are ready.
        dear: for each estimator whose candidates all take too many evaluations per gradient, by name: the smallest
            number of evaluations.
        exact: for each candidate without noise that takes too many evaluations per gradient, by label: the number of
            evaluations.
        reasons: for each estimator that does not fit the objective, by name: the reason.
        hurried: number of candidates that were left out to save budget for the measurements of the others.
    """

    arms: list[Arm] = field(default_factory=list)
    dear: dict[str, float] = field(default_factory=dict)
    exact: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    hurried: int = 0


@dataclass(eq=False)
class Outcome:
    """The end of a race: the candidate to recommend, and everything that was measured.

    Args:
        points: the points at which the candidates were measured: objectives, each at one theta.
        prepared: the candidates, and the reasons why others did not run.
        race: the race, with all measurements.
        winner: the candidate to recommend.
        rivals: the other unbiased candidates, from best to worst.
    """

    points: Sequence[Point]
    prepared: Prepared
    race: Race
    winner: Arm
    rivals: list[Arm]


def run(
    estimators: Sequence[Estimator],
    points: Sequence[Point],
    settings: Settings,
    budget: Budget,
    per_gradient: int,
    report: Report,
) -> Outcome:
    """Run a race between estimators, measure the best ones once more on fresh noise, and return the outcome.

    Args:
        estimators: the candidates.
        points: the points at which they are measured: objectives, each at one theta.
        settings: seed, dtype and device.
        budget: what may be spent; what the race takes is added to ``budget.spent``.
        per_gradient: largest number of evaluations of f and df/dx that one gradient may take in training.
        report: receives a sentence on what is being done.

    Raises:
        NothingFits: no estimator fits the objective.
        UsageError: the budget is too small, or every candidate takes too many evaluations.
    """
    report(f"preparing the candidates for {points[0].title}")
    prepared = prepare(estimators, points, settings, budget, per_gradient)
    race = Race(
        [arm for arm in prepared.arms if arm.estimator.unbiased],
        [arm for arm in prepared.arms if not arm.estimator.unbiased],
        budget,
        per_gradient,
    )
    race.run(report)
    winner, rivals = crown(race, report)
    return Outcome(points, prepared, race, winner, rivals)


def crown(race: Race, report: Report) -> tuple[Arm, list[Arm]]:
    """Return the winner of a race, and its rivals from best to worst, after a last measurement on fresh noise.

    A rival is an unbiased candidate that is not the winner. If the fresh noise shows that the winner is biased, or that
    a rival is clearly better, another candidate becomes the winner. The new winner is measured on fresh noise, too.
    ``report`` receives a sentence when a measurement begins.

    Raises:
        NothingFits: no unbiased candidate has a variance that can be known.
    """
    number = 0
    while True:
        winner = race.winner(_eligible(race))
        if winner is None:
            raise NothingFits(race.failed.values() or [_no_winner(race)])
        rivals = finish(race, winner, number, report)
        race.refuted += [winner] if is_refuted(winner) else []
        better = race.winner(_eligible(race))
        is_clear = better is not None and race.loss(better).value < race.loss(winner).value - log(1 + CLEARLY)
        is_last = number + 1 >= FINALS or race.affordable(race.arms, 1.0) < SMALLEST_DRAW
        if winner in _eligible(race) and (is_last or not is_clear):
            return winner, rivals
        number += 1


def _eligible(race: Race) -> list[Arm]:
    """Return the unbiased candidates that were measured and not found to be biased."""
    return [arm for arm in race.arms if arm.looks and arm not in race.refuted and arm.label not in race.failed]


def _no_winner(race: Race) -> str:
    if race.refuted:
        return f"{', '.join(arm.label for arm in race.refuted)}: declared unbiased, and biased here."
    return "No unbiased candidate has a variance that can be known: all tails are too heavy."


def prepare(
    estimators: Sequence[Estimator],
    points: Sequence[Point],
    settings: Settings,
    budget: Budget,
    per_gradient: int,
) -> Prepared:
    """Make candidates ready to be measured: let their states learn, and count their evaluations.

    If this takes a large share of the budget, the least important candidates are left out.

    Args:
        estimators: the candidates.
        points: the points at which they will be measured: objectives, each at one theta.
        settings: seed, dtype and device.
        budget: what may be spent; the evaluations spent here are added to ``budget.spent``.
        per_gradient: largest number of evaluations of f and df/dx that one gradient may take in training.

    Raises:
        NothingFits: no estimator fits the objective.
        UsageError: every candidate takes more evaluations than ``per_gradient``.
    """
    fitting, reasons = screened(estimators, [point.objective for point in points])
    found = Prepared(reasons=reasons)
    learners = len({variant(estimator) for estimator in fitting if estimator.needs_state})
    dear, learned = dict[object, int](), dict[object, Arm]()
    paces = [0.0]  # seconds of one evaluation of one row
    q, row = points[0].problem.q(points[0].problem.theta), points[0].objective.row_elements
    for done, estimator in enumerate(by_importance(fitting)):
        if budget.used > PREPARING_SHARE and done >= len({*map(type, fitting)}):
            found.hurried = len(fitting) - done
            break
        name, n = command_line_name(type(estimator)), getattr(estimator, "n", 1)
        try:
            size = estimator.points(q)
            if n >= dear.get(variant(estimator), n + 1) or size * COUNT_ROWS * row > LARGEST_TRIAL:
                _too_dear(found, estimator, size)
                continue
            bounded = _learning(settings, size * len(points), learners, budget, median(paces))
            arm = Arm(estimator, points, bounded, learned.get(variant(estimator)))
        except Exception as error:  # a candidate of one's own may raise anything
            is_told = isinstance(error, Refusal | NotImplementedError | Lost)
            found.reasons.setdefault(name, str(error) if is_told else described(error))
            continue
        budget.spent += COUNT_ROWS * arm.price + arm.adapt_evaluations
        if arm.evaluations > per_gradient:
            dear[variant(estimator)] = n
            _too_dear(found, estimator, arm.evaluations)
            continue
        paces.append(arm.seconds / max(1.0, arm.price))
        if estimator.needs_state:
            learned.setdefault(variant(estimator), arm)
        found.arms.append(arm)
    running = {arm.name for arm in found.arms}
    found.dear = {name: count for name, count in found.dear.items() if name not in running}
    found.reasons = {
        name: reason for name, reason in found.reasons.items() if name not in running and name not in found.dear
    }
    if not any(arm.estimator.unbiased for arm in found.arms):
        if found.dear:
            least = min(found.dear, key=lambda name: found.dear[name])
            raise UsageError(
                f"Every candidate takes more than {per_gradient} evaluations per gradient; {least} takes "
                f"{found.dear[least]:,.0f}. Give a larger --per-gradient."
            )
        biased = [f"{arm.label} is biased." for arm in found.arms]
        telling = sorted(found.reasons.values(), key=lambda reason: " serves " in reason)  # other families come last
        raise NothingFits([*telling, *biased] or ["There are no candidates."])
    return found


def _too_dear(found: Prepared, estimator: Estimator, evaluations: float) -> None:
    """Note that a candidate takes too many evaluations."""
    name = command_line_name(type(estimator))
    found.dear[name] = min(evaluations, found.dear.get(name, evaluations))
    if estimator.deterministic:
        found.exact[full_label(estimator)] = evaluations


def _learning(settings: Settings, points: int, learners: int, budget: Budget, pace: float) -> Settings:
    """Return settings that bound the steps of learning, so that all estimators with a state keep to their share."""
    if not learners:
        return settings
    step = SMALLEST_DRAW * LEARNING_PRICE * points
    steps = budget.affords(step, step * pace, LEARNING_SHARE / learners)
    return replace(settings, adapt_steps=int(min(LEARNING_STEPS, max(1.0, steps))))


def finish(race: Race, winner: Arm, number: int, report: Report) -> list[Arm]:
    """Measure the winner and some rivals on fresh noise, and return all rivals from best to worst.

    A rival is an unbiased candidate that is not the winner. At most 8 unbiased candidates are measured. First come the
    winner and the best rival of another class. Then come rivals of the winner's class, and rivals that may still be
    better than the winner, the best ones first. The best biased candidate is measured too, and then some rivals that
    left the race early (`check_the_doubtful`). ``number`` counts the calls of this function in the race; each number
    has noise of its own. ``report`` receives a sentence when a measurement begins.
    """
    losses = {arm.label: race.loss(arm) for arm in race.arms if arm.looks and arm not in race.refuted}
    rivals = [arm for arm in race.ranked(race.arms) if arm is not winner and arm.label in losses]
    possible = set(still_possible(losses, losses[winner.label].high))
    others = [arm for arm in rivals if arm.name != winner.name]
    chosen = [winner, *others[:1]]
    chosen += [arm for arm in rivals if arm not in chosen and (arm.label in possible or arm.name == winner.name)]
    biased = race.ranked(race.biased)[:1]
    chosen = chosen[:FINALISTS]
    if race.affordable([*chosen, *biased], FINAL_SHARE) < SMALLEST_DRAW:
        chosen = chosen[:2]
    count = int(min(MOST, max(SMALLEST_DRAW, race.affordable([*chosen, *biased], FINAL_SHARE))))
    report(f"last measurement: {len(chosen) + len(biased)} candidates, {count:,} replicates")
    race.measured(chosen, f"advice, last {number}", count)
    race.measured(biased, f"advice, last {number}, biased", count, race.references([winner]))
    check_the_doubtful(race, winner, rivals, f"advice, check {number}", report)
    return [arm for arm in race.ranked(rivals) if arm.label not in race.failed]


def check_the_doubtful(race: Race, winner: Arm, rivals: Sequence[Arm], stage: str, report: Report) -> None:
    """Measure again the rivals that left the race early and may still be better than the winner.

    A rival is an unbiased candidate that is not the winner. Rivals that left early have few replicates and wide
    intervals, and would leave the advice vague. A part of what is left of the budget is spent on them. ``stage`` is a
    name for the noise: another name gives independent noise. ``report`` receives a sentence when the measurement
    begins.
    """
    bar, few = race.loss(winner).high, winner.looks[0].summary.replicates
    measured = [arm for arm in rivals if arm.label not in race.failed]
    doubtful = [arm for arm in measured if race.loss(arm).low <= bar and arm.looks[0].summary.replicates < few]
    count = int(min(few, race.affordable(doubtful, CHECK_SHARE))) if doubtful else 0
    if doubtful and count > 2 * max(arm.looks[0].summary.replicates for arm in doubtful):
        report(f"check: {len(doubtful)} candidates that left early, {count:,} replicates")
        race.measured(doubtful, stage, count)
