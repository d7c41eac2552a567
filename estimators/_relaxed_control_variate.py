"""A relaxation of x as a control variate: shared by REBAR and RELAX.

x is the discrete outcome of perturbed logits z. ``z' ~ p(z | x)`` is made from the noise of z, so that z' = z and only
their derivatives in the logits differ. One evaluation of the control variate c is then enough for both.
"""

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Bernoulli, Distribution

from estimators._axes import over_samples, spread
from estimators._densities import logits
from estimators._laws import inner
from estimators._noise import gumbel_from, uniform
from estimators._rows import one


def noisy_logits(q: Distribution, n: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Return uniforms u and perturbed logits z of n samples, both ``[n, *batch, *event]``.

    z are the logits of q, a Bernoulli or OneHotCategorical, plus logistic or Gumbel noise made from u.
    """
    own = one(logits(q).detach(), q).clamp_min(-1e4)  # an impossible category has -inf, and 0 times inf is NaN
    u = uniform(Size((n, *q.batch_shape, *q.event_shape)), own, generator)
    noise = u.logit() if isinstance(inner(q), Bernoulli) else gumbel_from(u)
    return u, noise.add_(own)


def path_difference(q: Distribution, p: Tensor, x: Tensor, u: Tensor, z: Tensor, slope: Tensor) -> Tensor:
    """Return ``grad c(z) - grad c(z')`` for each sample, ``[n, *batch, *event]``: gradients in q's normalised logits.

    c is the control variate. ``z' ~ p(z | x)`` equals z as a number, but has another derivative in the logits. The
    difference of the gradients is:

    ``slope (1 - p) / u``  for a bit x = 1
    ``slope p / (1 - u)``  for a bit x = 0
    ``w - p sum w``  for categories,  w_j = exp(z_j - max z) slope_j

    Args:
        q: a Bernoulli or OneHotCategorical distribution.
        p: the probabilities of q; they broadcast against x.
        x: the discrete outcomes of z, ``[n, *batch, *event]``.
        u: the uniforms that ``noisy_logits`` returned, of the shape of x.
        z: the perturbed logits that ``noisy_logits`` returned, of the shape of x.
        slope: dc/dz at z, of the shape of x.
    """
    if isinstance(inner(q), Bernoulli):
        other = torch.addcmul(p, x, 1 - 2 * p)  # 1 - p where x is 1, else p
        return other.div_((1 - x).sub_(u).abs_()).mul_(slope)
    w = slope * (z - z.amax(-1, keepdim=True)).exp()
    return w - p * w.sum(-1, keepdim=True)


def score_plus_path(weight: Tensor, score: Tensor, factor: Tensor | float, path: Tensor) -> Tensor:
    """Return ``sum_k (weight_k score_k + factor path_k)``, ``[*batch, *event]``, a sum over n samples.

    ``weight`` is ``[n, *batch]``; ``score`` and ``path`` are ``[n, *batch, *event]``, and ``path`` is overwritten.
    ``factor`` is a number or a scalar tensor.
    """
    return over_samples(path.mul_(factor).addcmul_(score, spread(weight, score)))
