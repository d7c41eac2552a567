"""Sum and sample: the most probable states are summed, and one of the others is drawn."""

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
from estimators._states import count, log_mass, support
from estimators._surrogate import joined
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True)
class SumAndSample(Estimator):
    """Sum and sample: an exact sum over the n - 1 most probable states, and one sample of the others.

    ``g = sum_{x in T} q(x) (f(x) - b) grad log q(x) + (1 - q(T)) (f(v) - b) grad log q(v)``
    ``b = sum_{x in T} q(x) f(x) / q(T)``

    A state is a joint value of q's variables, or a sequence of tokens. T holds the n - 1 most probable states, and q(T)
    is their probability. v is drawn from q, given that v is outside T. Unbiased: T and b do not depend on v. Exact if n
    covers all states. The paper leaves the choice of b open; this b needs no further evaluations of f. Among equally
    probable states, T takes the first, so for a uniform q the variance depends on the order of the states. f may be a
    black box. Cost: n evaluations of f. If there are more than 4,096 states, ``Refusal`` is raised; if there are fewer
    than n, all are taken.

    Args:
        n: number of states, one of them drawn; at least 2.

    Reference: Liu, Regier, Tripuraneni, Jordan & McAuliffe 2019 ("Rao-Blackwellized stochastic gradients for discrete
    distributions").
    """

    n: int = 2

    families = (Bernoulli, OneHotCategorical, Categorical, TokenSequence)
    reference: ClassVar[str] = "Liu et al. 2019"
    limit: ClassVar[int] = 2**12

    def __post_init__(self) -> None:
        at_least(self, 2, ": one state is summed and one is drawn. Use ScoreFunction(n=1) or SumAndSample(n=2).")

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
        log_q = log_mass(q).clamp_min(-200).expand(*q.batch_shape, states)  # all states outside T may be impossible
        top = log_q.sort(dim=-1, descending=True, stable=True).indices[..., : min(self.n, states) - 1]
        outside = log_q.scatter(-1, top, -torch.inf)
        v = (outside + gumbel(log_q.shape, log_q, generator)).argmax(-1, keepdim=True)
        mass = torch.cat([log_q.gather(-1, top), outside.logsumexp(-1, keepdim=True)], -1).exp().movedim(-1, 0)
        drawn = torch.cat([top, v], -1)
        x = support(q)[drawn.movedim(-1, 0)]
        fx = f(x)
        covered = mass[:-1].sum(0).clamp_min(torch.finfo(mass.dtype).tiny)  # a single state leaves T empty
        b = (mass * fx.detach())[:-1].sum(0) / covered
        of_drawn = log_q.gather(-1, drawn).movedim(-1, 0)
        return joined((mass * fx).sum(0).to(fx), state_score(q, x, mass * (fx.detach() - b), of_drawn, self), self)
