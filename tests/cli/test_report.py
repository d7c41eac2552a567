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
    assert re.fullmatch(r"here: records\.jsonl, table\.md, table\.csv, table\.tex and \d+ figures\n", done.err)
