"""Local expectation gradients: each coordinate is summed out in turn."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical

from estimators._checks import at_least
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators.measure_valued import MeasureValued, differences


@dataclass(frozen=True)
class LocalExpectation(Estimator):
    """Local expectation gradient: an exact sum over each coordinate in turn, with the other coordinates as drawn.

    ``g_i = (1/n) sum_k sum_v f(x_k with coordinate i set to v) grad q_i(v)``,  x_k ~ q, q_i the law of coordinate i

    Unbiased. If q has a single variable, g is the exact gradient. Supports independent bits and categories, for which
    MeasureValued gives the same g. f may be a black box. Cost: n (1 + D (C - 1)) evaluations of f for D variables of C
    categories, n (1 + D) for D bits. All coordinates share f at the drawn sample.

    Args:
        n: number of samples around which the sums are taken.

    Reference: Titsias & Lázaro-Gredilla 2015, section 3, for independent coordinates.
    """

    n: int = 1

    families = (Bernoulli, OneHotCategorical, Categorical)
    aliases: ClassVar[tuple[str, ...]] = ("leg",)
    reference: ClassVar[str] = "Titsias & Lázaro-Gredilla 2015"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def points(self, q: Distribution) -> int:
        return MeasureValued(self.n).points(q)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        return differences(self, f, q, generator, self.n)
