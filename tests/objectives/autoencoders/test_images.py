"""The data of the autoencoders: how files are read and used, and which files are refused."""

import functools
import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits

from bench import measure
from bench.cli import options as cli_data
from bench.measurement.draws import cap
from bench.objectives import BernoulliVAE, CategoricalVAE, GaussianVAE
from bench.objectives.autoencoders import weights
from bench.objectives.autoencoders.images import VARIABLE, images
from bench.planning.cells import Cell
from bench.records.identity import cell_id, digest, fields_of, identity
from bench.training.settings import Training
from bench.training.train import TrainingRun
from estimators import RLOO, Reparameterization
from tests.objectives.autoencoders.datasets import idx, pictures, write_chardata, write_idx

TRAIN, TEST = pictures(40), pictures(20, seed=1)
CLASSES = [GaussianVAE, BernoulliVAE, CategoricalVAE]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with every data set."""
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    write_idx(tmp_path / "mnist", TRAIN, TEST)
    write_idx(tmp_path / "fashion-mnist", TRAIN[::-1], TEST)
    write_chardata(tmp_path / "omniglot" / "chardata.mat", TRAIN, TEST)
    return tmp_path


def test_the_command_line_and_the_reader_use_the_same_variable():
    assert cli_data.VARIABLE == VARIABLE


def test_the_digits_are_the_ones_of_scikit_learn():
    held = images("digits")
    assert (len(held.levels), held.trained) == (1797, 1500)
    assert torch.equal(held.greys(), torch.from_numpy(load_digits().data / 16))
    assert held.bits(slice(3)).equal((held.greys()[:3] > 0.5).double())
    assert images("digits") is held


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist", "omniglot"])
def test_images_are_read_as_they_were_written(folder, data):
    held = images(data)
    train = TRAIN[::-1] if data == "fashion-mnist" else TRAIN
    expected = np.concatenate([train, TEST]).reshape(60, 784)
    assert np.array_equal(held.levels.numpy(), expected)
    assert (held.white, held.held_out, held.trained) == (255, 20, 40)
    np.testing.assert_array_equal(held.bits(slice(40, None)).numpy(), TEST.reshape(20, 784) > 127)
    np.testing.assert_array_equal(held.greys(torch.tensor([7, 2])).numpy(), expected[[7, 2]] / 255)
    assert images(data) is held


@pytest.mark.parametrize(
    ("data", "place", "packed"),
    [
        ("mnist", "mnist", False),
        ("mnist", "MNIST/raw", True),
        ("mnist", "MNIST/raw", False),
        ("fashion-mnist", "FashionMNIST/raw", False),
    ],
)
def test_files_may_be_unpacked_and_in_the_folders_of_torchvision(tmp_path, monkeypatch, folder, data, place, packed):
    usual = images(data)
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "other"))
    train = TRAIN[::-1] if data == "fashion-mnist" else TRAIN
    write_idx(tmp_path / "other" / place, train, TEST, packed=packed)
    assert images(data).levels.equal(usual.levels)
    assert images(data).digest == usual.digest


def test_two_thousand_test_images_spread_over_the_file_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    numbered = np.zeros((4001, 28, 28), np.uint8)
    numbered[:, 0, 0], numbered[:, 0, 1] = np.arange(4001) // 256, np.arange(4001) % 256
    write_idx(tmp_path / "mnist", TRAIN, numbered, packed=False)
    chosen = images("mnist").levels[40:, :2].int() @ torch.tensor([256, 1], dtype=torch.int32)
    assert (len(chosen), chosen[0], chosen[-1]) == (2000, 0, 4000)
    assert set(chosen.diff().tolist()) == {2, 3}


# Objectives on them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("data", ["mnist", "omniglot"])
def test_the_networks_have_the_size_of_the_images(folder, cls, data):
    objective = cls(data=data, batch=4, hidden=5)
    problem = objective.build()
    assert problem.theta["hidden_weight"].shape == (5, 784)
    assert problem.extra["weight"].shape[0] == 784
    assert objective.row_elements == 4 * 784
    assert cap(objective, "cpu") == 128
    assert problem.q(problem.theta).batch_shape == problem.minibatch(3).q(problem.theta).batch_shape == (4,)
    assert problem.held_out.q(problem.theta).batch_shape == (20,)
    found = problem.pictures(torch.Generator().manual_seed(0))
    assert {x.shape[2:] for x in found.values()} == {(28, 28)}
    top_right, rest = found["reconstructions"][0, 0, :14, 14:], found["reconstructions"][0, 0, :, :14]
    assert top_right.mean() > 0.9
    assert rest.mean() < 0.1


@pytest.mark.parametrize(
    ("objective", "estimator"),
    [
        (GaussianVAE(dim=2, hidden=3, batch=2, decoder="linear"), Reparameterization()),
        (BernoulliVAE(dim=2, hidden=3, batch=2), RLOO()),
        (CategoricalVAE(dim=2, classes=2, hidden=3, batch=2), RLOO()),
    ],
    ids=repr,
)
def test_gradients_on_files_are_unbiased(folder, objective, estimator):
    on_files = type(objective)(**{**fields_of(objective), "data": "mnist"})
    found = measure(estimator, on_files, replicates=1_000)
    assert found.verdict in ("INCONCLUSIVE", "UNBIASED_WITHIN_TOL")
    assert found.mean["hidden_weight"].shape == (3, 784)


def test_training_on_files_learns(folder):
    how = Training(steps=30, rate=1e-2, replicates=0)
    line = TrainingRun.of(Cell(RLOO(), BernoulliVAE(dim=2, hidden=5, batch=10, data="mnist")), how, 0).record()
    assert line["outcome"] == "measured"
    assert line["curves"]["value"][-1] > line["curves"]["value"][0] + 100
    assert line["pictures"]["walk"]["shape"] == [7, 7, 28, 28]


# Identity -------------------------------------------------------------------------------------------------------------


def test_digits_keep_their_identity():
    assert identity(BernoulliVAE()) == {"class": "BernoulliVAE"}
    assert BernoulliVAE().contents == {}


def test_the_identity_of_files_is_their_content_not_their_place(folder, tmp_path, monkeypatch):
    objective = BernoulliVAE(data="mnist", batch=4, hidden=3)
    before = identity(objective)
    assert before["data"] == images("mnist").digest
    assert str(tmp_path) not in str(before)
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "copy"))
    write_idx(tmp_path / "copy" / "mnist", TRAIN, TEST, packed=False)
    assert identity(objective) == before
    write_idx(tmp_path / "copy" / "mnist", TRAIN[1:], TEST, packed=False)
    after = identity(objective)
    assert after != before
    assert cell_id(RLOO(), objective) == digest({"estimator": identity(RLOO()), "objective": after})


def test_images_that_have_changed_are_read_again(folder):
    before = images("mnist").digest
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    os.utime(path, ns=(1, 1))
    assert images("mnist").digest == before
    write_idx(folder / "mnist", 255 - TRAIN, TEST)
    assert images("mnist").digest != before


# What is refused ------------------------------------------------------------------------------------------------------


def refused(match, **fields):
    with pytest.raises(ValueError, match=match) as caught:
        BernoulliVAE(**{"data": "mnist", "batch": 4, **fields})
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_missing_folders_and_files_are_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    refused(r"mnist/train-images-idx3-ubyte.gz cannot be found: no data folder is set\. Set it with --data-dir")
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "absent"))
    refused("There is no data folder '.*absent'")
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    refused(r"There is no train-images-idx3-ubyte.gz in the data folder .* Put it there as mnist/train-images")
    refused("There is no chardata.mat in the data folder .* Put it there as omniglot/chardata.mat", data="omniglot")
    write_idx(tmp_path / "mnist", TRAIN, TEST)
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").unlink()
    refused("There is no t10k-images-idx3-ubyte.gz")


packed = functools.partial(gzip.compress, mtime=0)  # the same bytes in every process: they name tests
PACKED = packed(idx(TRAIN))
LABELS = struct.pack(">2I", 2049, 40) + bytes(40)


def test_no_more_is_unpacked_than_is_looked_at(folder, monkeypatch):
    monkeypatch.setattr("bench.objectives.autoencoders.images.MOST_IMAGES", 100)
    bomb = struct.pack(">4I", 2051, 2**32 - 1, 28, 28) + bytes(20_000_000)
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(packed(bomb))
    del bomb
    tracemalloc.start()
    try:
        refused("ubyte.gz holds 4,294,967,295 images; at most 100 are read")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    savemat(folder / "omniglot" / "chardata.mat", {"data": np.zeros((784, 200)), "testdata": np.zeros((784, 1))})
    refused("chardata.mat cannot be read as a MATLAB file", data="omniglot")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be unpacked|has 0 bytes"),
        (PACKED[:-500], r"mnist/train-images-idx3-ubyte.gz cannot be unpacked \(EOFError\)\. Copy it again"),
        (b"no gzip" * 9, r"cannot be unpacked \(BadGzipFile\)"),
        (PACKED[:40] + bytes(40) + PACKED[80:], "cannot be unpacked"),
        (packed(b"short"), "has 5 bytes, fewer than the header"),
        (packed(LABELS), "begins with the magic number 2049; an image file begins with 2051"),
        (packed(idx(TRAIN[:, :26])), "holds images of 26 x 28 pixels; they must be 28 x 28"),
        (packed(idx(TRAIN)[:-1]), "has 31,375 bytes; 40 images of 28 x 28 take 31,376"),
        (packed(idx(TRAIN) + b"0"), "has 31,377 bytes; 40 images"),
        (packed(idx(TRAIN[:15])), "data=mnist has 15 images to train on; at least 16 are needed"),
    ],
)
def test_malformed_files_of_images_are_refused(folder, content, match):
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)
    assert str(folder) not in refused(match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "omniglot/chardata.mat cannot be read as a MATLAB file"),
        (b"nonsense" * 99, "cannot be read as a MATLAB file"),
        ({"data": np.zeros((784, 20))}, r"holds no testdata; testdata must be images of 28 x 28"),
        ({"data": np.zeros((1024, 20)), "testdata": np.zeros((784, 20))}, r"holds data of shape \[1024, 20\]"),
        ({"data": np.full((784, 20), 255.0), "testdata": np.zeros((784, 20))}, "levels of data outside the range"),
        ({"data": np.full((784, 20), np.nan), "testdata": np.zeros((784, 20))}, "levels of data outside the range"),
        ({"data": np.array([["text"]]), "testdata": np.zeros((784, 20))}, "holds data of shape"),
    ],
)
def test_malformed_files_of_characters_are_refused(folder, content, match):
    path = folder / "omniglot" / "chardata.mat"
    path.write_bytes(content) if isinstance(content, bytes) else savemat(path, content)
    assert str(folder) not in refused(match, data="omniglot")


def test_a_batch_has_no_more_images_than_there_are(folder):
    refused(r"BernoulliVAE needs batch <= 60, the number of images \(got batch=61\)", batch=61)
    problem = BernoulliVAE(data="mnist", batch=60).build()
    assert problem.q(problem.theta).batch_shape == (60,)
    assert problem.minibatch(0).q(problem.theta).batch_shape == (40,)


@pytest.mark.parametrize("cls", CLASSES)
def test_unknown_data_are_refused(cls):
    with pytest.raises(
        ValueError, match=r"needs data to be digits, mnist, fashion-mnist or omniglot \(got data='cifar'\)"
    ):
        cls(data="cifar")


@pytest.mark.parametrize("cls", CLASSES)
def test_weights_of_digits_are_refused_for_other_images(folder, cls, tmp_path):
    with pytest.raises(
        ValueError, match=r"were trained on data=digits \(got data=mnist\)\. Train your own with `bench"
    ):
        cls(data="mnist", batch=4, at="trained")
    path = _weights_of(cls(batch=4), tmp_path)
    with pytest.raises(ValueError, match=r"theta.hidden_weight is \[200, 64\] in the file and \[200, 784\] in"):
        cls(data="mnist", batch=4, at=str(path)).build()


def _weights_of(objective, folder):
    return weights.save(objective.build(), folder)
