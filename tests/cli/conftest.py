"""Folders that tests of the command line begin with, made once."""

import shutil

import pytest

from tests.cli.baselines import SAVE, write_own


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Return a function that has a folder filled for the first test that names it, and copied for every later one."""
    kept = {}

    def fill(name, folder, make):
        if name in kept:
            shutil.copytree(kept[name], folder, dirs_exist_ok=True)
        else:
            make()
            kept[name] = shutil.copytree(folder, tmp_path_factory.mktemp("once") / name)

    return fill


@pytest.fixture
def ci(call, tmp_path, once):
    """A small baseline in this test's folder."""

    def make():
        done = call(*SAVE, "--replicates", 3000)
        assert done.code == 0, done.err

    once("ci", tmp_path, make)
    return tmp_path / "results" / "baselines" / "ci.json"


@pytest.fixture
def with_mine(call, tmp_path, once):
    """A baseline of a user's own estimator, which a test may then break."""

    def make():
        write_own(tmp_path)
        done = call("baseline", "save", "own", "-e", "mine.py::Mine", "-o", "gaussian-quadratic", "--replicates", 5000)
        assert done.code == 0, done.err

    once("own", tmp_path, make)
    return tmp_path / "results" / "baselines" / "own.json"
