"""Where a variance has no upper limit, nothing that is printed, compared or drawn has one."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from bench.records import store
from bench.records.labels import labelled
from bench.report.curves import problems
from bench.report.figures import draw
from bench.report.figures.training import variances
from bench.report.prepared import prepared
from bench.stats.summary import HEAVY

SKEWED, INFINITE = "exponential-moment:rate=1,power=1", "exponential-moment:rate=0.35,power=2"
ON = ("-o", SKEWED, "-o", INFINITE)
BY = ("-e", "score-function", "-e", "rloo:n=2,4", "-e", "reparameterization:n=1,16,64,256")
RUN = ("run", *BY, *ON, "--replicates", 10_000, "--seed", 4, "--no-timing", "--quiet", "--out", "wild")
INTERVAL = re.compile(r"±|\[")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def study(call, tmp_path, kept):
    """A folder with a study of heavy tails, made once."""
    folder = tmp_path / "wild"
    if not (kept / "wild").exists():
        assert call(*RUN).code == 0
        shutil.copytree(folder, kept / "wild")
    else:
        shutil.copytree(kept / "wild", folder)
    return folder


def heavy(study):
    """Return label of estimator and objective of every measured cell with a heavy tail, with its summary."""
    lines = [line for line in labelled(store.read(study)) if line["outcome"] == "measured"]
    return {
        (line["estimator"], line["objective"]): line["summary"] for line in lines if line["summary"]["status"] in HEAVY
    }


def test_the_statuses_fit_the_tails(study):
    found = {cell: summary["status"] for cell, summary in heavy(study).items()}
    assert found["score-function:n=1", SKEWED] in HEAVY
    for name in ("score-function:n=1", "rloo:n=2", "reparameterization:n=1"):
        assert found[name, INFINITE] == "INFINITE_VARIANCE_SUSPECTED"
    assert ("reparameterization:n=64", SKEWED) not in found  # without a light tail the figures below would be empty


def rows(text, mark):
    """Yield objective and cells of every row of the tables in a text whose sections begin with a mark."""
    objective = ""
    for line in text.splitlines():
        if line.startswith(mark):
            objective = line.removeprefix(mark).strip()
        elif line.startswith("| ") and "estimator" not in line:
            yield objective, [cell.strip() for cell in line.strip("| ").split("|")]


def test_no_table_has_a_two_sided_interval(call, study):
    printed = call("report", "wild").out
    wild = heavy(study)
    found = {(cells[0], objective): cells for objective, cells in rows((study / "table.md").read_text(), "## ")}
    assert wild.keys() <= found.keys()
    for cell in wild:
        text = " ".join(found[cell])
        assert "≥" in text
        assert not INTERVAL.search(text)
        assert "heavy tail, index" in text or "infinite variance?, index" in text
    assert INTERVAL.search(" ".join(found["reparameterization:n=64", SKEWED]))
    sections = re.split(rf"^({re.escape(INFINITE)}|{SKEWED})$", printed, flags=re.MULTILINE)[1:]
    for objective, section in zip(sections[::2], sections[1::2], strict=True):
        for line in section.splitlines():
            if (line.split()[0] if line.strip() else "", objective) in wild:
                assert "≥" in line
                assert not INTERVAL.search(line)
    tex = (study / "table.tex").read_text()
    row = next(line for line in tex.splitlines() if line.strip().startswith("score-function:n=1 "))
    assert r"$\geq$" in row
    assert not INTERVAL.search(row)


def test_data_hold_no_upper_limit_either(call, study):
    call("report", "wild", "--quiet")
    with (study / "table.csv").open() as file:
        found = {(row["estimator"], row["objective"]): row for row in csv.DictReader(file)}
    for cell, summary in heavy(study).items():
        row = found[cell]
        for key in ("variance", "mse", "snr", "variance_times_cost"):
            assert row[key] == row[f"{key}_low"] * (key != "variance") == row[f"{key}_high"] == ""
        assert row["efficiency"] == row["rank_low"] == row["rank_high"] == ""
        assert float(row["variance_low"]) == summary["variance_low"]
        assert float(row["khat"]) >= 0.7


@pytest.mark.parametrize("name", ["variance-cost", "bias-variance", "variance-n"])
def test_a_figure_ends_below(study, name):
    table = prepared(store.read(study))
    table["biased"] = table["biased"] | ~table["heavy"]  # only objectives with a bias have a panel
    figure = draw(name, table)
    along = 0 if name == "bias-variance" else 1
    shown = {ax.get_title(loc="left"): ax for ax in figure.axes}
    seen = 0
    for (estimator, objective), summary in heavy(study).items():
        ax = shown.get(objective)
        scale = summary["exact_norm"] ** -2 if name == "bias-variance" else 1
        low, value, high = (scale * (summary[f"variance{end}"] or np.inf) for end in ("_low", "", "_high"))
        if ax is None or not summary["variance_low"]:
            continue
        lines = [line for line in ax.lines if line.get_transform() == ax.transData]
        at = [line for line in lines if line.get_xydata()[0, along] == pytest.approx(low, rel=1e-9)]
        if not at:
            assert name != "variance-cost", f"{estimator} is not there"
            continue
        seen += 1
        assert all(line.get_xydata()[:, along].max() <= low * (1 + 1e-9) for line in at)
        arrows = [text for text in ax.texts if text.arrow_patch is not None and text.xyann[along] > 0]
        assert any(text.xy[along] == pytest.approx(low, rel=1e-9) for text in arrows)
        points = np.concatenate([line.get_xydata()[:, along] for line in lines])
        assert not np.isclose(points, value, rtol=1e-6).any()
        assert not np.isclose(points, high, rtol=1e-6).any()
    assert seen


def test_the_heatmap_has_lower_limits_alone(study):
    ax = draw("heatmap", prepared(store.read(study))).axes[0]
    names = [[text.get_text() for text in axis] for axis in (ax.get_yticklabels(), ax.get_xticklabels())]
    cells = {}
    for text in ax.texts:
        x, y = text.get_position()
        cells.setdefault((names[0][int(y)], names[1][int(x)].removesuffix(" †")), []).append(text.get_text())
    for cell in heavy(study):
        assert "".join(cells[cell]).startswith("≥")


def test_a_comparison_has_no_ratio(call, study):
    done = call("compare", "score-function", "reparameterization:n=16", "--study", "wild")
    assert done.code == 0
    body, _, verdict = done.out.split("---\n")[-1].partition("\n\n")
    assert verdict == "Of 2 cells: there is no variance to compare in 2.\n"
    assert body.count("no variance to compare") == 2
    assert not INTERVAL.search("\n".join(line.replace("reparameterization:n=16", "") for line in body.splitlines()[1:]))
    (first, _) = json.loads(call("compare", "score-function", "rloo", "--study", "wild", "--json").out)["cells"]
    assert (first["variance_a"], first["text_a"][:2]) == (None, "≥ ")
    assert first["ratio"] is first["ratio_low"] is first["ratio_high"] is None


# the gate


def test_the_gate_compares_the_truncated_variance_alone(call, tmp_path):
    words = ("-e", "score-function", *ON, "--replicates", 100_000, "--quiet")
    assert call("baseline", "save", "wild", *words).code == 0
    shown = call("baseline", "show", "wild").out
    assert shown.count("≥ ") == 2
    assert shown.count("growth of the truncated variance") == 2
    done = call("check", "--baseline", "wild", "--seed", 5, "--quiet", "--json", "--markdown", tmp_path / "comment.md")
    assert done.code == 0
    for finding in json.loads(done.out)["findings"]:
        assert finding["verdict"] == "unchanged"
        assert finding["reason"].startswith("truncated variance times")
        assert finding["variance"] is finding["baseline_variance"] is None
        assert finding["change"] == pytest.approx(1, abs=0.3)
    assert "99 % quantile" in (tmp_path / "comment.md").read_text()
    evidence = call(
        "check", "--baseline", "wild", "--seed", 5, "--quiet", "--explain", f"score-function on {INFINITE}"
    ).out
    assert re.search(r"variance ≥ [\d.]+, cv² .*, tail index \d\.", evidence)
    assert "the bias was not tested" in evidence


def test_a_heavy_tail_without_a_cut_is_not_gateable(call, study):
    assert call("baseline", "save", "wild", "--from", "wild").code == 0
    words = ("check", "--baseline", "wild", "--seed", 5, "--quiet", "-e", "score-function", "-o", INFINITE)
    done = call(*words, "-o", SKEWED)
    assert done.code == 4  # nothing else was compared
    assert "2 not gateable" in done.out
    assert done.out.startswith("not gateable  score-function:n=1 on exponential-moment")
    assert "bench baseline promote" in done.out
    beside = (*words, "-o", SKEWED, "-e", "reparameterization:n=64")
    assert "unchanged" in call(*beside).out
    assert call(*beside).code == 0
    assert call(*beside, "--strict").code == 4
    assert call("baseline", "promote", "wild", "-e", "score-function", "-o", INFINITE, "--quiet").code == 0
    assert "1 inconclusive" in call(*words).out  # compared, with few replicates


# training


def test_training_shows_lower_limits_without_a_band(call, tmp_path):
    words = ("--steps", 20, "--seeds", 3, "--replicates", 8192, "--measure-every", 5, "--workers", 1)
    done = call("train", "-o", SKEWED, "-e", "score-function", *words, "--out", "trained", "--quiet")
    assert done.code == 0, done.err
    assert "≥ " in (tmp_path / "trained" / "training.md").read_text()
    found = problems(store.read(tmp_path / "trained"))
    (curve,) = found[0].curves
    assert curve.heavy.mean() > 0.5
    (ax,) = variances(found).axes
    drawn = [band for band in ax.collections for band in band.get_paths() if len(band.vertices)]
    assert not drawn
    assert any(line.get_markerfacecolor() == "white" for line in ax.lines)
