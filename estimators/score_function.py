"""Score function: weights the score of each sample by the integrand minus a baseline."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical, TransformedDistribution

from estimators._axes import average, one_hot, share, spread
from estimators._checks import at_least, is_finite, one_of
from estimators._densities import logits, probs, score, untransformed
from estimators._draws import draw
from estimators._fields import named_type
from estimators._integrand import Integrand
from estimators._laws import closed, inner, is_torchs, law
from estimators._learned import checked_state
from estimators._parameters import first_parameter, parameters
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter, Refusal
from estimators._rows import one, rows
from estimators._supports import leaves_of
from estimators._surrogate import inject_at, joined
from estimators._transforms import forward_mode, is_differentiated, transformed
from estimators.returns import credited, score_of_choices


class MovingAverage(State):
    """State of ScoreFunction(baseline="moving-average").

    The baseline is ``mean``, the moving average of the values that past calls returned, 0 before the first update.
    """


@dataclass(frozen=True)
class ScoreFunction(Estimator):
    """Score function estimator (REINFORCE, likelihood ratio).

    ``g = (1/n) sum_k (f(x_k) - b) grad log q(x_k)``,  x_k ~ q

    Unbiased for every baseline b that does not depend on the x_k. Needs a q with ``log_prob``; f may be a black box.
    Cost: n evaluations of f. The variance grows with the square of any constant in f.

    q may be a distribution of your own: ``sample`` draws, and ``log_prob`` is the density of these draws with all its
    constants, differentiable in the parameters of q. A support that moves with a trained parameter is refused, because
    a score misses what crosses the ends of the support. If a trained probability is exactly 0 or 1, a part of the
    derivative is missing, because an outcome of probability 0 is never drawn. Use Enumeration, MeasureValued or
    LocalExpectation there.

    ``baseline="moving-average"`` takes the baseline from a state, made by ``init``, which holds a moving average of the
    value. This average starts at 0. Call ``state.update(value)`` after each step, with the value that the estimator
    returned. So no baseline contains its own sample. In a call without a state, the baseline is 0.

    ``baseline="optimal"`` estimates, for each coordinate i of q's parameters, the constant baseline of least variance.
    This constant is ``E[f s_i^2] / E[s_i^2]``, where s_i is coordinate i of the score grad log q(x). The estimate for
    sample k uses the other n - 1 samples:

    ``b_{k,i} = sum_{j != k} f(x_j) s_{j,i}^2 / sum_{j != k} s_{j,i}^2``

    The estimate is 0 if all of these scores are 0. With the optimal baseline and two samples, the estimator is RLOO.
    The optimal baseline pays off from about ten samples. For categories the parameters are taken to be logits, whose
    score has mean 0.

    ``credit="downstream"`` is for an f that is a ``Return``, a sum of costs, and a q of several choices, a ``Chain``:

    ``g = (1/n) sum_k sum_t (R_kt - b) grad log q_t(x_kt | x_k<t)``

    R_kt is the sum of the costs of sample k that choice t can change. Costs before a choice would only add variance,
    and are left out. The baseline must then be a number.

    Args:
        n: number of samples; at least 2 for the optimal baseline.
        baseline: a number, "moving-average" or "optimal".
        credit: what the score of a choice is multiplied by: "whole", the value of f; "downstream", the sum of the costs
            that the choice can change.

    Reference: Williams 1992 (Machine Learning 8), section 4; Mohamed et al. 2020 (JMLR 21), section 4. Optimal: Weaver
    & Tao 2001; Greensmith, Bartlett & Baxter 2004 (JMLR 5); by coordinate: Peters & Schaal 2008. The baseline is
    leave-one-out here, because a baseline that contains its own sample is biased. Downstream: the reward to go of
    Sutton, McAllester, Singh & Mansour 2000.
    """

    n: int = 1
    baseline: float | str = 0.0
    credit: str = "whole"

    aliases: ClassVar[tuple[str, ...]] = ("reinforce",)
    reference: ClassVar[str] = "Williams 1992"

    def __post_init__(self) -> None:
        at_least(self, 1)
        b = self.baseline
        if not is_finite(b) and b not in ("moving-average", "optimal"):
            raise InvalidParameter(
                "ScoreFunction needs a baseline that is a finite number, 'moving-average' or 'optimal' "
                f"(got baseline={b!r}{named_type(b, int, float, str)}). Use ScoreFunction(baseline=0.0)."
            )
        if b == "optimal":
            use = "Use ScoreFunction(n=2, baseline='optimal') or ScoreFunction()."
            at_least(self, 2, f" for the optimal baseline, which the other samples estimate. {use}")
        one_of(self, "credit", "whole", "downstream")
        if self.needs_costs and isinstance(b, str):
            raise InvalidParameter(
                f"ScoreFunction with credit='downstream' needs a baseline that is a number (got baseline={b!r}): one "
                "baseline does not fit every choice. Use RLOO(credit='downstream')."
            )

    @property
    def needs_costs(self) -> bool:  # type: ignore[override]
        """Whether the integrand must be a ``Return``, a sum of costs: only if ``credit`` is "downstream"."""
        return self.credit == "downstream"

    @property
    def needs_state(self) -> bool:  # type: ignore[override]
        """Whether the estimator learns: only if the baseline is the moving average."""
        return self.baseline == "moving-average"

    def init(self, q: Distribution, generator: Generator | None = None) -> MovingAverage | None:
        """Return a state whose moving average is 0; None if the baseline is a number or "optimal".

        q gives the state its device and its dtype, at least float32; ``generator`` is ignored.
        """
        return MovingAverage(first_parameter(q)) if self.needs_state else None

    def coefficients(self, fx: Tensor) -> Tensor | None:
        """Return ``(f(x_k) - b) / n`` for each sample, ``[n, *batch]``, without a graph.

        ``fx`` holds the values f(x_k), ``[n, *batch]``. b is the field ``baseline``. If this field is "moving-average"
        or "optimal", the result is None.
        """
        return None if isinstance(self.baseline, str) else _off(fx, self.baseline)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        x = draw(q, self.n, generator)
        if self.needs_costs:
            fx, to_go = credited(self, f, q, x)
            return joined(average(fx), score_of_choices(q, x, share(to_go - float(self.baseline)), self), self)
        fx = f(x)
        if self.baseline == "optimal":
            return joined(average(fx), _optimal(self, q, x, fx.detach()), self)
        b: Tensor | float = self.baseline if isinstance(self.baseline, int | float) else 0.0
        if self.needs_state and (own := checked_state(self, state, MovingAverage, q)) is not None:
            b = own.mean
        return joined(average(fx), score(q, x, _off(fx, b), self), self)


def _off(fx: Tensor, b: Tensor | float) -> Tensor:
    """Return ``(f(x_k) - b) / n``, ``[n, *batch]``, without a graph."""
    return share(fx.detach() if isinstance(b, int | float) and b == 0 else fx.detach() - b)  # 0: no pass over the data


def _optimal(estimator: Estimator, q: Distribution, x: Tensor, fx: Tensor) -> Tensor:
    """Return the surrogate loss with optimal leave-one-out baselines, one for each coordinate of q's parameters."""
    others = 1 - torch.eye(len(x), dtype=fx.dtype, device=fx.device)
    pairs = []
    for s, target in _scores(q, x):
        s = s.to(fx.dtype)
        value, square = spread(fx, s), s.square()
        above = torch.tensordot(others, value * square, 1)  # sums over the others: a difference of sums would cancel
        below = torch.tensordot(others, square, 1)
        baseline = above / below.clamp_min(torch.finfo(s.dtype).tiny)
        pairs.append((((value - baseline) * s).mean(0), target))
    return inject_at(q.batch_shape, pairs, estimator) if pairs else fx.new_zeros(q.batch_shape)


def _scores(q: Distribution, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return pairs: ``grad log q(x_k)``, ``[n, *batch, ...]``, and the parameter in which it is the gradient."""
    q, x = untransformed(q, x)
    if isinstance(closed(inner(q)), OneHotCategorical | Categorical):
        p = one(probs(q).detach(), q)
        hot = x if isinstance(inner(q), OneHotCategorical) else one_hot(x, p.shape[-1], p.dtype)
        return [(hot - p, logits(q))]
    if torch.is_inference_mode_enabled():
        return []
    is_frozen = not any(is_differentiated(t) for t in parameters(q).values())
    if transformed() or forward_mode():
        if is_frozen:
            return []
        raise Refusal(
            "ScoreFunction with baseline='optimal' does not run under torch.func or in forward mode, except for "
            "categories. Use RLOO."
        )
    _refuse_hidden(q, x)
    if is_frozen:
        return []
    each = rows(q, len(x))
    own = {name: t for name, t in parameters(each).items() if t.requires_grad}
    with torch.enable_grad():
        surrogate = score(each, x.unsqueeze(0), next(iter(own.values())).new_ones((1, len(x), *q.batch_shape)))
        found = torch.autograd.grad(surrogate.sum(), list(own.values()))
    return list(zip(found, [parameters(q)[name] for name in own], strict=True))


def _refuse_hidden(q: Distribution, x: Tensor) -> None:
    """Raise ``Refusal`` if the density depends on a trained tensor that is no argument of q's constructor."""
    base = inner(q)
    if is_torchs(law(type(base))) and not isinstance(base, TransformedDistribution):
        return
    inside = {leaf for t in parameters(q).values() for leaf in leaves_of(t)}
    if any(leaf.requires_grad and leaf not in inside for leaf in leaves_of(q.log_prob(x))):
        raise Refusal(
            "ScoreFunction with baseline='optimal' needs every trained tensor among the constructor's arguments of "
            f"{type(base).__name__}, and a transform, a network or another distribution in it holds one. Use RLOO."
        )
