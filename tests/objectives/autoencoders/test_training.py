"""Training of autoencoders: minibatches, other weights for other seeds, pictures."""

from dataclasses import replace

import pytest
import torch

from bench.objectives import BernoulliVAE, CategoricalVAE, GaussianVAE, Qubo
from tests.problems import seeded


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
    for objective in (
        GaussianVAE(dim=1, hidden=4),
        BernoulliVAE(dim=3, hidden=5, batch=4),
        CategoricalVAE(dim=2, classes=3, hidden=4),
    ):
        problem = objective.build()
        found = problem.pictures(seeded())
        assert {name: x.shape[2:] for name, x in found.items()} == dict.fromkeys(
            ("reconstructions", "samples", "walk"), (8, 8)
        )
        assert all(0 <= x.min() <= x.max() <= 1 for x in found.values())
        before = found["walk"]
        with torch.no_grad():
            problem.extra["bias"] += 3
        assert not problem.pictures(seeded())["walk"].equal(before)
    (first, *_), second = found["reconstructions"][:2]
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    assert len(second.unique()) > 2
