"""The command `measure` from files of gradients to the table."""

import json

import numpy as np
import pytest

import bench

G = (0.75 * np.ones(4) + 0.1 * np.random.default_rng(0).standard_normal((3_000, 4))).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "scaled.npy", G)
    np.save(tmp_path / "other.npy", 2 * G)
    np.save(tmp_path / "exact.npy", np.ones(4))


@pytest.mark.usefixtures("files")
def test_files_of_gradients_become_a_table(call):
    done = call("measure", "--gradients", "scaled.npy", "--exact", "exact.npy")
    assert (done.code, done.err) == (0, "")
    assert "given\n  given gradients, dim 4, 3,000 replicates, ‖exact gradient‖ 2" in done.out
    assert "scaled 0.75" in done.out
    both = call("measure", "--gradients", "scaled.npy", "--gradients", "other.npy", "--problem", "mine")
    assert both.out.startswith("mine\n")
    assert [line.split()[0] for line in both.out.splitlines()[3:5]] == ["scaled", "other"]


@pytest.mark.usefixtures("files")
def test_json_has_the_numbers_of_the_function(call):
    done = call("measure", "--gradients", "scaled.npy", "--exact", "exact.npy", "--json")
    found = json.loads(done.out)
    assert (found["folder"], found["files"]) == (None, [])
    (record,) = found["records"]
    assert record["summary"] == bench.measure_gradients("scaled.npy", "exact.npy").summary.to_json()
    assert record["summary"]["direction"] == "scaled"


@pytest.mark.usefixtures("files")
def test_a_study_folder_is_written_reported_and_compared(call, tmp_path):
    for name in ("scaled", "other"):
        done = call("measure", "--gradients", f"{name}.npy", "--exact", "exact.npy", "--out", "study", "--quiet")
        assert done.code == 0, done.err
    text = (tmp_path / "study" / "table.md").read_text()
    assert "| scaled" in text
    assert "| other" in text
    assert call("report", "study", "--no-figures").out == done.out
    compared = call("compare", "scaled", "other", "--study", "study")
    assert compared.code == 0, compared.err
    assert "4.0" in compared.out
    assert call("verify", "study").code == 0
    call("measure", "--gradients", "scaled.npy", "--exact", "exact.npy", "--out", "later", "--quiet")
    np.save(tmp_path / "scaled.npy", G[::-1])
    words = ("measure", "--gradients", "scaled.npy", "--exact", "exact.npy", "--out", "later")
    assert call(*words).err.startswith("later held other gradients of the name scaled, which these replace. Another")
    assert "replace" not in call(*words).err
    (cell,) = json.loads(call("compare", "study", "later", "--json").out)["cells"]
    assert cell["noise"] == "independent"  # nobody knows the random numbers of either


def test_mistakes_are_one_sentence(call, tmp_path):
    np.save(tmp_path / "g.npy", G)
    np.save(tmp_path / "flat.npy", G[0])
    np.save(tmp_path / "three.npy", G[:, :3])
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "g.npy", G)
    for words, says in (
        (["--gradients", "none.npy"], "Error: There is no file none.npy."),
        (["--gradients", "sub"], "Error: sub cannot be read: Is a directory."),
        (["--gradients", "flat.npy"], "Error: flat has shape [4], and gradients are [replicates, size]"),
        (["--gradients", "objects.npy"], "Error: objects.npy holds pickled Python objects"),
        (["--gradients", "g.npy", "--exact", "g.npy"], "Error: The exact gradient has shape [3000, 4]"),
        (["--gradients", "g.npy", "--gradients", "sub/g.npy"], "Error: Two files of gradients have one name"),
        (["--gradients", "g.npy", "--gradients", "three.npy"], "Error: three has 3 coordinates and g 4"),
        (["--gradients", "g.npy", "--problem", ""], "Error: problem is the text that tables show (got '')"),
        ([], "Error: Missing option '--gradients'"),
    ):
        done = call("measure", *words)
        assert (done.code, done.out) == (2, ""), words
        assert done.err.startswith(says), done.err
        assert len(done.err.splitlines()) == 1
