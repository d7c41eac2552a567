"""Folders with a baseline, for the tests of the commands `baseline` and `check`."""

import shutil

import pytest

from tests.cli.baselines import SAVE, write_own


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with a baseline, made by the command itself."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def ci(call, tmp_path, saved):
    """A small baseline in this test's folder."""
    if not (saved / "results").exists():
        done = call(*SAVE, "--replicates", 3000)
        assert done.code == 0, done.err
        shutil.copytree(tmp_path / "results", saved / "results")
    else:
        shutil.copytree(saved / "results", tmp_path / "results")
    return tmp_path / "results" / "baselines" / "ci.json"


@pytest.fixture
def with_mine(call, tmp_path):
    """A baseline of a user's own estimator, which a test may then break."""
    write_own(tmp_path)
    done = call("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--replicates", 5000)
    assert done.code == 0, done.err
    return tmp_path / "results" / "baselines" / "own.json"
