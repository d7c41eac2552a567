"""Enumeration: the exact sum over a finite support."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical

from estimators._families import inner, logits, mass
from estimators._protocol import Estimator, Integrand, State
from estimators._refusals import Refusal
from estimators._surrogate import grad_only


@dataclass(frozen=True)
class Enumeration(Estimator):
    """Exact gradient by summing over every state of a finite support.

    ``g = sum_x f(x) grad q(x)``

    Exact and without noise. Needs q Bernoulli or categorical, with at most 65,536 joint states (16 bits); larger ones
    are refused. f is a black box. Cost: one evaluation of f for every state (2^D for D bits, C^D for D variables of C
    categories).

    Reference: the definition of the expectation; as an estimator, Kool, van Hoof & Welling 2020, section 2.
    """

    deterministic = True
    families = (Bernoulli, OneHotCategorical, Categorical)
    reference: ClassVar[str] = "definition"
    limit: ClassVar[int] = 2**16

    def points(self, q: Distribution) -> int:
        """Return the number of joint states, or refuse."""
        classes = 2 if isinstance(inner(q), Bernoulli) else logits(q).shape[-1]
        variables = math.prod(q.event_shape[:-1] if isinstance(inner(q), OneHotCategorical) else q.event_shape)
        if variables * math.log(classes) > math.log(self.limit) * (1 + 1e-12):
            raise Refusal(
                f"Enumeration sums at most {self.limit:,} states (got {classes}^{variables}). "
                "Use RLOO, or a q of fewer variables."
            )
        return int(classes**variables)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``."""
        self.check(q)
        x = self._support(q)
        p = mass(q, x)
        fx = f(x)
        return (p.detach() * fx).sum(0) + grad_only((p * fx.detach()).sum(0))

    def _support(self, q: Distribution) -> Tensor:
        """Return every state, ``[states, *batch, *event]``: a view, the batch axes have stride 0."""
        states, like = self.points(q), logits(q)
        one_hot, binary = isinstance(inner(q), OneHotCategorical), isinstance(inner(q), Bernoulli)
        variables = q.event_shape[:-1] if one_hot else q.event_shape
        classes = 2 if binary else like.shape[-1]
        place = classes ** torch.arange(math.prod(variables), device=like.device)
        digits = (torch.arange(states, device=like.device).unsqueeze(-1) // place) % classes
        if one_hot:
            x = torch.nn.functional.one_hot(digits, classes).to(like.dtype)
        else:
            x = digits.to(like.dtype) if binary else digits
        shape = (states, *(1 for _ in q.batch_shape), *q.event_shape)
        return x.reshape(shape).expand(states, *q.batch_shape, *q.event_shape)
