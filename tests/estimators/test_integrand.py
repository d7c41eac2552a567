"""What f may return, and what is refused: one place checks it for every estimator."""

import inspect
from dataclasses import dataclass
from functools import partial
from types import FunctionType

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from estimators import (
    GO,
    RLOO,
    RODEO,
    VIMCO,
    BitFlip,
    Bound,
    DeltaMethod,
    DoubleControlVariate,
    Enumeration,
    Estimator,
    GumbelSoftmax,
    HessianControlVariate,
    InvalidIntegrand,
    InvalidLoss,
    InvalidParameter,
    LocalExpectation,
    MeasureValued,
    MuProp,
    NotDifferentiable,
    Refusal,
    Reparameterization,
    ScoreFunction,
    SelfCritical,
    StochasticAD,
    StraightThrough,
    catalogue,
    parameters,
)
from tests.problems import bits, gradients, leaf, mean_scores, seeded, t
from tests.tolerances import z_limit

ROWS = 2**14
ESTIMATORS = [
    cls() for cls in catalogue().values() if cls().refuses(Normal) is None or cls().refuses(Bernoulli) is None
]
NORMAL = Independent(Normal(leaf(0.5, -0.3), t(1.0, 0.8)), 1)
BITS = bits(leaf([0.4, -1.2], [0.3, 0.8], [0.0, 0.1]))


def served(estimator):
    """Return a q that the estimator serves, and a function that makes an integrand for this q from any other."""
    q = Independent(Normal(leaf([0.5, -0.3], [0.1, 0.2]), t([1.0, 0.8], [0.7, 0.6])), 1)
    q = q if estimator.refuses(Normal) is None else BITS
    if estimator.needs_bound and estimator.refuses_particles(None):
        q = Independent(q, 1)
        return q, lambda log_joint: Bound(log_joint, q, particles=2)
    return q, (lambda log_joint: Bound(log_joint, q)) if estimator.needs_bound else (lambda f: f)


# In place ---------------------------------------------------------------------------------------------------------

IN_PLACE = {
    "an operation": lambda x: x.clamp_(0, 1).sum(-1),
    "an assignment": lambda x: (x.__setitem__((..., 0), 0.0), x.sum(-1))[1],
    "a view": lambda x: (x.flatten().mul_(2), x.sum(-1))[1],
    "a detached tensor": lambda x: (x.detach().add_(1), x.sum(-1))[1],
    "a module": lambda x: torch.nn.ReLU(inplace=True)(x).sum(-1),
    "an out argument": lambda x: (torch.neg(x.detach(), out=x.detach()), x.sum(-1))[1],
}
SENTENCE = (
    "f changes its argument x in place, but the estimator still needs the sample x. Work on a copy, such as x.clone() "
    "or x.numpy().copy(), or use operations that make a new tensor, such as x.clamp(0, 1)."
)


@pytest.mark.parametrize("way", IN_PLACE)
def test_an_f_that_changes_its_argument_is_refused(way):
    for estimator in (RLOO(n=4), ScoreFunction(), Reparameterization(), MeasureValued(), SelfCritical()):
        with pytest.raises(InvalidIntegrand) as refusal:
            estimator(IN_PLACE[way], NORMAL)
        assert str(refusal.value) == SENTENCE
    with pytest.raises(InvalidIntegrand, match="the log_joint of the Bound changes its argument x in place"):
        RLOO()(Bound(IN_PLACE[way], NORMAL), NORMAL)


WHERE_TORCH_REFUSES_FIRST = {
    Enumeration(): BITS,
    DoubleControlVariate(): BITS,
    RODEO(): BITS,
    MuProp(): BITS,
    Reparameterization(): NORMAL,
    DeltaMethod(): NORMAL,
    HessianControlVariate(): NORMAL,
    StraightThrough(): BITS,
    GumbelSoftmax(): BITS,
}


@pytest.mark.parametrize("estimator", WHERE_TORCH_REFUSES_FIRST, ids=repr)
@pytest.mark.parametrize(
    "change", [lambda x: x.mul_(2).sum(-1), lambda x: (x.__setitem__((..., 0), 1.0), x.sum(-1))[1]]
)
def test_a_refusal_of_torch_to_change_the_argument_is_the_same_sentence(estimator, change):
    with pytest.raises(InvalidIntegrand) as refusal:
        estimator(change, WHERE_TORCH_REFUSES_FIRST[estimator])
    assert str(refusal.value) == SENTENCE


def test_another_exception_of_f_comes_through():
    with pytest.raises(RuntimeError, match=r"^its own\nf was called with samples"):
        RLOO()(raising, NORMAL)


def raising(x):
    raise RuntimeError("its own")


UNCOUNTED = {
    "numpy": lambda x: np.add(x.detach().numpy(), 1, out=x.detach().numpy()).sum(-1),
    "x.data": lambda x: x.data.mul_(2).sum(-1),
    "a shared array": lambda x: torch.from_numpy(x.detach().numpy()).add_(1).sum(-1),
    "another order": lambda x: (np.copyto(x.detach().numpy(), x.flip(-1).detach().numpy()), x.sum(-1))[1],
}


def new(f):
    """Return a copy of a function that no call has seen: functions of one source line count as one."""
    LINES.append(None)
    return FunctionType(f.__code__.replace(co_firstlineno=10**6 + len(LINES)), f.__globals__, closure=f.__closure__)


LINES = []


@pytest.mark.parametrize("estimator", [RLOO(n=4), MeasureValued(), SelfCritical()], ids=repr)
@pytest.mark.parametrize("way", UNCOUNTED)
def test_changes_that_torch_does_not_count_are_found_in_the_first_calls(estimator, way):
    with pytest.raises(InvalidIntegrand) as refusal:
        estimator(new(UNCOUNTED[way]), NORMAL)
    assert str(refusal.value) == SENTENCE


@pytest.mark.parametrize("first", [0, 1, 2])
def test_three_calls_of_a_function_are_compared(first):
    calls = []

    def f(x):
        calls.append(1)
        return UNCOUNTED["numpy"](x) if len(calls) > first else x.sum(-1)

    with pytest.raises(InvalidIntegrand, match="changes its argument"):
        [RLOO(n=4)(f, NORMAL) for f in [new(f)] * 3]
    assert len(calls) == first + 1


@pytest.mark.parametrize("way", UNCOUNTED)
def test_a_partial_function_is_known_by_the_function_inside(way):
    for _ in range(3):
        RLOO(n=4)(partial(lambda scale, x: scale * x.sum(-1), 2.0), NORMAL)
    with pytest.raises(InvalidIntegrand, match="changes its argument"):
        RLOO(n=4)(partial(partial(new(UNCOUNTED[way]))), NORMAL)


@pytest.mark.parametrize("way", UNCOUNTED)
def test_what_was_refused_once_is_refused_in_every_later_call(way):
    for f in [new(UNCOUNTED[way])] * 8:
        with pytest.raises(InvalidIntegrand, match="changes its argument"):
            RLOO(n=4)(f, NORMAL)


@pytest.mark.parametrize(
    ("values", "compared"),
    [
        (lambda x: x.sum(-1), {1, 2, 3, 5, 9, 17}),
        (lambda x: x.numpy().sum(-1), {*range(1, 20)}),
        (lambda x: x.sum(-1).tolist(), {*range(1, 20)}),
    ],
    ids=["a tensor", "an array", "a list"],
)
def test_the_argument_is_compared_ever_more_rarely_and_always_if_values_come_from_outside_torch(values, compared):
    calls, found = [], set()

    def f(x):
        calls.append(1)
        if len(calls) == changing:
            x.numpy()[0] = np.nan
        return values(x)

    for changing in range(1, 20):
        calls.clear()
        for same in [new(f)] * 19:
            try:
                ScoreFunction()(same, NORMAL)
            except InvalidIntegrand:
                found.add(changing)
                break
    assert found == compared


def test_in_half_precision_f_is_compared_by_its_own_source():
    q = Independent(Normal(torch.zeros(4, 3, dtype=torch.bfloat16, requires_grad=True), 1.0), 1)
    with torch.autocast("cpu"):
        for f in [lambda x: x.sum(-1)] * 5:
            RLOO(n=4)(f, NORMAL)
        with pytest.raises(InvalidIntegrand, match="changes its argument"):
            RLOO(n=4)(new(UNCOUNTED["a shared array"]), NORMAL)
    assert RLOO(n=4)(new(UNCOUNTED["x.data"]), q).isfinite().all()  # f gets a copy of another dtype


def test_an_f_that_changes_a_copy_has_the_exact_gradient():
    loc = leaf(0.5)
    for estimator in (RLOO(n=4), ScoreFunction(), Reparameterization(), MeasureValued()):
        g = gradients(estimator, lambda x: x.clone().clamp_(0, 1), Normal(loc, t(1.0)).expand((1,)), ROWS)
        phi = torch.special.ndtr(t(0.5, -0.5))
        assert mean_scores(g, phi[0] - phi[1]).abs().max() < z_limit(4)


@pytest.mark.parametrize("estimator", [RLOO(), Reparameterization()], ids=repr)
def test_under_transforms_too(estimator):
    def loss(loc, f):
        return estimator(f, Independent(Normal(loc, torch.ones(2), validate_args=False), 1, validate_args=False))

    maps = torch.func.vmap(loss, (0, None), randomness="different"), torch.func.grad(loss)
    both = torch.func.vmap(torch.func.grad(loss), (0, None), randomness="different")
    for call, loc in zip((*maps, both), (torch.ones(3, 2), torch.ones(2), torch.ones(3, 2)), strict=True):
        assert call(loc, lambda x: x.clone().mul_(2).sum(-1)).isfinite().all()
        with pytest.raises(InvalidIntegrand, match="in place"):
            call(loc, lambda x: x.mul_(2).sum(-1))


def reuses(x, memory):
    return torch.sum(x.detach(), -1, out=memory[: x[..., 0].numel()].view(x.shape[:-1]))


@pytest.mark.parametrize(
    "estimator", [BitFlip(), MeasureValued(), LocalExpectation(), GO(), StochasticAD(), SelfCritical()], ids=repr
)
def test_an_f_that_writes_over_its_own_values_is_refused(estimator):
    memory = torch.empty(1000, dtype=torch.float64)
    with pytest.raises(InvalidIntegrand, match=r"^f wrote over the values of its last call, .* such as values\.clone"):
        estimator(lambda x: reuses(x, memory), BITS, seeded())
    copies, fresh = (
        gradients_of(estimator, f) for f in (lambda x: reuses(x, memory).clone(), lambda x: x.detach().sum(-1))
    )
    assert torch.equal(copies, fresh)


def gradients_of(estimator, f):
    (logits,) = parameters(BITS).values()
    return torch.autograd.grad(estimator(f, BITS, seeded()).sum(), logits)[0]


def test_an_f_may_write_over_the_values_of_another_call_of_the_estimator():
    memory = torch.empty(1000, dtype=torch.float64)
    for _ in range(2):
        found = gradients_of(RLOO(n=4), lambda x: reuses(x, memory))
        assert torch.equal(found, gradients_of(RLOO(n=4), lambda x: x.detach().sum(-1)))


@pytest.mark.parametrize("estimator", [RLOO(), Reparameterization()], ids=repr)
def test_in_inference_mode_there_is_no_count_of_changes(estimator):
    with torch.inference_mode():
        assert estimator(lambda x: x.sum(-1), NORMAL).shape == ()


# Shapes -----------------------------------------------------------------------------------------------------------

COLUMN = Independent(Normal(leaf([1.0], [2.0], [3.0]), t([1e-6], [1e-6], [1e-6])), 1)
SHAPES = [
    (Reparameterization(), COLUMN, lambda x: x.square().sum(-1, keepdim=True), "[1, 3, 1]", "[1, 3, 1]", "[1, 3]",
     "Squeeze the last axis."),
    (GumbelSoftmax(), BITS, torch.square, "[1, 3, 2]", "[1, 3, 2]", "[1, 3]", "Sum over the event axes."),
    (Enumeration(), BITS, torch.sum, "[]", "[4, 3, 2]", "[4, 3]",
     "Keep all axes on the left, and sum over the event axes only."),
    (ScoreFunction(), BITS, lambda x: 1.0, "[]", "[1, 3, 2]", "[1, 3]",
     "Keep all axes on the left, and sum over the event axes only."),
    (StraightThrough(), BITS.base_dist, lambda x: x.sum(-1), "[1, 3]", "[1, 3, 2]", "[1, 3, 2]",
     "q has no event axes: if its last axes are one event, use Independent(q, 1)."),
    (RLOO(n=4), NORMAL.base_dist, lambda x: x.sum(-1), "[4]", "[4, 2]", "[4, 2]",
     "q has no event axes: if its last axes are one event, use Independent(q, 1)."),
]  # fmt: skip


@pytest.mark.parametrize(("estimator", "q", "f", "got", "at", "expected", "advice"), SHAPES)
def test_shapes(estimator, q, f, got, at, expected, advice):
    with pytest.raises(InvalidIntegrand) as refusal:
        estimator(f, q)
    assert str(refusal.value) == (
        f"f returned shape {got} for samples of shape {at}: expected {expected}, one value per sample and batch "
        f"element. {advice}"
    )


def test_the_cotangent_of_a_batch_element_reaches_it_alone():
    (g,) = torch.autograd.grad(
        (t(1.0, 0.0, 0.0) * Reparameterization()(lambda x: x.square().sum(-1), COLUMN)).mean(),
        parameters(COLUMN)["loc"],
    )
    torch.testing.assert_close(g, t([2 / 3], [0.0], [0.0]), rtol=1e-4, atol=0)


def test_shapes_of_bounds():
    plain = NORMAL.base_dist
    with pytest.raises(InvalidIntegrand, match=r"the log_joint of the Bound returned .* use Independent\(q, 1\)"):
        RLOO()(Bound(lambda x: x.sum(-1), plain), plain)
    with pytest.raises(InvalidIntegrand, match=r"Bound got a q of event shape \[\], and RLOO\(n=2.*\) .* \[2\]"):
        RLOO()(Bound(lambda x: x.sum(-1), plain), NORMAL)
    q = Independent(Normal(t([0.5], [0.1]), t([1.0], [0.7])), 2)
    with pytest.raises(InvalidIntegrand, match=r"returned shape \[1\] .* expected \[1, 2\]"):
        VIMCO()(Bound(lambda x: x.sum((-1, -2)), q, particles=2), q)
    with pytest.raises(InvalidIntegrand, match="log_joint of the Bound returned None"):
        Bound(lambda x: None, NORMAL)(t(0.1, 0.2))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_every_estimator_checks_f(estimator):
    q, integrand = served(estimator)
    axes = len(q.event_shape) - (estimator.needs_bound and len(q.event_shape) == 2)

    def right(x):
        return x.sin().sum(tuple(range(-axes, 0)))

    assert estimator(integrand(right), q, seeded(), estimator.init(q, seeded())).shape == q.batch_shape
    for wrong in (lambda x: right(x).unsqueeze(-1), lambda x: None, lambda x: x.sum(), lambda x: (right(x), 0)):
        with pytest.raises(InvalidIntegrand):
            estimator(integrand(wrong), q)


# Values -----------------------------------------------------------------------------------------------------------

BLACK_BOXES = {
    "whole numbers": lambda x: (x > 0).sum(-1),
    "bytes": lambda x: (x > 0).sum(-1).byte(),
    "float16": lambda x: (x > 0).sum(-1).half(),
    "an array": lambda x: (x.numpy() > 0).sum(-1),
    "an array of float32": lambda x: (x.numpy() > 0).sum(-1).astype("float32"),
    "a list": lambda x: (x > 0).sum(-1).tolist(),
    "a list of arrays": lambda x: list((x.numpy() > 0).sum(-1)),
    "an array read backwards": lambda x: (x.numpy() > 0).sum(-1)[::-1].copy()[::-1],
    "an array of objects": lambda x: (x.numpy() > 0).sum(-1).astype(object),
    "an array of another byte order": lambda x: (x.numpy() > 0).sum(-1).astype(">f8"),
    "a list of tensors": lambda x: list((x > 0).sum(-1)),
}


@pytest.mark.parametrize("form", BLACK_BOXES)
@pytest.mark.parametrize("estimator", [RLOO(n=4), ScoreFunction(), MeasureValued(), Enumeration(), BitFlip()], ids=repr)
def test_a_black_box_may_count(estimator, form):
    for q in (NORMAL, Independent(Normal(leaf([0.5, -0.3], [0.2, 0.1]), t(1.0).expand(2, 2)), 1), BITS):
        if estimator.refuses(type(q.base_dist)):
            continue
        theta = next(iter(parameters(q).values()))
        losses = [estimator(f, q, seeded()) for f in (BLACK_BOXES[form], lambda x: (x > 0).double().sum(-1))]
        got, expected = (torch.autograd.grad(loss.sum(), theta)[0] for loss in losses)
        assert torch.equal(got, expected)
        assert torch.equal(*losses)
        assert losses[0].dtype == torch.float64


def test_a_count_has_the_exact_gradient():
    q = Independent(Normal(leaf(0.5, -0.3), t(1.0, 0.8)), 1)
    g = gradients(RLOO(n=4), BLACK_BOXES["an array"], q, ROWS)
    exact = Normal(0, 1).log_prob(t(0.5, -0.3) / t(1.0, 0.8)).exp() / t(1.0, 0.8)
    assert mean_scores(g, exact).abs().max() < z_limit(2)


def test_bools_of_whole_numbers():
    q = Categorical(logits=leaf([0.3, -0.4, 0.1], [0.2, 0.1, 0.9]))
    losses = [
        RLOO(n=3)(f, q, seeded()) for f in (lambda x: x == 1, lambda x: (x == 1).numpy(), lambda x: 1.0 * (x == 1))
    ]
    assert losses[0].dtype == torch.float64
    assert torch.equal(losses[0], losses[1])
    torch.testing.assert_close(losses[0].float(), losses[2].float())


def test_a_large_count_keeps_its_digits_in_half_precision():
    q = Bernoulli(logits=torch.zeros(1, dtype=torch.bfloat16, requires_grad=True))
    assert ScoreFunction()(lambda x: torch.full(x.shape, 1001), q).item() == 1001


def test_an_array_that_f_uses_again_is_copied():
    values, calls = torch.zeros(1, 3).numpy(), []

    def f(x):
        calls.append(x)
        values[:] = len(calls)
        return values

    assert torch.equal(BitFlip(n=1)(f, BITS), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("one", [2.0, 2, True, torch.tensor(2.0), torch.tensor(2.0).numpy()], ids=repr)
def test_one_number_for_one_point(one):
    loss = ScoreFunction()(lambda x: one, NORMAL)
    assert loss.shape == ()
    assert loss.item() == one
    with pytest.raises(InvalidIntegrand, match=r"expected \[2\]"):
        ScoreFunction(n=2)(lambda x: one, NORMAL)


def test_a_list_of_tensors_keeps_its_graph():
    w = leaf(2.0, 3.0)
    loss = RLOO(n=3)(lambda x: [(w * each).sum() for each in x], NORMAL, seeded())
    expected = RLOO(n=3)(lambda x: (w * x).sum(-1), NORMAL, seeded())
    torch.testing.assert_close(torch.autograd.grad(loss, w)[0], torch.autograd.grad(expected, w)[0])


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e.needs_df and not e.needs_bound], ids=repr)
@pytest.mark.parametrize("count", [lambda x: (x > 0).sum(-1), lambda x: (x.detach().numpy() > 0).sum(-1)])
def test_an_estimator_that_needs_df_refuses_counts(estimator, count):
    q, _ = served(estimator)
    with pytest.raises(NotDifferentiable, match=r"needs df/dx.* Use ScoreFunction or RLOO"):
        estimator(count, q)


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e.needs_df], ids=repr)
@pytest.mark.parametrize("count", [lambda x: (x > 0).sum(-1), lambda x: (x.detach() > 0).sum(-1).tolist()])
def test_log_q_does_not_hide_a_log_joint_without_gradient(estimator, count):
    q, _ = served(estimator)
    particles = 2 if len(q.event_shape) == 2 else None
    with pytest.raises(NotDifferentiable, match=r"needs df/dx.* Use ScoreFunction or RLOO"):
        estimator(Bound(count, q, particles), q)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "f returned None: expected one value per sample. Add a `return`."),
        ("high", "f returned a str: expected real numbers"),
        ({"reward": 1.0}, "f returned a dict: expected real numbers"),
        ((1.0, 2.0), "The cause: a tuple is not an array. Return the values alone."),
        (torch.ones(2, dtype=torch.complex64), "The cause: the numbers are complex."),
        ([1.0, [2.0, 3.0]], "f returned a list: expected real numbers"),
        ([10**400, 1], "f returned a list: expected real numbers"),
        (np.array(["1.0", "2.0"]), "f returned a ndarray: expected real numbers"),
        (np.array(["1.0", "2.0"], dtype=object), "f returned a ndarray: expected real numbers"),
        (np.array([1.0, 1j], dtype=object), "f returned a ndarray: expected real numbers"),
        (torch.ones(2).to_sparse(), "The cause: the tensor is sparse or nested. Return a dense tensor"),
        (
            torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged),
            "The cause: the tensor is sparse or nested. Return a dense",
        ),
        ({1.0: 2.0}.keys(), "f returned a dict_keys: expected real numbers"),
    ],
)
def test_what_is_no_number_is_refused(value, sentence):
    with pytest.raises(InvalidIntegrand) as refusal:
        RLOO(n=2)(lambda x: value, NORMAL)
    assert sentence in str(refusal.value)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_a_nested_tensor_of_the_older_kind_is_refused_too():
    nested = torch.nested.nested_tensor([torch.ones(2)], layout=torch.strided)
    with pytest.raises(InvalidIntegrand, match=r"the tensor is sparse or nested\. Return a dense tensor"):
        RLOO(n=2)(lambda x: nested, NORMAL)


# Arguments and exceptions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [type(e) for e in ESTIMATORS])
@pytest.mark.parametrize("words", [(torch.sum, NORMAL), (torch.sum,), (NORMAL,), (4, torch.sum, NORMAL)])
def test_f_and_q_given_to_the_class_are_one_sentence(cls, words):
    name = cls.__name__
    with pytest.raises(InvalidParameter) as refusal:
        cls(*words)
    assert str(refusal.value) == f"{name} takes f and q in a second call: write {name}()(f, q), not {name}(f, q)."


def test_arguments_in_the_wrong_order():
    with pytest.raises(
        Refusal, match=r"RLOO\(n=4.*\) is called with a function f and .* \(got f and q in the wrong order\)"
    ):
        RLOO(n=4)(NORMAL, torch.sum)
    with pytest.raises(Refusal, match=r"\(got a Tensor as q\)\. Use, for example, Normal\(loc, scale\)"):
        RLOO(n=4)(torch.sum, t(0.5))
    with pytest.raises(Refusal, match=r"\(got None as q\)"):
        RLOO(n=4)(torch.sum, None)
    with pytest.raises(InvalidIntegrand, match=r"needs a function f of samples of q \(got a Tensor\)"):
        RLOO(n=4)(t(0.5), NORMAL)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("kind", [KeyError, RuntimeError, ValueError, StopIteration, KeyboardInterrupt, SystemExit])
def test_an_exception_of_f_comes_through(estimator, kind):
    q, integrand = served(estimator)
    own = kind("mine")

    def f(x):
        raise own

    with pytest.raises(kind) as raised:
        estimator(integrand(f), q)
    assert raised.value is own
    assert str(own) == str(kind("mine"))


def test_an_exception_of_f_has_a_note_of_the_shapes():
    """The gather of every policy gradient, which fails on the axis of samples."""
    rewards = torch.ones(32, 10)
    with pytest.raises(RuntimeError, match="same number of dimensions") as raised:
        RLOO(n=4)(lambda a: rewards.gather(-1, a.unsqueeze(-1)).squeeze(-1), Categorical(torch.full((32, 10), 0.1)))
    assert raised.value.__notes__ == [
        "f was called with samples of shape [4, 32], the axis of samples on the left, and must return values of shape "
        "[4, 32]."
    ]


class Mixin:
    def __call__(self, f, q, generator=None, state=None):
        return f(q.sample((1,))).mean(0)


@dataclass(frozen=True)
class FromAMixin(Mixin, Estimator):
    pass


@dataclass(frozen=True)
class Forgetful(RLOO):
    def __call__(self, f, q, generator=None, state=None):
        super().__call__(f, q, generator, state)


def test_no_estimator_can_forget_the_checks():
    with pytest.raises(InvalidIntegrand, match="in place"):
        FromAMixin()(lambda x: x.zero_().sum(-1), NORMAL)
    for cls in catalogue().values():
        assert cls.__call__.is_checked
        assert not hasattr(cls.__call__.__wrapped__, "is_checked")


def test_a_call_without_return():
    with pytest.raises(InvalidLoss) as error:
        Forgetful()(lambda x: x.sum(-1), NORMAL)
    assert (
        str(error.value)
        == "Forgetful(n=2, credit='whole') returned None instead of a loss. Add a `return` to its __call__."
    )


def test_the_checks_do_not_hide_the_signature():
    assert inspect.signature(RLOO.__call__).parameters.keys() == {"self", "f", "q", "generator", "state"}
    assert RLOO()(f=lambda x: x.sum(-1), q=NORMAL, generator=seeded(), state=None).isfinite()
