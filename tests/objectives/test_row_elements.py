"""The size of a row: declared by the catalogue, measured if a class declares nothing."""

import pickle
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Generator
from torch.distributions import Bernoulli, Categorical, Independent, Normal, OneHotCategorical

from bench.measurement.draws import cap
from bench.objectives import Objective, Problem, SigmoidBeliefNetwork, catalogue
from tests.conformance.objective_mutants import Attention


@dataclass(frozen=True)
class Categories(Objective):
    """32 variables of 10 categories: dim says 1 for each of 32 batch elements."""

    integers: bool = False
    dim = 1

    @property
    def family(self):
        return Categorical if self.integers else OneHotCategorical

    def build(self, dtype=torch.float32, device="cpu"):
        theta = {"logits": torch.zeros(32, 10, dtype=dtype, device=device, requires_grad=True)}
        f = (lambda x: x.to(dtype)) if self.integers else lambda x: x[..., 0]
        return Problem(theta, lambda t: self.family(logits=t["logits"]), lambda _q: f)


@dataclass(frozen=True)
class Layers(Objective):
    """Two bits, data of a million numbers that do not count, and a layer of ``width`` units that does."""

    width: int = 300
    dim = 2
    family = Bernoulli

    def build(self, dtype=torch.float32, device="cpu"):
        data = torch.ones(1000, 1000, dtype=dtype, device=device)
        weights = torch.ones(2, self.width, dtype=dtype, device=device)
        theta = {"logits": torch.zeros(2, dtype=dtype, device=device, requires_grad=True)}

        def f(x):
            return torch.relu(x @ weights).sum(-1) + data.square().mean()

        return Problem(theta, lambda t: Independent(Bernoulli(logits=t["logits"]), 1), lambda _q: f)


@dataclass(frozen=True)
class Network(Objective):
    """One normal, whose mean comes from 5,000 weights: every row has a gradient at them."""

    dim = 1
    family = Normal

    def build(self, dtype=torch.float32, device="cpu"):
        weights = torch.randn(5000, generator=Generator().manual_seed(0), dtype=torch.float64).to(device, dtype)
        return Problem({"w": weights.requires_grad_()}, lambda t: Normal(t["w"].mean(), 1.0), lambda _q: lambda x: x)


@pytest.mark.parametrize(
    ("objective", "size"),
    [
        (Categories(), 512),  # 320
        (Categories(integers=True), 512),  # a sampler compares 9 bounds of each variable; the parameters are 320
        (Layers(), 512),
        (Layers(width=3), 4),
        (Network(), 8192),
        (Attention(), 32),  # 6 x 5 distances
    ],
)
def test_the_largest_tensor_of_a_row_is_measured(objective, size):
    assert objective.row_elements == size


def test_every_objective_of_the_catalogue_declares_its_size_and_tells_the_truth():
    for cls in catalogue().values():
        assert cls.row_elements is not Objective.row_elements, cls
        objective = cls()
        measured = objective.measured_row_elements(with_theta=False)
        assert objective.row_elements / 2 < measured <= 4 * objective.row_elements, objective


def test_the_weights_between_wide_layers_count():
    wide = SigmoidBeliefNetwork(width=200)
    assert wide.row_elements >= 200 * 200
    assert wide.measured_row_elements(with_theta=False) <= 4 * wide.row_elements


def test_a_number_that_is_remembered_is_not_measured(monkeypatch):
    objective = replace(Categories())
    objective.remember_row_elements(64)
    monkeypatch.setattr(Categories, "build", lambda *_, **__: pytest.fail("built"))
    assert objective.row_elements == 64
    assert pickle.loads(pickle.dumps(objective)).row_elements == 64
    assert objective == Categories()
    assert cap(objective, "cpu") == 2**19 // 64


def test_a_number_is_measured_once(monkeypatch):
    objective = Layers()
    assert objective.row_elements == 512
    monkeypatch.setattr(Layers, "build", lambda *_, **__: pytest.fail("built"))
    assert objective.row_elements == 512


def test_an_objective_that_raises_counts_as_its_dimension(monkeypatch):
    monkeypatch.setattr(Layers, "build", lambda *_, **__: 1 / 0)
    assert Layers().row_elements == 2
