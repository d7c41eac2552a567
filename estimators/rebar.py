"""REBAR: the score function with a relaxation of f as a control variate."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from estimators._axes import average
from estimators._checks import at_least, evaluate_path, finite, positive
from estimators._densities import logits, row_probs
from estimators._integrand import Integrand
from estimators._learned import checked_state
from estimators._parameters import first_parameter
from estimators._protocol import Estimator, State
from estimators._relaxations import harden, squash
from estimators._relaxed_control_variate import noisy_logits, path_difference, score_plus_path
from estimators._surrogate import inject_at, joined
from estimators._transforms import value_and_slope


class ControlVariate(State):
    """State of REBAR, learned by ``adapt``: two scalars, the logarithm of the temperature and a coefficient.

    The temperature is that of the relaxation. The coefficient is the factor of the control variate.
    """

    def __init__(self, temperature: float, coefficient: float, like: Tensor) -> None:
        super().__init__(like)
        self.log_temperature = nn.Parameter(self.mean.new_tensor(math.log(temperature)))
        self.coefficient = nn.Parameter(self.mean.new_tensor(coefficient))


@dataclass(frozen=True)
class REBAR(Estimator):
    """REBAR: score function with a relaxation of f as a control variate.

    ``g = (1/n) sum_k [(f(x) - coefficient c(z')) grad log q(x) + coefficient (grad c(z) - grad c(z'))]``
    ``c(z) = f(softmax(z / temperature))``
    ``z = logits + noise``
    ``x = onehot(argmax z)``
    ``z' ~ p(z | x)``

    For Bernoulli, the noise is logistic, x = 1[z > 0], and a sigmoid replaces the softmax. Unbiased for every
    temperature and coefficient. Needs df/dx, and an f that is defined and continuous off the support of q. Cost: 2n
    evaluations of f, n of its gradient. (If z' had noise of its own, the cost would be 3n evaluations of f, 2n of its
    gradient.)

    grad c(z') is a derivative through z', too: z' is a function of the logits, of x and of noise v that is independent
    of x. Given x, z itself is a draw from p(z | x). So v may be chosen such that z' = z. Then c(z') = c(z), one
    evaluation of c serves both, and only the derivatives of z and z' in the logits differ. With z = logit p + logit u,
    u uniform, for a bit of probability p, and z_j = log p_j + Gumbel noise for categories:

    ``dz' = (1 - (1-p) / u) dlogit``  for a bit x = 1
    ``dz' = (1 - p / (1-u)) dlogit``  for a bit x = 0
    ``dz'_j = (1 - exp(z_j - max z)) dlog p_j``  for categories

    A state, made by ``init``, holds the coefficient and the logarithm of the temperature. ``adapt`` changes both to
    lower the second moment of g, and returns this moment. A call without a state uses the fields ``temperature`` and
    ``coefficient``. If f(0) = f(1) but f differs in between, as (b - 1/2)^2 does, c is useless as a control variate,
    and the coefficient goes to 0.

    Args:
        n: number of samples.
        temperature: temperature of the relaxation, positive; learning starts from it.
        coefficient: coefficient of the control variate, finite; learning starts from it. At 0 REBAR is ScoreFunction.

    Reference: Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein 2017, section 3. Departures: two parts of the authors'
    code are left out. One is a learned baseline, added to c, that depends on the model's input. The other is a modified
    relaxation that becomes MuProp at high temperatures. Without them, REBAR gains little over ScoreFunction if f at the
    relaxed sample says little about f at x. An example is the paper's toy problem with f(x) = (x - 0.45)^2.
    """

    n: int = 1
    temperature: float = 0.5
    coefficient: float = 1.0

    families = (Bernoulli, OneHotCategorical)
    needs_df = True
    needs_relaxed_f = True
    needs_state = True
    reference: ClassVar[str] = "Tucker et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)
        positive(self, "temperature")
        finite(self, "coefficient")

    def init(self, q: Distribution, generator: Generator | None = None) -> ControlVariate:
        """Return a state that starts at the fields ``temperature`` and ``coefficient``; ``generator`` is not used."""
        return ControlVariate(self.temperature, self.coefficient, first_parameter(q).detach())

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        own = checked_state(self, state, ControlVariate, q)
        temperature = self.temperature if own is None else own.log_temperature.exp()
        coefficient = self.coefficient if own is None else own.coefficient
        p = row_probs(q)
        u, z = noisy_logits(q, self.n, generator)
        x = harden(q, z)
        fx = f(x)
        c, slope = self._relaxed(f, q, z, temperature)
        weight = (fx.detach() - coefficient * c) / self.n
        difference = path_difference(q, p, x, u, z, slope)  # grad c(z) - grad c(z')
        gradient = score_plus_path(weight, x - p, coefficient / self.n, difference)
        return joined(average(fx), inject_at(q.batch_shape, [(gradient, logits(q))], self), self)

    def _relaxed(self, f: Integrand, q: Distribution, z: Tensor, temperature: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return c(z) and dc/dz, attached to the temperature while it is learned and otherwise detached."""
        learning = isinstance(temperature, Tensor) and temperature.requires_grad
        fy, slope = value_and_slope(lambda z: evaluate_path(self, f, squash(q, z, temperature)), z, learning)
        return (fy if learning else fy.detach()), slope
