"""The environment: facts of this machine, or None."""

import subprocess

from bench.records.environment import commit_of, cores, environment


def test_every_number_of_the_environment_is_plausible():
    assert 1 <= cores() <= environment()["cores"]


def test_the_commit_is_the_commit_of_the_folder(tmp_path):
    assert commit_of(tmp_path) is None
    assert commit_of(tmp_path / "absent") is None
    for words in (
        ["init", "-q"],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    found = commit_of(tmp_path)
    assert found is not None
    assert len(found) == 12
