"""Half precision, as ``torch.autocast`` hands it over: drawn from the law of q, called as the caller would call f."""

import pytest
import torch
from scipy.stats import chi2
from torch import distributions as d
from torch import nn

from estimators import (
    RLOO,
    VIMCO,
    Bound,
    DisARM,
    Drawable,
    Enumeration,
    GumbelSoftmax,
    Reparameterization,
    ScoreFunction,
    SelfCritical,
    StraightThroughGumbelSoftmax,
    Subset,
    catalogue,
    draw,
    parameters,
    rdraw,
)
from tests.problems import seeded
from tests.tolerances import FAILURE_RATE, z_limit

HALF = [torch.bfloat16, torch.float16]
CLASSES = 1000
DRAWS = 20 * CLASSES


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", [d.OneHotCategorical, d.Categorical])
@pytest.mark.parametrize("estimator", [RLOO(n=2), StraightThroughGumbelSoftmax(n=2), None], ids=repr)
def test_each_of_many_categories_is_as_frequent_as_it_is_probable(estimator, family, dtype):
    n = estimator.n if estimator else 2
    logits = torch.linspace(0, 0.5, CLASSES).to(dtype).expand(DRAWS // n, CLASSES).clone().requires_grad_()
    q = family(logits=logits)
    p = parameters(q)["logits"][0].detach().double().softmax(-1)
    seen = []
    if estimator is None:
        seen.append(draw(q, n, seeded(4)))
    elif estimator.refuses(family):
        pytest.skip("not served")
    else:
        estimator(lambda x: (seen.append(x.detach()), x.float().sum(-1) if x.dim() > 2 else x.float())[1], q, seeded(4))
    (x,) = seen
    assert x.dtype == (dtype if family is d.OneHotCategorical else torch.int64)
    index = x.argmax(-1) if family is d.OneHotCategorical else x
    counts = torch.bincount(index.flatten(), minlength=CLASSES).double()
    statistic = float(((counts - DRAWS * p).square() / (DRAWS * p)).sum())
    low, high = chi2.interval(1 - FAILURE_RATE / 10, CLASSES - 1)
    assert low < statistic < high


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("estimator", [e for e in (c() for c in catalogue().values()) if e.value_unbiased], ids=repr)
def test_rare_bits_are_as_frequent_as_they_are_probable(estimator, dtype):
    if estimator.needs_bound or estimator.refuses(d.Bernoulli):
        pytest.skip("not served")
    logits = torch.full((2**14, 4), -6.25, dtype=dtype, requires_grad=True)
    q = d.Independent(d.Bernoulli(logits=logits), 1)
    loss = estimator(lambda x: x.sum(-1), q, seeded(2), estimator.init(q, seeded()))
    p = 1 / (1 + torch.tensor(6.25, dtype=torch.float64).exp())
    error = (4 * p * (1 - p) / loss.numel()).sqrt()  # of one sample; others have less, or are exact
    assert (loss.detach().double().mean() - 4 * p).abs() < z_limit(60) * error
    (g,) = torch.autograd.grad(loss.sum(), logits)
    assert g.dtype == dtype
    assert g.isfinite().all()


FAMILIES = {
    "Poisson": lambda a: d.Poisson(a),
    "Geometric": lambda a: d.Geometric(logits=-a),
    "Binomial": lambda a: d.Binomial(7, logits=a),
    "NegativeBinomial": lambda a: d.NegativeBinomial(3.0, logits=-a),
    "Gamma": lambda a: d.Gamma(a, a),
    "Gumbel": lambda a: d.Gumbel(a, 1.0),
    "Uniform": lambda a: d.Uniform(-1 - 0 * a.detach(), a.detach()),
    "MultivariateNormal": lambda a: d.MultivariateNormal(a, scale_tril=torch.eye(2, dtype=a.dtype)),
    "RelaxedBernoulli": lambda a: d.RelaxedBernoulli(a.detach()[0, 0], logits=a),
    "tanh": lambda a: d.TransformedDistribution(d.Normal(a, 1.0), [d.TanhTransform(cache_size=1)]),
    "mixture": lambda a: d.MixtureSameFamily(d.Categorical(logits=a), d.Normal(a, 1.0)),
    "Subset": lambda a: Subset(a, 1),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", HALF)
def test_every_family_is_drawn_as_in_float32(name, dtype):
    """The values 0.625 and 1.75 are exact in half precision."""
    half, full = ((torch.tensor([0.625, 1.75]).repeat(50, 1)).to(t).requires_grad_() for t in (dtype, torch.float32))

    def drawn(a):
        q, seen = FAMILIES[name](a), []
        loss = RLOO(n=2)(lambda x: (seen.append(x), x.float().reshape(2, *q.batch_shape, -1).sum(-1))[1], q, seeded())
        if loss.requires_grad:
            assert torch.autograd.grad(loss.sum(), a)[0].isfinite().all()
        return seen[0]

    x, y = drawn(half), drawn(full)
    assert x.dtype == dtype
    if name not in ("RelaxedBernoulli", "mixture", "Subset"):  # their logits are rounded before they are normalised
        torch.testing.assert_close(x, y.to(dtype))
    assert torch.equal(draw(FAMILIES[name](half), 2, seeded()), x)


def test_paths_and_bounds_have_the_samples_of_float32():
    loc = torch.tensor([[0.5, -1.0, 0.25]], dtype=torch.bfloat16).repeat(6, 1).requires_grad_()
    q = d.Independent(d.Normal(loc, torch.ones_like(loc)), 1)
    wide = d.Independent(d.Normal(loc.float(), torch.ones_like(loc).float()), 1)
    for estimator in (Reparameterization(n=2), RLOO(), VIMCO()):
        losses = [
            estimator(Bound(lambda x: -(x.bfloat16().float() ** 2), each, particles=3), each, seeded())
            for each in (q, wide)
        ]
        assert torch.equal(*losses)
        (a,), (b,) = (torch.autograd.grad(loss.sum(), loc) for loss in losses)
        assert torch.equal(a, b)
    assert rdraw(q, 2, seeded()).dtype == torch.bfloat16


@pytest.mark.parametrize("estimator", [GumbelSoftmax(n=2), RLOO(), DisARM(), SelfCritical(), Enumeration()], ids=repr)
def test_under_autocast_only_f_is_computed_in_half_precision(estimator):
    torch.manual_seed(0)
    net, head = nn.Linear(3, 4), nn.Linear(4, 1)
    seen = []

    def f(x):
        y = head(x).squeeze(-1)
        seen.append((x, y.dtype))
        return y

    with torch.autocast("cpu", torch.bfloat16):
        logits = net(torch.ones(5, 3))
        assert logits.dtype == torch.bfloat16
        family = d.OneHotCategorical if estimator.refuses(d.OneHotCategorical) is None else d.Bernoulli
        q = family(logits=logits) if family is d.OneHotCategorical else d.Independent(family(logits=logits), 1)
        loss = estimator(f, q, seeded())
    assert loss.dtype == torch.float32
    assert seen[0][1] == torch.bfloat16
    assert seen[0][0].dtype == torch.bfloat16
    (-loss.mean()).backward()
    assert net.weight.grad.isfinite().all()


def test_relaxed_samples_of_float32_sum_to_one_under_autocast():
    logits = torch.randn(100, 7, generator=seeded(), requires_grad=True)
    seen = []
    with torch.autocast("cpu", torch.bfloat16):
        GumbelSoftmax(temperature=0.5)(
            lambda x: (seen.append(x), x[..., 0])[1], d.OneHotCategorical(logits=logits), seeded()
        )
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(1, 100), rtol=0, atol=1e-6)


def test_an_own_distribution_computes_in_its_own_dtype():
    class Own(d.Bernoulli):
        def sample(self, sample_shape=()):
            return torch.ones(self._extended_shape(sample_shape), dtype=self.logits.dtype)

    logits = torch.zeros(3, dtype=torch.bfloat16, requires_grad=True)
    assert ScoreFunction()(lambda x: x, Own(logits=logits)).eq(1).all()


def test_a_parameter_that_a_drawable_keeps_elsewhere_is_found():
    class Kept(Drawable):
        """Constants of the value loc, which is held in a list."""

        arg_constraints = {}  # noqa: RUF012

        def __init__(self, loc):
            self.held = [loc]
            super().__init__(loc.shape, validate_args=False)

        @property
        def loc(self):
            return self.held[0]

        def draw(self, sample_shape, generator):
            drawn_in.append(self.loc.dtype)
            return self.loc.expand(*sample_shape, *self.batch_shape)

    drawn_in = []
    assert draw(Kept(torch.ones(3, dtype=torch.bfloat16)), 2, None).dtype == torch.bfloat16
    assert drawn_in == [torch.float32]
