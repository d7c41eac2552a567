"""Self-critical baseline: f at the mode of q."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, OneHotCategorical

from estimators._checks import at_least
from estimators._densities import logits, score
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._relaxations import harden
from estimators._surrogate import joined
from estimators._transforms import no_derivatives
from estimators.token_sequence import TokenSequence


@dataclass(frozen=True)
class SelfCritical(Estimator):
    """Score function with f at the mode of q as the baseline (self-critical training).

    ``g = (1/n) sum_k (f(x_k) - f(mode of q)) grad log q(x_k)``,  x_k ~ q

    The mode is the point at which q is largest. If the coordinates of q are independent, it consists of the modes of
    the coordinates. For a ``TokenSequence``, the sequence of greedy decoding takes the place of the mode, as in ReMax.
    Unbiased: the mode is not random. If q is nearly certain, most samples equal the mode and contribute 0. f may be a
    black box. Cost: n + 1 evaluations of f.

    Args:
        n: number of samples.

    Reference: Rennie, Marcheret, Mroueh, Ross & Goel 2017 ("Self-critical sequence training for image captioning"); for
    language models, Li et al. 2024 (ReMax).
    """

    n: int = 1

    families = (Normal, Bernoulli, OneHotCategorical, Categorical, TokenSequence)
    reference: ClassVar[str] = "Rennie et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x = draw(q, self.n, generator)
        fx = f(x)
        with no_derivatives():
            b = f(_mode(q))
        return joined(fx.mean(0), score(q, x, (fx.detach() - b) / self.n, self), self)


def _mode(q: Distribution) -> Tensor:
    """Return the most probable x, or the sequences of greedy decoding, ``[*batch, *event]``."""
    match inner(q):
        case TokenSequence() as base:
            return base.mode
        case Normal():
            return parameters(q)["loc"].detach()
        case Categorical():
            return logits(q).detach().argmax(-1)
        case _:
            return harden(q, logits(q).detach())
