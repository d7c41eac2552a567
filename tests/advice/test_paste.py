"""The lines to paste run, and they train: for every estimator of the catalogue."""

import pytest
import torch
from torch.distributions import Bernoulli, Gamma, Independent, Normal, OneHotCategorical, Poisson

from bench import Expectation
from bench.advice.paste import Loop, learning, lines_for, spelled
from estimators import (
    NVIL,
    RLOO,
    DisARM,
    Enumeration,
    GumbelSoftmax,
    Layers,
    Repeated,
    ScoreFunction,
    SetFunction,
    Subset,
    TablePolicy,
    TokenSequence,
    catalogue,
)

CATALOGUE = catalogue()
FAMILIES = {
    Normal: (lambda theta: Independent(Normal(theta[0], 1 + theta[1].exp()), 1), (torch.zeros(3), torch.zeros(3))),
    Bernoulli: (lambda theta: Independent(Bernoulli(logits=theta[0]), 1), (torch.zeros(3),)),
    OneHotCategorical: (lambda theta: OneHotCategorical(logits=theta[0]), (torch.zeros(3),)),
    Poisson: (lambda theta: Independent(Poisson(theta[0].exp()), 1), (torch.zeros(3),)),
    Gamma: (
        lambda theta: Independent(Gamma(theta[0].exp() + 2, 1 + theta[1].exp()), 1),
        (torch.ones(3), torch.ones(3)),
    ),
    Subset: (lambda theta: Subset(logits=theta[0], k=2), (torch.zeros(3),)),
    TokenSequence: (
        lambda theta: TokenSequence({"logits": theta[0]}, TablePolicy(3), 1, 3),
        (torch.zeros(1, 7, 3),),
    ),
    Repeated: (
        lambda theta: Repeated(Independent(Bernoulli(logits=theta[0]), 1), 2),
        (torch.zeros(3),),
    ),
    Layers: (
        lambda theta: Layers(
            {"first": theta[0], "second": theta[1]},
            [
                lambda w: Independent(Bernoulli(logits=w["first"]), 1),
                lambda w, z: Independent(Bernoulli(logits=z[..., :1] + w["second"]), 1),
            ],
        ),
        (torch.zeros(2), torch.zeros(1)),
    ),
}


def served(cls):
    """Return the first family that an estimator works with."""
    return next(family for family in FAMILIES if cls().refuses(family) is None)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_lines_of_every_estimator_run_and_train(name, capsys):
    cls = CATALOGUE[name]
    estimator, (q, start) = cls(), FAMILIES[served(cls)]
    theta = [t.clone().requires_grad_() for t in start]
    weights = torch.tensor([1.0, -2.0, 0.5])
    bound, particles = estimator.needs_bound, 4 if name == "vimco" else None
    log_joint = lambda x: -(x - weights).square().sum(-1)  # noqa: E731
    if particles:
        q, theta = (lambda theta: Independent(Normal(theta[0].expand(4, 3), 1.0), 2)), theta[:1]
    loop = Loop(f="log_joint" if bound else "f", bound=bound, particles=particles)
    code = lines_for(estimator, loop, learns=learning(estimator, q(theta)))
    reward = lambda x: (x * weights).sum(-1)  # noqa: E731
    f = SetFunction(reward, lambda values: values.amax(-1)) if estimator.needs_set else reward
    names = {"theta": theta, "q": q, "log_joint": log_joint, "f": f, "steps": 3}
    torch.manual_seed(1)
    exec(code, names)
    assert any(not torch.equal(t, was) for t, was in zip(theta, start, strict=False))
    assert all(t.isfinite().all() for t in theta)
    assert capsys.readouterr().err == ""


def test_training_goes_downhill_or_uphill_as_the_objective_says():
    theta, q = [torch.zeros(3, requires_grad=True)], FAMILIES[Bernoulli][0]
    for maximise, sign in ((False, -1), (True, 1)):
        theta[0].data.zero_()
        code = lines_for(Enumeration(), Loop(maximise=maximise), learns=None)
        exec(code, {"theta": theta, "q": q, "f": lambda x: x.sum(-1), "steps": 3})
        assert (sign * theta[0] > 0).all()


def test_a_state_is_made_before_the_loop_and_learns_in_it():
    q = FAMILIES[Bernoulli][0]([torch.zeros(3, requires_grad=True)])
    network = lines_for(NVIL(n=2), Loop(), learns=learning(NVIL(n=2), q))
    assert "adapt(estimator, f, copies, state, learner)" in network
    assert "state.update" not in network
    averages = ScoreFunction(n=2, baseline="moving-average")
    averaged = lines_for(averages, Loop(), learns=learning(averages, q))
    assert averaged.rstrip().endswith("state.update(value.detach())")
    assert "adapt" not in averaged
    assert "state" not in lines_for(RLOO(n=4), Loop(), learns=learning(RLOO(n=4), q))


def test_an_estimator_is_spelled_with_n_and_what_is_not_the_default():
    assert spelled(RLOO(n=2)) == "RLOO(n=2)"
    assert spelled(GumbelSoftmax(n=4, temperature=0.5)) == "GumbelSoftmax(n=4, temperature=0.5)"
    assert spelled(DisARM()) == "DisARM(n=2)"
    assert spelled(Enumeration()) == "Enumeration()"


NET = torch.nn.Linear(3, 4)
DECODER = torch.nn.Linear(4, 3)
DATA = torch.randn(20, 3)


def hot(net, x):
    return OneHotCategorical(logits=net(x))


ARGUMENTS = {
    "a module": {"q": lambda net: hot(net, DATA), "f": lambda x: x[..., 0], "theta": NET},
    "a dict": {
        "q": lambda theta: OneHotCategorical(logits=theta["logits"]),
        "f": lambda x: x[..., 0],
        "theta": {"logits": torch.zeros(4)},
    },
    "minibatches and a module of f": {
        "q": hot,
        "f": lambda x, decoder, y: (decoder(x) - y).square().sum(-1),
        "theta": NET,
        "extra": DECODER,
        "data": (DATA,),
        "batch_size": 5,
    },
    "a bound with tensors of f": {
        "q": hot,
        "log_joint": lambda x, extra, y: -(x @ extra["W"] - y).square().sum(-1),
        "theta": NET,
        "extra": {"W": torch.randn(4, 3)},
        "data": (DATA,),
        "batch_size": 5,
    },
}


@pytest.mark.parametrize("estimator", [RLOO(n=2), NVIL(n=2), ScoreFunction(baseline="moving-average")], ids=repr)
@pytest.mark.parametrize("form", ARGUMENTS)
def test_the_lines_for_an_expectation_use_its_arguments_as_they_were_given(form, estimator):
    torch.manual_seed(0)
    given = dict(ARGUMENTS[form])
    expectation = Expectation(**given)
    problem = expectation.build()
    code = lines_for(estimator, Loop.of(expectation), learns=learning(estimator, problem.q(problem.theta)))
    trained = [given["theta"], given.get("extra", {})]
    tensors = [t for each in trained for t in (each.values() if isinstance(each, dict) else each.parameters())]
    for t in tensors:
        t.requires_grad_()
    before = [t.detach().clone() for t in tensors]
    exec(code, {**given, "steps": 30})
    assert all(not torch.equal(t, was) for t, was in zip(tensors, before, strict=True))
