"""The command that times a newcomer's first runs."""

import pytest

from bench.planning.spec import Spec
from tests.benchmarks import first_look
from tests.benchmarks.first_look import OWN, ROOT, SPEC, THREE, Times, page


def test_two_versions_are_timed_in_turn_and_compared(monkeypatch, capsys, tmp_path):
    order = []

    def run(code, words, times):
        order.append((code, words))
        seconds = len(order) if code == ROOT else 4.0 * len(order)
        times.table.append(seconds)
        times.whole.append(2 * seconds)

    monkeypatch.setattr(first_look, "run", run)
    first_look.main(["--before", str(tmp_path), "--laps", "2", "--out", str(tmp_path / "page.md")])
    assert [code == ROOT for code, _ in order] == [True, False, False, True] * 3 + [True, True]
    assert [words for _, words in order] == [(str(SPEC),)] * 4 + [THREE] * 4 + [OWN] * 4 + [()] * 2
    said = capsys.readouterr().out
    assert "118 cells, lap 2: before table 12.0 s, all 24.0 s" in said
    assert (tmp_path / "page.md").read_text().endswith(said[said.index("| study") :].rstrip("\n") + "\n")


def test_the_ratio_is_the_median_over_laps_of_before_to_now():
    now, before = Times([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]), Times([3.0, 4.0, 40.0], [2.0, 4.0, 6.0])
    assert page({"x": [now, before]}, 3).splitlines()[-1] == "| x | 2.0 | 2.0 | 4.0 | 4.0 | 3.00 | 2.00 |"
    assert page({"x": [now]}, 3).splitlines()[-1] == "| x | 2.0 | 2.0 |  |  |  |  |"


def test_a_real_run_has_its_table_before_its_end():
    times = Times()
    first_look.run(ROOT, ("-e", "rloo:n=2,3", "-o", "gaussian-quadratic:dim=2", "--replicates", "512"), times)
    assert 0 < times.table[0] < times.whole[0]


def test_a_failing_run_is_an_error():
    with pytest.raises(first_look.subprocess.CalledProcessError):
        first_look.run(ROOT, ("-e", "rlo"), Times())


def test_the_study_that_is_compared_has_118_cells():
    from bench.planning.cells import plan

    cells, _ = plan(*Spec.read(SPEC).instances())
    assert len(cells) == 118
