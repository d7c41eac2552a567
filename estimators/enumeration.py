"""Enumeration: the exact sum over a finite support."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical

from estimators._densities import mass
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._states import count, support
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True)
class Enumeration(Estimator):
    """Exact gradient by summing over every state of a finite support.

    ``g = sum_x f(x) grad q(x)``

    The result has no noise. A state is a joint value of all variables of q. Needs a Bernoulli or categorical q, or a
    ``TokenSequence``, whose states are its sequences. Raises ``Refusal`` if there are more than 65,536 states (16
    bits). f may be a black box. Cost: one evaluation of f for every state (2^D for D bits, C^D for D variables of C
    categories).

    Reference: the definition of the expectation; as an estimator, Kool, van Hoof & Welling 2020, section 2.
    """

    deterministic = True
    families = (Bernoulli, OneHotCategorical, Categorical, TokenSequence)
    reference: ClassVar[str] = "definition"
    limit: ClassVar[int] = 2**16

    def points(self, q: Distribution) -> int:
        """Return the number of states of q, which are all held in memory at once.

        A state is a joint value of q's variables, or a sequence of tokens.

        Raises:
            Refusal: there are more than 65,536 states.
        """
        return count(self, q, self.limit)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = self._support(q)
        p = mass(q, x)
        fx = f(x)
        return (p * fx).sum(0)

    def _support(self, q: Distribution) -> Tensor:
        """Return every state, ``[states, *batch, *event]``, as a view with stride 0 along the batch axes."""
        states = self.points(q)
        each = support(q).reshape(states, *(1 for _ in q.batch_shape), *q.event_shape)
        return each.expand(states, *q.batch_shape, *q.event_shape)
