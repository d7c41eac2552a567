"""Log-densities, probabilities and scores, in closed form and computed once for all rows that share their parameters.

Normal, Bernoulli, Categorical and OneHotCategorical, alone or under ``Independent``, have closed forms, and so has the
score of a Poisson. A ``Drawable`` brings its own. Every other distribution uses torch's methods, which are slower.
"""

import math

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Dirichlet,
    Distribution,
    Gamma,
    Independent,
    IndependentTransform,
    Normal,
    OneHotCategorical,
    Poisson,
    SigmoidTransform,
    StickBreakingTransform,
    Transform,
    TransformedDistribution,
)
from torch.nn.functional import binary_cross_entropy_with_logits

from estimators._axes import one_hot, over_event, over_samples, spread, weighted_sum
from estimators._laws import closed, has_law, inner, is_torchs, law
from estimators._parameters import parameters
from estimators._refusals import Refusal
from estimators._rows import is_trained, one
from estimators._supports import refuse_unseen
from estimators._surrogate import inject, inject_at, pull_through_sigmoid, with_derivative
from estimators._transforms import reusable, transformed
from estimators.distributions import Drawable


def logits(q: Distribution) -> Tensor:
    """Return the logits of a Bernoulli or categorical q, differentiable in q's parameters.

    The shape is ``[*batch, *event]`` for bits and one-hot vectors, ``[*batch, *event, C]`` for integers of C
    categories.
    """
    (name, value), *_ = parameters(q).items()
    if name == "logits":
        return value
    value = value.clamp(torch.finfo(value.dtype).tiny, 1 - torch.finfo(value.dtype).eps / 2)
    return value.logit() if isinstance(inner(q), Bernoulli) else value.log()


def row_probs(q: Distribution) -> Tensor:
    """Return the probabilities of a Bernoulli or categorical q, without a graph.

    The shape is ``[*batch, *event]`` for bits and one-hot vectors, ``[*batch, *event, C]`` for integers of C
    categories. If q is the result of ``rows``, its first batch axis holds copies of one distribution. The result then
    has length 1 along this axis. The logits of a categorical q must be normalised, as torch's constructors leave them.
    """
    (name, value), *_ = parameters(q).items()
    value = one(value.detach(), q)
    if name == "probs":
        return value
    return value.sigmoid() if isinstance(inner(q), Bernoulli) else value.exp()


def probs(q: Distribution) -> Tensor:
    """Return the probabilities of a Bernoulli or categorical q, differentiable in q's parameters.

    The shape is ``[*batch, *event]`` for bits and one-hot vectors, ``[*batch, *event, C]`` for integers of C
    categories.

    If a categorical q was made from logits, its attribute ``logits`` holds log p, because torch normalises them. The
    result p is then differentiated through log p, with the Jacobian ``diag(p)``. Its Jacobian in the given logits is
    ``diag(p) - p p^T``, as for a softmax.
    """
    (name, value), *_ = parameters(q).items()
    if name == "probs":
        return value
    p = row_probs(q).expand_as(value)
    if not torch.is_grad_enabled():
        return p
    return with_derivative(value, p, pull_through_sigmoid if isinstance(inner(q), Bernoulli) else torch.mul)


def log_prob(q: Distribution, x: Tensor) -> Tensor:
    """Return log q(x), ``[..., *batch]``, differentiable in q's parameters and in x.

    If q is one-hot or Bernoulli, x may lie off the support, because log q is extended linearly in x. torch's
    ``log_prob`` looks up the largest entry of a one-hot x, and so has steps in x. If q is a Normal, the terms of log q
    that do not contain x are computed once for all samples.

    Args:
        q: the distribution, batch shape ``[*batch]``.
        x: points, ``[..., *batch, *event]``.

    Raises:
        Refusal: q has transforms with tensors that require gradients, and log q(x) is not finite, because x was rounded
            to an end of q's support.
    """
    base = closed(inner(q))
    if isinstance(base, OneHotCategorical):
        finite = logits(q).clamp_min(torch.finfo(x.dtype).min)  # 0 times an infinite logit is NaN
        return over_event((x * finite).sum(-1), len(q.event_shape) - 1)
    if isinstance(base, Normal):
        event, z = len(q.event_shape), (x - base.loc) / base.scale
        constant = over_event(base.scale.log() + math.log(2 * math.pi) / 2, event)
        return over_event(z.square(), event) / -2 - constant
    if isinstance(base, Bernoulli):  # torch's own may refuse an x off the support
        own, bits = torch.broadcast_tensors(base.logits, x)  # type: ignore[no-untyped-call]
        return over_event(-binary_cross_entropy_with_logits(own, bits, reduction="none"), len(q.event_shape))
    if has_law(type(inner(q)), Poisson):
        rate, x = torch.broadcast_tensors(parameters(q)["rate"], x)  # type: ignore[no-untyped-call]
        counted = x.xlogy(torch.where(x > 0, rate, 1))  # torch's own has the derivative 0/0 at a rate of 0
        return over_event(counted - rate - (x + 1).lgamma(), len(q.event_shape))
    base = inner(q)
    if not isinstance(base, TransformedDistribution) or not is_trained(base.transforms):
        return q.log_prob(x)
    log_q = q.log_prob(x if x.requires_grad else x.detach())  # a new tensor is not in the transforms' caches
    _refuse_rounded(base, ~log_q.isfinite())
    return log_q


def mass(q: Distribution, x: Tensor) -> Tensor:
    """Return the probability q(x) of states x, ``[n, *batch]``, differentiable in q's parameters.

    A state is a joint value of q's variables, or a sequence of tokens. The result is exact even if a Bernoulli or
    categorical q has probabilities of 0 or 1. torch's ``log_prob`` clamps such probabilities, so they get no gradient.

    Args:
        q: a Bernoulli or categorical distribution, or a ``Drawable``, which has its own ``log_prob``.
        x: states, ``[n, *batch, *event]``.
    """
    if isinstance(inner(q), Drawable):
        return q.log_prob(x).exp()
    p = probs(q)
    match inner(q):
        case Bernoulli():
            each = torch.where(x > 0, p, 1 - p)
        case OneHotCategorical():
            each = (x * p).sum(-1)
        case _:
            each = p.expand(*x.shape, p.shape[-1]).gather(-1, x.unsqueeze(-1)).squeeze(-1)
    axes = 1 + len(q.batch_shape)
    return each.reshape(*each.shape[:axes], each.shape[axes:].numel()).prod(-1)


def state_score(q: Distribution, x: Tensor, weight: Tensor, log_q: Tensor, estimator: object = None) -> Tensor:
    """Return zeros, ``[*batch]``, whose gradient is ``sum_k weight_k grad log q(x_k)``, also if q(x_k) is 0.

    A state is a joint value of q's variables, or a sequence of tokens. Some states are impossible if q was made from
    probabilities of which some are 0 or 1. Then q(x) is 0 and log q(x) is infinite, but q(x) still has a derivative in
    the probabilities. The sum is finite because every weight contains the factor q(x_k):

    ``weight grad log q = (weight / q) grad q``

    Args:
        q: a Bernoulli or categorical distribution, or a ``TokenSequence``, batch shape ``[*batch]``.
        x: states, ``[n, *batch, *event]``.
        weight: ``[n, *batch]``; each weight is a product with the factor q(x_k).
        log_q: the logarithm of the factor q(x_k), ``[n, *batch]``.
        estimator: the caller; the message that refuses a second derivative names it.
    """
    if "probs" not in parameters(q):
        return score(q, x, weight, estimator)
    ratio, target = weight / log_q.exp(), mass(q, x)
    return inject_at(q.batch_shape, [(ratio.to(target).movedim(0, -1), target.movedim(0, -1))], estimator)


def score(q: Distribution, x: Tensor, weight: Tensor, estimator: object = None) -> Tensor:
    """Return zeros, ``[*batch]``, whose gradient in q's parameters is ``sum_k weight_k * grad log q(x_k)``.

    The parameters are the tensors from which q was made. If the zeros are added to a value, the sum has this gradient.

    Args:
        q: the distribution, batch shape ``[*batch]``.
        x: samples, ``[n, *batch, *event]``; no gradient flows into them.
        weight: ``[n, *batch]``, such as (f(x_k) - baseline) / n. The weight may carry a graph to a learned state.
        estimator: the caller; the message that refuses a second derivative names it.

    Raises:
        ValueError: the shape of ``weight`` is not ``[n, *batch]``.
    """
    if weight.shape != (expected := (*x.shape[:1], *q.batch_shape)):
        raise ValueError(f"score got a weight of shape {list(weight.shape)}. Use one of shape {list(expected)}.")
    if closed(base := inner(q)) is None:
        q, x = untransformed(q, x)
        if closed(base := inner(q)) is None:
            return _open_score(q, x, weight, estimator)
    x = x.detach()
    w = spread(weight, x)
    match base:
        case Normal() as normal:
            return inject(q, estimator, **_normal_score(normal, x, w))
        case Bernoulli():
            p = row_probs(q)
            residual = over_samples((x - p).mul_(w))
            if "logits" in parameters(q):
                return inject(q, estimator, logits=residual)
            return inject(q, estimator, probs=residual / (p * (1 - p)).clamp_min(torch.finfo(p.dtype).tiny))
        case _:
            count = weighted_sum(w, x) if isinstance(base, OneHotCategorical) else _weighted_count(q, x, weight)
            if "logits" in parameters(q):
                return inject(q, estimator, logits=count)  # q's logits are normalised: log q(x) = x . logits
            return inject(q, estimator, probs=count / row_probs(q).clamp_min(torch.finfo(count.dtype).tiny))


def _open_score(q: Distribution, x: Tensor, weight: Tensor, estimator: object) -> Tensor:
    """Return what ``score`` returns, for a q without a closed form; x has no graph."""
    base = inner(q)
    refuse_unseen(q)
    if not is_torchs(type(base)) and isinstance(base, Drawable) and (own := base.score(x, weight)) is not None:
        return inject(q, estimator, **own)
    if has_law(type(base), Poisson):
        w, rate = spread(weight, x), one(parameters(q)["rate"].detach(), q)
        each = (w * x).div_(rate.clamp_min(torch.finfo(rate.dtype).tiny)).sub_(w)  # a rate of 0 gives counts of 0
        return inject(q, estimator, rate=over_samples(each))
    if has_law(type(base), Beta, Dirichlet, Gamma) and _has_smallest(x):
        _refuse_rounded(base, x <= torch.finfo(x.dtype).tiny, FEW)
    return inject_at(q.batch_shape, [(weight.movedim(0, -1), log_prob(q, x).movedim(0, -1))], estimator)


def _has_smallest(x: Tensor) -> bool:
    """Return whether a sample of a Gamma, Beta or Dirichlet is as small as torch makes one."""
    return not (transformed() or x.is_meta) and x.numel() > 0 and x.min().item() <= torch.finfo(x.dtype).tiny


def untransformed(q: Distribution, x: Tensor) -> tuple[Distribution, Tensor]:
    """Return a distribution p and a detached point y; the score of p at y equals the score of q at x.

    The score is the gradient of the log-density in the parameters. p is q without its last transforms, as far as they
    hold no tensor that requires a gradient. y is the point that the transforms left out map to x. If q has no such
    transforms, p is q and y is x. Some transforms cache the y from which they made x. A cached y is exact even if x was
    rounded, as tanh of a large number is rounded to 1.

    Raises:
        Refusal: y is lost, because x was rounded to an end of q's support and no cache holds y.
    """
    base = inner(q)
    if not isinstance(base, TransformedDistribution) or type(base).log_prob is not TransformedDistribution.log_prob:
        return q, x.detach()
    left = list(base.transforms)
    if is_trained(left) and law(type(base)) is not TransformedDistribution:  # q's parameters are in its transforms
        return q, x.detach()
    while left and not is_trained(left[-1:]):  # below a trained transform, no point is fixed, though a cache says so
        last = left.pop()
        _refuse_rounded(base, _clamped(last, x), FEW)
        x = last.inv(x)
    if len(left) == len(base.transforms) > 0:
        return q, x.detach()
    _refuse_rounded(base, ~x.isfinite())
    below = TransformedDistribution(base.base_dist, left, validate_args=False) if left else base.base_dist
    axes = len(below.batch_shape) - len(q.batch_shape)
    return untransformed(Independent(below, axes, validate_args=False) if axes else below, x)


FEW, RARE = 8, 1e-3
"""Number and share of samples that torch may clamp at an end of q's support: so few hardly bias the score."""


def _clamped(transform: Transform, x: Tensor) -> Tensor | None:
    """Return where torch's inverse of a transform is clamped at x, which the transform has not in its cache."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    clamps = isinstance(transform, SigmoidTransform | StickBreakingTransform)
    if not clamps or (transform._cache_size and transform._cached_x_y[1] is x):
        return None
    limits = torch.finfo(x.dtype)
    if isinstance(transform, SigmoidTransform):
        return (x <= limits.tiny) | (x >= 1 - limits.eps)
    parts = x[..., :-1]
    return (parts <= limits.tiny) | (1 - parts.cumsum(-1) < 4 * limits.eps)


def _refuse_rounded(base: Distribution, where: Tensor | None, few: int = 0) -> None:
    """Raise ``Refusal`` if samples were rounded, so that their scores are lost; under torch.func nobody knows.

    Up to ``few`` samples, or a share of ``RARE``, are let pass: torch clamps them, and their scores are finite.
    """
    if where is None or transformed() or where.is_meta:
        return
    count = int(where.sum())
    if count > few and (not few or count > RARE * where.numel()):
        cache = "transforms with a cache, such as TanhTransform(cache_size=1), "
        raise Refusal(
            f"{count} of {where.numel()} samples of {type(base).__name__} were rounded to an end of its support, where "
            "the score is lost. Use "
            f"{cache if type(base) is TransformedDistribution else ''}a q in float64, or Reparameterization."
        )


def _normal_score(base: Normal, x: Tensor, w: Tensor) -> dict[str, Tensor]:
    """Return the weighted score of a Normal by parameter, in as few passes over the data as possible.

    ``loc: sum_k w_k (x_k - loc) / scale^2``
    ``scale: sum_k w_k ((x_k - loc)^2 / scale^2 - 1) / scale``
    """
    inverse, off = one(base.scale.detach(), base).reciprocal(), x - base.loc.detach()
    weighted = (w * off).mul_(inverse.square())
    free = None if w.requires_grad else reusable(off)  # a graph keeps it for its backward
    square = torch.addcmul(w, weighted, off, value=-1, out=free)
    return {"loc": over_samples(weighted), "scale": over_samples(square).mul_(-inverse)}


def _weighted_count(q: Distribution, x: Tensor, weight: Tensor) -> Tensor:
    """Return ``sum_k weight_k onehot(x_k)``, ``[*batch, *event, C]``, for integer categories x."""
    (value,) = parameters(q).values()
    hot = one_hot(x, value.shape[-1], weight.dtype)
    return (spread(weight, hot) * hot).sum(0)
