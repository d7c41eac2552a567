"""Which checks there are, and how they are run."""

import functools
from collections.abc import Callable

from bench.measurement.objective_checks.density import ratios_of_densities
from bench.measurement.objective_checks.exact import (
    density_of_samples,
    exact_against_samples,
    exact_against_the_sum,
    exact_number,
    reference_against_scores,
)
from bench.measurement.objective_checks.parts import (
    declared_facts,
    family_of_q,
    problem_and_theta,
    reference,
    rows_of_q,
    size_of_a_row,
    trained_probabilities,
    training_data,
)
from bench.measurement.objective_checks.trial import Fault, NotJudged, ObjectiveTrial
from bench.measurement.objective_checks.values import (
    columns_of_log_probs,
    costs_of_f,
    gradient_of_f,
    repeated_build,
    sets_of_f,
    theta_through_q,
    values_of_f,
)
from bench.measurement.threads import single_thread
from bench.objectives import Objective, is_own, wrong_class

Check = Callable[[ObjectiveTrial], None]
QUICK: tuple[Check, ...] = (
    declared_facts,
    problem_and_theta,
    family_of_q,
    trained_probabilities,
    rows_of_q,
    values_of_f,
    columns_of_log_probs,
    costs_of_f,
    sets_of_f,
    repeated_build,
    theta_through_q,
    density_of_samples,
    ratios_of_densities,
    exact_number,
    exact_against_the_sum,
    exact_against_samples,
    size_of_a_row,
    reference,
    reference_against_scores,
)
"""The checks that a user's objective must pass before it is measured. Each may rely on those before it."""
CHECKS: tuple[Check, ...] = (*QUICK, gradient_of_f, training_data)
"""All checks, in the order in which they are run."""


def judge(check: Check, trial: ObjectiveTrial) -> None:
    """Run one check on an objective.

    Raises:
        Fault: the objective is at fault.
        NotJudged: the check cannot be made for this objective.
    """
    with single_thread(), trial.calling(f"the check {check.__name__!r}"):
        check(trial)


def check_own(objective: Objective, checks: tuple[Check, ...] = QUICK) -> None:
    """Run ``checks`` on a user's own objective; return nothing if it passes.

    An objective of the catalogue passes without a check, because this package's tests check it. An objective is checked
    only once in a process.

    Raises:
        Fault: the objective is at fault.
    """
    if is_own(objective):
        if wrong := wrong_class(objective):
            raise Fault(f"The objective {type(objective).__name__} {' It '.join(wrong)}")
        check_once(objective, checks)


@functools.lru_cache(maxsize=64)
def check_once(objective: Objective, checks: tuple[Check, ...]) -> None:
    """Run ``checks`` on an objective, unless this process has run them on an equal objective before.

    Before this call, ``wrong_class`` must have found no fault in the class of the objective. A check that raises
    ``NotJudged`` is passed over.

    Raises:
        Fault: the objective is at fault.
    """
    trial = ObjectiveTrial(objective)
    for check in checks:
        try:
            judge(check, trial)
        except NotJudged:
            continue
