"""The command that compares a worker with this process."""

from tests.benchmarks import overhead


def test_a_worker_is_compared_with_this_process(capsys):
    overhead.main(["--cells", "2", "--laps", "1", "--only", "worker process"])
    rows = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows == ["| place", "| ---", "| this process", "| worker process"]


def test_the_difference_is_the_median_over_laps():
    found = {"this process": (0.0, [0.001, 0.002, 0.009]), "x": (1.5, [0.002, 0.005, 0.009])}
    assert overhead.page(found, 7).splitlines()[-1] == "| x | 1.50 | 5.00 | 1.00 |"
