"""Laws that hide: in the wrapper of a distribution, in its transforms, in the axes of an event."""

import pytest
import torch
from torch import nn
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Distribution,
    Exponential,
    Gamma,
    Independent,
    IndependentTransform,
    Normal,
    ReshapeTransform,
    StackTransform,
    TransformedDistribution,
    Uniform,
)

from estimators import (
    ARMS,
    RLOO,
    DisARM,
    MeasureValued,
    Refusal,
    Reparameterization,
    ScoreFunction,
    UnsupportedFamily,
)

ROWS = 20_000
FAR = 6.0
"""Standard errors; a mean of this many rows is farther from the right value with probability 2e-9."""


def leaf(value, *shape):
    return torch.full((ROWS, *shape), value, requires_grad=True)


def near(samples, expected):
    samples = samples.detach().double().flatten()
    assert abs(samples.mean() - expected) < FAR * samples.std() / len(samples) ** 0.5


class Shifted(Independent):
    """Every sample is moved by 1."""

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape) + 1

    def sample(self, sample_shape=()):
        return super().sample(sample_shape) + 1

    def log_prob(self, value):
        return super().log_prob(value - 1)


@pytest.mark.parametrize("estimator", [RLOO(n=4), ScoreFunction(), Reparameterization()], ids=repr)
def test_a_wrapper_with_its_own_law_is_drawn_and_scored_by_it(estimator):
    loc = leaf(0.3, 1)
    loss = estimator(lambda x: x.square().sum(-1), Shifted(Normal(loc, 0.5), 1))
    loss.sum().backward()
    near(loss, 1.3**2 + 0.25)
    near(loc.grad, 2.6)


@pytest.mark.parametrize("estimator", [DisARM(), ARMS(), MeasureValued()], ids=repr)
def test_closed_forms_refuse_a_wrapper_with_its_own_law(estimator):
    base = Normal(leaf(0.0, 1), 1.0) if isinstance(estimator, MeasureValued) else Bernoulli(logits=leaf(0.0, 1))
    with pytest.raises(UnsupportedFamily, match="Shifted"):
        estimator(lambda x: x.sum(-1), Shifted(base, 1))


class Holding(Distribution):
    """A normal whose scale is the weight of a network."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, loc, net):
        self.loc, self.net = loc, net
        super().__init__(loc.shape, validate_args=False)

    @property
    def inside(self):
        return Normal(self.loc, self.net.weight.exp().squeeze())

    def sample(self, sample_shape=()):
        return self.inside.sample(sample_shape)

    def log_prob(self, value):
        return self.inside.log_prob(value)


def test_the_optimal_baseline_refuses_trained_tensors_that_it_would_miss():
    optimal, loc = ScoreFunction(n=4, baseline="optimal"), leaf(0.3)
    affine = TransformedDistribution(Normal(torch.zeros(ROWS), torch.ones(ROWS)), [AffineTransform(loc, 0.8)])
    for q in (affine, Holding(loc, nn.Linear(1, 1))):
        with pytest.raises(Refusal, match=r"baseline='optimal' needs every trained tensor .* Use RLOO"):
            optimal(torch.square, q)
        with torch.no_grad():
            near(optimal(torch.square, q), 0.3**2 + q.sample((1000,)).var().item())
    assert optimal(torch.square, Gamma(leaf(1.0), 1.0)).requires_grad


@pytest.mark.parametrize("base", [Exponential, lambda rate: Uniform(torch.zeros_like(rate), rate)])
@pytest.mark.parametrize(
    "transforms",
    [
        lambda a: [AffineTransform(a, torch.ones(ROWS, 2), event_dim=1)],
        lambda a: [IndependentTransform(AffineTransform(a, 1.0), 1)],
        lambda a: [AffineTransform(a, 1.0), ReshapeTransform((2,), (1, 2))],
        lambda a: [StackTransform([AffineTransform(a[..., 0], 1.0), AffineTransform(0.0, 1.0)], dim=-1)],
    ],
)
def test_a_support_that_moves_along_event_axes_is_refused(base, transforms):
    loc = leaf(0.5, 1)
    q = TransformedDistribution(base(torch.ones(ROWS, 2)), transforms(loc))
    with pytest.raises(UnsupportedFamily, match="support of TransformedDistribution moves"):
        RLOO(n=4)(lambda x: x.square().flatten(2).sum(-1), q)
