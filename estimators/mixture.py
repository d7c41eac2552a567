"""Mixtures of normals whose samples are differentiable in weights, means and scales."""

import math
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from estimators._densities import logits
from estimators._draws import draw
from estimators._first_order import first_order
from estimators._laws import has_law, inner
from estimators._noise import normal
from estimators._refusals import UnsupportedFamily
from estimators._surrogate import grad_only
from estimators._transforms import no_derivatives
from estimators.distributions import Drawable


class ReparameterizedMixture(Drawable, MixtureSameFamily):
    """Mixture of normals with implicit reparameterization; a drop-in replacement for torch's ``MixtureSameFamily``.

    ``F_d(x) = sum_k w_k(x_1 ... x_{d-1}) Phi((x_d - loc_kd) / scale_kd)``
    ``dx_d = -(dF_d at fixed x_d) / q(x_d | x_1 ... x_{d-1})``,  for d = 1 ... D in turn

    Given the coordinates before d, F_d is the distribution function of coordinate d and w_k the weight of component k.
    dF_d is the change of F_d if the parameters change. The coordinates before d depend on the parameters, too, and dF_d
    includes their change. The derivative of a sample depends on the order of the coordinates; the mean of a gradient
    does not. Cost: D sequential steps of K operations, for D coordinates and K components.

    Args:
        mixture_distribution: Categorical over K components, batch shape ``[*batch]``.
        component_distribution: Normal, or Independent(Normal), of batch shape ``[*batch, K]``.
        validate_args: whether torch checks the arguments.

    Raises:
        UnsupportedFamily: the components are not independent normals.

    Reference: Figurnov, Mohamed & Mnih 2018, section 3 and appendix on mixtures; Graves 2016.
    """

    has_rsample: ClassVar[bool] = True  # type: ignore[misc]

    def __init__(
        self, mixture_distribution: Categorical, component_distribution: Distribution, validate_args: bool | None = None
    ) -> None:
        super().__init__(mixture_distribution, component_distribution, validate_args)
        if not has_law(type(inner(component_distribution)), Normal):
            raise UnsupportedFamily(
                "ReparameterizedMixture needs components that are Normal or Independent(Normal) (got "
                f"{type(inner(component_distribution)).__name__}). Use MixtureSameFamily with ScoreFunction or RLOO."
            )

    def _components(self) -> tuple[Tensor, Tensor]:
        """Return the means and scales of the components, ``[*batch, K, D]`` each."""
        base = inner(self.component_distribution)
        assert isinstance(base, Normal)
        shape = (*self.component_distribution.batch_shape, self.event_shape.numel())
        return base.loc.reshape(shape), base.scale.reshape(shape)

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples without a graph, ``[*sample_shape, *batch, *event]``.

        If ``generator`` is None, torch's global generator draws.
        """
        with no_derivatives():
            n = sample_shape.numel()
            loc, scale = (t.expand(n, *t.shape) for t in self._components())
            index = draw(self.mixture_distribution, n, generator)[..., None, None].expand(
                *loc.shape[:-2], 1, loc.shape[-1]
            )
            noise = normal(index.shape, loc, generator)
            x = loc.gather(-2, index) + noise * scale.gather(-2, index)
            return x.reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def rdraw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return samples, ``[*sample_shape, *batch, *event]``, differentiable once in all parameters.

        If ``generator`` is None, torch's global generator draws.
        """
        x = self.draw(sample_shape, generator)
        loc, scale = self._components()
        before = logits(self.mixture_distribution)  # logits of the components given the coordinates so far
        path = []
        columns = (x.reshape(*sample_shape, *self.batch_shape, loc.shape[-1]), loc, scale)
        for value, mean, sd in zip(*(t.unbind(-1) for t in columns), strict=True):
            weight, z = before.softmax(-1), (value.unsqueeze(-1) - mean) / sd
            with torch.no_grad():
                side = torch.where((weight * _below(z)).sum(-1, keepdim=True) < 0.5, 1.0, -1.0).to(z)
                density = (weight * _log_density(z, sd).exp()).sum(-1)
            below = (weight * side * _below(side * z)).sum(-1)  # F, or F - 1 in the upper half
            path.append(value - grad_only(below) / density)
            before = before + _log_density((path[-1].unsqueeze(-1) - mean) / sd, sd)
        return first_order(torch.stack(path, -1).reshape(x.shape), "ReparameterizedMixture")


def _below(z: Tensor) -> Tensor:
    return torch.erfc(-z * math.sqrt(0.5)) / 2  # torch's ndtr loses the tail in float32


def _log_density(z: Tensor, scale: Tensor) -> Tensor:
    return -z.square() / 2 - scale.log() - math.log(2 * math.pi) / 2
