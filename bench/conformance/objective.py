"""The conformance suite of an objective: checks for pytest that every objective must pass."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar
from unittest import SkipTest

from bench.measurement.objective_checks import (
    Check,
    Fault,
    NotJudged,
    ObjectiveTrial,
    density,
    exact,
    parts,
    run,
    values,
)
from bench.objectives import Objective


class ObjectiveConformance:
    """Checks that every objective must pass. Subclass it in a test file and set ``objective``.

    A check that cannot be made for the objective is skipped, with a reason.
    """

    objective: ClassVar[Objective]
    """The objective under test."""

    def test_declared_facts(self) -> None:
        """``family``, ``dim``, ``has_exact`` and the other declared facts have values of the right type."""
        self._run(parts.declared_facts)

    def test_build_returns_a_problem(self) -> None:
        """``build`` returns a ``Problem`` whose theta holds tensors that require gradients, in the dtype asked for."""
        self._run(parts.problem_and_theta)

    def test_q_is_of_the_declared_family(self) -> None:
        """The distribution q is of the declared family, and its parameters depend on theta."""
        self._run(parts.family_of_q)

    def test_trained_probabilities_are_inside(self) -> None:
        """No probability of q that depends on theta is exactly 0 or 1.

        Samples of such a q would never show one of the two outcomes, and this outcome has a part in the gradient.
        """
        self._run(parts.trained_probabilities)

    def test_q_can_be_split_into_rows(self) -> None:
        """Every parameter of q is ``[*batch, ...]``, and rows of q have the density of q.

        Rows are copies of q on a new axis on the left, one for each estimate.
        """
        self._run(parts.rows_of_q)

    def test_f_has_one_value_each(self) -> None:
        """The integrand f gives one number per sample and batch element, and does not change the samples."""
        self._run(values.values_of_f)

    def test_choices_do_not_look_ahead(self) -> None:
        """If f is a ``Return`` (a sum of costs), the log-probability of a choice depends on no later choice.

        The choices are the random variables of a sample, in the order in which q draws them.
        """
        self._run(values.columns_of_log_probs)

    def test_costs_do_not_look_ahead(self) -> None:
        """If f is a ``Return`` (a sum of costs), the costs sum to f, and each depends only on choices that it may see.

        The choices are the random variables of a sample, in the order in which q draws them. If ``reads`` of f declares
        the choices that each cost depends on, a cost may see these alone. Otherwise each choice has one cost, which may
        see this choice and earlier ones.
        """
        self._run(values.costs_of_f)

    def test_sets_have_no_order(self) -> None:
        """If f is a ``SetFunction``, its value does not depend on the order of the samples in a set."""
        self._run(values.sets_of_f)

    def test_build_can_be_repeated(self) -> None:
        """Two builds give equal problems, also in float32, because all random data come from a seed."""
        self._run(values.repeated_build)

    def test_f_depends_on_theta_through_q_alone(self) -> None:
        """The integrand depends on theta through the q that it is given, and in no other way."""
        self._run(values.theta_through_q)

    def test_log_prob_is_the_density_of_the_samples(self) -> None:
        """The mean of the gradient of ``log_prob`` over samples of q is 0, as for their true density."""
        self._run(exact.density_of_samples)

    def test_ratios_of_densities(self) -> None:
        """After a small step of theta, the new density of q divided by the old one has the mean 1 over samples of q.

        A ``log_prob`` that is a multiple of the true one fails here. ``test_log_prob_is_the_density_of_the_samples``
        does not find this fault, because the mean of the gradient of such a ``log_prob`` is 0, too.
        """
        self._run(density.ratios_of_densities)

    def test_exact_is_one_number(self) -> None:
        """The exact value is one number, differentiable in the theta that it is given."""
        self._run(exact.exact_number)

    def test_exact_is_the_sum_over_all_states(self) -> None:
        """If q has few states, the exact value and the exact gradient agree with the sum over all states."""
        self._run(exact.exact_against_the_sum)

    def test_exact_is_the_mean_over_samples(self) -> None:
        """If the states of q cannot be summed, the exact value and the exact gradient agree with means over samples."""
        self._run(exact.exact_against_samples)

    def test_size_of_a_row(self) -> None:
        """One estimate fits into memory.

        ``row_elements`` is the size of the largest tensor of one estimate. If the objective declares this number, it is
        not much smaller than the true one.
        """
        self._run(parts.size_of_a_row)

    def test_reference_estimator(self) -> None:
        """The reference estimator is unbiased and fits the objective.

        If the objective has no exact gradient, the mean gradient of a long run of this estimator serves as one. The
        bias of all other estimators is then measured against this mean.
        """
        self._run(parts.reference)

    def test_reference_where_f_jumps(self) -> None:
        """A reference estimator that uses df/dx has the mean gradient of a score-function estimator.

        The check fails if f has jumps, because df/dx does not contain them. The mean gradient of the reference
        estimator takes the place of an unknown exact gradient. The bias of all other estimators is measured against it.
        """
        self._run(exact.reference_against_scores)

    def test_f_has_a_gradient(self) -> None:
        """If the objective declares ``differentiable``, f has a gradient at x."""
        self._run(values.gradient_of_f)

    def test_training_data(self) -> None:
        """The problems on minibatches and on held-out data have the same tensor objects as the problem on all data.

        The tensors are those of ``theta`` and ``extra``; training changes both, and f uses those of ``extra``. All
        minibatches have one batch shape. The objective's method ``restarted``, which gives the objective for another
        training run, returns the objective itself for seed 0.
        """
        self._run(parts.training_data)

    @cached_property
    def trial(self) -> ObjectiveTrial:
        """The objective under test, with the samples and values that several checks use."""
        return ObjectiveTrial(self.objective)

    def _run(self, check: Check) -> None:
        try:
            run.judge(check, self.trial)
        except NotJudged as reason:
            raise SkipTest(str(reason)) from None
        except Fault as fault:
            raise AssertionError(str(fault)) from None
