"""Gradients of a cell by look-up: an estimator that weighs the sequences of a small token policy needs no autograd."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from bench.measurement.score_table import ScoreTable, check_size
from bench.measurement.sequences import Sequences, policy_of
from bench.objectives import Objective
from bench.planning.selectors import label
from bench.records.lines import Lost
from estimators import Estimator, Integrand, InvalidLoss, Repeated, TokenSequence, rows

TRIAL_ROWS, ROUNDINGS = 4, 1e4
"""Rows of the trial call; its gradients may differ by this many roundings of the largest entry."""
SMALL = 1e-3
"""Largest entry of a gradient that may be rounding, as when a policy gives one answer only; the rewards are below 1."""
Autograd = Callable[[Distribution, Integrand, Generator], tuple[Tensor, ...]]
"""A function from rows of q, an integrand and a generator to an estimator's gradients at the parameters of the rows."""


class LookUp:
    """The gradients of an estimator at q's own parameters, from a table of the scores of all sequences.

    The samples have the law of the estimator's own samples, but are other samples of it.

    Args:
        estimator: an estimator with ``weights``, ``coefficients`` or ``set_coefficients``.
        q: the policy, batch shape ``[P]``; or sets of its sequences, a ``Repeated``.
        f: the integrand.

    ``elements`` is the size of the largest tensor that is made for one estimate, besides its gradient.

    Raises:
        Lost: the table would be too large, and the message says which number to lower; or there is no table.
    """

    def __init__(self, estimator: Estimator, q: Distribution, f: Integrand) -> None:
        policy, k = policy_of(q)
        check_size(policy)  # before any list is made
        self.q, self.sequences, self.table = q, Sequences(estimator, q, f), ScoreTable(policy)
        self.elements = estimator.points(q) * k * policy.prompts * policy.length

    def __call__(self, count: int, generator: Generator) -> tuple[Tensor, ...]:
        """Return the gradients of ``count`` independent calls of the estimator, each ``[count, *own shape]``.

        They are the gradients of the mean over the prompts, at each parameter of q that requires gradients.
        """
        return self._weighted(self.sequences, self.sequences.draw(count, generator))

    def _weighted(self, sequences: Sequences, numbers: Tensor) -> tuple[Tensor, ...]:
        return self.table.gradients(numbers, sequences.weights(numbers) / numbers.shape[1])

    def check(self, autograd: Autograd, generator: Generator) -> None:
        """Compare the gradients of a few calls with those of autograd, on the samples that the estimator draws.

        The values of f are replaced by numbers between 0 and 1 that differ from sequence to sequence, since values that
        agree have small gradients. They are multiples of 1/64, so that the sum of values that agree is exact, and their
        deviation is 0. Estimates that are not finite need only be not finite in both.

        Args:
            autograd: the function that calls the estimator.
            generator: the source of the noise.

        Raises:
            InvalidLoss: the gradients differ.
        """
        drawn = list[Tensor]()
        f, q = self.sequences.f, self.q

        def reward(x: Tensor) -> Tensor:
            drawn.append(x)
            places = torch.arange(1, x.shape[-1] + 1, device=x.device)
            wave = (x * places).sum(-1).to(self.sequences.values).sin()
            return (wave * 21).round() / 64 + 0.5

        r = rows(q, TRIAL_ROWS)
        expected = autograd(r, f.through(lambda _: reward, r), generator)
        x = max(drawn, key=Tensor.dim)  # greedy decoding has no axis of samples
        sequences = Sequences(self.sequences.estimator, q, f.through(lambda _: reward, q))
        found = self._weighted(sequences, sequences.numbers(x))
        a, b = (torch.cat([g.flatten(1) for g in gradients], 1) for gradients in (expected, found))
        finite = a.isfinite().all(1)
        off = float((a - b)[finite].abs().sum(0).max())
        scale = max(SMALL, float(a[finite].abs().sum(0).max()))
        if not finite.equal(b.isfinite().all(1)) or off > ROUNDINGS * torch.finfo(b.dtype).eps * scale:
            raise InvalidLoss(
                f"{self.sequences.estimator!r} has weights that are not the gradient of its loss: the gradients of "
                f"{TRIAL_ROWS} estimates differ by {off:.2g}, and the largest entry is {scale:.2g}. Let its weights or "
                "coefficients be what the score of each token or sample is multiplied by in __call__."
            )


def look_up_of(estimator: Estimator, q: Distribution, f: Integrand) -> LookUp | None:
    """Return the look-up of an estimator's gradients; None if they are left to autograd.

    There is one if the estimator says by which numbers it multiplies scores, and q is a ``TokenSequence``, or sets of
    its sequences, whose score table is not too large. An f with a gradient or noise of its own has none.
    """
    if estimator.needs_state or estimator.needs_costs or estimator.needs_bound or not weighs(estimator):
        return None
    try:
        return LookUp(estimator, q, f)
    except Lost:
        return None


def too_large(objective: Objective) -> str:
    """Return a sentence that says which number of an objective to lower for a table; empty text if none is too large.

    Gradients of estimators that could be looked up then come from autograd.
    """
    if objective.family not in (TokenSequence, Repeated):
        return ""
    problem = objective.build()
    try:
        check_size(policy_of(problem.q(problem.theta))[0])
    except Lost as lost:
        return f"{label(objective)}: gradients come from autograd, not from a table. {lost}"
    return ""


def weighs(estimator: Estimator) -> bool:
    """Return whether an estimator has ``weights``, or coefficients, for the ``__call__`` that it has.

    An estimator of a class that has its own ``__call__``, and inherits the others, has not.
    """
    for each in type(estimator).__mro__:
        if "weights" in vars(each) or "set_coefficients" in vars(each):
            return True
        if "coefficients" in vars(each):
            return estimator.coefficients(torch.zeros(getattr(estimator, "n", 1), 1)) is not None
        if "__call__" in vars(each):
            break
    return False
