import pytest
import torch
from torch import distributions as d

from estimators import Refusal, one, parameters, rows
from tests.problems import leaf as p
from tests.problems import t

R = 5


def square(*values):
    return torch.diag(t(*values)).requires_grad_()


# Every family of torch.distributions that draws, built with parameters that require gradients.
FAMILIES = {
    "Bernoulli, probs": lambda: d.Bernoulli(p(0.3, 0.6)),
    "Bernoulli, logits": lambda: d.Bernoulli(logits=p(0.3, -0.6)),
    "Beta": lambda: d.Beta(p(1.5, 2.0), p(0.7, 3.0)),
    "Binomial, probs": lambda: d.Binomial(7, p(0.3, 0.6)),
    "Binomial, logits": lambda: d.Binomial(7, logits=p(0.3, 0.6)),
    "Categorical, probs": lambda: d.Categorical(p([0.2, 0.8], [0.5, 0.5])),
    "Categorical, logits": lambda: d.Categorical(logits=p([0.2, 0.8], [0.5, 0.5])),
    "Cauchy": lambda: d.Cauchy(p(0.3, 0.6), p(1.0, 2.0)),
    "Chi2": lambda: d.Chi2(p(3.0, 5.0)),
    "ContinuousBernoulli": lambda: d.ContinuousBernoulli(p(0.3, 0.8)),
    "ContinuousBernoulli, logits": lambda: d.ContinuousBernoulli(logits=p(0.3, 0.8)),
    "Dirichlet": lambda: d.Dirichlet(p([1.5, 2.0, 0.7], [3.0, 1.0, 1.0])),
    "Exponential": lambda: d.Exponential(p(1.5, 2.0)),
    "FisherSnedecor": lambda: d.FisherSnedecor(p(3.0, 4.0), p(6.0, 5.0)),
    "Gamma": lambda: d.Gamma(p(1.5, 2.0), p(0.7, 3.0)),
    "Geometric": lambda: d.Geometric(p(0.3, 0.6)),
    "Geometric, logits": lambda: d.Geometric(logits=p(0.3, 0.6)),
    "Gumbel": lambda: d.Gumbel(p(0.3, 0.6), p(1.0, 2.0)),
    "HalfCauchy": lambda: d.HalfCauchy(p(0.3, 0.6)),
    "HalfNormal": lambda: d.HalfNormal(p(0.3, 0.6)),
    "InverseGamma": lambda: d.InverseGamma(p(1.5, 2.0), p(0.7, 3.0)),
    "Kumaraswamy": lambda: d.Kumaraswamy(p(1.5, 2.0), p(0.7, 3.0)),
    "LKJCholesky": lambda: d.LKJCholesky(3, p(1.5, 2.0)),
    "Laplace": lambda: d.Laplace(p(0.3, 0.6), p(1.0, 2.0)),
    "LogNormal": lambda: d.LogNormal(p(0.3, 0.6), p(1.0, 2.0)),
    "LogisticNormal": lambda: d.LogisticNormal(p(0.3, 0.6), p(1.0, 2.0)),
    "LowRankMultivariateNormal": lambda: d.LowRankMultivariateNormal(p(0.3, 0.6), p([1.0], [0.5]), p(1.0, 2.0)),
    "Multinomial": lambda: d.Multinomial(6, p(0.3, 0.6, 0.1)),
    "MultivariateNormal, covariance": lambda: d.MultivariateNormal(p(0.3, 0.6), covariance_matrix=square(1.0, 2.0)),
    "MultivariateNormal, precision": lambda: d.MultivariateNormal(p(0.3, 0.6), precision_matrix=square(1.0, 2.0)),
    "MultivariateNormal, scale": lambda: d.MultivariateNormal(p(0.3, 0.6), scale_tril=square(1.0, 2.0)),
    "NegativeBinomial": lambda: d.NegativeBinomial(t(7.0, 3.0), p(0.3, 0.6)),
    "NegativeBinomial, logits": lambda: d.NegativeBinomial(t(7.0, 3.0), logits=p(0.3, 0.6)),
    "Normal": lambda: d.Normal(p(0.3, 0.6), p(1.0, 2.0)),
    "OneHotCategorical, probs": lambda: d.OneHotCategorical(p([0.2, 0.8], [0.5, 0.5])),
    "OneHotCategorical, logits": lambda: d.OneHotCategorical(logits=p([0.2, 0.8], [0.5, 0.5])),
    "OneHotCategoricalStraightThrough": lambda: d.OneHotCategoricalStraightThrough(logits=p([0.2, 0.8], [0.5, 0.5])),
    "Pareto": lambda: d.Pareto(t(0.3, 0.6), p(1.0, 2.0)),
    "Poisson": lambda: d.Poisson(p(0.3, 0.6)),
    "RelaxedBernoulli": lambda: d.RelaxedBernoulli(t(0.7), logits=p(0.3, 0.6)),
    "RelaxedOneHotCategorical": lambda: d.RelaxedOneHotCategorical(t(0.7), logits=p([0.2, 0.8], [0.5, 0.5])),
    "StudentT": lambda: d.StudentT(p(5.0, 4.0), p(0.3, 0.6), p(1.0, 2.0)),
    "Uniform": lambda: d.Uniform(p(0.3, 0.6), p(1.0, 2.0)),
    "VonMises": lambda: d.VonMises(p(0.3, 0.6), p(1.0, 2.0)),
    "Weibull": lambda: d.Weibull(p(0.3, 0.6), p(1.0, 2.0)),
    "Wishart": lambda: d.Wishart(p(3.0).squeeze(), covariance_matrix=square(1.0, 2.0)),
    "Independent": lambda: d.Independent(d.Independent(d.Normal(p([0.3, 0.6]), p([1.0, 2.0])), 1), 1),
    "MixtureSameFamily": lambda: d.MixtureSameFamily(d.Categorical(logits=p(0.3, 0.6)), d.Normal(p(0.3, 2.0), p(1, 2))),
    "MixtureSameFamily, batch": lambda: d.MixtureSameFamily(
        d.Categorical(p([0.3, 0.7], [0.5, 0.5])), d.Gamma(p([1.5, 2.0], [3.0, 4.0]), p([0.7, 3.0], [1.0, 2.0]))
    ),
    "TransformedDistribution": lambda: d.TransformedDistribution(
        d.Normal(p(0.3, 0.6), p(1.0, 2.0)), [d.SigmoidTransform(), d.AffineTransform(1.0, 2.0)]
    ),
}


def test_the_list_is_complete():
    concrete = {
        name
        for name in d.__all__
        if isinstance(getattr(d, name), type)
        and issubclass(getattr(d, name), d.Distribution)
        and name not in ("Distribution", "ExponentialFamily")
    }
    missing = concrete - {type(build()).__name__ for build in FAMILIES.values()}
    assert missing <= {"GeneralizedPareto"}, missing  # newer than the oldest torch that is supported; see below


def test_generalized_pareto():
    if not hasattr(d, "GeneralizedPareto"):
        pytest.skip("this torch has none")
    check(
        d.GeneralizedPareto(*(p(0.3, 0.6).detach().float().requires_grad_() for _ in range(3)))
    )  # torch: float32 only


def check(q):
    own, r = parameters(q), rows(q, R)
    new = parameters(r)
    assert r.batch_shape == (R, *q.batch_shape)
    assert r.event_shape == q.event_shape
    assert list(new) == list(own)
    for name, value in own.items():
        leaf = new[name]
        assert leaf.requires_grad == value.requires_grad, name
        if value.requires_grad:
            assert leaf.is_leaf, name
            assert leaf.stride(0) == 0, name
            assert leaf.shape == (R, *value.shape), name
            assert torch.equal(leaf[0], value), name
    torch.manual_seed(0)
    x = q.sample((R,))
    torch.testing.assert_close(r.log_prob(x), q.log_prob(x), rtol=1e-12, atol=1e-12)
    trainable = [v for v in new.values() if v.requires_grad]
    assert trainable
    for gradient in torch.autograd.grad(r.log_prob(x).sum(), trainable):
        assert gradient.isfinite().all()


@pytest.mark.filterwarnings("ignore:Singular sample detected")  # torch's Wishart, of rounding
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_rows(name):
    check(FAMILIES[name]())


@pytest.mark.filterwarnings("ignore:Singular sample detected")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_rows_where_nothing_is_differentiated(monkeypatch, name):
    monkeypatch.setitem(globals(), "p", t)
    monkeypatch.setitem(globals(), "square", lambda *values: torch.diag(t(*values)))
    q = FAMILIES[name]()
    r = rows(q, R)
    assert r.batch_shape == (R, *q.batch_shape)
    assert r.sample().shape == (R, *q.batch_shape, *q.event_shape)
    assert not any(v.requires_grad for v in parameters(r).values())


@pytest.mark.parametrize(
    "name",
    [
        "Normal",
        "Bernoulli, logits",
        "OneHotCategorical, probs",
        "Gamma",
        "Weibull",
        "MultivariateNormal, covariance",
        "MultivariateNormal, precision",
        "MultivariateNormal, scale",
        "MixtureSameFamily, batch",
    ],
)
def test_the_gradient_of_a_row_is_the_gradient_of_a_single_call(name):
    q = FAMILIES[name]()
    torch.manual_seed(0)
    x = q.sample((R,))
    r = rows(q, R)
    all_rows = torch.autograd.grad(r.log_prob(x).sum(), list(parameters(r).values()))
    for k in range(R):
        single = rows(q, 1)
        alone = torch.autograd.grad(single.log_prob(x[k : k + 1]).sum(), list(parameters(single).values()))
        for a, b in zip(all_rows, alone, strict=True):
            torch.testing.assert_close(a[k], b[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["Normal", "Gamma", "MultivariateNormal, scale", "MixtureSameFamily"])
def test_gradients_of_rows_add_up_to_the_gradient_of_theta(name):
    """What a loop over plain calls leaves at theta, the rows leave in sum at their leaves."""
    q = FAMILIES[name]()
    torch.manual_seed(0)
    x = q.sample((R,))
    r = rows(q, R)
    at_rows = torch.autograd.grad(r.log_prob(x).sum(), list(parameters(r).values()))
    own = parameters(q)
    once = sum(q.log_prob(x[k]).sum() for k in range(R))
    reached = torch.autograd.grad(once, list(own.values()), allow_unused=True)
    compared = 0
    for a, b in zip(at_rows, reached, strict=True):
        if b is not None:
            torch.testing.assert_close(a.sum(0), b, rtol=1e-12, atol=1e-12)
            compared += 1
    assert compared


def test_rows_leave_q_alone():
    q = d.Bernoulli(logits=p(0.3, 0.6))
    before = dict(q.__dict__)
    rows(q, R)
    assert q.__dict__.keys() == before.keys()
    assert all(q.__dict__[k] is v for k, v in before.items())


@pytest.mark.parametrize("name", ["Independent", "OneHotCategorical, logits", "MixtureSameFamily"])
def test_rows_of_rows_have_leaves_of_their_own(name):
    q = d.Independent(rows(FAMILIES[name](), 3), 1)
    inner, r = parameters(q), rows(q, R)
    own = parameters(r)
    assert list(own) == list(inner)
    assert all(own[k].is_leaf and own[k].shape == (R, *inner[k].shape) for k in own)
    torch.manual_seed(0)
    gradients = torch.autograd.grad(r.log_prob(r.sample()).sum(), list(own.values()))
    assert all(g.count_nonzero() for g in gradients)


def test_rows_keep_frozen_parameters_frozen():
    r = rows(d.Normal(p(0.3), t(1.0)), R)
    assert [v.requires_grad for v in parameters(r).values()] == [True, False]


@pytest.mark.parametrize("name", ["probs", "logits"])
@pytest.mark.parametrize("family", [d.Bernoulli, d.Categorical, d.OneHotCategorical, d.Geometric])
def test_own_parameter_is_found_beside_a_cache(family, name):
    q = family(**{name: p(0.3, 0.7)})
    assert q.probs is not None
    assert q.logits is not None
    assert list(parameters(q)) == [name]
    r = rows(q, R)
    assert list(parameters(r)) == [name]
    other = {"probs": "logits", "logits": "probs"}[name]
    (gradient,) = torch.autograd.grad(getattr(r, other).sum(), list(parameters(r).values()))
    assert gradient.shape == (R, 2)  # the rows' cache is theirs, not q's


@pytest.mark.parametrize("name", ["covariance_matrix", "precision_matrix", "scale_tril"])
def test_own_parameter_of_a_multivariate_normal(name):
    q = d.MultivariateNormal(t(0.0, 0.0), **{name: square(1.0, 2.0)})
    for other in ("covariance_matrix", "precision_matrix", "scale_tril"):
        assert getattr(q, other) is not None
    assert list(parameters(q)) == ["loc", name]


def test_names_of_a_mixture():
    q = FAMILIES["MixtureSameFamily, batch"]()
    assert list(parameters(q)) == ["mixture_probs", "component_concentration", "component_rate"]


def test_trainable_transforms_are_refused():
    q = d.TransformedDistribution(d.Normal(t(0.0), t(1.0)), [d.AffineTransform(p(1.0), 2.0)])
    with pytest.raises(Refusal, match="whose transforms hold trainable tensors cannot be split into rows"):
        rows(q, R)


def test_a_family_that_hides_its_arguments_is_refused():
    class Hidden(d.Distribution):
        def __init__(self, level, hidden):
            self.level = level
            super().__init__(level.shape, validate_args=False)

    with pytest.raises(Refusal, match="Store every constructor argument under its own name"):
        rows(Hidden(p(1.0), 3.0), R)


def test_one_is_the_row_behind_a_view():
    x = t(1.0, 2.0)
    for shape, expected in (((7, 2), (1, 2)), ((2,), (2,)), ((1, 2), (1, 2)), ((3, 7, 2), (1, 7, 2))):
        view = x.expand(shape)
        assert one(view, d.Normal(view, 1.0)).shape == expected
        assert one(view, d.Independent(d.Normal(view, 1.0), len(shape))).shape == shape  # an event, not rows
    assert one(x[0], d.Normal(x[0], 1.0)).shape == ()


class Policy(d.Distribution):
    """Bits whose logits are a network's output at fixed inputs; its weights are a mapping, a list or a tensor."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, weights, scale=None, validate_args=None):
        self.weights, self.scale = weights, scale
        super().__init__(self.logits().shape[:-1], self.logits().shape[-1:], validate_args=validate_args)

    def logits(self):
        w = self.weights
        weight, bias = w if isinstance(w, list | tuple) else (w["net"]["weight"], w["bias"])
        return weight.sum(-2) * (1 if self.scale is None else self.scale) + bias

    def sample(self, sample_shape=()):
        return torch.bernoulli(self.logits().sigmoid().detach().expand(*sample_shape, *self.logits().shape))

    def log_prob(self, x):
        return d.Independent(d.Bernoulli(logits=self.logits()), 1).log_prob(x)


WEIGHTS = {
    "mapping": lambda a, b: {"net": {"weight": a, "names": "kept"}, "bias": b},
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_in_a_mapping_or_a_sequence_are_parameters_and_have_rows(kind):
    q = Policy(WEIGHTS[kind](p([0.3, -0.5], [0.7, 0.2]), p(0.1, 0.4)), scale=2)
    names = ["weights.net.weight", "weights.bias"] if kind == "mapping" else ["weights.0", "weights.1"]
    assert list(parameters(q)) == names
    check(q)
    r = rows(q, R)
    assert type(r.weights) is type(q.weights)
    assert r.scale == 2
    if kind == "mapping":
        assert r.weights["net"]["names"] == "kept"


def test_a_frozen_parameter_that_gives_the_batch_shape_gets_rows_too():
    class Framed(Policy):
        def __init__(self, weights, validate_args=None):
            self.weights, self.scale = weights, None
            d.Distribution.__init__(self, weights[0].shape[:-2], (2,), validate_args=validate_args)

    q = Framed([p([0.3, -0.5], [0.7, 0.2]).requires_grad_(False), p(0.1, 0.4)])
    check(q)
    weight, bias = parameters(rows(q, R)).values()
    assert (weight.requires_grad, bias.requires_grad) == (False, True)
    assert weight.shape == (R, 2, 2)


def test_a_class_with_a_constructor_of_its_own_keeps_its_law():
    class Lifted(Policy):
        def logits(self):
            return self.lift(super().logits())

        def lift(self, logits):
            return logits

    class Twice(Lifted):
        def __init__(self, weights, factor, validate_args=None):
            self.factor = factor
            super().__init__(weights, validate_args=validate_args)

        def lift(self, logits):
            return self.factor * logits

    class Even(Policy):
        def __init__(self, size):
            super().__init__([p([0.0] * size, [0.0] * size), p(*[0.0] * size)])

    q = Twice([p([0.3, -0.5], [0.7, 0.2]), p(0.1, 0.4)], 2.0)
    r = rows(q, R)
    assert type(r) is Twice
    torch.testing.assert_close(r.logits(), q.logits().expand(R, 2))
    assert rows(Even(2), R).batch_shape == (R,)


def test_a_q_whose_batch_shape_does_not_follow_its_parameters_has_no_rows():
    class Fixed(Policy):
        def __init__(self, weights, validate_args=None):
            self.weights, self.scale = weights, None
            d.Distribution.__init__(self, (), (2,), validate_args=validate_args)

        def log_prob(self, x):
            return super().log_prob(x)

    with pytest.raises(Refusal, match=r"its batch shape is \[\] \(expected \[5\]\)"):
        rows(Fixed([p([0.3, -0.5], [0.7, 0.2]), p(0.1, 0.4)]), R)
    frozen = torch.nn.Linear(2, 2)
    with pytest.raises(Refusal, match=r"no argument of its constructor .* dict\(network.named_parameters\(\)\)"):
        rows(Hidden(frozen), R)


class Hidden(Policy):
    def __init__(self, network, validate_args=None):
        self.network = network
        d.Distribution.__init__(self, (), (2,), validate_args=validate_args)

    def log_prob(self, x):
        return x.sum(-1)
