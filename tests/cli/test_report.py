"""The command `report` from its words to its files."""

import re


def test_report_rebuilds_everything_from_records_without_torch(call, start, tmp_path):
    words = ("--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    table = call("run", "-e", "rloo:n=2,4", "-o", "gaussian-cosine", *words).out
    (tmp_path / "here" / "table.md").unlink()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "torch.py").write_text("raise ImportError('there is no torch here')")
    done = start("report", "here", PYTHONPATH=str(tmp_path / "lib"))
    assert (done.code, done.out) == (0, table)
    assert (tmp_path / "here" / "table.md").exists()
    assert list((tmp_path / "here" / "figures").glob("*.svg"))
    assert re.match(r"here: records\.jsonl, table\.md, table\.csv, table\.tex and \d+ figures\n", done.err)


def test_a_report_can_be_narrowed_and_hurried(call, tmp_path):
    words = ("--out", "here", "--replicates", 64, "--no-timing", "--quiet")
    call("run", "-e", "rloo:n=2,4", "-e", "score-function", "-o", "gaussian-cosine", "-o", "qubo", *words)
    table = tmp_path / "here" / "table.md"
    assert call("report", "here", "-e", "RLOO", "-o", "qubo", "--no-figures").code == 0
    text = table.read_text()
    assert ("rloo:n=2" in text, "rloo:n=4" in text, "score-function" in text, "gaussian-cosine" in text) == (
        True,
        True,
        False,
        False,
    )
    call("report", "here", "-e", "rloo:n=4,8")
    assert "rloo:n=2" not in table.read_text()
    call("report", "here")
    assert "score-function" in table.read_text()
    assert not list((tmp_path / "here").glob("figures/*")), "none are drawn in these tests"
    wrong = call("report", "here", "-e", "disarm")
    assert (wrong.code, "which has rloo, score-function" in wrong.err) == (2, True)
