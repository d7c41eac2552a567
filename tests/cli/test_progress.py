import io
import math
from datetime import datetime, timedelta

from bench.cli.progress import Live, Plain, choose, describe_look, describe_standing

MEASURED = {
    "kind": "moments",
    "outcome": "measured",
    "estimator": "rloo",
    "estimator_name": "rloo",
    "estimator_params": {"n": 2},
    "objective": "gaussian-cosine",
    "objective_name": "gaussian-cosine",
    "objective_params": {"dim": 10},
}
FAILED = {**MEASURED, "outcome": "failed", "reason": "It broke."}


def plain(times):
    stream = io.StringIO()
    return Plain(stream, interval=5.0, clock=iter(times).__next__), stream


def test_plain_lines_come_at_most_once_per_interval():
    # The clock is read when made, whenever something begins or ends, and once more when a line is written.
    progress, stream = plain([0.0, 0.0, 0.0, 1.0, 2.0, 5.1, 5.1, 10.0, 10.2, 10.2])
    progress.start(5, 2)
    for label in "abc":
        progress.cell(label)
        progress.finish(MEASURED)
    progress.end()
    assert stream.getvalue().splitlines() == [
        "measurements: 5",
        "[3/5] a",
        "[4/5] rloo:n=2 on gaussian-cosine: done",
        "[5/5] rloo:n=2 on gaussian-cosine: done",
    ]


def test_plain_always_tells_failures():
    progress, stream = plain([0.0] * 9)
    progress.start(1, 0)
    progress.finish(FAILED)
    assert stream.getvalue().splitlines() == ["measurements: 1", "failed: rloo:n=2 on gaussian-cosine: It broke."]


def test_a_run_of_training_is_named_with_its_seed_and_divergence_is_not_done():
    progress, stream = plain([0.0, 6.0, 6.0, 12.0, 12.0])
    trained = {**MEASURED, "kind": "training", "seed": 3}
    progress.start(2, 0)
    progress.finish(trained)
    progress.finish({**trained, "outcome": "diverged", "diverged_at": 70})
    assert stream.getvalue().splitlines()[1:] == [
        "[1/2] rloo:n=2 on gaussian-cosine, seed 3: done",
        "diverged at step 70: rloo:n=2 on gaussian-cosine, seed 3",
    ]


def test_imprecision_is_reported():
    progress, stream = plain([0.0, 6.0, 6.0, 6.0, 6.0, 6.0])
    progress.start(1, 0)
    progress.look("rloo:n=2 on gaussian-cosine", 0.123, 0.05, 4096)
    imprecise = {**MEASURED, "precision": 0.05, "precision_reached": False, "replicates": 100_000}
    progress.finish(imprecise)
    progress.finish({**imprecise, "precision_reached": True})
    assert stream.getvalue().splitlines() == [
        "measurements: 1",
        "[1/1] pilot of rloo:n=2 on gaussian-cosine: ±12 % after 4,096 replicates, wanted ±5 %",
        "not within ±5 %: rloo:n=2 on gaussian-cosine, with 100,000 replicates",
    ]
    assert describe_look("x", math.inf, 0.05, 1024) == "pilot of x: no upper limit after 1,024 replicates, wanted ±5 %"


def test_quiet_is_silent_and_a_pipe_gets_plain_lines(capsys):
    silent = choose(quiet=True)
    silent.start(1, 0)
    silent.cell("a")
    silent.block(1, 2)
    silent.look("a", 0.1, 0.05, 1000)
    silent.finish(FAILED)
    silent.end()
    assert capsys.readouterr() == ("", "")
    assert type(choose(quiet=False)) is Plain


def test_a_terminal_gets_a_bar_unless_it_is_dumb(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert type(choose(quiet=False)) is Live
    monkeypatch.setenv("TERM", "dumb")
    assert type(choose(quiet=False)) is Plain


def test_the_bar_counts_measurements_and_replicates(monkeypatch):
    bar = Live()
    bar.start(4, 1)
    bar.cell("rloo [1] on x")
    (task,) = bar.bar.tasks
    bar.block(1, 2)
    assert (task.total, task.completed, task.description) == (4, 1.5, "rloo [1] on x")
    bar.look("rloo [1] on x", 0.07, 0.05, 2000)
    assert task.description == "pilot of rloo [1] on x: ±7 % after 2,000 replicates, wanted ±5 %"
    bar.finish(MEASURED)
    assert task.completed == 2
    bar.end()
    assert not bar.bar.live.is_started


def test_records_of_earlier_runs_are_dated():
    def written(*times):
        return [{**MEASURED, "written": time} for time in times]

    here = datetime(2026, 11, 28, 12, 3).astimezone()
    later = (here + timedelta(days=1, hours=1)).isoformat()
    assert describe_standing("2 of 4 cells are here, 2 to go", [MEASURED, *written(here.isoformat())]) == (
        "2 of 4 cells are here, 2 to go; records of 28 November 2026, 12:03 (--fresh measures again)"
    )
    assert describe_standing("3", written(later, here.isoformat(), later)) == (
        "3; records of 28 November 2026, 12:03 to 29 November 2026, 13:03 (--fresh measures again)"
    )
    assert describe_standing("1", [MEASURED]) == "1; records (--fresh measures again)"
    progress, stream = plain([0.0] * 9)
    progress.stand("4 of 4 cells are here", [])
    assert stream.getvalue() == "4 of 4 cells are here\n"
