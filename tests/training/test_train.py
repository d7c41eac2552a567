"""Runs of training: against gradient descent by hand, undisturbed by looks, never lost."""

import os
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Generator
from torch.distributions import Bernoulli, Independent

from bench.execution.progress import Silent
from bench.measurement.engine import DTYPES, Engine
from bench.objectives import (
    BernoulliQuadratic,
    BernoulliVAE,
    CategoricalVAE,
    GaussianQuadratic,
    GaussianVAE,
    Objective,
    Problem,
    Qubo,
    catalogue,
)
from bench.planning.cells import Cell
from bench.planning.spec import Spec
from bench.records import store
from bench.training.settings import Training
from bench.training.train import TrainingRun, train
from bench.training.trainee import Trainee
from estimators import REBAR, RLOO, Enumeration, Estimator, Reparameterization, ScoreFunction

SMALL = BernoulliVAE(dim=3, hidden=5, batch=4)
SHARP = Training(steps=6, seeds=1, rate=0.05, measure_every=2, replicates=0, dtype="float64")


def done(estimator, objective, how=SHARP, seed=0):
    return TrainingRun.of(Cell(estimator, objective), how, seed).record()


def spec(*estimators, objective="gaussian-quadratic"):
    return Spec.of({"estimators": list(estimators), "objectives": [objective]})


# By hand --------------------------------------------------------------------------------------------------------------


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
    record = done(Enumeration(), objective, replace(SHARP, optimizer="sgd"))
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
    record = done(Enumeration(), SMALL, replace(SHARP, optimizer=optimizer))
    with torch.no_grad():
        held_out = problem.held_out.exact(problem.theta).item()
    assert record["curves"]["value"][-1] == pytest.approx(held_out, rel=1e-10)
    means = [sum(seen[a:b]) / (b - a) for a, b in pairwise(SHARP.checkpoints)]
    assert record["curves"]["training_value"][1:] == pytest.approx(means, rel=1e-10)
    assert record["batch"] == 4
    assert record["held_out"]
    assert record["exact_value"]


def test_a_sampled_value_agrees_with_the_exact_one_within_its_error():
    exact = done(Reparameterization(), GaussianVAE(dim=2, hidden=5, batch=4, decoder="linear"))

    @dataclass(frozen=True)
    class Closed(GaussianVAE):
        has_exact = False

        def build(self, dtype=torch.float32, device="cpu"):
            problem = super().build(dtype, device)
            return replace(problem, exact=None, held_out=replace(problem.held_out, exact=None))

    sampled = done(Reparameterization(), Closed(dim=2, hidden=5, batch=4, decoder="linear"))
    assert not sampled["exact_value"]
    first = [record["curves"]["value"][0] for record in (exact, sampled)]
    error = sampled["curves"]["value_error"][0]
    assert 0 < error < 5  # of a value near -600
    assert first[0] != first[1]
    assert abs(first[0] - first[1]) < 5 * error


# Looks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [RLOO(), REBAR(), ScoreFunction(baseline="moving-average")], ids=repr)
def test_a_run_that_is_looked_at_is_the_run_that_is_not(estimator):
    blind = Training(steps=7, rate=1e-2, measure_every=7, replicates=0)
    watched = replace(blind, measure_every=2, replicates=64)
    records = [done(estimator, SMALL, how) for how in (blind, watched)]
    assert records[0]["weights_digest"] == records[1]["weights_digest"]
    assert records[0]["curves"]["value"] == records[1]["curves"]["value"][:: len(watched.checkpoints) - 1]
    assert len(set(records[1]["curves"]["value"])) == 5
    assert "variance" not in records[0]["curves"]
    assert all(v > 0 for v in records[1]["curves"]["variance"])


def test_the_variance_at_the_start_is_that_of_bench_run():
    how = Training(replicates=64)
    cell = Cell(RLOO(), SMALL)
    trainee, engine = Trainee(cell, how, 0), Engine(cell, how.settings(0))
    before, there = trainee.engine().draw_gradients(0), engine.draw_gradients(0)
    assert (before - there).norm() < 1e-5 * there.norm()  # f is summed up in another way where its weights are trained
    trainee.step(0)
    assert not trainee.engine().draw_gradients(0).equal(before)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    done(REBAR(), SMALL)
    assert torch.get_rng_state().equal(before)


# Seeds ----------------------------------------------------------------------------------------------------------------


def test_estimators_share_weights_and_data_of_a_seed_and_seeds_differ():
    start = {
        (repr(e), seed): done(e, SMALL, seed=seed)["curves"]["value"][0]
        for e in (RLOO(), Enumeration())
        for seed in (0, 1)
    }
    assert start["RLOO(n=2)", 0] == start["Enumeration()", 0] != start["RLOO(n=2)", 1] == start["Enumeration()", 1]


def test_minibatches_are_an_order_of_the_training_images():
    """An image is known by its latents' means: no two images of grey levels share them."""

    def codes(problem):
        return {tuple(row.tolist()) for row in problem.q(problem.theta).base_dist.loc.detach()}

    objective = GaussianVAE(batch=400, decoder="linear")
    problem = objective.build(torch.float64)
    epochs = [[codes(problem.minibatch(3 * epoch + i)) for i in range(3)] for epoch in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [400] * 3
        assert len(set.union(*epoch)) == 1200
        assert not set.union(*epoch) & codes(problem.held_out)
    assert epochs[0][0] != epochs[1][0]
    assert codes(problem.minibatch(1)) == epochs[0][1]
    assert codes(objective.restarted(1).build(torch.float64).minibatch(0)) != epochs[0][0]


@pytest.mark.parametrize("objective", [GaussianVAE(seed=2), BernoulliVAE(seed=2), CategoricalVAE(seed=2)])
def test_a_restarted_autoencoder_has_other_weights(objective):
    assert objective.restarted(0) == objective
    assert objective.restarted(3) == replace(objective, seed=5)
    weights = [next(iter(o.build().theta.values())) for o in (objective, objective.restarted(1))]
    assert not weights[0].equal(weights[1])
    assert Qubo().restarted(3) == Qubo()


def test_a_batch_larger_than_the_training_images_is_all_of_them():
    problem = BernoulliVAE(batch=1797).build()
    assert problem.q(problem.theta).batch_shape == (1797,)
    assert problem.minibatch(0).q(problem.theta).batch_shape == (1500,)


def test_pictures_are_grey_images_of_what_was_learned():
    for objective in (GaussianVAE(dim=1, hidden=4), SMALL, CategoricalVAE(dim=2, classes=3, hidden=4)):
        problem = objective.build()
        found = problem.pictures(Generator().manual_seed(0))
        assert {name: x.shape[2:] for name, x in found.items()} == dict.fromkeys(
            ("reconstructions", "samples", "walk"), (8, 8)
        )
        assert all(0 <= x.min() <= x.max() <= 1 for x in found.values())
        before = found["walk"]
        with torch.no_grad():
            problem.extra["bias"] += 3
        assert not problem.pictures(Generator().manual_seed(0))["walk"].equal(before)
    (first, *_), second = found["reconstructions"][:2]
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    assert len(second.unique()) > 2


# Learned control variates ---------------------------------------------------------------------------------------------


def test_a_control_variate_learns_along_the_way_and_pays_for_it():
    trainee = Trainee(Cell(REBAR(), SMALL), SHARP, 0)
    before = {name: t.clone() for name, t in trainee.state.named_parameters()}
    for i in range(3):
        trainee.step(i)
    assert all(not t.equal(before[name]) for name, t in trainee.state.named_parameters())
    assert not any(t.requires_grad for t in trainee.state.parameters())
    record = done(REBAR(), SMALL)
    assert (record["f_evals"], record["grad_evals"], record["adapt_f_evals"]) == (2, 1, 2)


def test_a_moving_average_follows_the_loss_for_nothing():
    trainee = Trainee(Cell(ScoreFunction(baseline="moving-average"), SMALL), SHARP, 0)
    value = trainee.step(0)
    assert trainee.state.mean.item() == pytest.approx(value)
    assert done(ScoreFunction(baseline="moving-average"), SMALL)["adapt_f_evals"] == 0


# What goes wrong ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd(Objective):
    """A bit, in several ways not as it should be."""

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


@dataclass(frozen=True)
class Moody(Estimator):
    """Fails or is interrupted where a file is not."""

    how: str = ""

    def __call__(self, f, q, generator=None, state=None):
        if self.how and not Path(os.environ["MOODY"]).exists():
            raise KeyboardInterrupt if self.how == "interrupt" else RuntimeError("out of luck")
        return ScoreFunction()(f, q, generator)


def test_a_value_that_is_not_a_number_ends_the_run_and_keeps_what_was_seen():
    record = done(ScoreFunction(), Odd())
    assert record["outcome"] == "diverged"
    assert record["reason"] == "The value of f in training became nan at step 1."
    assert record["curves"]["value"] == [0.5]


def test_an_explosion_is_recorded_as_divergence():
    how = Training(steps=50, rate=100.0, optimizer="sgd", measure_every=1, replicates=0)
    record = done(Reparameterization(), GaussianQuadratic(dim=2), how)
    assert record["outcome"] == "diverged"
    assert "by step" in record["reason"] or "at step" in record["reason"]
    assert 1 < len(record["curves"]["value"]) < 51


def test_weights_that_are_not_finite_make_a_divergence_of_what_an_estimator_raises():
    trainee = Trainee(Cell(Moody("fail"), BernoulliQuadratic()), SHARP, 0)
    os.environ["MOODY"] = "/nowhere"
    with pytest.raises(RuntimeError):
        trainee.step_or_nan(0)
    with torch.no_grad():
        trainee.weights[0].fill_(torch.inf)
    assert torch.tensor(trainee.step_or_nan(0)).isnan()


@pytest.mark.parametrize("how", ["empty", "constant"])
def test_an_objective_that_cannot_be_trained_says_so(how):
    record = done(ScoreFunction(), Odd(how))
    assert record["outcome"] == "failed"
    assert "cannot be trained" in record["reason"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is a whole number of at least 1 (got 0)."),
        ({"seeds": 1.5}, "seeds is a whole number"),
        ({"measure_every": 0}, "measure_every is a whole number"),
        ({"replicates": -1}, "replicates is a whole number of at least 0"),
        ({"optimizer": "lion"}, "optimizer is one of adam, sgd, rmsprop (got 'lion')."),
        ({"rate": -1e-3}, "a finite number above 0 (got -0.001)."),
        ({"rate": float("nan")}, "a finite number above 0 (got nan)."),
        ({"rate": "fast"}, "a finite number above 0 (got 'fast')."),
        ({"dtype": "float16"}, "dtype is float32 or float64"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Training(**wrong)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device is cuda, and torch finds no CUDA device here\. Use device='cpu'\."):
        Training(device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("estimator", "objective"),
    [(Enumeration(), SMALL), (REBAR(), SMALL), (Reparameterization(), GaussianVAE(dim=2, hidden=5, batch=4))],
    ids=repr,
)
def test_a_gpu_learns_what_a_processor_learns(estimator, objective):
    here, there = (done(estimator, objective, replace(SHARP, replicates=64, device=d)) for d in ("cpu", "cuda"))
    assert (there["outcome"], there["device"]) == ("measured", "cuda")
    assert there["curves"]["value"][0] == pytest.approx(here["curves"]["value"][0], rel=1e-9)
    assert all(v > 0 or estimator.deterministic for v in there["curves"]["variance"])
    assert here["pictures"].keys() == there["pictures"].keys()
    if estimator.deterministic:  # no noise, so the same steps; else a GPU draws other noise from the same seeds
        assert there["curves"]["value"] == pytest.approx(here["curves"]["value"], rel=1e-9)


# Folders --------------------------------------------------------------------------------------------------------------


TINY = Training(steps=2, seeds=2, replicates=0)


def test_what_is_on_record_is_not_trained_again(tmp_path, monkeypatch):
    first = train(spec("rloo"), TINY, tmp_path, Silent())
    assert [(r["kind"], r["seed"], r["outcome"]) for r in first] == [("training", s, "measured") for s in (0, 1)]
    trained = []
    kept = TrainingRun.record
    monkeypatch.setattr(TrainingRun, "record", lambda run, *told: trained.append(run.label) or kept(run, *told))
    assert train(spec("rloo"), TINY, tmp_path, Silent()) == first
    assert trained == []
    more = train(spec("rloo", "score-function"), replace(TINY, seeds=3), tmp_path, Silent())
    assert {(r["estimator"], r["seed"]) for r in more} == {(e, s) for e in ("rloo", "score-function") for s in range(3)}
    assert len(trained) == 4
    other = train(spec("rloo"), replace(TINY, rate=0.1), tmp_path, Silent())
    assert not {r["run"] for r in other} & {r["run"] for r in more}


def test_an_interruption_loses_the_run_under_way_and_failures_are_tried_again(tmp_path, monkeypatch):
    switch = tmp_path / "switch"
    monkeypatch.setenv("MOODY", str(switch))
    mine = f"{__file__}::Moody"
    with pytest.raises(KeyboardInterrupt):
        train(spec("rloo", f"{mine}:how=interrupt"), TINY, tmp_path / "a", Silent())
    assert [r["estimator"] for r in store.read(tmp_path / "a")] == ["rloo"]
    failed = train(spec(f"{mine}:how=fail", "rloo"), TINY, tmp_path / "b", Silent())
    assert sorted(r["outcome"] for r in failed) == ["failed", "failed", "measured", "measured"]
    assert any("RuntimeError: out of luck" in (r["reason"] or "") for r in failed)
    switch.touch()
    for folder, how in (("a", "interrupt"), ("b", "fail")):
        again = train(spec(f"{mine}:how={how}", "rloo"), TINY, tmp_path / folder, Silent())
        assert {r["outcome"] for r in again} == {"measured"}
        assert len(again) == 4


def test_what_does_not_fit_is_a_record_with_its_reason(tmp_path):
    records = train(spec("enumeration", "rloo"), TINY, tmp_path, Silent())
    assert [(r["outcome"], r["estimator"]) for r in records] == [
        ("skipped", "enumeration"),
        ("measured", "rloo"),
        ("measured", "rloo"),
    ]
    assert "Enumeration" in records[0]["reason"]
    assert train(spec("enumeration", "rloo"), TINY, tmp_path, Silent()) == records


def test_workers_change_no_figure_but_the_seconds(tmp_path):
    def figures(records):
        return sorted((r["estimator"], r["seed"], r["weights_digest"], r["curves"]["value"]) for r in records)

    how = replace(TINY, steps=5)
    alone = train(spec("rloo", "reparameterization"), how, tmp_path / "a", Silent(), workers=1)
    together = train(spec("rloo", "reparameterization"), how, tmp_path / "b", Silent(), workers=2)
    assert figures(alone) == figures(together)


def test_every_objective_can_be_trained():
    how = Training(steps=2, measure_every=2, replicates=0)
    for name, cls in catalogue().items():
        record = done(RLOO(), cls(), how)
        assert record["outcome"] == "measured", (name, record["reason"])
        assert DTYPES[record["dtype"]] == torch.float32
