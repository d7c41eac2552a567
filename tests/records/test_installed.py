"""The digest of the code that makes a report changes with every file of the project."""

from bench.records import files, installed


def test_the_code_is_every_file_of_the_project(monkeypatch, tmp_path):
    monkeypatch.setattr(installed, "ROOT", tmp_path)
    found = {installed._ours()}
    for name, text in (("bench/a.py", "1"), ("bench/a.py", "2"), ("bench/page/style.css", ""), ("estimators/b.py", "")):
        files.write(tmp_path / name, text)
        found.add(installed._ours())
    assert len(found) == 5
    files.write(tmp_path / "bench/a.pyc", "")
    assert installed._ours() in found
