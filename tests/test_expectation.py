"""Your own expectation: what is derived from two functions and a point."""

import copy
import itertools
import math
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)
from torch.utils.data import DataLoader, TensorDataset

from bench import Expectation, measure
from bench.measurement.engine import exact_gradient
from bench.measurement.objective_checks import CHECKS, Fault, check_own
from bench.objectives import BernoulliQuadratic
from bench.planning.cells import Cell
from bench.training.settings import Training
from bench.training.trainee import Trainee
from estimators import (
    RLOO,
    Drawable,
    Enumeration,
    Layers,
    Nested,
    Refusal,
    Reparameterization,
    Return,
    StraightThrough,
    draw,
    parameters,
)

FAILURE_RATE = 1e-6
LOGITS = torch.tensor([0.3, -0.5, 0.2])


def bits(theta):
    return Independent(Bernoulli(logits=theta["logits"]), 1)


def quadratic(x):
    return (x - 0.45).square().sum(-1)


def small(**changed):
    return Expectation(**{"q": bits, "f": quadratic, "theta": {"logits": LOGITS}} | changed)


def network(*sizes):
    torch.manual_seed(0)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def facts(e):
    return e.family, e.dim, e.has_exact, e.differentiable, e.relaxable


def test_a_closed_form_is_met():
    e = small()
    p = LOGITS.double().sigmoid()
    value, gradient = exact_gradient(e, e.build())
    assert facts(e) == (Bernoulli, 3, True, True, True)
    assert value == pytest.approx((p * 0.55**2 + (1 - p) * 0.45**2).sum().item(), rel=1e-12)
    torch.testing.assert_close(torch.as_tensor(gradient), p * (1 - p) * (0.55**2 - 0.45**2))
    mean = measure(Enumeration(), e).mean["logits"]
    torch.testing.assert_close(mean, torch.as_tensor(gradient), rtol=1e-5, atol=1e-8)


def test_figures_are_those_of_the_catalogues_objective():
    theirs = BernoulliQuadratic(dim=3, target=0.45)
    point = {"logits": theirs.build().theta["logits"].detach()}
    mine = small(theta=point)
    assert exact_gradient(mine, mine.build())[0] == pytest.approx(exact_gradient(theirs, theirs.build())[0], rel=1e-12)
    ratio = measure(RLOO(n=4), mine, seed=1).variance / measure(RLOO(n=4), theirs, seed=2).variance
    assert ratio == pytest.approx(1, abs=0.2)


def test_a_module_is_copied_and_its_unused_parameters_are_left_out():
    net = nn.ModuleDict({"q": network(4, 8, 3), "other": nn.Linear(2, 2)})
    before, data = copy.deepcopy(net.state_dict()), torch.randn(16, 4)
    e = Expectation(
        lambda n: Independent(Bernoulli(logits=n["q"](data)), 1), lambda x: quadratic(x) * data.mean(-1), net
    )
    assert set(e.build().theta) == {f"q.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert facts(e)[:3] == (Bernoulli, 3, True)
    measured = measure(RLOO(n=4), e, replicates=256)
    assert measured.exact is not None
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


LAYERS = {
    "linear": lambda: nn.Linear(4, 3),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(6, 3)),
    "embedding": lambda: nn.Sequential(Tokens(), nn.Embedding(4, 3)),
    "gru": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.GRU(2, 3, batch_first=True), Last()),
    "lstm": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.LSTM(2, 3, batch_first=True), Last()),
    "attention": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), Attention(), nn.Flatten(), nn.Linear(4, 3)),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "batch norm in eval": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval(),
    "dropout in eval": lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).eval(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_is_pulled_back_for_all_replicates_at_once(layer, dtype):
    """The sum over states, pulled back through the layers by replicate, is the gradient of the exact value."""
    torch.manual_seed(0)
    net, data = LAYERS[layer](), torch.randn(5, 4)
    before = copy.deepcopy(net.state_dict())
    e = Expectation(lambda n: OneHotCategorical(logits=n(data)), lambda x: (x * data[:, :3]).sum(-1), net)
    problem = e.build(dtype)
    assert problem.q(problem.theta).logits.dtype == dtype
    mean = measure(Enumeration(), e, replicates=3, dtype=str(dtype).removeprefix("torch.")).mean
    exact = torch.as_tensor(exact_gradient(e, problem)[1])
    tolerance = 1e3 * torch.finfo(dtype).eps * exact.abs().max().item()
    torch.testing.assert_close(torch.cat([t.flatten() for t in mean.values()]), exact, rtol=0, atol=tolerance)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


class Tokens(nn.Module):
    def forward(self, x):
        return (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


class Last(nn.Module):
    def forward(self, found):
        return found[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(self, x):
        return self.inside(x, x, x)[0]


def test_an_embedding_gets_whole_numbers():
    tokens, net = torch.tensor([0, 2, 1]), nn.Embedding(3, 4)
    e = Expectation(lambda n: Categorical(logits=n(tokens)), lambda x: (x == tokens).float(), net)
    assert facts(e) == (Categorical, 1, True, False, False)


def test_the_exact_value_follows_other_parameters_of_a_module():
    net, data = network(4, 2), torch.randn(6, 4)
    e = Expectation(lambda n: Bernoulli(logits=n(data).sum(-1)), lambda x: x, net)
    problem = e.build(torch.float64)
    moved = {name: (t.detach() + 1).requires_grad_() for name, t in problem.theta.items()}
    other = copy.deepcopy(net).double()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    expected = other(data.double()).sum(-1).sigmoid().mean()
    torch.testing.assert_close(problem.exact(moved), expected)


def test_large_and_continuous_problems_get_a_reference():
    wide = small(theta={"logits": torch.zeros(40)})
    assert (wide.has_exact, wide.reference_estimator) == (False, RLOO(n=8))
    mean = Expectation(lambda t: Normal(t["m"], 1.0), torch.cos, {"m": torch.zeros(2)})
    assert (mean.has_exact, mean.reference_estimator) == (False, Reparameterization(n=8))
    step = Expectation(lambda t: Normal(t["m"], 1.0), lambda x: (x > 0).double(), {"m": torch.zeros(2)})
    assert (step.differentiable, step.reference_estimator) == (False, RLOO(n=8))


def test_an_exact_value_that_is_given_is_used():
    e = Expectation(
        lambda t: Normal(t["m"], 1.0), torch.square, {"m": torch.ones(2)}, exact=lambda t: (t["m"] ** 2 + 1).mean()
    )
    value, gradient = exact_gradient(e, e.build())
    assert (value, gradient.tolist()) == (2, [1, 1])


@pytest.mark.parametrize(
    ("f", "differentiable", "relaxable"),
    [
        (quadratic, True, True),
        (lambda x: (x > 0.5).to(x.dtype).sum(-1), False, False),
        (lambda x: x.sum(-1).detach(), False, False),
        (lambda x: (x * 0).sum(-1), False, True),
        (lambda x: (x.round() - x.detach() + x).sum(-1), False, True),
        (lambda x: torch.where((x == 0) | (x == 1), x, math.nan).sum(-1), True, False),
        (lambda x: x.detach().sum(-1).numpy(), False, False),
    ],
)
def test_facts_about_f_are_tried_out(f, differentiable, relaxable):
    found = small(f=f)
    assert (found.differentiable, found.relaxable) == (differentiable, relaxable)


def test_a_gradient_that_a_finite_difference_contradicts_does_not_count():
    def straight_through(x):
        return ((x > 0).to(x.dtype) - x.detach() + x).sum(-1)

    e = Expectation(lambda t: Independent(Normal(t["m"], 1.0), 1), straight_through, {"m": torch.zeros(3)})
    assert not e.differentiable
    with pytest.raises(Refusal, match="needs df/dx"):
        measure(Reparameterization(), e)


def test_f_that_fails_on_the_axes_on_the_left_is_mapped():
    labels, weights = torch.tensor([0, 1, 1]), torch.randn(3, 4)

    def cross_entropy(x):
        return nn.functional.cross_entropy(weights[x], labels, reduction="none")

    e = Expectation(lambda t: Categorical(logits=t["logits"]), cross_entropy, {"logits": torch.zeros(3, 3)})
    table = torch.stack([cross_entropy(torch.full((3,), k)) for k in range(3)], -1).double()
    value, _ = exact_gradient(e, e.build())
    assert value == pytest.approx(table.mean().item(), rel=1e-6)


def test_f_that_mixes_the_samples_is_mapped():
    with pytest.warns(UserWarning, match="f mixes its samples, so it is called for each sample alone"):
        e = small(f=lambda x: quadratic(x) - quadratic(x).mean() * 0.5)
    one = exact_gradient(e, e.build())[0]
    assert one == pytest.approx(exact_gradient(small(), small().build())[0] / 2, rel=1e-6)


def test_f_that_cannot_be_mapped_at_once_is_called_for_each_sample_with_a_warning():
    def picky(x):
        return quadratic(x) if x.tolist()[0] > 0.5 else 0 * quadratic(x)

    with pytest.warns(UserWarning, match="called for each sample alone: 10,000 samples take about"):
        e = small(f=picky)
    p = LOGITS.double().sigmoid()
    rest = (p * 0.55**2 + (1 - p) * 0.45**2)[1:].sum()
    assert exact_gradient(e, e.build())[0] == pytest.approx((p[0] * (0.55**2 + rest)).item(), rel=1e-6)


def test_theta_in_f_is_warned_of():
    net, inputs = network(4, 3), torch.randn(5, 4)
    with pytest.warns(UserWarning, match=r"f uses 0\.weight, 0\.bias, which is in theta, and not only through q"):
        e = Expectation(
            lambda n: Independent(Bernoulli(logits=n(inputs)), 1), lambda x: x.sum(-1) + net(inputs).sum(-1), net
        )
    assert e.shared == ("0.weight", "0.bias")
    assert "note f uses 0.weight, 0.bias of theta too" in repr(measure(RLOO(), e, replicates=64))
    assert all(p.grad is None for p in net.parameters())
    for point in (LOGITS, LOGITS.clone().requires_grad_()):
        with pytest.warns(UserWarning, match="f uses logits, which is in theta"):
            small(theta={"logits": point}, f=lambda x, point=point: quadratic(x) * (1 + point.sum()))


def test_a_trunk_that_extra_holds_too_is_warned_of():
    net, inputs = nn.ModuleDict({"trunk": nn.Linear(4, 3), "head": nn.Linear(3, 3)}), torch.randn(5, 4)
    with pytest.warns(UserWarning, match=r"f uses trunk\.weight, trunk\.bias, which is in theta"):
        e = Expectation(
            lambda n: Independent(Bernoulli(logits=n["trunk"](inputs)), 1),
            lambda x, n: (x * n["head"](n["trunk"](inputs))).sum(-1),
            net,
            extra=net,
        )
    assert e.shared == ("trunk.weight", "trunk.bias")
    assert small().shared == ()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_f_that_computes_in_float32_is_exact_up_to_rounding(dtype):
    head = network(3, 2)
    for f in (lambda x: (x.float() - 0.45).square().sum(-1), lambda x: head(x.float()).square().sum(-1)):
        e = small(f=f)
        check_own(e, CHECKS)
        assert (e.exact_error, e.differentiable) == (0.0, True)
        assert measure(Enumeration(), e, replicates=64, dtype=dtype).verdict == "EXACT"


@pytest.mark.parametrize(
    ("f", "reference"),
    [
        (lambda x: (x * (1 + (x[..., :1] > 0))).square().sum(-1), RLOO(n=8)),
        (lambda x: x.square().sum(-1) + 4 * (x.sum(-1) > 0), RLOO(n=8)),
        (lambda x: x.relu().sum(-1), Reparameterization(n=8)),
        (lambda x: (3 * x).cos().sum(-1).exp(), Reparameterization(n=8)),
        (lambda x: x.square().square().sum(-1) + 1e6, Reparameterization(n=8)),
    ],
)
def test_where_f_jumps_the_reference_needs_no_gradient_of_f(f, reference):
    e = Expectation(lambda t: Independent(Normal(t["m"], 1.0), 1), f, {"m": torch.zeros(3)})
    assert (e.differentiable, e.reference_estimator) == (True, reference)
    if reference == RLOO(n=8):
        assert measure(RLOO(n=4), e, replicates=2_000).verdict != "BIASED"
        assert measure(Reparameterization(), e, replicates=2_000).verdict.endswith("BIASED")


def test_an_f_that_mixes_batch_elements_as_batch_norm_does_is_named():
    norm = nn.BatchNorm1d(3)
    with pytest.warns(UserWarning, match="f fails on the axes on the left .* called for each sample alone"):
        e = Expectation(
            lambda t: Independent(Normal(t["m"], 1.0), 1), lambda x: norm(x).square().sum(-1), {"m": torch.zeros(4, 3)}
        )
    with pytest.raises(Fault, match="f of one batch element depends on the samples of other batch elements"):
        measure(RLOO(), e)


def test_an_f_that_fails_on_more_axes_keeps_its_gradient():
    labels = torch.tensor([0, 1, 2, 0])
    e = Expectation(
        lambda t: Independent(Normal(t["m"], 1.0), 1),
        lambda x: nn.functional.cross_entropy(x, labels, reduction="none"),
        {"m": torch.zeros(4, 3)},
    )
    problem, x = e.build(torch.float64), torch.randn(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    fx = problem.integrand(problem.q(problem.theta))(x)
    expected = x.logsumexp(-1) - x.gather(-1, labels.expand(2, 5, 4).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(fx, expected)
    (one,), (other,) = (torch.autograd.grad(each.sum(), x) for each in (fx, expected))
    torch.testing.assert_close(one, other)
    assert measure(Reparameterization(), e, replicates=64).verdict != "BIASED"


def test_black_boxes_in_numpy_are_served():
    e = small(f=lambda x: np.square(x.numpy() - 0.45).sum(-1))
    assert (e.differentiable, e.relaxable) == (False, False)
    assert exact_gradient(e, e.build())[0] == pytest.approx(exact_gradient(small(), small().build())[0], rel=1e-6)
    assert measure(RLOO(n=4), e, replicates=256).verdict != "BIASED"


def test_a_bound_and_its_particles():
    def log_joint(z):
        return Normal(0.0, 1.0).log_prob(z).sum(-1) - (z - 1).square().sum(-1)

    def q(theta):
        return Independent(Normal(theta["m"], theta["s"].exp()), 1)

    point = {"m": torch.zeros(5, 2), "s": torch.zeros(5, 2)}
    e = Expectation(q, theta=point, log_joint=log_joint)
    assert (e.bound, e.differentiable, e.reference_estimator) == (True, True, Reparameterization(n=8))

    def particles(theta):
        return Independent(Normal(theta["m"].unsqueeze(-2).expand(5, 3, 2), theta["s"].exp().unsqueeze(-2)), 2)

    several = Expectation(particles, theta=point, log_joint=log_joint, particles=3)
    assert measure(RLOO(n=2), several, replicates=256).cell.objective.particles == 3


def test_extra_is_trained_with_theta_and_yours_stays():
    torch.manual_seed(0)
    encoder, decoder, images = nn.Linear(6, 2), nn.Linear(2, 6), torch.randn(8, 6)
    before = copy.deepcopy(decoder.state_dict())

    def q(net, rows):
        return Independent(Normal(net(rows), 1.0), 1)

    def log_joint(z, net, rows):
        return -(net(z) - rows).square().sum(-1) - z.square().sum(-1) / 2

    e = Expectation(q, theta=encoder, log_joint=log_joint, extra=decoder, data=images, batch_size=4)
    trainee = Trainee(Cell(Reparameterization(), e), Training(steps=5, seeds=1, replicates=0, rate=0.1), seed=0)
    trained = trainee.problem.extra
    assert set(trained) == {"weight", "bias"}
    trainee.train(lambda *_: None)
    assert not torch.equal(trained["weight"], before["weight"])
    assert all(torch.equal(before[name], t) for name, t in decoder.state_dict().items())
    with pytest.raises(
        ValueError, match=r"log_joint fails on .*\. log_joint is called with x, and then 1 tensor of data\.$"
    ):
        Expectation(q, theta=encoder, log_joint=log_joint, data=images)


def test_another_seed_is_another_order_of_the_data():
    e = Expectation(lambda t, rows: Normal(t["m"] + rows, 1.0), lambda x, rows: x * rows, {"m": torch.zeros(1)},
                    data=torch.arange(8.0), batch_size=2)  # fmt: skip
    firsts = {seed: e.restarted(seed).build().minibatch(0).q({"m": torch.zeros(1)}).loc.tolist() for seed in range(6)}
    assert len({str(batch) for batch in firsts.values()}) > 1
    assert e.restarted(0) is e


def test_data_are_given_in_batches_and_training_draws_minibatches():
    data, labels, net = torch.randn(10, 4), torch.arange(10), network(4, 3)
    seen = []

    def q(module, rows, _):
        return Independent(Bernoulli(logits=module(rows)), 1)

    def f(x, rows, numbers):
        seen.append(numbers.tolist())
        return quadratic(x) * rows.mean(-1)

    e = Expectation(q, f, net, data=(data, labels), batch_size=4)
    assert e.build().q(e.build().theta).batch_shape == (4,)
    seen.clear()
    trainee = Trainee(Cell(RLOO(n=2), e), Training(steps=1, seeds=1, replicates=0), seed=0)
    problems = [trainee.problem.minibatch(i) for i in range(4)]
    assert all(problem.theta[k] is t for problem in problems for k, t in trainee.problem.theta.items())
    for problem in problems:
        problem.integrand(problem.q(problem.theta))(torch.zeros(4, 3))
    first, second = ([row for batch in seen[at : at + 2] for row in batch] for at in (0, 2))
    assert len(set(first)) == len(set(second)) == 8
    assert first != second


def test_every_check_of_an_objective_passes():
    for e in (small(), small(theta={"logits": torch.zeros(40)})):
        check_own(e, CHECKS)


def test_identity_follows_functions_and_what_they_close_over():
    def with_target(target):
        return small(f=lambda x: (x - target).square().sum(-1))

    def cell(e):
        return Cell(RLOO(), e).id

    assert cell(with_target(0.45)) == cell(with_target(0.45)) != cell(with_target(0.4))
    assert cell(with_target(torch.ones(3))) != cell(with_target(torch.zeros(3)))
    assert cell(small()) != cell(small(theta={"logits": LOGITS + 1}))
    assert cell(small()) != cell(small(f=lambda x: x.sum(-1)))
    assert cell(small()) == cell(small())
    assert cell(small(f=Centred(0.4))) == cell(small(f=Centred(0.4))) != cell(small(f=Centred(0.5)))
    assert cell(small(f=lambda x: helped(x))) == cell(small(f=lambda x: helped(x)))


class Centred:
    def __init__(self, centre):
        self.centre = centre

    def __call__(self, x):
        return (x - self.centre).square().sum(-1)


def helped(x):
    return quadratic(x)


WRONG = [
    ({"q": 3}, "q must be a function (got an int)"),
    ({"f": None}, "takes either f or log_joint (got neither)"),
    ({"log_joint": quadratic}, "takes either f or log_joint (got both)"),
    ({"theta": None}, "theta must be a module or a dict of named tensors"),
    ({"theta": {}}, "(got an empty dict)"),
    ({"theta": torch.nn.LazyLinear(3)}, "theta has parameters without a shape (weight, bias). Call the lazy module"),
    ({"theta": {"logits": LOGITS.numpy()}}, "(got a dict of ndarray)"),
    ({"f": None, "log_joint": quadratic, "particles": True}, "particles must be a whole number from 1 (got True)"),
    ({"exact": 1.5}, "exact must be a function (got a float)"),
    ({"particles": 4}, "particles belong to a bound: give log_joint in place of f (got particles=4)"),
    ({"f": lambda x: x.sum(-1) * 1j}, "f returned complex numbers"),
    ({"theta": {"logits": torch.ones(3, dtype=torch.int64)}}, "theta['logits'] must hold floating-point numbers"),
    ({"theta": {"logits": LOGITS, "spare": LOGITS}}, "q does not depend on theta['spare']"),
    ({"q": lambda t: Bernoulli(logits=t["logits"].detach())}, "q does not depend on theta"),
    ({"q": lambda t: t["logits"]}, "q must return a torch distribution (got a Tensor)"),
    (
        {"q": lambda t: Bernoulli(logits=t["logit"])},
        "q fails: KeyError: 'logit'. q is called with theta, a dict with the key 'logits'",
    ),
    (
        {"q": lambda t: Bernoulli(logits=t(1))},
        "'dict' object is not callable. q is called with theta, a dict with the key"
        " 'logits' (a module, if theta is one).",
    ),
    (
        {"q": lambda t: Bernoulli(logits=t["w"]), "theta": network(2, 3)},
        "q is called with theta, a copy of your Sequential.",
    ),
    ({"q": lambda t: (bits(t), bits(t))}, "q must return a torch distribution (got a tuple of Independent)"),
    (
        {"extra": [LOGITS]},
        "extra must be a module or a dict of named tensors, as in extra={'logits': torch.zeros(3)} "
        "(got a list of Tensor)",
    ),
    ({"name": "a\n"}, "name must be printable text (got 'a\\n')"),
    ({"f": lambda x: x}, "f returned shape [3, 2, 3] for samples of shape [3, 2, 3]: expected [3, 2]"),
    ({"f": lambda x: x.nonsense()}, "f fails on samples of shape [3, 2, 3]: AttributeError"),
    ({"f": lambda x: None}, "f returned None"),
    ({"data": (torch.ones(3), torch.ones(4))}, "data must hold tensors of equally many rows (got 3 rows, 4 rows)"),
    ({"data": torch.tensor(3.0)}, "data must hold tensors of equally many rows (got one number)"),
    ({"data": [[1.0], [2.0]]}, "data must be a tensor, an array, or a tuple of them (got a list of list)"),
    (
        {"data": DataLoader([1, 2])},
        "(got a DataLoader). Give the tensors that a loader loads, as in data=(inputs, labels)",
    ),
    ({"batch_size": 2}, "batch_size is the number of rows of data in a batch: give data (got batch_size=2)"),
    ({"data": torch.ones(3, 1), "batch_size": 4}, "batch_size must be a whole number from 1 to 3"),
    ({"theta": nn.ReLU()}, "has no parameter that requires gradients"),
]


@pytest.mark.parametrize(("changed", "says"), WRONG)
def test_a_wrong_argument_is_named(changed, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        small(**changed)


def changes_by_numpy(x):
    x.numpy()[...] = 0
    return x.sum(-1)


@pytest.mark.parametrize("change", [lambda x: x.mul_(2).sum(-1), lambda x: x.data.mul_(2).sum(-1), changes_by_numpy])
def test_an_f_that_changes_its_argument_is_refused(change):
    for name, q in (("f", bits), ("log_joint", lambda t: Independent(Normal(t["logits"], 1.0), 1))):
        given = {"f": None, "log_joint": change} if name == "log_joint" else {"f": change}
        with pytest.raises(
            ValueError, match=rf"^{name} must not change its argument x\. Work on a copy, such as x\.clone"
        ):
            small(q=q, **given)


MISFITS = {
    "a forgotten Independent": ({"q": lambda t: Bernoulli(logits=t["logits"])}, "use Independent(q, 1)."),
    "a mean over the batch": (
        {"f": lambda x: quadratic(x).mean()},
        "and sum over the event axes only.",
    ),
    "no sum": ({"f": lambda x: x}, "Sum over the event axes."),
    "a last axis": ({"f": lambda x: x.sum(-1, keepdim=True)}, "Squeeze the last axis."),
}


@pytest.mark.parametrize("way", MISFITS)
def test_a_wrong_shape_gets_the_advice_that_estimators_give(way):
    (changed, advice), batch = MISFITS[way], [5, 3] if way == "a forgotten Independent" else [5]
    copies = f"These are 3 samples of 2 copies of q, whose batch shape is {batch}."
    f = changed.get("f", quadratic)
    for name, given in (("f", {"f": f}), ("log_joint", {"f": None, "log_joint": f})):
        with pytest.raises(ValueError, match="returned shape") as refusal:
            small(**{"theta": {"logits": LOGITS.expand(5, 3)}} | changed | given)
        assert str(refusal.value).startswith(f"{name} returned shape [")
        assert str(refusal.value).endswith(f"{advice} {copies}")


def test_a_loss_of_torch_without_reduction_is_named():
    labels, classify = torch.arange(5) % 3, nn.Linear(3, 3)
    theta = {"logits": torch.zeros(5, 3)}
    advice = (
        r"For one sample it returned shape \[\]: expected \[5\]\. Keep the batch: losses of torch need reduction='none'"
    )
    with pytest.raises(ValueError, match=rf"^f fails on .*match target batch_size \(5\)\. {advice}"):
        small(f=lambda x: nn.functional.cross_entropy(classify(x), labels), theta=theta)
    e = small(f=lambda x: nn.functional.cross_entropy(classify(x), labels, reduction="none"), theta=theta)
    assert measure(RLOO(n=2), e, replicates=64).verdict != "BIASED"


def test_data_may_be_arrays_or_a_tensor_dataset():
    rows, numbers = torch.randn(6, 3, dtype=torch.float64), torch.arange(6)
    made = [
        Expectation(lambda t, x, _: Independent(Bernoulli(logits=t["w"] * x), 1), lambda b, x, _: (b * x).sum(-1),
                    {"w": torch.ones(3)}, data=data, batch_size=4)
        for data in ((rows, numbers), [rows.numpy(), numbers.numpy()], TensorDataset(rows, numbers))
    ]  # fmt: skip
    values = [exact_gradient(e, e.build())[0] for e in made]
    assert values[0] == values[1] == values[2]


def test_a_one_hot_variable_is_one_coordinate():
    def hot(theta):
        return Independent(OneHotCategorical(logits=theta["logits"]), 1)

    assert small(q=hot, f=lambda x: x[..., 0].sum(-1), theta={"logits": torch.zeros(2, 4, 3)}).dim == 4
    assert small(q=hot, f=lambda x: x[..., 0].sum(-1), theta={"logits": torch.zeros(4, 3)}).dim == 4


def test_dropout_is_named():
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"q differs between two calls .* Call net\.eval\(\)"):
        Expectation(lambda n: Bernoulli(logits=n(torch.ones(4))), lambda x: x, net)


def test_nothing_is_warned_of_without_a_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(StraightThrough(), small(), replicates=64)


def test_other_families_are_recognised():
    e = Expectation(lambda t: Gamma(t["a"].exp(), 1.0), torch.log, {"a": torch.zeros(3)})
    assert facts(e) == (Gamma, 1, False, True, True)


def test_float32_tensors_that_functions_close_over_meet_float64():
    data, weights = torch.randn(5, 4), torch.randn(3)
    e = Expectation(
        lambda t: Independent(Bernoulli(logits=data @ t["w"]), 1), lambda x: x @ weights, {"w": torch.zeros(4, 3)}
    )
    value, _ = exact_gradient(e, e.build())
    assert value == pytest.approx(weights.sum().item() / 2, rel=1e-6)


@pytest.mark.parametrize("part", ["mean", "scale"])
def test_a_distribution_whose_tensors_meet_only_in_its_samples_is_converted(part):
    if part == "mean":
        q, theta = lambda t: MultivariateNormal(t["m"], torch.eye(3)), {"m": torch.zeros(3)}
    else:
        q, theta = lambda t: MultivariateNormal(torch.zeros(3), scale_tril=t["L"].tril()), {"L": torch.eye(3)}
    problem = Expectation(q, lambda x: x.square().sum(-1), theta)
    for dtype in (torch.float32, torch.float64):
        built = problem.build(dtype)
        assert draw(built.q(built.theta), 2, torch.Generator().manual_seed(0)).dtype == dtype
    assert measure(Reparameterization(n=2), problem, replicates=200, dtype="float64").status != "DEGENERATE"


# Several choices in a row ---------------------------------------------------------------------------------------------


def ahead(x):
    return (x * x.cumsum(-1)).flip(-1)


def test_costs_serve_downstream_credit_and_one_that_looks_ahead_is_found():
    f = Return(lambda x: x * x.cumsum(-1))
    e = Expectation(bits, f, theta={"logits": LOGITS})
    assert (e.costs, e.has_exact, e.layer_families) == (True, True, ())
    assert measure(RLOO(credit="downstream"), e, replicates=256).verdict != "BIASED"
    with pytest.raises(Fault, match=r"cost 0 .* changes with choice 1: it looks at later choices"):
        measure(RLOO(), Expectation(bits, Return(ahead), theta={"logits": LOGITS}), replicates=64)
    with pytest.raises(Refusal, match="needs a Return"):
        measure(RLOO(credit="downstream"), Expectation(bits, quadratic, theta={"logits": LOGITS}), replicates=64)


def test_a_draw_that_does_not_use_its_generator_is_named():
    class Free(Drawable):
        arg_constraints = {}  # noqa: RUF012

        def __init__(self, logits, validate_args=None):
            self.logits = logits
            super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

        def draw(self, sample_shape, generator):
            return (torch.rand(self._extended_shape(sample_shape)) < self.logits.sigmoid()).to(self.logits)

        def log_prob(self, value):
            return Bernoulli(logits=self.logits).log_prob(value).sum(-1)

    with pytest.raises(ValueError, match="Free draws other samples from an equal generator"):
        Expectation(lambda t: Free(t["logits"]), quadratic, {"logits": LOGITS})


def test_costs_without_their_axis_are_named():
    with pytest.raises(ValueError, match=r"costs returned shape \[3, 2\] .* one more axis, the costs.* do not sum"):
        Expectation(bits, Return(quadratic), theta={"logits": LOGITS})
    with pytest.raises(ValueError, match="costs returned None"):
        Expectation(bits, Return(lambda _: None), theta={"logits": LOGITS})


def test_weights_that_a_layer_takes_from_elsewhere_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits, self.between, self.spare = nn.Parameter(LOGITS), nn.Linear(3, 2), nn.Linear(3, 2)

    def layers(net):
        return Layers({"logits": net.logits}, [bits, lambda _, z: Independent(Bernoulli(logits=net.between(z)), 1)])

    with pytest.raises(ValueError, match=r"log q depends on theta\['between.weight'\].* made from weights.logits"):
        Expectation(layers, quadratic, theta=Net())


def test_layers_of_bits_are_summed_and_may_close_over_float32_tensors():
    def layers(data):
        def second(w, z):
            return Independent(Bernoulli(logits=z + (data @ w["v"]).mean(-2)), 1)

        return lambda theta: Layers(theta, [bits, second])

    theta, data = {"logits": LOGITS, "v": torch.eye(3)}, torch.arange(12.0).reshape(4, 3) / 10
    e = Expectation(layers(data), lambda x: quadratic(x).square(), theta)
    assert e.has_exact
    value, gradient = exact_gradient(e, e.build())
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 6)
    own = {name: t.double().requires_grad_() for name, t in theta.items()}
    expected = (layers(data.double())(own).log_prob(x).exp() * quadratic(x).square()).sum()
    assert value == pytest.approx(expected.item(), rel=1e-12)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(expected, list(own.values()))])
    torch.testing.assert_close(torch.as_tensor(gradient).double(), found, rtol=1e-10, atol=1e-12)
    above = lambda w, z: Independent(Bernoulli(logits=z + w["logits"]), 1)  # noqa: E731
    assert not Expectation(lambda t: Layers(t, [bits, above]), quadratic, {"logits": torch.zeros(9)}).has_exact


def test_products_that_are_not_batched_and_layers_that_draw_are_named():
    theta = {"logits": LOGITS, "v": torch.eye(3)}
    flat = lambda w, z: Independent(Bernoulli(logits=nn.functional.linear(z, w["v"])), 1)  # noqa: E731
    matrix = lambda w, z: Independent(Bernoulli(logits=z @ w["v"]), 1)  # noqa: E731
    for second in (flat, matrix):  # the other one fits two samples of two copies
        with pytest.raises(ValueError, match=r"two copies of its parameters.*weights.v \[2, 3, 3\].* must be batched"):
            Expectation(lambda t, second=second: Layers(t, [bits, second]), quadratic, theta)
    noisy = lambda w, z: Independent(Bernoulli(logits=z + w["v"].sum() + torch.rand(3)), 1)  # noqa: E731
    with pytest.raises(ValueError, match="q's functions draw random numbers"):
        Expectation(lambda t: Layers(t, [bits, noisy]), quadratic, theta)


def test_layers_are_measured_with_an_estimator_for_each():
    def second(w, z):
        return Independent(Bernoulli(logits=(z.unsqueeze(-2) @ w["weight"]).squeeze(-2)), 1)

    theta = {"logits": LOGITS, "weight": torch.eye(3)}
    e = Expectation(lambda theta: Layers(theta, [bits, second]), quadratic, theta=theta)
    assert e.layer_families == (Bernoulli, Bernoulli)
    assert measure(Nested("disarm", "rloo"), e, replicates=256).verdict != "BIASED"
    with pytest.raises(Refusal, match="Layer 1 of Nested: Reparameterization"):
        measure(Nested("reparameterization", "rloo"), e, replicates=64)


def test_a_float32_tensor_in_a_mapping_of_weights_meets_float64():
    def q(theta):
        layers = [lambda w: Independent(Bernoulli(logits=w["logits"] + w["bias"]), 1), second]
        return Layers({**theta, "bias": torch.ones(3), "more": [torch.eye(3)]}, layers)

    def second(w, z):
        return Independent(Bernoulli(logits=(z.unsqueeze(-2) @ w["more"][0]).squeeze(-2)), 1)

    e = Expectation(q, quadratic, theta={"logits": LOGITS})
    for dtype in (torch.float32, torch.float64):
        built = e.build(dtype)
        own = built.q(built.theta)
        assert {t.dtype for t in parameters(own).values()} == {dtype}
        assert draw(own, 2, torch.Generator().manual_seed(0)).dtype == dtype
