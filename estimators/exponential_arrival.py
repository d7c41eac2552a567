"""Exponential arrival times: a relaxation of Poisson counts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, Poisson

from estimators._checks import at_least, evaluate_path, holds, positive
from estimators._integrand import Integrand
from estimators._noise import uniform
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators._rows import one
from estimators._supports import refuse_unseen


@dataclass(frozen=True)
class ExponentialArrival(Estimator):
    """Relaxation of Poisson counts: a soft count of the arrivals before time 1.

    ``g = (1/n) sum_k grad f(y_k)``
    ``y = sum_i sigmoid((1 - t_i) / temperature)``
    ``t_i = (E_1 + ... + E_i) / rate``,  the E_i standard exponential,  i = 1 ... arrivals

    grad is the gradient in the rate, through y. Biased: g estimates the gradient of E[f(y)], and the returned value
    estimates E[f(y)]. As the temperature goes to 0, y becomes the count itself: the bias vanishes, and the variance
    grows without limit. Needs df/dx and an f that is defined between whole numbers. Raises ``Refusal`` in two cases: a
    count exceeds ``arrivals`` with a probability above 0.001, or the rate is exactly 0 and has a derivative. Cost: n
    evaluations of f, n of its gradient.

    Args:
        n: number of samples.
        temperature: temperature of the sigmoid, positive.
        arrivals: number of arrivals drawn per count, at least 1.

    Reference: Vafaii, Galor & Yates 2024 ("Poisson variational autoencoder"), section 3. Departure: the number of
    arrivals is given, not computed from the rates.
    """

    n: int = 1
    temperature: float = 0.1
    arrivals: int = 32

    unbiased = False
    value_unbiased = False
    families = (Poisson,)
    needs_df = True
    needs_relaxed_f = True
    aliases: ClassVar[tuple[str, ...]] = ("eat",)
    reference: ClassVar[str] = "Vafaii et al. 2024"

    def __post_init__(self) -> None:
        at_least(self, 1)
        at_least(self, 1, field="arrivals")
        positive(self, "temperature")

    def points(self, q: Distribution) -> int:
        """Return the number of arrival times, all held at once, per batch element."""
        return self.n * self.arrivals

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        refuse_unseen(q)
        rate = parameters(q)["rate"]
        highest = one(rate.detach(), q).amax() if rate.numel() else rate.new_zeros(())
        if holds(torch.special.gammainc(torch.full_like(highest, self.arrivals + 1), highest) > 1e-3, self):
            raise Refusal(
                f"{self!r} draws {self.arrivals} arrivals, too few for a rate of {highest.item():.4g}. "
                f"Use ExponentialArrival(arrivals={int(highest + 5 * highest.sqrt()) + 5}), MeasureValued or RLOO."
            )
        u = uniform(Size((self.n, self.arrivals, *q.batch_shape, *q.event_shape)), rate, generator)
        times = u.log().neg().cumsum(1) / rate.clamp_min(
            1e-17
        )  # rarer arrivals are none: their derivative would be 0/0
        y = ((1 - times) / self.temperature).sigmoid().sum(1)
        return evaluate_path(self, f, y).mean(0)
