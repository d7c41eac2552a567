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
    """An estimator's gradients with respect to q's parameters, computed fast from a table of scores.

    q is a ``TokenSequence``, a policy that writes sequences of tokens. A score is the gradient of the log-probability
    of one token, and the table has all scores of all sequences. The samples have the same distribution as the
    estimator's own, but not the same random numbers. ``elements`` is the size of the largest tensor that is made for
    one estimate, besides its gradient.

    Args:
        estimator: an estimator that says by which numbers it multiplies scores, in one of the methods ``weights``,
            ``coefficients`` and ``set_coefficients``.
        q: the policy, of batch shape ``[P]`` for P prompts; or sets of its sequences, a ``Repeated``.
        f: the integrand.

    Raises:
        Lost: the table would be too large, and the message says which number to lower; or no table can be made for this
            q and f.
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
        """Compare gradients from the table of scores with gradients by autograd, on the same samples, in a few calls.

        For the comparison, f is replaced by a function with values from 0 to 1 that differ from sequence to sequence.
        If all values were equal, gradients would be too small to show an error. The values are multiples of 1/64. So if
        those in one call happen to be equal, an estimator that computes their standard deviation gets exactly 0, not a
        rounding error. A gradient that is not finite agrees only with another that is not finite.

        Args:
            autograd: the function that calls the estimator, and returns its gradients by autograd.
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
    """Return the look-up of an estimator's gradients in a table of scores; None if they have to come from autograd.

    There is a look-up under four conditions:

    - the estimator says by which numbers it multiplies scores (gradients of log q), and needs neither a learned state
      nor a special f, a ``Return`` or a ``Bound``;
    - q is a ``TokenSequence`` (a policy that writes tokens), or a ``Repeated`` of one (sets of sequences);
    - a table with the scores of all tokens that q can write is not too large;
    - f has no gradient, and no noise of its own.
    """
    if estimator.needs_state or estimator.needs_costs or estimator.needs_bound or not weighs(estimator):
        return None
    try:
        return LookUp(estimator, q, f)
    except Lost:
        return None


def too_large(objective: Objective) -> str:
    """Return a sentence if a table of all scores of an objective's policy would be too large, else empty text.

    The policy is q, if q is a ``TokenSequence`` or sets of its sequences, a ``Repeated``. For any other q, the text is
    empty, too. The sentence says which parameter of the objective to lower, and that gradients come from autograd until
    then.
    """
    if objective.family not in (TokenSequence, Repeated):
        return ""
    problem = objective.build()
    try:
        policy, _ = policy_of(problem.q(problem.theta))
    except Lost:  # q is no policy, so nobody expects a table
        return ""
    try:
        check_size(policy)
    except Lost as lost:
        return f"{label(objective)}: gradients come from autograd, not from a table. {lost}"
    return ""


def weighs(estimator: Estimator) -> bool:
    """Return whether an estimator says by which numbers its ``__call__`` multiplies scores, the gradients of log q.

    An estimator says so in one of the methods ``weights``, ``coefficients`` and ``set_coefficients``. An inherited
    method does not count if the class defines a ``__call__`` of its own.
    """
    for each in type(estimator).__mro__:
        if "weights" in vars(each) or "set_coefficients" in vars(each):
            return True
        if "coefficients" in vars(each):
            return estimator.coefficients(torch.zeros(getattr(estimator, "n", 1), 1)) is not None
        if "__call__" in vars(each):
            break
    return False
