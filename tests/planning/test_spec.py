"""Specs: read, checked, written, and made from a command line."""

from pathlib import Path

import pytest
import torch

from bench.planning.cells import plan
from bench.planning.selectors import UsageError, label, parse
from bench.planning.settings import Settings
from bench.planning.spec import DEFAULT, Spec, study
from bench.stats import PrecisionTarget

SMALL = {"estimators": ["rloo"], "objectives": ["gaussian-quadratic"]}

MINE = """
from dataclasses import dataclass
from estimators import {base}
@dataclass(frozen=True)
class {name}({base}):
    k: int = 1
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# reading


def test_a_file_gives_every_key(tmp_path):
    spec = Spec.read(
        write(
            tmp_path / "mine.toml",
            """
            name = "all-keys"
            seed = 3
            replicates = 500
            precision = 0.05
            max_replicates = 20000
            dtype = "float64"
            device = "auto"
            timing = false
            common_noise = false
            adapt_steps = 70
            estimators = ["rloo:n=2,4", {name = "reinforce", n = [1, 2], baseline = 0.5}]
            objectives = ["gaussian-quadratic:dim=1", {name = "bernoulli-quadratic", dim = 3}]

            [labels.estimators]
            "rloo:n=2" = "Pair"

            [labels.objectives]
            bernoulli-quadratic = 'Bits "b"'
            """,
        )
    )
    assert spec.model_dump(exclude={"estimators", "objectives"}) == {
        "name": "all-keys",
        "seed": 3,
        "replicates": 500,
        "precision": 0.05,
        "max_replicates": 20_000,
        "dtype": "float64",
        "device": "auto",
        "timing": False,
        "common_noise": False,
        "adapt_steps": 70,
        "labels": {"estimators": {"rloo:n=2": "Pair"}, "objectives": {"bernoulli-quadratic": 'Bits "b"'}},
    }
    assert Spec.read(write(tmp_path / "again.toml", spec.to_toml())) == spec
    assert [str(s) for s in spec.estimators] == ["rloo:n=2,4", "score-function:n=1,2,baseline=0.5"]
    assert [str(s) for s in spec.objectives] == ["gaussian-quadratic:dim=1", "bernoulli-quadratic:dim=3"]


def test_a_precision_survives_a_study_folder(tmp_path):
    given = Spec.of({"estimators": ["rloo"], "objectives": ["gaussian-cosine"]})
    asked = given.model_copy(update={"precision": 0.05})
    for spec, target in ((given, None), (asked, PrecisionTarget(0.05, 1_000_000))):
        again = Spec.read(write(tmp_path / "spec.toml", spec.to_toml(tmp_path)))
        assert again == spec
        assert again.precision_target == target


def test_settings_hold_how_a_spec_measures():
    given = {"replicates": 300, "seed": 7, "dtype": "float64", "common_noise": False, "timing": False}
    assert Spec.of(SMALL | given).settings() == Settings(**given)


def test_the_default_name_is_the_files(tmp_path):
    path = write(tmp_path / "toys.toml", 'estimators = ["rloo"]\nobjectives = ["gaussian-cosine"]\n')
    assert Spec.read(path).name == "toys"


def test_overrides_replace_the_files_values():
    spec = Spec.read(DEFAULT, seed=7, estimators=[parse("rloo")])
    assert (spec.seed, spec.estimators) == (7, (parse("rloo"),))


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Spec.of(SMALL).seed = 1


def test_all_errors_are_reported_at_once_with_their_paths(tmp_path):
    path = write(
        tmp_path / "wrong.toml",
        """
        replicats = 100
        seed = -1
        dtype = "float16"
        timing = "no"
        estimators = ["rlo", "rloo", "rloo:n", 3]
        objectives = []
        """,
    )
    with pytest.raises(UsageError) as caught:
        Spec.read(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in [
        f"{path}: ",
        "replicats: there is no such key. Did you mean 'replicates'?",
        "seed: Input should be greater than or equal to 0 (got -1).",
        "dtype: Input should be 'float32' or 'float64' (got 'float16').",
        "timing: Input should be a valid boolean (got 'no').",
        "estimators[0]: Unknown estimator 'rlo'. Did you mean 'rloo'?",
        "estimators[2]: 'rloo:n' is not a selector",
        "estimators[3]: a selector is a string or a table with a name (got 3).",
        "objectives: give at least one objective",
    ]:
        assert part in message
    assert "estimators[1]" not in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replicates": 0}, "replicates: "),
        ({"replicates": "10"}, "replicates: Input should be a valid integer"),
        ({"precision": 5.0}, "precision: Input should be less than 1"),
        ({"precision": 0.0}, "precision: Input should be greater than 0"),
        ({"max_replicates": 0}, "max_replicates: "),
        ({"replicates": 10.0}, "replicates: Input should be a valid integer"),
        ({"seed": True}, "seed: Input should be a valid integer"),
        ({"seed": 2**63}, "seed: "),
        ({"name": "../up"}, "name: "),
        ({"name": ".."}, "name: "),
        ({"name": ""}, "name: "),
        ({"device": "tpu"}, "device: "),
        ({"estimators": "rloo"}, "estimators: give a list of selectors (got 'rloo')."),
    ],
)
def test_impossible_values_are_refused(change, message):
    with pytest.raises(UsageError) as caught:
        Spec.of(SMALL | change)
    assert str(caught.value).startswith(message)


def test_a_missing_half_is_asked_for():
    with pytest.raises(
        UsageError, match=r"estimators: give a list of selectors\. objectives: give a list of selectors\."
    ):
        Spec.of({})


def test_missing_and_broken_files_are_reported(tmp_path):
    with pytest.raises(UsageError, match=r"broken\.toml is not TOML: .*line 1"):
        Spec.read(write(tmp_path / "broken.toml", "seed = = 1"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not text in UTF-8"):
        Spec.read(tmp_path / "binary.toml")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        Spec.read(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        Spec.read(tmp_path)


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = write(tmp_path / "mine.toml", 'estimators = ["rloo"]\nobjectives = ["gaussian-cosine"]')
    plain = Spec.read(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert Spec.read(path) == plain


# writing


def test_toml_reads_back_as_the_same_spec(tmp_path):
    spec = Spec.of(
        {
            "name": "round-trip",
            "seed": 2**63 - 1,
            "timing": False,
            "estimators": ["rloo:n=2,4", {"name": "score-function", "baseline": 0.1}],
            "objectives": ["gaussian-quadratic:dim=1,10,target=0.5"],
        }
    )
    assert Spec.read(write(tmp_path / "spec.toml", spec.to_toml())) == spec


def test_paths_of_users_files_are_relative_to_the_spec_wherever_it_lies(tmp_path, monkeypatch):
    write(tmp_path / "ünser code.py", MINE.format(base="ScoreFunction", name="Mine"))
    monkeypatch.chdir(tmp_path)
    spec, _ = study(estimators=["ünser code.py::Mine:k=2"], objectives=["gaussian-cosine"])
    folder = tmp_path / "results" / "deep"
    folder.mkdir(parents=True)
    text = spec.to_toml(folder)
    assert '"../../ünser code.py::Mine:k=2"' in text
    write(folder / "spec.toml", text)
    monkeypatch.chdir("/")
    assert Spec.read(folder / "spec.toml") == spec
    (mine,) = Spec.read(folder / "spec.toml").instances()[0]
    assert mine.k == 2


# instances


def test_instances_come_in_order_and_each_once():
    spec = Spec.of(SMALL | {"estimators": ["rloo:n=4,2", "reinforce", "rloo", "score-function:n=1"]})
    assert [label(e) for e in spec.instances()[0]] == ["rloo:n=4", "rloo", "score-function"]


def test_all_wrong_parameters_are_reported_at_once():
    spec = Spec.of(SMALL | {"estimators": ["rloo:n=1", "rloo:m=2", "score-function"]})
    with pytest.raises(UsageError, match=r"rloo: RLOO needs n >= 2.* rloo has no parameter 'm'"):
        spec.instances()


def test_two_classes_of_one_name_are_refused(tmp_path):
    files = [write(tmp_path / f"{i}.py", MINE.format(base="ScoreFunction", name="Mine")) for i in "ab"]
    spec = Spec.of(SMALL | {"estimators": [f"{path}::Mine:k=2" for path in files]})
    with pytest.raises(UsageError, match="Two estimators are called 'mine:k=2'"):
        spec.instances()


def test_samples_go_to_every_estimator_that_has_an_n_and_does_not_set_it():
    spec = Spec.of(SMALL | {"estimators": ["rloo", "rloo:n=3", "enumeration", "score-function:baseline=1"]})
    given = spec.with_samples((2, 4))
    assert [label(e) for e in given.instances()[0]] == [
        "rloo",
        "rloo:n=4",
        "rloo:n=3",
        "enumeration",
        "score-function:n=2,baseline=1",
        "score-function:n=4,baseline=1",
    ]


def test_auto_is_replaced_and_missing_cuda_refused(monkeypatch):
    auto, cuda = (Spec.of(SMALL | {"device": device}) for device in ("auto", "cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert auto.on_device().device == "cpu"
    with pytest.raises(UsageError, match="There is no CUDA device"):
        cuda.on_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (auto.on_device().device, cuda.on_device().device) == ("cuda", "cuda")
    assert Spec.of(SMALL).on_device().device == "cpu"


# command lines


def test_an_empty_command_line_is_the_default_study():
    spec, folder = study()
    assert spec == Spec.read(DEFAULT)
    assert folder == Path("results/default")


@pytest.mark.parametrize(
    ("estimators", "objectives", "name"),
    [
        (["rloo:n=2"], [], "rloo-on-default"),
        ([], ["gaussian-cosine"], "default-on-gaussian-cosine"),
        (["rloo", "rloo:n=4", "enumeration"], ["gaussian-cosine"], "rloo+enumeration-on-gaussian-cosine"),
        (["a/b.py::Mine", "pkg.mod:Other"], ["gaussian-cosine"], "Mine+Other-on-gaussian-cosine"),
        (["rloo", "st", "reinforce", "enumeration"], [], "4-estimators-on-default"),
    ],
)
def test_selectors_alone_name_the_study_and_leave_the_other_half_to_the_default(estimators, objectives, name):
    spec, folder = study(estimators=estimators, objectives=objectives)
    default = Spec.read(DEFAULT)
    assert (spec.name, folder) == (name, Path("results") / name)
    assert len(spec.estimators) == (len(estimators) or len(default.estimators))
    assert len(spec.objectives) == (len(objectives) or len(default.objectives))


def test_a_study_folder_is_where_its_spec_is_unless_out_is_given(tmp_path):
    path = write(tmp_path / "spec.toml", Spec.of(SMALL | {"name": "x"}).to_toml())
    assert study(path)[1] == study(tmp_path)[1] == tmp_path
    assert study(path, out=Path("elsewhere"))[1] == Path("elsewhere")
    assert study(path.rename(tmp_path / "toys.toml"))[1] == Path("results/x")


def test_selectors_and_flags_override_a_spec(tmp_path):
    path = write(tmp_path / "toys.toml", Spec.of(SMALL).to_toml())
    spec, _ = study(path, estimators=["enumeration"], samples=(4,), seed=5)
    assert spec == Spec.of(SMALL | {"estimators": ["enumeration"], "seed": 5})


def test_the_default_study_has_something_to_show_in_every_figure():
    estimators, objectives = Spec.read(DEFAULT).instances()
    cells, _ = plan(estimators, objectives)
    measured = {(type(c.estimator), type(c.objective)) for c in cells}
    assert {type(e) for e in estimators} == {e for e, _ in measured}, "an estimator fits no objective"
    assert {type(o) for o in objectives} == {o for _, o in measured}, "an objective fits no estimator"
    samples = {}
    for cell in cells:
        samples.setdefault((type(cell.estimator), cell.objective), set()).add(getattr(cell.estimator, "n", None))
    assert max(map(len, samples.values())) >= 3
    assert {cell.estimator.unbiased for cell in cells} == {True, False}
