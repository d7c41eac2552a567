"""Weights as points of measurement: kept, restored, identified by content, refused in one sentence."""

import re
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch

from bench.execution.progress import Silent
from bench.objectives import BernoulliVAE, CategoricalVAE, GaussianVAE
from bench.planning.cells import Cell
from bench.planning.selectors import UsageError
from bench.planning.spec import Spec
from bench.records.identity import cell_id, identity
from bench.training.settings import Training
from bench.training.train import train
from bench.training.trainee import Trainee
from estimators import RLOO

SMALL = BernoulliVAE(dim=2, hidden=3, batch=4)
HOW = Training(steps=3, seeds=1, replicates=0)


@pytest.fixture
def path(tmp_path):
    """Weights of the small autoencoder after three steps."""
    spec = Spec.of({"estimators": ["rloo"], "objectives": ["bernoulli-vae:dim=2,hidden=3,batch=4"]})
    (line,) = train(spec, HOW, tmp_path, Silent(), keep_weights=True)
    (file,) = (tmp_path / "weights").iterdir()
    assert file.name == f"{line['weights_digest']}.pt"
    return file


@pytest.mark.parametrize("cls", [GaussianVAE, BernoulliVAE, CategoricalVAE])
def test_trained_weights_are_better_than_the_initial_ones_on_held_out_images(cls):
    def value(objective):
        return Trainee(Cell(RLOO(), objective), HOW, 0).value()[0]

    assert value(cls(at="trained")) > value(cls()) + 15


def test_measurement_at_kept_weights_begins_where_the_run_ended(path):
    trainee = Trainee(Cell(RLOO(), SMALL), HOW, 0)
    for i in range(3):
        trainee.step(i)
    problem = replace(SMALL, at=str(path)).build(torch.float64)
    for mine, restored in ((trainee.problem.theta, problem.theta), (trainee.problem.extra, problem.extra)):
        assert all(restored[name].equal(t.double()) for name, t in mine.items())
    assert all(t.is_leaf and t.requires_grad for t in problem.theta.values())
    assert not SMALL.build(torch.float64).theta["weight"].equal(problem.theta["weight"])


def test_the_identity_of_weights_is_their_content(path, tmp_path):
    copy = tmp_path / "copy.pt"
    shutil.copy(path, copy)
    one, other = (replace(SMALL, at=str(p)) for p in (path, copy))
    assert identity(one) == identity(other) == {**identity(SMALL), "at": path.stem}
    assert cell_id(RLOO(), one) != cell_id(RLOO(), SMALL)
    weights = torch.load(copy, weights_only=True)
    weights["extra"]["bias"] += 1
    torch.save(weights, copy)
    assert identity(one) != identity(other)


def test_deleted_weights_are_made_again(path, tmp_path):
    before = path.read_bytes()
    path.unlink()
    spec = Spec.of({"estimators": ["rloo"], "objectives": ["bernoulli-vae:dim=2,hidden=3,batch=4"]})
    train(spec, HOW, tmp_path, Silent())
    assert not path.exists()
    train(spec, HOW, tmp_path, Silent(), keep_weights=True)
    assert path.read_bytes() == before


def test_a_file_without_weights_is_refused(tmp_path):
    for content, message in (
        (b"nonsense", "cannot be read safely as a file of weights"),
        ({"w": torch.ones(1)}, "holds no weights of an autoencoder"),
        ({"theta": {"w": 1.0}, "extra": {}}, "holds no weights of an autoencoder"),
    ):
        path = tmp_path / "wrong.pt"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(ValueError, match=re.escape(message)):
            BernoulliVAE(at=str(path))
    with pytest.raises(ValueError, match=r"There is no file of weights 'absent\.pt'"):
        BernoulliVAE(at="absent.pt")
    with pytest.raises(ValueError, match="needs at='initial', 'trained' or the path"):
        BernoulliVAE(at=3)


def test_a_file_that_would_run_code_is_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file ran code",))

    torch.save({"theta": {"w": Trap()}, "extra": {}}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="cannot be read safely"):
        BernoulliVAE(at=str(tmp_path / "trap.pt"))


def test_a_compressed_file_is_not_unpacked(path, tmp_path):
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        for name in whole.namelist():
            file.writestr(name, whole.read(name))
    assert torch.load(tmp_path / "bomb.pt", weights_only=True), "torch would unpack it"
    with pytest.raises(ValueError, match=r"cannot be read safely as a file of weights: BadZipFile"):
        BernoulliVAE(at=str(tmp_path / "bomb.pt"))


def test_weights_of_another_architecture_are_refused(path):
    with pytest.raises(
        ValueError, match=r"another architecture: theta.hidden_weight is \[3, 64\] in the file and \[5, 64\] in"
    ):
        BernoulliVAE(dim=2, hidden=5, batch=4, at=str(path)).build()
    with pytest.raises(
        ValueError, match=r"another architecture: extra.weight is \[64, 200\] in the file and \[64, 8\] in"
    ):
        GaussianVAE(decoder="linear", at="trained").build()


def test_a_point_applies_to_the_objectives_that_have_one():
    spec = Spec.of({"estimators": ["rloo"], "objectives": ["gaussian-vae", "bernoulli-vae:at=initial", "qubo"]})
    given = {str(selector) for selector in spec.with_point("trained").objectives}
    assert given == {"gaussian-vae:at=trained", "bernoulli-vae:at=initial", "qubo"}
    with pytest.raises(UsageError, match=r"--at trained sets the field at, .* and none of the objectives has it"):
        Spec.of({"estimators": ["rloo"], "objectives": ["qubo"]}).with_point("trained")
