"""The problems of the conformance suite: small, with exact answers, and designed to expose faults.

f is neither affine nor separable, and differs between batch elements. The exact answers are sums over the support or
Gauss-Hermite quadrature.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical, Poisson
from torch.nn.functional import one_hot

from estimators import Integrand, PolicyReturn, Repeated, Subset, TablePolicy, TokenSequence, inner, parameters

Theta = tuple[Tensor, ...]
Nodes = Callable[[Distribution], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Case:
    """A test for estimators: an expectation E_q[f] that is a finite sum, so that its value and gradient are known.

    Args:
        name: name of the case, for messages.
        theta: float64 tensors, ``[*batch, ...]``.
        build: function from theta to q. It must accept tensors of theta with more axes on the left.
        f: the function, ``[..., *batch, *event] -> [..., *batch]``.
        nodes: function from q to points ``[N, *batch, *event]`` and weights ``[N, *batch]``, both differentiable in q's
            parameters; E_q[f] is the weighted sum of f over the points.
        particles: None, or K if f is the log-joint of a bound of K particles,
            ``[..., *batch, K, *event] -> [..., *batch, K]``.
        combine: None, or F, ``[..., k] -> [...]``, if the expectation is E_q[F(f)] over sets of k samples. f then has
            one value for each sample, ``[..., *batch, k, *event] -> [..., *batch, k]``.
        steady: whether a sample takes the same number of random numbers for all parameters of q. It does not in torch's
            rejection samplers: there a change in one row (independent estimate) changes the noise of the next row.
        around: function from f and q to the integrand that estimators get, such as a ``PolicyReturn`` whose reward is
            f; None for f itself.
    """

    name: str
    theta: Theta
    build: Callable[..., Distribution]
    f: Integrand
    nodes: Nodes
    particles: int | None = None
    combine: Callable[[Tensor], Tensor] | None = None
    steady: bool = True
    around: Callable[[Integrand, Distribution], Integrand] | None = None

    def q(self, theta: Theta | None = None) -> Distribution:
        """Return the distribution q at ``theta``; if it is None, at a copy of the case's theta.

        The copy requires gradients.
        """
        return self.build(*(leaves(self.theta) if theta is None else theta))

    def beside(self, t: Tensor) -> Tensor:
        """Return t, ``[..., *batch]``, in a shape in which it can be added to values of f.

        If the case has ``particles`` or ``combine``, values of f have an extra last axis, and t gets one of length 1.
        """
        return t if self.particles is None and self.combine is None else t.unsqueeze(-1)

    def exact(self, integrand: Callable[[Distribution], Integrand]) -> tuple[Tensor, Tensor]:
        """Return the exact E_q[f] of each batch element, ``[*batch]``, and the flat gradient of their sum at theta.

        ``integrand`` maps q to the function f to integrate.
        """
        theta = leaves(self.theta)
        q = self.q(theta)
        points, weights = self.nodes(q)
        value = (weights * integrand(q)(points)).sum(0)
        return value.detach(), flat(torch.autograd.grad(value.sum(), theta), 0)


def leaves(theta: Theta, *left: int) -> Theta:
    """Return a copy of each tensor of theta, repeated along new axes on the left. The copies require gradients.

    ``left`` are the lengths of the new axes.
    """
    return tuple(t.detach().expand(*left, *t.shape).clone().requires_grad_() for t in theta)


def flat(tensors: tuple[Tensor, ...], axes: int) -> Tensor:
    """Return tensors flattened and joined: ``[*shared, k]``.

    Each tensor keeps its first ``axes`` axes, ``shared``, in which all shapes agree. Its other axes become one, and the
    tensors are joined along this axis, which then has the length k.
    """
    return torch.cat([t.flatten(axes) if t.dim() > axes else t.unsqueeze(-1) for t in tensors], -1)


def quadrature(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return Gauss-Hermite nodes, ``[N, *batch, *event]``, and weights, ``[N, *batch]``, for independent normals.

    They give the expectation of every f in the test problems ``CASES``, up to rounding.
    """
    own, variables = parameters(q), math.prod(q.event_shape)
    z, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(32))
    grid = torch.cartesian_prod(*[z] * variables).reshape(-1, *(1 for _ in q.batch_shape), *q.event_shape)
    mass = torch.cartesian_prod(*[w / w.sum()] * variables).reshape(-1, *(1 for _ in q.batch_shape), variables).prod(-1)
    return own["loc"] + own["scale"] * grid, mass


def support(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return all points in the support of a Bernoulli or categorical q, and their probabilities.

    The points are ``[N, *batch, *event]``, the probabilities ``[N, *batch]``.
    """
    base = inner(q)
    hot = isinstance(base, OneHotCategorical)
    classes = 2 if isinstance(base, Bernoulli) else next(iter(parameters(q).values())).shape[-1]
    variables = math.prod(q.event_shape[:-1] if hot else q.event_shape)
    x = torch.tensor(list(itertools.product(range(classes), repeat=variables)))
    if not isinstance(base, Categorical):
        x = one_hot(x, classes).double() if hot else x.double()
    x = x.reshape(-1, *(1 for _ in q.batch_shape), *q.event_shape).expand(-1, *q.batch_shape, *q.event_shape)
    return x, q.log_prob(x).exp()


def counts(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return the whole numbers below 60 and their probabilities under a Poisson q, both ``[60, *batch]``.

    The probabilities of larger numbers are negligible for rates below 5.
    """
    x = torch.arange(60.0, dtype=torch.float64).reshape(-1, *(1 for _ in q.batch_shape)).expand(-1, *q.batch_shape)
    return x, q.log_prob(x).exp()


def enumerated(q: Distribution) -> tuple[Tensor, Tensor]:
    """Return all S points of a distribution that can list its own support, and their probabilities.

    Args:
        q: the distribution, such as a ``Subset``, batch shape ``[*batch]``, event shape ``[*event]``.

    Returns:
        The points, ``[S, *batch, *event]``, and the probability of each point, ``[S, *batch]``.
    """
    x: Tensor = q.enumerate_support()
    return x, q.log_prob(x).exp()


def penalised(reward: Integrand, q: Distribution) -> PolicyReturn:
    """Return a ``PolicyReturn``: a reward, minus a penalty on the distance of q from a reference policy.

    The result also has a sampler: a third policy, from which estimators made for policies draw. The reference and the
    sampler are fixed, and both differ from q.
    """
    like = next(iter(parameters(q).values()))

    def policy(shift: float) -> TokenSequence:
        logits = (torch.arange(18.0, device=like.device) * 1.7 + shift).sin().reshape(2, 3, 3) / 2
        return TokenSequence({"logits": logits.to(like.dtype)}, TablePolicy(3), 2, 2, validate_args=False)

    return PolicyReturn(reward, reference=policy(0.0), sampler=policy(1.0), beta=0.4, q=q)


def wave(*shift: float, event: int = 1, classes: int = 0) -> Integrand:
    """Return a smooth function f of x, the f of many test problems.

    Let a and b be two fixed vectors, t the ``shift``, and u the vector x, in one-hot form if x holds integers. With dot
    products such as a.u, f is ``sin(a.u + t) - cos(2 b.u)/2 + (a.u)(b.u)``.

    Args:
        *shift: t, one number per batch element, or one number for a case without a batch.
        event: number of event axes of x.
        classes: number of categories if x holds integers, else 0.
    """
    t = _tensor(*shift) if len(shift) > 1 else _tensor(*shift).squeeze(0)

    def f(x: Tensor) -> Tensor:
        u = one_hot(x, classes).double() if classes else x
        axes = event + bool(classes)
        u = u.flatten(u.dim() - axes) if axes else u.unsqueeze(-1)
        k = torch.arange(1.0, u.shape[-1] + 1, dtype=u.dtype, device=u.device)
        a, b = (u * (1 + 0.3 * k).cos()).sum(-1), (u * (1.5 * k).sin()).sum(-1)
        return (a + t.to(u)).sin() - (2 * b).cos() / 2 + a * b

    return f


def _tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


CASES: tuple[Case, ...] = (
    Case(
        "Normal, 2 variables",
        (_tensor(0.5, -0.8), _tensor(0.9, 0.6)),
        lambda loc, scale: Independent(Normal(loc, scale, validate_args=False), 1),
        wave(0.4),
        quadrature,
    ),
    Case(  # f oscillates quickly, which shows the bias of estimators that smooth f or q's parameters
        "Normal, narrow, 1 variable",
        (_tensor(0.1), _tensor(0.05)),
        lambda loc, scale: Independent(Normal(loc, scale, validate_args=False), 1),
        lambda x: (8 * x).sin().sum(-1),
        quadrature,
    ),
    Case(
        "Normal, batch of 3",
        (_tensor(-1.1, 0.3, 0.7), _tensor(0.5, 1.2, 0.8)),
        lambda loc, scale: Normal(loc, scale, validate_args=False),
        wave(0.4, -0.9, 1.3, event=0),
        quadrature,
    ),
    Case(
        "Bernoulli by logits, batch of 2, 3 variables",
        (_tensor([0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]),),
        lambda logits: Independent(Bernoulli(logits=logits, validate_args=False), 1),
        wave(0.4, -0.9),
        support,
    ),
    Case(
        "Bernoulli by probs, 2 variables",
        (_tensor(0.3, 0.8),),
        lambda probs: Independent(Bernoulli(probs=probs, validate_args=False), 1),
        wave(-0.7),
        support,
    ),
    Case(
        "OneHotCategorical by logits, 2 variables of 3 categories",
        (_tensor([0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]),),
        lambda logits: Independent(OneHotCategorical(logits=logits, validate_args=False), 1),
        wave(0.8, event=2),
        support,
    ),
    Case(
        "OneHotCategorical by probs, batch of 2, 4 categories",
        (_tensor([0.1, 0.4, 0.2, 0.3], [0.6, 0.1, 0.1, 0.2]),),
        lambda probs: OneHotCategorical(probs=probs, validate_args=False),
        wave(0.4, -0.9),
        support,
    ),
    Case(
        "integer Categorical by logits, batch of 2, 2 variables of 3 categories",
        (_tensor([[0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]], [[0.1, 0.2, -0.9], [0.7, -0.4, 0.0]]),),
        lambda logits: Independent(Categorical(logits=logits, validate_args=False), 1),
        wave(0.4, -0.9, classes=3),
        support,
    ),
    Case(
        "Subset, batch of 2, 2 of 4 elements",
        (_tensor([0.4, -1.2, 0.3, 0.9], [-0.3, 0.8, 1.5, 0.0]),),
        lambda logits: Subset(logits, 2, validate_args=False),
        wave(0.4, -0.9),
        enumerated,
    ),
    Case(
        "TokenSequence, batch of 2, 2 tokens of 3",
        ((torch.arange(18.0, dtype=torch.float64) ** 2).cos().reshape(2, 3, 3) / 2,),
        lambda logits: TokenSequence({"logits": logits}, TablePolicy(3), 2, 2, validate_args=False),
        wave(0.4, -0.9, classes=3),
        enumerated,
        around=penalised,
    ),
    Case(
        "Poisson, batch of 3",
        (_tensor(0.4, 1.7, 2.3),),
        lambda rate: Poisson(rate, validate_args=False),
        lambda x: (x + _tensor(0.4, -0.9, 1.3).to(x)).sin() + (5 * x).cos(),
        counts,
        steady=False,
    ),
    Case(
        "Normal, batch of 2, 2 particles of 1 variable",
        (_tensor([0.5, -0.8], [0.2, 0.3]), _tensor([0.9, 0.6], [1.1, 0.7])),
        lambda loc, scale: Independent(Normal(loc, scale, validate_args=False), 1),
        lambda x: x.sin() - x.square() / 3,
        quadrature,
        particles=2,
    ),
    Case(
        "Bernoulli by logits, 3 particles of 2 variables",
        (_tensor([0.4, -1.2], [0.3, -0.3], [0.8, 1.5]),),
        lambda logits: Independent(Bernoulli(logits=logits, validate_args=False), 2),
        wave(0.8),
        support,
        particles=3,
    ),
    Case(
        "Categorical, batch of 2, sets of 2",
        (_tensor([0.4, -1.2, 0.3], [-0.3, 0.8, 1.5]),),
        lambda logits: Repeated(Categorical(logits=logits, validate_args=False), 2),
        lambda x: ((x + 1) * _tensor([0.4], [-0.9]).to(x.device)).sin(),
        enumerated,
        combine=lambda values: values.logsumexp(-1),
    ),
)

RARE = Case(
    "rare bits",
    (torch.full((4,), -6.25, dtype=torch.float64),),  # exact in half precision, as are the values of f
    lambda logits: Independent(Bernoulli(logits=logits, validate_args=False), 1),
    lambda x: x.sum(-1),
    support,
)
"""Bits of probability 0.0019. Noise in half precision would set only half as many of them."""
