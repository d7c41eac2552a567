"""What all learned estimators share: the statistics of a state, its unit, and what a call says about its state."""

import copy
import math
import warnings

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical

from estimators import (
    NVIL,
    REBAR,
    RELAX,
    RODEO,
    DoubleControlVariate,
    QuadraticControlVariate,
    Refusal,
    ScoreFunction,
    State,
    adapt,
    catalogue,
    parameters,
    rows,
)
from tests.problems import gradients, seeded

AVERAGE = ScoreFunction(baseline="moving-average")
LEARNED = [
    AVERAGE,
    NVIL(n=2),
    REBAR(),
    RELAX(relaxed=False),
    RELAX(n=2, relaxed=True),
    RODEO(n=3),
    DoubleControlVariate(coefficient=0.5),
    QuadraticControlVariate(rank=2),
]


def test_no_learned_estimator_is_missing_here():
    named = {cls.__name__ for cls in catalogue().values() if cls().needs_state} | {"ScoreFunction"}
    assert {type(e).__name__ for e in LEARNED} == named


def problem(estimator, dim=3, batch=(), dtype=torch.float64):
    """Return a q that the estimator serves."""
    theta = torch.linspace(-1.2, 0.9, math.prod(batch) * dim, dtype=dtype).reshape(*batch, dim).requires_grad_()
    if estimator.families is not None and Bernoulli in estimator.families:
        return Independent(Bernoulli(logits=theta, validate_args=False), 1, validate_args=False)
    return Independent(Normal(theta, torch.full_like(theta, 0.7), validate_args=False), 1)


def curved(x):
    """Neither affine nor separable, with a level far from 0."""
    return (1.3 * x[..., 0] - x[..., 1]).sin() + x.square().sum(-1) * x[..., -1] - 4


def taught(estimator, f, steps=30, optimizer=torch.optim.Adam):
    """Return a state that has learned for some steps."""
    q = problem(estimator)
    state = estimator.init(q, seeded(1))
    learner = optimizer(state.parameters(), lr=0.03) if list(state.parameters()) else None
    for step in range(steps):
        adapt(estimator, f, rows(q, 16), state, learner, seeded(100 + step))
    return state.requires_grad_(False)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_what_is_learned_does_not_depend_on_the_scale_of_f(estimator, optimizer):
    """For c f, with c a power of two, every bit of the gradient is that of f, times c."""
    own = gradients(estimator, curved, problem(estimator), 64, state=taught(estimator, curved, optimizer=optimizer))
    for c in (2.0**-20, 2.0**30):

        def f(x, c=c):
            return c * curved(x)

        got = gradients(estimator, f, problem(estimator), 64, state=taught(estimator, f, optimizer=optimizer))
        assert torch.equal(got, c * own)
    fresh = gradients(estimator, curved, problem(estimator), 64, state=estimator.init(problem(estimator), seeded(1)))
    assert not torch.equal(own, fresh), "it learned"


def test_without_the_unit_the_scale_of_f_would_matter(monkeypatch):
    monkeypatch.setattr(State, "unit", torch.ones(()))
    plain, raised = (taught(QuadraticControlVariate(), f) for f in (curved, lambda x: 64 * curved(x)))
    assert not torch.allclose(raised.diagonal, 64 * plain.diagonal, rtol=0.5)


def test_update_takes_means_of_what_is_finite():
    """Weights 1/t at first, then 1 - decay; the deviation is the mean distance from the mean before."""
    state = State(torch.zeros((), dtype=torch.float64))
    state.update(torch.tensor([1.0, math.nan, 3.0, math.inf]))
    assert (state.mean, state.deviation, state.updates) == (2, 1, 1)
    for empty in (torch.full((3,), math.nan), torch.tensor(-math.inf), torch.zeros(0)):
        state.update(empty)
        assert (state.mean, state.deviation, state.updates) == (2, 1, 1)
    state.update(torch.tensor(6.0))
    assert (state.mean, state.deviation, state.updates) == (4, 2.5, 2)
    for _ in range(300):
        state.update(torch.tensor(7.0))
    assert state.mean == pytest.approx(7)
    state.update(torch.tensor(17.0))
    assert state.mean == pytest.approx(8)


def test_update_takes_a_number_too():
    one, other = State(torch.zeros((), dtype=torch.float64)), State(torch.zeros((), dtype=torch.float64))
    for value in (1.5, 4, -math.inf, 0.1):
        one.update(value)
        other.update(torch.tensor([value], dtype=torch.float64))
    assert one.state_dict() == other.state_dict()
    assert one.updates == 3


def test_one_enormous_value_does_not_end_the_statistics():
    state = State()
    state.update(torch.tensor([1e30, -1e30]))
    assert state.deviation.isfinite()


def test_the_unit_is_the_power_of_two_above_the_deviation():
    state = State()
    assert state.unit == 1
    for deviation, unit in ((3.0, 4), (0.3, 0.5), (1e-30, 2.0**-99)):
        state.deviation = torch.tensor(deviation)
        assert state.unit == unit


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_an_f_that_is_not_finite_once_leaves_no_trace(estimator):
    def broken(x):
        return curved(x) * math.nan

    q, state = problem(estimator), taught(estimator, curved, steps=3).requires_grad_(True)
    learner = torch.optim.SGD(state.parameters(), lr=0.1) if list(state.parameters()) else None
    before = copy.deepcopy(state.state_dict())
    if learner:
        with pytest.warns(UserWarning, match=r"has learned nothing in this step of adapt, as the values of f are not"):
            adapt(estimator, broken, rows(q, 8), state, learner, seeded())
    else:
        adapt(estimator, broken, rows(q, 8), state, learner, seeded())
    state.update(torch.tensor(math.nan))
    for name, t in state.state_dict().items():
        assert torch.equal(t, before[name]), name
    adapt(estimator, curved, rows(q, 8), state, learner, seeded())
    assert all(t.isfinite().all() for t in state.state_dict().values())


@pytest.mark.parametrize("slope", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_once_does_not_poison_a_state_or_its_optimizer(slope):
    """REBAR evaluates f off the support, where its derivative is broken in one row of eight."""
    estimator = REBAR()
    q, state = problem(estimator), taught(estimator, curved, steps=3).requires_grad_(True)
    learner = torch.optim.Adam(state.parameters(), lr=0.1)

    def broken(x):
        if x.requires_grad:
            x.register_hook(lambda g: g * torch.tensor([slope, *[1.0] * 7]).unsqueeze(-1))
        return curved(x)

    with pytest.warns(UserWarning, match="as the elements of its gradient are not all finite. Its state stays usable"):
        adapt(estimator, broken, rows(q, 8), state, learner, seeded())
    held = [*state.state_dict().values(), *(t for each in learner.state.values() for t in each.values())]
    assert all(t.isfinite().all() for t in held)
    before = copy.deepcopy(state.state_dict())
    assert adapt(estimator, curved, rows(q, 8), state, learner, seeded(1)).isfinite()
    assert any(not torch.equal(t, before[name]) for name, t in state.named_parameters()), "it goes on learning"


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_a_state_serves_other_batch_sizes(estimator):
    state = taught(estimator, curved)
    for batch in ((), (5,), (2, 3)):
        value = estimator(curved, problem(estimator, batch=batch), seeded(), state)
        assert value.shape == batch
        state.update(value)


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_the_state_of_another_estimator_is_refused_in_one_sentence(estimator):
    other = NVIL() if isinstance(estimator, REBAR) else REBAR()
    state = other.init(problem(other))
    expected = rf"needs a state of class \w+ \(got a {type(state).__name__}\)\. Use .*\.init\(q\)"
    with pytest.raises(Refusal, match=expected):
        estimator(curved, problem(estimator), seeded(), state)


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_the_state_of_another_number_of_coordinates_is_refused_in_one_sentence_or_fits(estimator):
    state, own = (estimator.init(problem(estimator, dim=dim), seeded()) for dim in (5, 3))
    if type(estimator) not in (NVIL, RELAX, QuadraticControlVariate):
        assert state.inputs == own.inputs
        assert estimator(curved, problem(estimator), seeded(), state).isfinite()
        return
    with pytest.raises(Refusal, match=r"got a state made for (5|10) inputs, and this q has (3|6)\. Use .*\.init\(q\)"):
        estimator(curved, problem(estimator), seeded(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_the_state_of_another_dtype_is_refused_in_one_sentence(estimator, dtype):
    q = problem(estimator, dtype=dtype)
    for wrong in (torch.float64, torch.bfloat16):
        state = estimator.init(q, seeded()).to(wrong)
        sentence = rf"got a state in {wrong} on cpu, and this q needs one in torch.float32 on cpu\. Use state.to\("
        with pytest.raises(Refusal, match=sentence):
            estimator(curved, q, seeded(), state)
        assert estimator(curved, q, seeded(), state.to("cpu", torch.float32)).dtype == torch.float32


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_half_precision_learns_in_float32(estimator):
    state = estimator.init(problem(estimator, dtype=torch.bfloat16), seeded())
    assert all(t.dtype == torch.float32 for t in state.state_dict().values() if t.is_floating_point())
    q = rows(problem(estimator, dtype=torch.float16), 8)
    learner = torch.optim.Adam(state.parameters()) if list(state.parameters()) else None
    before = copy.deepcopy(dict(state.named_parameters()))
    assert adapt(estimator, lambda x: 100 * curved(x), q, state, learner, seeded()).isfinite()
    moved = [not torch.equal(p, before[name]) for name, p in state.named_parameters()]
    assert any(moved) or learner is None


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_it_learns_where_f_depends_on_q_and_on_other_parameters(estimator):
    """As in the bound of an autoencoder: the second derivative is taken in the state alone."""
    q, weight = rows(problem(estimator), 16), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    state = estimator.init(problem(estimator), seeded(1))
    learner = torch.optim.Adam(state.parameters()) if list(state.parameters()) else None
    before = copy.deepcopy(state.state_dict())
    adapt(
        estimator, lambda x: weight * curved(x) - next(iter(parameters(q).values())).square().sum(-1), q, state, learner
    )
    assert not torch.equal(state.mean, before["mean"])
    learned = {name for name, p in state.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learned or learner is None
    assert weight.grad is None


# Without a state --------------------------------------------------------------------------------------------------


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if "its state" in str(w.message)]


@pytest.mark.parametrize("estimator", LEARNED, ids=repr)
def test_calls_without_the_state_warn_once_with_lines_that_work(estimator, monkeypatch):
    monkeypatch.setattr("estimators._learned._MISSED", {})
    q, before = problem(estimator), torch.get_rng_state()

    def call():
        estimator(curved, q, seeded())

    assert warned(call) == []
    (text,) = warned(call)
    assert warned(call) == []
    assert torch.equal(torch.get_rng_state(), before)
    assert f"{estimator!r} is called again and again without its state" in text
    once, *every = (line.strip() for line in text.splitlines()[1:])
    assert len(every) == 2
    names = {
        type(estimator).__name__: type(estimator),
        "torch": torch,
        "adapt": adapt,
        "rows": rows,
        "f": curved,
        "q": q,
    }
    exec(once, names)
    fresh = copy.deepcopy(names["state"].state_dict())
    for _ in range(3):
        assert warned(lambda: exec("\n".join(every), names)) == []
    assert any(not torch.equal(t, fresh[name]) for name, t in names["state"].state_dict().items())


def test_with_its_state_nothing_is_said(monkeypatch):
    monkeypatch.setattr("estimators._learned._MISSED", {})
    state = AVERAGE.init(problem(AVERAGE))
    assert warned(lambda: [AVERAGE(curved, problem(AVERAGE), seeded(), state) for _ in range(5)]) == []
    assert warned(lambda: [ScoreFunction()(curved, problem(AVERAGE), seeded()) for _ in range(5)]) == []


def test_the_warning_points_at_the_call(monkeypatch):
    monkeypatch.setattr("estimators._learned._MISSED", {})
    REBAR()(curved, problem(REBAR()), seeded())
    with pytest.warns(UserWarning, match="without its state") as caught:
        REBAR()(curved, problem(REBAR()), seeded())
    assert caught[0].filename == __file__


# A maximised objective --------------------------------------------------------------------------------------------


def bandit(update):
    """Return the mean reward of the last 50 of 400 steps that maximise a reward, and the mean norm of the gradient."""
    logits = torch.zeros(10, requires_grad=True)
    reward = torch.linspace(0, 2, 10)
    optimizer, generator = torch.optim.SGD([logits], lr=0.05), seeded(3)
    state, rewards, norms = None, [], []
    for _ in range(400):
        q = OneHotCategorical(logits=logits)
        state = state or AVERAGE.init(q)
        value = AVERAGE(lambda x: x @ reward, q, generator, state)
        loss = -value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update(state, value, loss)
        rewards.append((logits.detach().softmax(-1) @ reward).item())
        norms.append(logits.grad.norm().item())
    return sum(rewards[-50:]) / 50, sum(norms) / 400


def test_a_baseline_follows_the_value_and_not_the_loss():
    none, own, wrong = (
        bandit(update)
        for update in (
            lambda *_: None,
            lambda state, value, loss: state.update(value),
            lambda state, value, loss: state.update(loss),
        )
    )
    assert own[1] < 0.7 * none[1] < none[1] < wrong[1]
