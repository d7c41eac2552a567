"""What estimators ask of a distribution: draws with an explicit generator, closed-form scores, one row at a time.

Normal, Bernoulli, Categorical and OneHotCategorical, alone or under ``Independent``, have closed forms, computed on the
one row behind a stride-0 view. A ``Drawable`` brings its own; every other distribution goes through torch, slower, with
the global generator forked and seeded from the given one.

All draws have shape ``[n, *batch, *event]``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, OneHotCategorical
from torch.nn import functional

from estimators._refusals import UnsupportedFamily, one_value_each
from estimators._rows import one, parameters
from estimators._surrogate import inject, inject_at
from estimators.distributions import Drawable


def inner(q: Distribution) -> Distribution:
    """Return q without its ``Independent`` wrappers."""
    while isinstance(q, Independent):
        q = q.base_dist
    return q


# Noise ------------------------------------------------------------------------------------------------------------


def uniform(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return uniforms of the open interval (0, 1), in the dtype and on the device of ``like``.

    torch draws multiples of 2^-24 (float32) or 2^-53 from [0, 1); half a step is added, so that logarithms are finite.
    """
    u = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    step = torch.finfo(like.dtype).eps / 2
    return u.add_(step / 2).clamp_(max=1 - step)


def normal(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return standard normals, in the dtype and on the device of ``like``."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def gumbel(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return standard Gumbels ``-log(-log u)``, all finite."""
    return uniform(shape, like, generator).log_().neg_().log_().neg_()


def logistic(shape: Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Return standard logistics ``logit u``, all finite."""
    return uniform(shape, like, generator).logit_()


@contextlib.contextmanager
def _torch_seeded(generator: Generator | None, device: torch.device) -> Iterator[None]:
    """Let torch draw from its global generator, seeded by ``generator`` and restored afterwards."""
    if generator is None:
        yield
        return
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []), torch.cuda.device(device if cuda else -1):
        seeded = torch.cuda.manual_seed if cuda else torch.default_generator.manual_seed  # torch.manual_seed seeds all
        seeded(int(seed))
        yield


def _device(q: Distribution) -> torch.device:
    return next(iter(parameters(q).values())).device


# Draws ------------------------------------------------------------------------------------------------------------


def draw(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return n samples of q, ``[n, *batch, *event]``, without a graph."""
    base, shape = inner(q), Size((n, *q.batch_shape, *q.event_shape))
    match base:
        case Drawable():
            with torch.no_grad():
                return base.draw(Size((n,)), generator)
        case Normal():
            return normal(shape, base.loc, generator).mul_(base.scale.detach()).add_(base.loc.detach())
        case Bernoulli():
            p = row_probs(q)
            half_step = torch.finfo(p.dtype).eps / 4  # torch.rand draws multiples of two of them: p is rounded
            u = torch.rand(shape, generator=generator, dtype=p.dtype, device=p.device)
            return torch.lt(u, p - half_step, out=u)
        case OneHotCategorical():
            return _one_hot(q, shape[:-1], generator)
        case Categorical():
            return _index(q, shape, generator)
        case _:
            with torch.no_grad(), _torch_seeded(generator, _device(q)):
                return q.sample(Size((n,)))


def _index(q: Distribution, shape: Size, generator: Generator | None) -> Tensor:
    """Return category numbers by inverse transform, one uniform each."""
    bounds = _bounds(q)
    return (uniform(shape, bounds, generator).unsqueeze(-1) >= bounds).sum(-1)


def _one_hot(q: Distribution, shape: Size, generator: Generator | None) -> Tensor:
    """Return the same as one-hot vectors: the category that begins at or below the uniform and ends above it."""
    bounds = _bounds(q)
    begins, ends = functional.pad(bounds, (1, 0)), functional.pad(bounds, (0, 1), value=math.inf)
    u = uniform(shape, begins, generator).unsqueeze(-1).expand(*shape, begins.shape[-1]).contiguous()
    open_yet = torch.lt(u, ends, out=torch.empty_like(u))
    return torch.ge(u, begins, out=u).mul_(open_yet)


def _bounds(q: Distribution) -> Tensor:
    """Return the distribution function of a categorical q at all categories but the last."""
    cdf = row_probs(q).cumsum(-1)
    return cdf[..., :-1] / cdf[..., -1:]


def rdraw(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return n samples of q, ``[n, *batch, *event]``, differentiable in q's parameters.

    Raises:
        UnsupportedFamily: q has no such sampler.
    """
    base = inner(q)
    if not q.has_rsample:
        raise UnsupportedFamily(f"{type(base).__name__} has no reparameterized sampler. Use ScoreFunction or RLOO.")
    match base:
        case Drawable():
            return base.rdraw(Size((n,)), generator)
        case Normal():
            noise = normal(Size((n, *q.batch_shape, *q.event_shape)), base.loc, generator)
            if n == 1:  # without its axis: autograd would add up gradients over it, a pass that changes nothing
                return (noise.squeeze(0) * base.scale).add_(base.loc).unsqueeze(0)
            return (noise * base.scale).add_(base.loc)
        case _:
            with _torch_seeded(generator, _device(q)):
                return q.rsample(Size((n,)))


# Densities --------------------------------------------------------------------------------------------------------


SHORT = 64
"""Categories below which torch's softmax, made for long rows, takes several times as long on a CPU as its formula."""


def over_categories(x: Tensor) -> Tensor:
    """Return the sum over the last axis, which stays with length 1; of few categories by a matrix product.

    torch's sum over a short axis takes several times as long on a CPU.
    """
    short = x.shape[-1] < SHORT and not x.is_cuda
    return (x @ x.new_ones(x.shape[-1])).unsqueeze(-1) if short else x.sum(-1, keepdim=True)


def totals(x: Tensor) -> Tensor:
    """Return the sum over the last axis at every place of it, a tensor like x.

    torch multiplies by a short axis of stride 0 more slowly than it copies and multiplies.
    """
    return over_categories(x).expand_as(x).contiguous()


def _softmax(x: Tensor, out: Tensor | None) -> Tensor:
    if x.is_cuda or x.shape[-1] >= SHORT:
        return x.softmax(-1)
    low, high = x.aminmax()
    safe = math.log(torch.finfo(x.dtype).max / SHORT) - 1  # between -safe and safe exponentials have finite sums, not 0
    e = torch.exp(x if low > -safe and high < safe else x - x.amax(-1, keepdim=True), out=out)
    return e.div_(over_categories(e))


Pull = Callable[[Tensor, Tensor], Tensor]
"""What a source gets of a cotangent, given the value that was made of it."""


class _Known(torch.autograd.Function):
    """A known value with a known derivative: ``pull(cotangent, value)`` is what its source gets.

    The pull is made of the value, whose derivative is thereby known too: derivatives of any order are right.
    """

    @staticmethod
    def forward(ctx: Any, _source: Tensor, value: Tensor, pull: Pull) -> Tensor:
        out = value.view_as(value)
        ctx.save_for_backward(out)
        ctx.set_materialize_grads(False)  # what gets no gradient hands none on, rather than zeros
        ctx.pull = pull
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, None, None]:
        (g,) = cotangents
        return None if g is None else ctx.pull(g, *ctx.saved_tensors), None, None


def _known(source: Tensor, value: Tensor, pull: Pull) -> Tensor:
    out: Tensor = _Known.apply(source, value, pull)  # type: ignore[no-untyped-call]
    return out


_through_sigmoid: Pull = torch.ops.aten.sigmoid_backward


def _through_softmax(g: Tensor, y: Tensor) -> Tensor:
    """Return ``(diag(y) - y y^T) g``."""
    weighted = y * g
    return weighted.addcmul_(totals(weighted), y, value=-1)


def logits(q: Distribution) -> Tensor:
    """Return the logits of a Bernoulli or categorical q, ``[*batch, ...]``, attached to its parameters."""
    (name, value), *_ = parameters(q).items()
    if name == "logits":
        return value
    value = value.clamp(torch.finfo(value.dtype).tiny, 1 - torch.finfo(value.dtype).eps / 2)
    return value.logit() if isinstance(inner(q), Bernoulli) else value.log()


def row_probs(q: Distribution) -> Tensor:
    """Return the probabilities of a Bernoulli or categorical q, without a graph; of stride-0 rows those of the one row.

    The logits of a categorical q are normalised, as torch's constructors do.
    """
    (name, value), *_ = parameters(q).items()
    value = one(value.detach())
    if name == "probs":
        return value
    return value.sigmoid() if isinstance(inner(q), Bernoulli) else value.exp()


def probs(q: Distribution) -> Tensor:
    """Return the probabilities of a Bernoulli or categorical q, attached to its parameters.

    Of categories they are ``exp(logits)``, whose Jacobian is ``diag(p)``: the pull-back through the normalisation of
    the logits takes the rest of the softmax's, ``p p^T``, away.
    """
    (name, value), *_ = parameters(q).items()
    if name == "probs":
        return value
    p = row_probs(q).expand_as(value)
    if not torch.is_grad_enabled():
        return p
    return _known(value, p, _through_sigmoid if isinstance(inner(q), Bernoulli) else torch.mul)


def log_prob(q: Distribution, x: Tensor) -> Tensor:
    """Return log q(x), ``[..., *batch]``, attached to q's parameters and to x.

    One-hot x may lie off the support: log q is linear in x, as it is for bits. (torch looks up the largest entry of x,
    which is a step.) Of a Normal, what does not depend on x is computed once for all samples.
    """
    base = inner(q)
    if isinstance(base, OneHotCategorical):
        finite = logits(q).clamp_min(torch.finfo(x.dtype).min)  # 0 times the infinite logit of a category that is not x
        return _over_event((x * finite).sum(-1), len(q.event_shape) - 1)
    if type(base) is Normal:
        event, z = len(q.event_shape), (x - base.loc) / base.scale
        constant = _over_event(base.scale.log() + math.log(2 * math.pi) / 2, event)
        return _over_event(z.square(), event) / -2 - constant
    return q.log_prob(x)


def _over_event(each: Tensor, dims: int) -> Tensor:
    """Return the sum over so many axes on the right."""
    return each.sum(tuple(range(-dims, 0))) if dims else each


def mass(q: Distribution, x: Tensor) -> Tensor:
    """Return q(x) of a Bernoulli or categorical q, ``[n, *batch]``, attached to its parameters; right at 0 and 1 too.

    (torch's ``log_prob`` moves probabilities of 0 and 1 inwards, and has no gradient there.)
    """
    p = probs(q)
    match inner(q):
        case Bernoulli():
            each = torch.where(x > 0, p, 1 - p)
        case OneHotCategorical():
            each = (x * p).sum(-1)
        case _:
            each = p.expand(*x.shape, p.shape[-1]).gather(-1, x.unsqueeze(-1)).squeeze(-1)
    return each.reshape(*each.shape[: 1 + len(q.batch_shape)], -1).prod(-1)


def score(q: Distribution, x: Tensor, weight: Tensor) -> Tensor:
    """Return a surrogate of value 0 whose gradient is ``sum_k weight_k * grad log q(x_k)`` at q's own parameters.

    Args:
        q: the distribution, batch shape ``[*batch]``.
        x: samples, ``[n, *batch, *event]``; no gradient flows into them.
        weight: ``[n, *batch]``; it may carry a graph to a learned state.

    Returns:
        Zeros of shape ``[*batch]``.

    Raises:
        Refusal: the weights are not one per sample and batch element, because f did not sum over the event axes.
    """
    base, x = inner(q), x.detach()
    one_value_each(weight, x, q.batch_shape)
    if isinstance(base, Drawable) and (closed := base.score(x, weight)) is not None:
        return inject(q, **closed)
    spread = weight.reshape(weight.shape + (1,) * (x.dim() - weight.dim()))
    match base:
        case Normal():
            inverse, off = one(base.scale.detach()).reciprocal(), x - base.loc.detach()
            weighted = (spread * off).mul_(inverse.square())  # w (x - loc) / scale^2
            free = None if spread.requires_grad else off  # a graph keeps it for its backward
            square = torch.addcmul(spread, weighted, off, value=-1, out=free)
            scale = over_samples(square).mul_(-inverse)  # w ((x - loc)^2 / scale^2 - 1) / scale
            return inject(q, loc=over_samples(weighted), scale=scale)
        case Bernoulli():
            p = row_probs(q)
            residual = over_samples((x - p).mul_(spread))
            if "logits" in parameters(q):
                return inject(q, logits=residual)
            return inject(q, probs=residual / (p * (1 - p)).clamp_min(torch.finfo(p.dtype).tiny))
        case OneHotCategorical() | Categorical():
            count = weighted_sum(spread, x) if isinstance(base, OneHotCategorical) else _weighted_count(q, x, weight)
            if "logits" in parameters(q):
                return inject(q, logits=count)  # q's logits are normalised: log q(x) = x . logits
            return inject(q, probs=count / row_probs(q).clamp_min(torch.finfo(count.dtype).tiny))
        case _:
            return inject_at(q.batch_shape, [(weight.movedim(0, -1), q.log_prob(x).movedim(0, -1))])


def over_samples(x: Tensor) -> Tensor:
    """Return the sum over the first axis; of one sample it is the sample, without a pass over the data."""
    return x.squeeze(0) if x.shape[0] == 1 else x.sum(0)


FEW = 8
"""Samples up to which they are added up one after the other, without making all products at once."""


def weighted_sum(weight: Tensor, x: Tensor) -> Tensor:
    """Return ``sum_k weight_k x_k`` over the first axis."""
    if len(x) > FEW:
        return (weight * x).sum(0)
    (w, first), *others = zip(weight.unbind(), x.unbind(), strict=True)
    total = w * first
    for w, each in others:
        total.addcmul_(w, each)
    return total


def average(x: Tensor) -> Tensor:
    """Return the mean over the first axis; of one sample it is the sample, without a pass over the data."""
    return x.squeeze(0) if x.shape[0] == 1 else x.mean(0)


def share(x: Tensor) -> Tensor:
    """Return x divided by the length of its first axis; of one sample it is x, without a pass over the data."""
    return x if x.shape[0] == 1 else x / x.shape[0]


def _weighted_count(q: Distribution, x: Tensor, weight: Tensor) -> Tensor:
    """Return ``sum_k weight_k onehot(x_k)``, ``[*batch, *event, C]``, for integer categories x."""
    (value,) = parameters(q).values()
    hot = functional.one_hot(x.long(), value.shape[-1]).to(weight.dtype)
    return (weight.reshape(weight.shape + (1,) * (hot.dim() - weight.dim())) * hot).sum(0)


# Relaxations ------------------------------------------------------------------------------------------------------


def perturbed(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return logits plus logistic (Bernoulli) or Gumbel (categorical) noise, ``[n, *batch, *event]``. No graph."""
    noise = logistic if isinstance(inner(q), Bernoulli) else gumbel
    own = logits(q).detach()
    return noise(Size((n, *q.batch_shape, *q.event_shape)), own, generator).add_(one(own))


def squash(q: Distribution, z: Tensor, temperature: Tensor | float) -> Tensor:
    """Return the relaxed sample of logits z: the sigmoid, or the softmax, of ``z / temperature``; attached to both."""
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        z, temperature = z / temperature, 1.0
    row, own = one(z.detach()), _is_one(temperature)
    scaled = row if own else row / temperature
    return _known(z, _link(q, scaled, None if own else scaled).expand_as(z), _pull(q, temperature))


def relaxed(q: Distribution, z: Tensor, temperature: float) -> Tensor:
    """Return the same of ``z = perturbed(q, n, generator)``, attached to q's logits; z may be overwritten."""
    scaled, pull = z if _is_one(temperature) else z.div_(temperature), _pull(q, temperature)
    return _known(logits(q), _link(q, scaled, scaled), lambda g, y: over_samples(pull(g, y)))


def race(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return ``relaxed(q, perturbed(q, n, generator), 1)`` of a categorical q, by fewer logarithms and no exponential.

    A Gumbel is ``-log E``, E a standard exponential, so that the softmax is ``(p / E) / sum(p / E)``. No sum overflows
    and none is 0, as those of p are 1.
    """
    p = row_probs(q)
    u = uniform(Size((n, *q.batch_shape, *q.event_shape)), p, generator)
    rates = torch.div(p.neg(), u.log_(), out=u)
    value = rates.div_(over_categories(rates))
    return _known(logits(q), value, lambda g, y: over_samples(_through_softmax(g, y)))


def _is_one(temperature: Tensor | float) -> bool:
    return isinstance(temperature, int | float) and temperature == 1  # whether a tensor is, a GPU would have to say


def _link(q: Distribution, z: Tensor, out: Tensor | None) -> Tensor:
    return torch.sigmoid(z, out=out) if isinstance(inner(q), Bernoulli) else _softmax(z, out)


def _pull(q: Distribution, temperature: Tensor | float) -> Pull:
    """Return how a cotangent goes through the relaxation at a temperature."""
    through = _through_sigmoid if isinstance(inner(q), Bernoulli) else _through_softmax
    return through if _is_one(temperature) else lambda g, y: through(g, y).div_(temperature)


def harden(q: Distribution, z: Tensor) -> Tensor:
    """Return the discrete outcome of perturbed logits z: z > 0, or the one-hot argmax. No gradient."""
    if isinstance(inner(q), Bernoulli):
        return torch.gt(z.detach(), 0, out=torch.empty_like(z))
    return z.new_zeros(z.shape).scatter_(-1, z.argmax(-1, keepdim=True), 1.0)
