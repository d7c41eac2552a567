"""Returns: integrands that are a sum of costs, and say which choices of a chain each cost depends on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.distributions import Distribution

from estimators._integrand import Checked, CheckedFunction, Integrand
from estimators._protocol import Estimator
from estimators._refusals import InvalidIntegrand, Refusal
from estimators._surrogate import inject_at
from estimators.chain import log_probs, widths

ROUNDING = 1e3
"""A cost has changed if it differs by more than this many roundings of the largest cost."""


@dataclass(frozen=True, eq=False)
class Return(Checked):
    """An integrand that is a sum of costs; some estimators judge a choice only by the costs that it can change.

    ``f(x) = sum_c costs(x)_c``

    x holds T choices, made one after another, as in a ``Chain``. ``ScoreFunction(credit="downstream")`` and
    ``RLOO(credit="downstream")`` multiply the score of choice t only by the costs that are downstream of t. A cost is
    downstream of t if it reads choice t or a later choice, since later choices depend on earlier ones. For all other
    estimators, a ``Return`` is an ordinary f.

    Args:
        costs: the C costs, ``[..., *batch, *event] -> [..., *batch, C]``. Unless ``reads`` is given, there is one cost
            for each of the T choices of q, and cost t depends on the choices 1 ... t only.
        reads: which choices each cost depends on, boolean, ``[C, T]``.
        total: f itself, ``[..., *batch, *event] -> [..., *batch]``, if there is a cheaper formula than the sum of the
            costs; None for the sum.
        q: the distribution of x; estimators set it.
    """

    costs: Callable[[Tensor], Tensor]
    reads: Tensor | None = None
    total: Integrand | None = None
    q: Distribution | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Raise ``Refusal`` if ``reads`` is no boolean matrix, or ``costs`` or ``total`` no function."""
        for name, value in (("costs", self.costs), ("total", self.total or self.costs)):
            if not callable(value):
                raise Refusal(f"Return needs a function {name} of x (got {type(value).__name__}). Use lambda x: ...")
        reads = self.reads
        if reads is not None and not (isinstance(reads, Tensor) and reads.dtype == torch.bool and reads.dim() == 2):
            what = f"{reads.dtype} of shape {list(reads.shape)}" if isinstance(reads, Tensor) else type(reads).__name__
            raise Refusal(
                f"Return needs a boolean matrix reads, [costs, choices] (got {what}). Use torch.tensor(reads), or "
                "torch.ones(T, T).tril().bool()."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), ``[..., *batch]``, for samples x of q, ``[..., *batch, *event]``."""
        if self.total is None:
            return (self.costs if self.q is None else self._costs(self.q))(x).sum(-1)
        return self.total(x) if self.q is None else CheckedFunction(self.total, self.q)(x)

    def _costs(self, q: Distribution) -> CheckedFunction:
        return CheckedFunction(self.costs, q, name="costs", columns=True)

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution | None) -> "Return":
        """Return a copy of this integrand for samples of ``q``, with ``around(costs)`` in place of ``costs``.

        If there is a ``total``, ``around(total)`` takes its place.

        ``around`` maps a function of x to a function of x, such as one that counts its calls. If ``q`` is None, the
        copy gets its q from an estimator later.
        """
        return replace(self, costs=around(self.costs), total=self.total and around(self.total), q=q)

    def each(self, x: Tensor, q: Distribution) -> Tensor:
        """Return the C costs of samples of q, ``[..., *batch, C]``.

        Args:
            x: samples, ``[..., *batch, *event]``.
            q: the distribution of x, which holds T choices made one after another.

        Raises:
            InvalidIntegrand: ``costs`` returns another shape or changes x; the matrix ``reads`` is not ``[C, T]``; or
                ``reads`` is None, and C is not T.
        """
        values, choices = self._costs(q)(x), len(widths(q))
        expected = (values.shape[-1], choices) if self.reads is None else tuple(self.reads.shape)
        if (values.shape[-1], choices) != expected or (self.reads is None and values.shape[-1] != choices):
            raise InvalidIntegrand(
                f"The Return has {values.shape[-1]} costs, its q, {type(q).__name__}, {choices} choices, and reads is "
                f"{'None' if self.reads is None else list(self.reads.shape)}. Give one cost for each choice, or reads, "
                "[costs, choices]; for several choices, q is a Chain."
            )
        return values

    def downstream(self, choices: int, like: Tensor) -> Tensor:
        """Return 1 where a cost is downstream of a choice, and 0 elsewhere: ``[C, T]``.

        C is the number of costs. A cost is downstream of choice t if it reads choice t or a later one.

        Args:
            choices: T, the number of choices.
            like: a tensor; the result has its dtype and device.
        """
        return self._reads(choices).to(like).flip(-1).cummax(-1).values.flip(-1)

    def _reads(self, choices: int) -> Tensor:
        return torch.ones(choices, choices, dtype=torch.bool).tril() if self.reads is None else self.reads

    def looks_ahead(self, x: Tensor, other: Tensor, q: Distribution) -> tuple[int, int] | None:
        """Find a cost that depends on a choice on which it must not depend; return (cost, choice), or None.

        Row c of the field ``reads`` says on which choices cost c may depend. If ``reads`` is None, cost t may depend on
        choice t and on the choices before it. Each choice of x in turn is replaced by the same choice of ``other``. A
        cost depends on the choice if the value of the cost then changes. In the result, the cost and the choice are
        numbers counted from 0. None means that no such cost was found.

        Args:
            x: samples of q, ``[..., *batch, *event]``.
            other: other samples of q, of the shape of x.
            q: the distribution of x, which says where each choice lies in x.
        """
        before, event = self.each(x, q), len(q.event_shape)
        scale, choices = before.abs().amax(), len(widths(q))
        reads = self._reads(choices)
        for t, (start, end) in enumerate(pairwise(accumulate(widths(q), initial=0))):
            replaced = other
            if event:
                inside = torch.zeros(q.event_shape[0], dtype=torch.bool, device=x.device)
                inside[start:end] = True
                replaced = torch.where(inside.reshape(-1, *(1 for _ in range(event - 1))), other, x)
            off = (self.each(replaced, q) - before).abs() > ROUNDING * torch.finfo(before.dtype).eps * scale
            changed = off.reshape(-1, off.shape[-1]).any(0)
            wrong = changed & ~reads[:, t].to(changed.device)
            if bool(wrong.any()):
                return int(wrong.nonzero()[0]), t
        return None


def credited(estimator: Estimator, f: Integrand, q: Distribution, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(x), ``[n, *batch]``, and for each choice the sum of the costs downstream of it, ``[n, *batch, T]``.

    ``R_t = sum over the costs that read choice t or a later choice``

    Args:
        estimator: the caller, for messages.
        f: the integrand, a ``Return``.
        q: the distribution of T choices.
        x: samples, ``[n, *batch, *event]``.

    Raises:
        Refusal: f is not a ``Return``.
    """
    if not isinstance(f, Return):
        raise Refusal(
            f"{estimator!r} needs a Return, an f that shows its costs (got a plain function). Use Return(costs), or "
            "RLOO, which works with any f."
        )
    costs = f.each(x, q)
    return costs.sum(-1), costs.detach() @ f.downstream(len(widths(q)), costs)


def score_of_choices(q: Distribution, x: Tensor, weight: Tensor, estimator: Estimator) -> Tensor:
    """Return zeros, ``[*batch]``, whose gradient is ``sum_k sum_t weight_kt grad log q_t(x_kt | x_k<t)``.

    The gradient is with respect to the tensors from which q was made.

    Args:
        q: the distribution of T choices, batch shape ``[*batch]``.
        x: samples, ``[n, *batch, *event]``.
        weight: one weight for each sample, batch element and choice, ``[n, *batch, T]``.
        estimator: the caller; the message that refuses a second derivative names it.
    """
    return inject_at(q.batch_shape, [(weight.movedim(0, -1), log_probs(q, x.detach()).movedim(0, -1))], estimator)
