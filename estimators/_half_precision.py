"""Distributions in half precision compute in float32."""

import copy
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, TransformedDistribution

from estimators._laws import has_law, is_torchs, law
from estimators._parameters import made_anew, parameters
from estimators.distributions import Drawable

_HALF = frozenset((torch.float16, torch.bfloat16))


def _holds_no_half(q: Distribution) -> bool:
    """Return whether q is torch's own, and holds no tensor of half precision, nor does any distribution inside it."""
    if not is_torchs(type(q)):
        return False
    for value in q.__dict__.get("_rows", q.__dict__).values():
        if isinstance(value, Tensor):
            if value.dtype in _HALF:
                return False
        elif isinstance(value, Distribution) and not _holds_no_half(value):
            return False
    return True


def widened(q: Distribution) -> Distribution:
    """Return q with its half-precision parameters converted to float32; the originals stay in the graph.

    q itself is returned if no parameter has half precision. q is also returned if its class is neither torch's nor a
    ``Drawable``, because such a class computes in its own dtype.
    """
    if _holds_no_half(q):
        return q  # the way of most calls, without looking up names
    own = parameters(q)
    if _HALF.isdisjoint([value.dtype for value in own.values()]):
        return q
    if isinstance(q, Independent) and has_law(type(q), Independent):
        return Independent(widened(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(q, Drawable) and q.base_dist is not None:
        wide = copy.copy(q)
        wide.base_dist = widened(q.base_dist)
        return wide
    if isinstance(q, MixtureSameFamily):
        mixture = cast(Categorical, widened(q.mixture_distribution))
        return type(q)(mixture, widened(q.component_distribution), validate_args=False)
    family = law(type(q))
    if isinstance(q, TransformedDistribution) and family is TransformedDistribution:
        return TransformedDistribution(widened(q.base_dist), q.transforms, validate_args=False)
    if not is_torchs(family) and not issubclass(family, Drawable):
        return q
    return made_anew(q, {name: value.float() if value.dtype in _HALF else value for name, value in own.items()})
