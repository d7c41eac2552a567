"""Training: against gradient descent by hand, undisturbed by checkpoints, with divergence on record."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch.distributions import Bernoulli, Independent

from bench.measurement.engine import Engine
from bench.objectives import BernoulliQuadratic, GaussianQuadratic, GaussianVAE, Objective, Problem, Qubo
from bench.planning.cells import Cell
from bench.training.settings import Training
from bench.training.trainee import Trainee
from estimators import REBAR, RLOO, Enumeration, Reparameterization, ScoreFunction
from tests.training.runs import SHARP, SMALL, Moody, record_of


@pytest.mark.parametrize("objective", [BernoulliQuadratic(dim=3, target=0.3), Qubo(dim=4, degree=2)])
def test_without_noise_it_is_gradient_descent_or_ascent_on_the_exact_value(objective):
    problem = objective.build(torch.float64)
    upwards = isinstance(objective, Qubo)
    (theta,) = problem.theta.values()
    by_hand = []
    for step in range(SHARP.steps + 1):
        value = problem.exact(problem.theta)
        by_hand += [value.item()] if step in SHARP.checkpoints else []
        (slope,) = torch.autograd.grad(value, theta)
        with torch.no_grad():
            theta += (0.05 if upwards else -0.05) * slope
    record = record_of(Enumeration(), objective, replace(SHARP, optimizer="sgd"))
    assert record["curves"]["step"] == [0, 2, 4, 6]
    assert record["curves"]["value"] == pytest.approx(by_hand, rel=1e-12)
    assert (by_hand[-1] > by_hand[0]) == upwards == record["maximise"]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_encoder_and_decoder_learn_from_minibatches_as_they_would_by_hand(optimizer):
    problem = SMALL.build(torch.float64)
    weights = [*problem.theta.values(), *(t.requires_grad_() for t in problem.extra.values())]
    optimise = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[optimizer](weights, lr=0.05)
    seen = []
    for i in range(SHARP.steps):
        optimise.zero_grad()
        value = problem.minibatch(i).exact(problem.theta)
        (-value).backward()
        optimise.step()
        seen.append(value.item())
    record = record_of(Enumeration(), SMALL, replace(SHARP, optimizer=optimizer))
    with torch.no_grad():
        held_out = problem.held_out.exact(problem.theta).item()
    assert record["curves"]["value"][-1] == pytest.approx(held_out, rel=1e-10)
    means = [sum(seen[a:b]) / (b - a) for a, b in pairwise(SHARP.checkpoints)]
    assert record["curves"]["training_value"][1:] == pytest.approx(means, rel=1e-10)
    assert record["batch"] == 4
    assert record["held_out"]
    assert record["exact_value"]


def test_a_sampled_value_agrees_with_the_exact_one_within_its_error():
    exact = record_of(Reparameterization(), GaussianVAE(dim=2, hidden=5, batch=4, decoder="linear"))

    @dataclass(frozen=True)
    class Closed(GaussianVAE):
        has_exact = False

        def build(self, dtype=torch.float32, device="cpu"):
            problem = super().build(dtype, device)
            return replace(problem, exact=None, held_out=replace(problem.held_out, exact=None))

    sampled = record_of(Reparameterization(), Closed(dim=2, hidden=5, batch=4, decoder="linear"))
    assert not sampled["exact_value"]
    first = [record["curves"]["value"][0] for record in (exact, sampled)]
    error = sampled["curves"]["value_error"][0]
    assert 0 < error < 5  # of a value near -600
    assert first[0] != first[1]
    assert abs(first[0] - first[1]) < 5 * error


@pytest.mark.parametrize("estimator", [RLOO(), REBAR(), ScoreFunction(baseline="moving-average")], ids=repr)
def test_checkpoints_do_not_change_a_run(estimator):
    blind = Training(steps=7, rate=1e-2, measure_every=7, replicates=0)
    watched = replace(blind, measure_every=2, replicates=64)
    records = [record_of(estimator, SMALL, how) for how in (blind, watched)]
    assert records[0]["weights_digest"] == records[1]["weights_digest"]
    assert records[0]["curves"]["value"] == records[1]["curves"]["value"][:: len(watched.checkpoints) - 1]
    assert len(set(records[1]["curves"]["value"])) == 5
    assert "variance" not in records[0]["curves"]
    assert all(v > 0 for v in records[1]["curves"]["variance"])


def test_the_variance_at_the_start_is_the_variance_of_a_measurement():
    how = Training(replicates=64)
    cell = Cell(RLOO(), SMALL)
    trainee, engine = Trainee(cell, how, 0), Engine(cell, how.settings(0))
    before, there = trainee.engine().draw_gradients(0), engine.draw_gradients(0)
    assert (before - there).norm() < 1e-5 * there.norm()  # f is summed up in another way where its weights are trained
    trainee.step(0)
    assert not trainee.engine().draw_gradients(0).equal(before)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    record_of(REBAR(), SMALL)
    assert torch.get_rng_state().equal(before)


def test_estimators_share_weights_and_data_of_a_seed_and_seeds_differ():
    start = {
        (type(e).__name__, seed): record_of(e, SMALL, seed=seed)["curves"]["value"][0]
        for e in (RLOO(), Enumeration())
        for seed in (0, 1)
    }
    assert start["RLOO", 0] == start["Enumeration", 0] != start["RLOO", 1] == start["Enumeration", 1]


def test_a_control_variate_learns_along_the_way_and_pays_for_it():
    trainee = Trainee(Cell(REBAR(), SMALL), SHARP, 0)
    before = {name: t.clone() for name, t in trainee.state.named_parameters()}
    for i in range(3):
        trainee.step(i)
    assert all(not t.equal(before[name]) for name, t in trainee.state.named_parameters())
    assert not any(t.requires_grad for t in trainee.state.parameters())
    record = record_of(REBAR(), SMALL)
    assert (record["f_evals"], record["grad_evals"], record["adapt_f_evals"]) == (2, 1, 2)


def test_a_moving_average_follows_the_loss_without_evaluations():
    trainee = Trainee(Cell(ScoreFunction(baseline="moving-average"), SMALL), SHARP, 0)
    value = trainee.step(0)
    assert trainee.state.mean.item() == pytest.approx(value)
    assert record_of(ScoreFunction(baseline="moving-average"), SMALL)["adapt_f_evals"] == 0


@dataclass(frozen=True)
class Odd(Objective):
    """A bit with a fault: `how` names it."""

    how: str = "nan"
    dim = 1
    family = Bernoulli

    def build(self, dtype=torch.float32, device="cpu"):
        logits = torch.zeros(1, dtype=dtype, device=device, requires_grad=self.how != "constant")

        def q(theta):
            return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

        def f(x):
            return x.sum(-1) * (torch.nan if self.how == "nan" else 1.0)

        theta = {} if self.how == "empty" else {"logits": logits}
        return Problem(theta, q, lambda _q: f, lambda theta: theta["logits"].sigmoid().sum())


def test_a_value_that_is_not_a_number_ends_the_run_and_keeps_what_was_seen():
    record = record_of(ScoreFunction(), Odd())
    assert record["outcome"] == "diverged"
    assert record["reason"] == "The value of f in training became nan at step 1."
    assert record["curves"]["value"] == [0.5]


def test_an_explosion_is_recorded_as_divergence():
    how = Training(steps=50, rate=100.0, optimizer="sgd", measure_every=1, replicates=0)
    record = record_of(Reparameterization(), GaussianQuadratic(dim=2), how)
    assert record["outcome"] == "diverged"
    assert "by step" in record["reason"] or "at step" in record["reason"]
    assert 1 < len(record["curves"]["value"]) < 51


def test_weights_that_are_not_finite_make_a_divergence_of_what_an_estimator_raises(monkeypatch):
    trainee = Trainee(Cell(Moody(), BernoulliQuadratic()), SHARP, 0)
    monkeypatch.setenv("MOODY", "/nowhere")
    with pytest.raises(RuntimeError):
        trainee.step_or_nan(0)
    with torch.no_grad():
        trainee.weights[0].fill_(torch.inf)
    assert torch.tensor(trainee.step_or_nan(0)).isnan()


@pytest.mark.parametrize("how", ["empty", "constant"])
def test_an_objective_that_cannot_be_trained_says_so(how):
    record = record_of(ScoreFunction(), Odd(how))
    assert record["outcome"] == "failed"
    assert "cannot be trained" in record["reason"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("estimator", "objective"),
    [(Enumeration(), SMALL), (REBAR(), SMALL), (Reparameterization(), GaussianVAE(dim=2, hidden=5, batch=4))],
    ids=repr,
)
def test_a_gpu_learns_what_a_processor_learns(estimator, objective):
    here, there = (record_of(estimator, objective, replace(SHARP, replicates=64, device=d)) for d in ("cpu", "cuda"))
    assert (there["outcome"], there["device"]) == ("measured", "cuda")
    assert there["curves"]["value"][0] == pytest.approx(here["curves"]["value"][0], rel=1e-9)
    assert all(v > 0 or estimator.deterministic for v in there["curves"]["variance"])
    assert here["pictures"].keys() == there["pictures"].keys()
    if estimator.deterministic:  # no noise, so the same steps; else a GPU draws other noise from the same seeds
        assert there["curves"]["value"] == pytest.approx(here["curves"]["value"], rel=1e-9)
