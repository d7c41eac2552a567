"""NVIL: a baseline that is a learned function of q's parameters."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, OneHotCategorical

from estimators._checks import at_least, true_or_false
from estimators._densities import score
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._learned import checked_state
from estimators._noise import normal
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._rows import one
from estimators._surrogate import joined


class LearnedBaseline(State):
    """State of NVIL: a learned baseline for each batch element.

    The baseline is a moving average of the values that past calls returned, plus the output of a network with one
    hidden layer. The input of the network is the parameters of q.
    """

    hidden: ClassVar[int] = 32
    in_units_of_f: ClassVar[tuple[str, ...]] = ("outer",)

    def __init__(self, context: Tensor, generator: Generator | None) -> None:
        super().__init__(context)
        self.inputs = inputs = context.shape[-1]
        self.inner = nn.Parameter(normal(Size((inputs, self.hidden)), self.mean, generator) / math.sqrt(inputs))
        self.bias = nn.Parameter(self.mean.new_zeros(self.hidden))
        self.outer = nn.Parameter(self.mean.new_zeros(self.hidden))

    def forward(self, context: Tensor) -> Tensor:
        """Return the baseline of each batch element, ``[*batch]``.

        The baseline is the moving average of the values that past calls of NVIL returned, plus the network's output.

        Args:
            context: q's parameters, joined along the last axis, ``[*batch, inputs]``.
        """
        return self.mean + (context.to(self.inner.dtype) @ self.inner + self.bias).tanh() @ self.outer


@dataclass(frozen=True)
class NVIL(Estimator):
    """NVIL: score function with a baseline for each batch element, a learned function of q's parameters.

    ``g = (1/n) sum_k (1/d) (f(x_k) - c - C(u)) grad log q(x_k)``,  x_k ~ q,  d = 1 unless ``normalise``

    c is a moving average of the values that past calls returned, C a network and u the parameters of q. Unbiased:
    neither c nor C depends on the x_k. f may be a black box. Cost: n evaluations of f. A state, made by ``init``, holds
    c and C. C has 32 hidden units (tanh). c and C start at 0, so a call with a fresh state, or without a state, is
    ScoreFunction.

    ``normalise=True`` divides by ``d = max(1, s)``. s is a moving average, held in the state, of the distances between
    c and the values that past calls returned. The estimator is then biased: the gradient is 1/d times as long, and its
    direction is right. d changes slowly in training, and keeps the gradients at the size that an f of deviation 1 would
    give.

    There are three departures from the paper. First, C is a function of the parameters of q, because an estimator knows
    nothing else about a batch element; in the paper it is a function of the data. Second, ``adapt`` trains C to lower
    the variance; in the paper, C regresses on f. Third, the division is optional, and s averages absolute distances of
    the returned values from c, not squares of f(x_k) - c - C(u).

    Args:
        n: number of samples.
        normalise: whether the gradient is divided by d.

    Reference: Mnih & Gregor 2014, sections 2.3 and 2.4.
    """

    n: int = 1
    normalise: bool = False

    families = (Normal, Bernoulli, OneHotCategorical, Categorical)
    needs_state = True
    reference: ClassVar[str] = "Mnih & Gregor 2014"

    def __post_init__(self) -> None:
        at_least(self, 1)
        true_or_false(self, "normalise")

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Whether the expected gradient is exact: yes, unless ``normalise`` is True."""
        return not self.normalise

    @property
    def linear_in_f(self) -> bool:  # type: ignore[override]
        """Whether multiplying f by a number multiplies the gradient by this number: only if ``normalise`` is False.

        With a state, this holds only if the state has learned from the multiplied f, too.
        """
        return not self.normalise

    def init(self, q: Distribution, generator: Generator | None = None) -> LearnedBaseline:
        """Return a state whose baseline is 0. The hidden weights of its network are random."""
        return LearnedBaseline(_context(q), generator)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = draw(q, self.n, generator)
        fx = f(x)
        context = None if state is None else _context(q)
        own = checked_state(self, state, LearnedBaseline, q, None if context is None else context.shape[-1])
        b = 0.0 if own is None else own(context)
        weight = (fx.detach() - b) / self.n
        if self.normalise and own is not None:
            weight = weight / own.deviation.clamp(min=1)
        return joined(fx.mean(0), score(q, x, weight, self), self)


def _context(q: Distribution) -> Tensor:
    """Return q's parameters side by side, ``[*batch, inputs]``, clamped to [-50, 50]: logits may be infinite."""
    batch = len(q.batch_shape)
    own = [one(value.detach(), q) for value in parameters(q).values()]
    rows = max(len(value) for value in own) if batch else 0  # one parameter alone may be shared by all rows
    flat = [value.reshape(*value.shape[:batch], value.shape[batch:].numel()) for value in own]
    context = torch.cat([value.expand(rows, *value.shape[1:]) if batch else value for value in flat], -1)
    return context.to(own[0].dtype).clamp(-50, 50)
