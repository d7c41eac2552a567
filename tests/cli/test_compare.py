"""The command `compare`: two studies, two estimators, two cells."""

import json
from pathlib import Path

import pytest

from bench.records import store

BEFORE, AFTER, OTHER = "before", "after", "other"


@pytest.fixture
def studies(call, tmp_path, once):
    """Two studies with the same noise, which have one estimator in common, and one with noise of its own."""

    def make():
        words = ("-o", "gaussian-cosine", "--replicates", "2048", "--no-timing", "--quiet")
        call("run", "-e", "reparameterization:n=1,4", *words, "--out", BEFORE)
        call("run", "-e", "reparameterization:n=4", "-e", "score-function", *words, "--out", AFTER)
        call("run", "-e", "reparameterization:n=4", *words, "--seed", "1", "--out", OTHER)

    once("studies", tmp_path, make)
    return call


def cells(result):
    assert result.code == 0, result.err
    return json.loads(result.out)["cells"]


def test_a_study_with_itself_is_the_same(studies):
    for cell in cells(studies("compare", BEFORE, BEFORE, "--json")):
        assert (cell["ratio"], cell["noise"], cell["word"]) == (1.0, "same samples", "same")


def test_studies_are_compared_where_they_meet(studies):
    result = studies("compare", BEFORE, AFTER)
    assert result.code == 0
    assert "reparameterization:n=4 on gaussian-cosine" in result.out
    assert result.err.splitlines() == [
        "only in A: reparameterization:n=1 on gaussian-cosine",
        "only in B: score-function:n=1 on gaussian-cosine",
    ]


def test_many_runs_of_one_study_alone_are_counted(studies):
    names = ",".join(map(str, range(1, 15)))
    studies("run", "-e", f"score-function:n={names}", "-o", "bernoulli-quadratic", "--replicates", "64", "--no-timing",
            "--out", AFTER)  # fmt: skip
    result = studies("compare", BEFORE, AFTER)
    alone = [row for row in result.err.splitlines() if row.startswith("only in B: ")]
    assert len(alone) == 11
    assert alone[-1] == "only in B: 5 more; --json lists all"
    assert len(json.loads(studies("compare", BEFORE, AFTER, "--json").out)["only_b"]) == 15


def test_on_a_narrow_terminal_columns_are_left_out_and_named(studies, monkeypatch):
    monkeypatch.setattr("bench.cli.compare.PIPE_WIDTH", 80)
    rows = studies("compare", BEFORE, AFTER).out.splitlines()
    assert max(map(len, rows)) <= 80
    assert rows[-3] == "too narrow for per evaluation, noise; --json has all"
    assert any(row.startswith("reparameterization:n=4 on ") for row in rows)


def test_other_noise_is_not_paired(studies):
    (cell,) = cells(studies("compare", BEFORE, OTHER, "--json"))
    assert (cell["noise"], cell["word"]) == ("independent", "no difference seen")
    assert cell["ratio_low"] < 1 < cell["ratio_high"]


def test_estimators_of_a_study_are_paired_and_their_cost_is_reported(studies):
    (cell,) = cells(studies("compare", "reparameterization", "reparameterization:n=4", "--study", BEFORE, "--json"))
    assert (cell["cell"], cell["noise"], cell["word"]) == ("gaussian-cosine", "paired", "B lower")
    assert cell["ratio"] == pytest.approx(0.25, rel=0.2)
    assert cell["per_evaluation"] == pytest.approx(4 * cell["ratio"])
    assert cell["variance_b"] / cell["variance_a"] == pytest.approx(cell["ratio"])
    (back,) = cells(studies("compare", "reparameterization:n=4", "reparameterization", "--study", BEFORE, "--json"))
    assert back["ratio"] == pytest.approx(1 / cell["ratio"])
    assert (back["word"], back["p"]) == ("B higher", pytest.approx(cell["p"]))


def test_cells_of_different_objectives_are_compared_too(studies):
    studies(
        "run",
        "-e",
        "reparameterization",
        "-o",
        "gaussian-quadratic:dim=1",
        "--replicates",
        "2048",
        "--no-timing",
        "--out",
        BEFORE,
    )
    words = ("reparameterization on gaussian-cosine", "reparameterization on gaussian-quadratic:dim=1")
    (cell,) = cells(studies("compare", *words, "--study", BEFORE, "--json"))
    assert cell["noise"] == "independent"
    assert cell["ratio"] > 1
    alone = studies("compare", "reparameterization", "reparameterization:n=4", "--study", BEFORE)
    assert alone.err == "only in A: reparameterization:n=1 on gaussian-quadratic:dim=1\n"


@pytest.mark.parametrize(
    ("more", "first", "second"),
    [
        (("--seed", "1"), "seed 0", "seed 1"),
        (("--dtype", "float64"), "float32", "float64"),
        (("--no-common-noise",), "common noise", "own noise"),
        (("--replicates", "4096"), "R=2,048", "R=4,096"),
    ],
)
def test_rows_of_one_objective_are_told_apart_by_what_differs(call, more, first, second):
    words = ("run", "-e", "rloo", "-e", "score-function", "-o", "bernoulli-quadratic", "--replicates", "2048")
    words = (*words, "--no-timing", "--quiet", "--out", BEFORE)
    call(*words, "-o", "gaussian-cosine")
    call(*words, *more)
    names = [cell["cell"] for cell in cells(call("compare", "rloo", "score-function", "--study", BEFORE, "--json"))]
    assert [name.partition(" (")[2] for name in names if "bernoulli" in name] == [f"{first})", f"{second})"]
    assert [name.partition(" (")[2] for name in names if "cosine" in name] == [""]


def test_what_does_not_vary_is_not_compared(studies):
    words = ("-o", "bernoulli-quadratic", "--replicates", "2048", "--no-timing", "--quiet", "--out", BEFORE)
    studies("run", "-e", "rloo", "-e", "enumeration", *words)
    (cell,) = cells(studies("compare", "rloo", "enumeration", "--study", BEFORE, "--json"))
    assert (cell["ratio"], cell["word"], cell["variance_b"]) == (None, "no variance to compare", 0)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((BEFORE, "absent"), 2, "'absent' is not a study folder."),
        ((f"{BEFORE},", BEFORE), 2, "'' is not a study folder."),
        (
            ("reparametrization", "reparameterization:n=4", "--study", BEFORE),
            2,
            "Did you mean 'reparameterization:n=",
        ),
        (("reparameterization", "reparameterization:n=4"), 2, "There are no records in 'results/default'."),
        (("befor", "aftr"), 2, "'befor' and 'aftr' are no study folders. There are no records in 'results/default'."),
        ((BEFORE, AFTER, "--format", "md", "--json"), 2, "--json and --format md contradict each other: choose one."),
        (("relax", "rebar", "--study", BEFORE), 2, "It has reparameterization:n=1, reparameterization:n=4."),
        (("", AFTER), 2, "'' is not a study folder."),
        ((BEFORE,), 2, "bench compare needs two studies, two estimators or two cells (got 1: before)."),
        ((), 2, "bench compare needs two studies, two estimators or two cells (got none)."),
        (
            (BEFORE, "rloo:n=4", "a b"),
            2,
            "Give the study with --study: `bench compare rloo:n=4 'a b' --study before`.",
        ),
        (("-e", "rloo:n=4", "-e", "rloo:n=8"), 2, "rloo:n=4 rloo:n=8 needs no -e or -o here: `bench compare A B"),
        (
            ("reparameterization:n=4", "reparameterization:n=1 on gaussian-cosine", "--study", BEFORE),
            2,
            "'reparameterization:n=1 on gaussian-cosine' is a cell, and 'reparameterization:n=4' an estimator. Give",
        ),
        (
            ("reparameterization on gaussian-cosine", "rloo on gaussian-quadratic", "--study", BEFORE),
            2,
            "was not measured",
        ),
    ],
)
def test_what_the_user_got_wrong(studies, words, code, message):
    result = studies("compare", *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err


def test_training_is_not_compared(call):
    trained = str(Path(__file__).parents[2] / "results" / "vae")
    for words in ((trained, trained), ("rloo", "disarm", "--study", trained)):
        result = call("compare", *words)
        assert (result.code, result.out) == (2, "")
        assert "vae holds training alone" in result.err


def test_nothing_in_common_is_exit_code_4(studies, tmp_path):
    studies("run", "-e", "rloo", "-o", "bernoulli-quadratic", "--replicates", "64", "--no-timing", "--out", "elsewhere")
    result = studies("compare", BEFORE, "elsewhere")
    assert (result.code, result.out) == (4, "")
    assert (
        "no measured cell in common, in equal settings. A has reparameterization:n=1 on gaussian-cosine" in result.err
    )
    studies("run", "-e", "disarm", "-o", "bernoulli-quadratic", "--replicates", "64", "--no-timing", "--out", AFTER)
    result = studies("compare", "score-function", "disarm", "--study", AFTER)
    assert result.code == 4
    assert "no objective was measured with both, in equal settings. A has score-function:n=1 on gauss" in result.err
    words = ("-o", "gaussian-cosine", "--replicates", 64, "--dtype", "float64", "--no-timing", "--out", "double")
    studies("run", "-e", "reparameterization:n=4", *words)
    result = studies("compare", OTHER, "double")
    assert "n=4 on gaussian-cosine (float32, seed 1, R=2,048), and B reparameterization:n=4 on gaussian-" in result.err
    assert result.err.endswith("(float64, seed 0, R=256).\n")


def test_a_damaged_study_is_exit_code_5(studies, tmp_path):
    (tmp_path / AFTER / store.LINES).write_text("not a record\n")
    result = studies("compare", BEFORE, AFTER)
    assert result.code == 5
    assert "line 1, is not JSON" in result.err


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("reparameterization:n=1", "reparameterization:n=4"),
        ("Reparameterization", "pathwise:n=4"),
        ("reparameterization on GaussianCosine:k=1.0", "reparameterization:n=4,noise=iid on gaussian_cosine"),
    ],
)
def test_any_selector_of_what_was_measured_is_accepted(studies, a, b):
    (cell,) = cells(studies("compare", a, b, "--study", BEFORE, "--json"))
    assert (cell["a"], cell["b"]) == tuple(f"reparameterization:n={n} on gaussian-cosine" for n in (1, 4))


def test_an_estimator_of_ones_own_is_found_by_its_file_and_by_its_name(call, tmp_path):
    text = (
        "from dataclasses import dataclass\nfrom estimators import Estimator, RLOO\n"
        "@dataclass(frozen=True)\nclass MedianRLOO(Estimator):\n    n: int = 4\n    scale: float = 1.0\n"
        "    def __call__(self, f, q, generator=None, state=None):\n        return RLOO(n=self.n)(f, q, generator)\n"
    )
    (tmp_path / "mine.py").write_text(text)
    words = ("-o", "gaussian-cosine", "--replicates", "256", "--no-timing")
    run = call("run", "-e", "./mine.py::MedianRLOO:n=4,8", "-e", "rloo", *words, "--out", "s")
    assert "  rloo:n=2 " in run.out
    assert "median-rloo:n=4" in run.out
    assert "median-rloo:n=8" in run.out
    for name in (
        "./mine.py::MedianRLOO:n=4",
        "mine:MedianRLOO",
        "median-rloo",
        "median-rloo:n=4",
        "MedianRLOO:scale=1",
    ):
        (cell,) = cells(call("compare", name, "./mine.py::MedianRLOO:n=8", "--study", "s", "--json"))
        assert (cell["a"], cell["b"]) == tuple(f"median-rloo:n={n} on gaussian-cosine" for n in (4, 8))
    assert call("compare", "median-rloo:scale=2", "rloo", "--study", "s").code == 2


def test_every_run_of_a_cell_is_compared_or_named(call):
    words = ("run", "-e", "rloo", "-o", "gaussian-cosine", "--no-timing", "--quiet", "--replicates")
    for out in ("a", "b"):
        call(*words, 1024, "--out", out)
        call(*words, 1024, "--seed", 1, "--out", out)
    call(*words, 2048, "--seed", 1, "--out", "a")
    call(*words, 1024, "--dtype", "float64", "--out", "a")
    same = cells(call("compare", "a", "a", "--json"))
    assert [cell["cell"].partition(" (")[2] for cell in same] == [
        "float32, seed 0, R=1,024)",
        "float32, seed 1, R=1,024)",
        "float32, seed 1, R=2,048)",
        "float64, seed 0, R=1,024)",
    ]
    assert {cell["word"] for cell in same} == {"same"}
    result = call("compare", "a", "b")
    assert result.out.count("same samples") == 2
    assert result.err.splitlines() == [
        "only in A: rloo:n=2 on gaussian-cosine (float32, seed 1, R=2,048)",
        "only in A: rloo:n=2 on gaussian-cosine (float64, seed 0, R=1,024)",
    ]


@pytest.fixture
def seeds(call, tmp_path, once):
    """Studies of two seeds each; B lacks the second seed of A, and has another."""

    def make():
        for out, seed in (("a0", 0), ("a1", 1), ("b0", 0), ("b2", 2)):
            words = ("-o", "bernoulli-quadratic", "--replicates", 1024, "--no-timing", "--quiet", "--seed", seed)
            call("run", "-e", "rloo:n=2", "-e", "enumeration", *words, "--out", out)

    once("seeds", tmp_path, make)
    return call


def test_the_seeds_of_several_folders_are_one_comparison(seeds):
    apart = seeds("compare", "a0,a1", "b0,b2", "--json")
    (first, _) = cells(apart)
    assert (first["seeds"], first["word"]) == (1, "same")
    assert (first["ratio_low"], first["ratio"], first["ratio_high"]) == (1, 1, 1)  # also of 4 blocks
    assert cells(seeds("compare", "a0/records.jsonl", "b0", "--json"))[0] == first | {"cell": first["a"]}
    assert "rloo:n=2 on bernoulli-quadratic (seed 1)" in json.loads(apart.out)["only_a"]
    pooled = seeds("compare", "a0,a1", "b0,b2", "--pool", "--json")
    (cell, exact) = cells(pooled)
    assert (cell["cell"], cell["seeds"], cell["noise"]) == ("rloo:n=2 on bernoulli-quadratic", 2, "independent")
    assert (exact["ratio"], exact["variance_a"], exact["text_a"]) == (None, 0, "0")
    assert json.loads(pooled.out)["only_a"] == []
    (one, _) = cells(seeds("compare", "a1", "b2", "--json"))
    assert cell["variance_a"] == pytest.approx((first["variance_a"] + one["variance_a"]) / 2)
    assert cell["ratio"] == pytest.approx(one["ratio"] ** 0.5)  # the other seed has the ratio 1, exactly
    assert "(2 seeds)" in seeds("compare", "a0,a1", "b0,b2", "--pool").out
    (of_estimators,) = cells(seeds("compare", "rloo", "rloo", "--study", "a0,b2", "--pool", "--json"))
    assert (of_estimators["seeds"], of_estimators["word"]) == (2, "same")


def test_estimators_are_pooled_over_their_seeds(seeds):
    for out in ("a0", "a1"):
        words = ("-o", "bernoulli-quadratic", "--replicates", 2048, "--no-timing", "--quiet", "--out", "both")
        seeds("run", "-e", "rloo:n=2,4", *words, "--seed", out[1])
    (cell,) = cells(seeds("compare", "rloo:n=2", "rloo:n=4", "--study", "both", "--pool", "--json"))
    assert (cell["cell"], cell["seeds"], cell["noise"], cell["word"]) == ("bernoulli-quadratic", 2, "paired", "B lower")
    parts = cells(seeds("compare", "rloo:n=2", "rloo:n=4", "--study", "both", "--json"))
    assert cell["ratio"] == pytest.approx((parts[0]["ratio"] * parts[1]["ratio"]) ** 0.5)
    assert cell["ratio_high"] - cell["ratio_low"] < parts[0]["ratio_high"] - parts[0]["ratio_low"]


def test_a_comment_shows_what_differs_and_folds_the_rest(seeds):
    done = seeds("compare", "rloo:n=2 on bernoulli-quadratic", "enumeration on bernoulli-quadratic", "--study", "a0",
                 "--format", "md")  # fmt: skip
    assert done.out.startswith(
        "### `bench compare`: Of 1 cell: there is no variance to compare in 1.\n\nA: `rloo:n=2 on"
    )
    seeds("run", "-e", "rloo:n=2,4", "-o", "bernoulli-quadratic", "--replicates", 2048, "--no-timing", "--out", "ab")
    done = seeds("compare", "rloo:n=2", "rloo:n=4", "--study", "ab", "--format", "md")
    assert "B has the lower variance in 1 (times 0." in done.out
    assert "**B lower (paired)** |\n" in done.out
    assert "<details>" not in done.out
    folded = seeds("compare", "a0,a1", "b0,b2", "--format", "md").out
    assert "<details><summary>2 without a difference</summary>\n\n| cell | variance A |" in folded
    assert "<details><summary>2 only in A</summary>" in folded


def test_the_ratios_are_drawn(seeds, tmp_path):
    done = seeds("compare", "a0,a1", "b0,b2", "--pool", "--figure", "out/ratios.svg")
    assert done.code == 0, done.err
    text = (tmp_path / "out" / "ratios.svg").read_text()
    assert "rloo:n=2 on bernoulli-quadratic" in text
    assert "variance of B / variance of A" in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("a0,absent", "b0"), 2, "'absent' is not a study folder."),
        (("a0", "b0", "--figure", "ratios.gif"), 2, "ratios.gif is no figure: give a file that ends in .svg"),
        (("enumeration", "enumeration", "--study", "a0", "--figure", "r.svg"), 4, "no cell has a ratio"),
    ],
)
def test_what_cannot_be_pooled_or_drawn(seeds, words, code, message):
    done = seeds("compare", *words)
    assert done.code == code
    assert message in done.err
