"""The unordered set estimator: samples without replacement, weighted as if the order of drawing were unknown."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical

from estimators._checks import at_least
from estimators._densities import state_score
from estimators._integrand import Integrand
from estimators._noise import gumbel
from estimators._protocol import Estimator, State
from estimators._refusals import InvalidParameter
from estimators._states import count, log_mass, support
from estimators._surrogate import joined
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True)
class UnorderedSet(Estimator):
    """Unordered set estimator: n different states, each weighted by the probability that it was drawn first.

    ``g = sum_{s in S} q(s) R(S,s) [f(s) - sum_{s' in S} q(s') R(S,s,s') f(s')] grad log q(s)``
    ``R(S,s) = P(S - s without s) / P(S)``
    ``R(S,s,s') = P(S - s - s' without s and s') / P(S - s without s)``

    A state is a joint value of q's variables, or a sequence of tokens. P(S) is the probability of drawing the set S of
    states without replacement. S - s is the set without its state s. "P(... without s)" is for draws from a q that
    lacks s. Unbiased. Exact if n covers all states. P(S) is a sum over the orders of drawing S, computed in one pass
    over the 2^n subsets of S. f may be a black box. Cost: n evaluations of f. If there are more than 4,096 states,
    ``Refusal`` is raised; if there are fewer than n, all are taken.

    Args:
        n: number of states, 2 to 10.

    Reference: Kool, van Hoof & Welling 2020, section 4. The sum over s' is the paper's built-in baseline.
    """

    n: int = 2

    families = (Bernoulli, OneHotCategorical, Categorical, TokenSequence)
    reference: ClassVar[str] = "Kool et al. 2020"
    limit: ClassVar[int] = 2**12

    def __post_init__(self) -> None:
        at_least(self, 2, ": its baseline comes from the other states. Use ScoreFunction(n=1) or UnorderedSet(n=2).")
        if self.n > 10:
            raise InvalidParameter(
                f"UnorderedSet needs n <= 10, because it goes through 2^n subsets (got n={self.n}). "
                f"Use UnorderedSet(n=10) or RLOO(n={self.n})."
            )

    def points(self, q: Distribution) -> int:
        """Return the number of states of q, which are all held in memory at once.

        A state is a joint value of q's variables, or a sequence of tokens.

        Raises:
            Refusal: there are more than 4,096 states.
        """
        return count(self, q, self.limit)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        states = self.points(q)
        log_q = log_mass(q).clamp_min(-200).expand(*q.batch_shape, states)  # impossible states may be needed to reach n
        drawn = (log_q + gumbel(log_q.shape, log_q, generator)).topk(min(self.n, states), -1).indices
        x = support(q)[drawn.movedim(-1, 0)]
        fx = f(x)
        outside = log_q.scatter(-1, drawn, -torch.inf).logsumexp(-1)
        of_drawn = log_q.gather(-1, drawn).movedim(-1, 0)
        first, second = _weights(of_drawn, outside)
        difference = fx.detach().unsqueeze(1) - fx.detach()  # [s, s', *batch]; the weights of the s' sum to 1
        weight = first * (second * difference).sum(1)
        return joined((first * fx).sum(0).to(fx), state_score(q, x, weight, of_drawn, self), self)


def _weights(log_q: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``q(s) R(S,s)``, ``[n, *batch]``, and ``q(s') R(S,s,s')``, ``[n, n, *batch]``, whose diagonal is 0.

    Assume that the states V are already drawn, and consider each order of drawing the rest of S. Let b(V) be the sum,
    over these orders, of the product of 1 / (mass not drawn yet). Then:

    ``P(S) = b({}) prod q``
    ``P(S - s without s) = b({s}) prod q / q(s)``

    Further removed states follow the same pattern.
    """
    n = len(log_q)
    b = {2**n - 1: torch.zeros_like(outside)}  # by V, as a bit mask
    for drawn in reversed(range(2**n - 1)):
        missing = [t for t in range(n) if not drawn >> t & 1]
        mass = torch.stack([outside, *(log_q[t] for t in missing)]).logsumexp(0)
        b[drawn] = torch.stack([b[drawn | 1 << t] for t in missing]).logsumexp(0) - mass
    first = torch.stack([(b[1 << s] - b[0]).exp() for s in range(n)])
    second = [[(b[1 << s | 1 << t] - b[1 << s]).exp() * (s != t) for t in range(n)] for s in range(n)]
    return first, torch.stack([torch.stack(row) for row in second])
