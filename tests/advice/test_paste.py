"""The lines to paste run, and they train: for every estimator of the catalogue."""

import pytest
import torch
from torch.distributions import Bernoulli, Gamma, Independent, Normal, OneHotCategorical, Poisson

from bench.advice.paste import learning, lines_for, spelled
from estimators import NVIL, RLOO, DisARM, Enumeration, GumbelSoftmax, ScoreFunction, Subset, catalogue

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
    code = lines_for(estimator, bound=bound, particles=particles, learns=learning(estimator, q(theta)))
    names = {"theta": theta, "q": q, "log_joint": log_joint, "f": lambda x: (x * weights).sum(-1), "steps": 3}
    exec(code, names)
    assert any(not torch.equal(t, was) for t, was in zip(theta, start, strict=False))
    assert all(t.isfinite().all() for t in theta)
    assert capsys.readouterr().err == ""


def test_training_goes_downhill_or_uphill_as_the_objective_says():
    theta, q = [torch.zeros(3, requires_grad=True)], FAMILIES[Bernoulli][0]
    for maximise, sign in ((False, -1), (True, 1)):
        theta[0].data.zero_()
        code = lines_for(Enumeration(), maximise=maximise, learns=None)
        exec(code, {"theta": theta, "q": q, "f": lambda x: x.sum(-1), "steps": 3})
        assert (sign * theta[0] > 0).all()


def test_a_state_is_made_before_the_loop_and_learns_in_it():
    q = FAMILIES[Bernoulli][0]([torch.zeros(3, requires_grad=True)])
    network = lines_for(NVIL(n=2), learns=learning(NVIL(n=2), q))
    assert "adapt(estimator, f, copies, state, learner)" in network
    assert "state.update" not in network
    averages = ScoreFunction(n=2, baseline="moving-average")
    averaged = lines_for(averages, learns=learning(averages, q))
    assert averaged.rstrip().endswith("state.update(value.detach())")
    assert "adapt" not in averaged
    assert "state" not in lines_for(RLOO(n=4), learns=learning(RLOO(n=4), q))


def test_an_estimator_is_spelled_with_n_and_what_is_not_the_default():
    assert spelled(RLOO(n=2)) == "RLOO(n=2)"
    assert spelled(GumbelSoftmax(n=4, temperature=0.5)) == "GumbelSoftmax(n=4, temperature=0.5)"
    assert spelled(DisARM()) == "DisARM(n=2)"
    assert spelled(Enumeration()) == "Enumeration()"
