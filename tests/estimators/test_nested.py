import pickle
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from bench.conformance import Case, Conformance
from estimators import (
    ARM,
    REBAR,
    RLOO,
    Bound,
    DisARM,
    Enumeration,
    Estimator,
    InvalidParameter,
    Layers,
    Nested,
    Refusal,
    Reparameterization,
    ScoreFunction,
    UnsupportedFamily,
    adapt,
    parameters,
    rows,
)
from tests.estimators import nesting
from tests.estimators.nesting import f, gradients, normal_then_bits, product, scores, second, two_of_bits
from tests.problems import bits, leaf, outcomes, seeded, t
from tests.tolerances import z_limit

ROWS = 250

# Every pair of the catalogue -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*without its state")
@pytest.mark.parametrize("problem", nesting.FAMILIES)
def test_every_pair_that_fits_is_unbiased_at_both_layers(problem):
    found = list(scores(problem, ROWS))
    z = {pair: score for pair, score in found if not isinstance(score, Refusal)}
    limit = z_limit(len(z) * problem().exact().numel())
    assert {pair: score for pair, score in z.items() if not score < limit} == {}
    assert len(z) > 150
    second_order = {"delta-method", "hessian-control-variate"}
    refused = {pair.outer: str(no) for pair, no in found if isinstance(no, Refusal)}
    assert set(refused) <= second_order
    assert all("has no second derivatives" in no for no in refused.values())


def test_a_biased_estimator_shows_at_either_layer():
    exact = two_of_bits().exact()
    for pair in (Nested("straight-through", "rloo"), Nested("rloo", "straight-through")):
        assert not pair.unbiased
        g = gradients(pair, two_of_bits().q, 20_000)
        assert ((g.mean(0) - exact) / (g.std(0) / len(g) ** 0.5)).abs().max() > 1.5 * z_limit(20)


def test_enumeration_twice_is_exact_and_so_is_a_tower_of_three():
    made = two_of_bits()
    g = gradients(Nested(Enumeration(), Enumeration()), made.q, 1)
    torch.testing.assert_close(g[0], made.exact(), rtol=1e-10, atol=1e-10)
    w = {"logits": leaf(0.4, -0.9), "weight": leaf([0.8, -1.1], [-0.5, 1.4]), "bias": leaf(-0.3, 0.6)}
    last = lambda w, z1, z2: bits((z1 * z2).sum(-1, keepdim=True) - w["bias"][..., :1])  # noqa: E731
    q = Layers(w, [lambda w: bits(w["logits"]), second, last])
    x = outcomes(5)
    exact = torch.autograd.grad((q.log_prob(x).exp() * f(x)).sum(), list(w.values()))
    g = gradients(Nested("enumeration", "enumeration"), q, 1)
    torch.testing.assert_close(g[0], torch.cat([e.flatten() for e in exact]), rtol=1e-10, atol=1e-10)


def test_the_one_liner_is_what_nested_does():
    q = two_of_bits().q
    outer, inner, noise = RLOO(n=3), DisARM(), seeded(3)
    value = outer(lambda z1: inner(lambda z2: f(q.join(z1, z2)), q.second(z1), noise), q.first, noise)
    own = list(parameters(q).values())
    expected = torch.autograd.grad(value, own)
    again = Nested(outer, inner)(f, q, seeded(3))
    assert torch.equal(value, again)
    assert all(map(torch.equal, expected, torch.autograd.grad(again, own)))


def test_what_f_closes_over_gets_the_gradient_of_the_value():
    w = leaf(0.7)
    value = Nested()(lambda x: w * f(x), two_of_bits().q, seeded(1))
    (slope,) = torch.autograd.grad(value.sum(), w)
    torch.testing.assert_close(slope, (value / w).detach())


# State ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [Nested("nvil", "rebar"), Nested("relax", "score-function:baseline=moving-average")])
def test_estimators_that_learn_learn_at_both_layers(pair):
    q = two_of_bits().q
    state = pair.init(q, seeded(0))
    before = {name: value.clone() for name, value in state.state_dict().items()}
    adapt(pair, f, rows(q, 8), state, torch.optim.Adam(list(state.parameters()), lr=0.1), seeded(1))
    for k in "01":
        assert any(not torch.equal(before[n], v) for n, v in state.state_dict().items() if n.startswith(f"nodes.{k}."))


def test_an_outer_estimator_that_would_need_second_derivatives_keeps_its_state():
    q, pair = two_of_bits().q, Nested("rebar", "rebar")
    state = pair.init(q, seeded(0))
    state.requires_grad_(False).requires_grad_(True)  # as a training loop does between the steps of learning
    outer = {name for name, p in state.named_parameters() if not p.requires_grad}
    assert outer == {name for name, _ in state.named_parameters() if name.startswith("nodes.0.")}
    adapt(pair, f, rows(q, 8), state, torch.optim.Adam(list(state.parameters()), lr=0.1), seeded(1))


def test_of_three_layers_only_the_last_learns_off_the_support():
    w = {"logits": leaf(0.4, -0.9), "weight": leaf([0.8, -1.1], [-0.5, 1.4]), "bias": leaf(-0.3, 0.6)}
    q, pair = Layers(w, [lambda w: bits(w["logits"]), second, lambda w, _, z: second(w, z)]), Nested("rebar", "rebar")
    state = pair.init(q, seeded(0))
    before = {name: p.clone() for name, p in state.named_parameters()}
    adapt(pair, f, rows(q, 8), state, torch.optim.Adam(list(state.parameters()), lr=0.1), seeded(1))
    learned = {name.split(".")[1] for name, p in state.named_parameters() if not torch.equal(p, before[name])}
    assert learned == {"2"}


# Fields --------------------------------------------------------------------------------------------------------------


def test_fields_are_text_and_every_spelling_gives_one_identity():
    pair = Nested(RLOO(n=4), ScoreFunction(n=2, baseline=0.5))
    assert (pair.outer, pair.inner) == ("rloo:n=4", "score-function:n=2:baseline=0.5")
    assert pair == Nested("rloo:n=4", "reinforce:baseline=.5:n=2")
    assert hash(pair) == hash(eval(repr(pair)))
    assert pair.nodes == (RLOO(n=4), ScoreFunction(n=2, baseline=0.5))
    assert pickle.loads(pickle.dumps(pair)) == pair


def test_an_estimator_of_ones_own_may_stand_at_a_node():
    @dataclass(frozen=True)
    class Plain(Estimator):
        n: int = 2

        def __call__(self, f, q, generator=None, state=None):
            return RLOO(self.n)(f, q, generator)

    made = two_of_bits()
    mine, theirs = (gradients(Nested(node, "rloo"), made.q, 3) for node in (Plain(n=3), RLOO(n=3)))
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("rlo", "rloo"), r"outer names an estimator, .* \(got 'rlo'\)"),
        (("rloo", "rloo:m=3"), r"inner: rloo has no field 'm' \(it has n"),
        (("rloo:n=1", "rloo"), r"outer: RLOO needs n >= 2"),
        (("rloo:n=2:n=3", "rloo"), r"outer: 'rloo:n=2:n=3' has the field 'n' twice"),
        (("rloo", "rloo:credit=downstream"), "needs a Return"),
        (("rloo", 3), r"\(got inner=3, of type int\)"),
        ((Nested(), "rloo"), "takes the estimators of single layers"),
        (("rloo", "vimco"), "needs a Bound"),
    ],
)
def test_wrong_fields_are_refused(fields, words):
    with pytest.raises(InvalidParameter, match=words):
        Nested(*fields)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_a_q_of_one_layer_is_refused():
    with pytest.raises(UnsupportedFamily, match="needs a q that is a Layers"):
        Nested()(f, bits(leaf(0.1, 0.2, 0.3)))


def test_a_layer_that_its_estimator_does_not_serve_is_named():
    q = normal_then_bits().q
    with pytest.raises(UnsupportedFamily, match=r"Layer 1 of Nested: DisARM.* serves Bernoulli"):
        Nested("disarm", "disarm")(f, q)
    with pytest.raises(UnsupportedFamily, match=r"Layer 2 of Nested: Reparameterization needs samples"):
        Nested("reparameterization", "reparameterization")(f, q)


def test_an_estimator_that_needs_df_over_a_discrete_parent_is_refused():
    with pytest.raises(UnsupportedFamily, match=r"Layer 1 of Nested: Reparameterization needs samples that are diff"):
        Nested(Reparameterization(), RLOO())(f, two_of_bits().q)
    with pytest.raises(Refusal, match="has no second derivatives"):
        Nested("delta-method", "rloo")(f, normal_then_bits().q)


def test_layers_whose_batch_shapes_do_not_fit_are_refused():
    w = {"logits": leaf(0.4, -0.9), "weight": leaf([0.8, -1.1], [-0.5, 1.4]), "bias": leaf(-0.3, 0.6)}
    with pytest.raises(Refusal, match=r"Layer 2 of Layers has batch shape \[2\] .*\(expected \[\]\)"):
        Layers(w, [lambda w: bits(w["logits"]), lambda w, z: Bernoulli(logits=product(z, w["weight"]) + w["bias"])])
    with pytest.raises(Refusal, match="at least two layers"):
        Layers(w, [lambda w: bits(w["logits"])])
    with pytest.raises(Refusal, match=r"Layer 1 of Layers is a Categorical.* Use OneHotCategorical"):
        Layers(w, [lambda w: Categorical(logits=w["logits"]), second])
    with pytest.raises(Refusal, match=r"Layer 2 of Layers is no distribution \(got Tensor\)"):
        Layers(w, [lambda w: bits(w["logits"]), lambda w, z: product(z, w["weight"])])
    with pytest.raises(Refusal, match=r"that of the first being \[2\] \(got \[\[3\], \[2\]\]\)"):
        Layers(w, [lambda w: bits(w["logits"]), second], shapes=[torch.Size([3]), torch.Size([2])])


def test_weights_that_no_argument_holds_are_refused():
    hidden = leaf(0.4, -0.9)
    for weights, kind in (({}, "dict"), (torch.nn.ParameterDict({"w": hidden}), "ParameterDict"), (None, "NoneType")):
        with pytest.raises(Refusal, match=rf"a mapping of floating-point tensors \(got {kind}, which shows none\)"):
            Layers(weights, [lambda _: bits(hidden), lambda _, z: bits(z)])
    fixed = Layers({"bias": leaf(0.2, 0.1)}, [lambda _: bits(hidden), lambda w, z: bits(z + w["bias"])])
    with pytest.raises(Refusal, match=r"its batch shape is \[\] \(expected \[3\]\)"):
        rows(fixed, 3)


# Layers --------------------------------------------------------------------------------------------------------------


def test_parts_of_layers():
    w = {"loc": leaf([0.3, 0.1], [0.2, 0.4], [0.0, 1.0]), "net": {"bias": leaf(0.5, -0.5)}}
    first = lambda w: Independent(Normal(w["loc"], 1.0, validate_args=False), 1)  # noqa: E731
    q = Layers(w, [first, lambda w, z: Independent(bits((z + w["net"]["bias"].unsqueeze(-2)).unsqueeze(-1)), 1)])
    assert list(parameters(q)) == ["weights.loc", "weights.net.bias"]
    assert (q.batch_shape, q.event_shape, q.widths) == ((3,), (4,), (2, 2))
    x = q.sample((5,))
    z1, z2 = q.split(x)
    assert (z1.shape, z2.shape) == ((5, 3, 2), (5, 3, 2, 1))
    assert torch.equal(q.join(z1, z2), x)
    assert q.join(z1, z2.expand(7, 5, 3, 2, 1)).shape == (7, 5, 3, 4)
    assert bool(q.support.check(x).all())
    assert not bool(q.support.check(x + 0.5).any())
    each = torch.stack([q.first.log_prob(z1), q.second(z1).log_prob(z2)], -1)
    torch.testing.assert_close(q.log_probs(x), each)
    torch.testing.assert_close(q.log_prob(x), each.sum(-1))
    r = rows(q, 6)
    assert r.batch_shape == (6, 3)
    assert [p.shape for p in parameters(r).values()] == [(6, 3, 2), (6, 2)]


def test_weights_may_be_a_named_tuple():
    W = namedtuple("W", "logits bias")
    q = Layers(W(leaf(0.4, -0.9), leaf(0.2, 0.1)), [lambda w: bits(w.logits), lambda w, z: bits(z + w.bias)])
    assert rows(q, 5).batch_shape == (5,)


def test_a_bound_over_layers_is_evaluated_off_the_support():
    w = {"logits": leaf(0.4, -0.9), "bias": leaf(0.2, 0.1)}
    checking = lambda logits: Independent(Bernoulli(logits=logits, validate_args=True), 1)  # noqa: E731
    q = Layers(w, [lambda w: checking(w["logits"]), lambda w, z: checking(z + w["bias"])])
    x = torch.full((4,), 0.25, dtype=w["bias"].dtype)
    each = [(z * a - a.exp().log1p()).sum() for z, a in ((x[:2], w["logits"]), (x[2:], x[:2] + w["bias"]))]
    torch.testing.assert_close(Bound(lambda x: x.sum(-1), q)(x), x.sum() - sum(each))
    assert Nested("gumbel-softmax", "rloo")(Bound(lambda x: x.sum(-1), q), q, seeded(0)).isfinite()


# The conformance suite -----------------------------------------------------------------------------------------------


def _joint(q):
    """Return the points and the masses of two layers of bits with a batch of any shape."""
    x = outcomes(4).reshape(16, *(1 for _ in q.batch_shape), 4).expand(16, *q.batch_shape, 4)
    return x, q.log_prob(x).exp()


TWO = Case(
    "Layers of bits, batch of 2",
    (t([0.4, -0.9], [1.2, 0.3]), t([[0.8, -1.1], [-0.5, 1.4]], [[0.2, 0.1], [0.9, -0.7]]), t([-0.3, 0.6], [0.1, 0.2])),
    lambda logits, weight, bias: Layers(
        {"logits": logits, "weight": weight, "bias": bias}, [lambda w: bits(w["logits"]), second]
    ),
    f,
    _joint,
)


class TestNested(Conformance):
    estimator = Nested()
    cases = (TWO,)


class TestNestedOfOthers(Conformance):
    estimator = Nested(ARM(), REBAR())
    cases = (TWO,)
