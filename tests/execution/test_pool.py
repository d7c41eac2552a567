"""Workers: the same bits whatever their number; a dead one costs only its cell."""

import multiprocessing
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from bench import objectives
from bench.execution.forking import FORKED
from bench.execution.pool import Pool, chunks_of
from bench.execution.progress import NoWorker, Silent
from bench.execution.serving import Job
from bench.execution.tasks import MomentsTask
from bench.execution.worker import Worker
from bench.measurement.engine import Engine
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import Lost, dumps
from estimators import RLOO, Estimator, Refusal, Reparameterization, ScoreFunction

SETTINGS = Settings(replicates=3_000)


@dataclass(frozen=True)
class Deadly(Estimator):
    """Kills its process, raises or refuses, but not while it is counted."""

    how: str = "kill"

    def __call__(self, f, q, generator=None, state=None):
        if q.batch_shape[0] != 64:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise (Refusal if self.how == "refuse" else RuntimeError)("deliberately")
        return ScoreFunction()(f, q, generator)


def without_clock(record):
    return {k: v for k, v in record.items() if k not in ("wall_seconds", "adapt_seconds", "environment")}


def test_the_number_of_workers_changes_no_bit():
    cells = [
        Cell(e, o)
        for e in (RLOO(n=3), ScoreFunction(baseline="moving-average"), Reparameterization())
        for o in (objectives.GaussianQuadratic(dim=3), objectives.LogisticRegression())
    ]
    alone = {c.id: without_clock(MomentsTask(c, SETTINGS).record()) for c in cells}
    with Pool(2) as pool:
        whole = {r["cell"]: without_clock(r) for r in pool.records([MomentsTask(c, SETTINGS) for c in cells])}
        spread = {c.id: without_clock(MomentsTask(c, SETTINGS).record(pool=pool)) for c in cells}
    assert {r["outcome"] for r in alone.values()} == {"measured"}
    for id_, record in alone.items():
        assert dumps(record) == dumps(whole[id_]) == dumps(spread[id_])


def test_a_worker_that_dies_costs_only_its_cell():
    good, bad = Cell(RLOO(), objectives.GaussianQuadratic()), Cell(Deadly(), objectives.GaussianQuadratic())
    with Pool(1) as pool:
        found = {r["cell"]: r for r in pool.records([MomentsTask(bad, SETTINGS), MomentsTask(good, SETTINGS)])}
        assert found[good.id]["outcome"] == "measured"
        assert found[bad.id]["outcome"] == "failed"
        assert "was killed by signal 9" in found[bad.id]["reason"]
        lost = MomentsTask(bad, SETTINGS).record(pool=pool)
        assert (lost["outcome"], "signal 9" in lost["reason"]) == ("failed", True)
        assert MomentsTask(good, SETTINGS).record(pool=pool)["outcome"] == "measured"


@pytest.mark.parametrize(("how", "outcome"), [("raise", "failed"), ("refuse", "skipped")])
def test_an_error_of_an_estimator_in_a_worker_is_the_reason(how, outcome):
    cell = Cell(Deadly(how), objectives.GaussianQuadratic())
    with Pool(2) as pool:
        lines = [*pool.records([MomentsTask(cell, SETTINGS)]), MomentsTask(cell, SETTINGS).record(pool=pool)]
    for line in [*lines, MomentsTask(cell, SETTINGS).record()]:
        assert line["outcome"] == outcome
        assert "deliberately" in line["reason"]


def test_a_pool_grows_and_never_shrinks():
    cells = [Cell(RLOO(), objectives.GaussianQuadratic(dim=dim)) for dim in (1, 2, 3)]
    with Pool(0) as pool:
        pool.grow(2)
        pool.grow(1)
        assert len(multiprocessing.active_children()) == 2
        records = list(pool.records([MomentsTask(cell, SETTINGS) for cell in cells]))
    assert {record["outcome"] for record in records} == {"measured"}


@dataclass(frozen=True)
class Asks:
    """Work that a test asks of a worker: the value of an expression, or what it raises."""

    expression: str

    def record(self, progress=None, pool=None):
        return eval(self.expression, {"progress": progress})

    def failed(self, reason):
        return reason


def test_a_worker_without_progress_is_ended_and_its_reason_has_the_line():
    with Pool(1, cell_timeout=1.0) as pool:
        tasks = [Asks("__import__('time').sleep(1e6)"), Asks("'done'")]
        late, done = sorted(pool.records(tasks), key=len, reverse=True)
        assert pool.ask(Asks("1 + 1")) == 2
    assert late.startswith("The worker process made no progress for 1 s, the limit of --cell-timeout, and was ended.")
    assert "No other cell is affected. It said: (test_pool.py, line" in late or "(<string>, line 1)" in late
    assert done == "done"


@pytest.mark.skipif(not FORKED, reason="elsewhere no process forks workers")
def test_workers_that_die_with_the_process_that_starts_them_blame_no_cell():
    wait = "__import__('time').sleep(600)"
    with Pool(2) as pool:
        server = pool.ask(Asks("__import__('os').getppid()"))
        said = list(pool.records([Asks(wait), Asks(f"__import__('os').kill({server}, 9) or {wait}")]))
    assert said == ["The worker process ended with all others, because the process that starts them was killed."] * 2


def test_every_report_of_progress_gives_a_worker_more_time():
    steps = "[(progress.look('', 0, 0, 0), __import__('time').sleep(0.4)) for _ in range(6)] and 'done'"
    with Pool(1, cell_timeout=1.5) as pool:
        assert pool.record(Asks(steps), Silent()) == "done"


def test_what_a_worker_prints_from_c_goes_to_stderr(capfd):
    with Pool(1) as pool:
        pool.ask(Asks("__import__('os').write(1, b'from C\\n') and print('from Python')"))
        pool.ask(Asks("None"))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "from C\nfrom Python\n"


def test_a_worker_that_cannot_be_started_is_one_sentence(monkeypatch):
    monkeypatch.setattr(
        "multiprocessing.context.ForkServerProcess.start", lambda self: (_ for _ in ()).throw(OSError(11, "Try again"))
    )
    with pytest.raises(
        NoWorker, match=r"^No worker process can be started: Try again\. Use fewer, as by --workers 1\.$"
    ):
        Pool(1)


def test_each_process_sees_one_gpu_before_it_imports_torch():
    """The variables with which the system started the process, not those that it has set since."""
    with Pool() as pool:
        pool.devices = ["5", "GPU-7"]
        pool.grow(2)
        asked = "open('/proc/self/environ').read().split('CUDA_VISIBLE_DEVICES=')[1].partition(chr(0))[0]"
        assert {*pool.records([Asks(asked), Asks(asked)])} == {"5", "GPU-7"}


def test_all_blocks_come_in_order():
    engine = Engine(Cell(RLOO(), objectives.GaussianQuadratic()), SETTINGS)
    with Pool(2) as pool:
        partials = [partial for partial, _ in pool.spread(engine, np.zeros(engine.size), None)]
    assert [i for p in partials for i in range(p.index, p.index + p.blocks)] == list(range(engine.blocks))


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (1, 8), (33, 2), (1000, 3)])
@pytest.mark.parametrize("length", [1, 4, 32])
def test_chunks_are_whole_spans_and_cover_every_draw_once(count, workers, length):
    spans = [range(start, min(start + length, count)) for start in range(0, count, length)]
    chunks = list(chunks_of(spans, [64 * (1 + i // 8) for i in range(count)], workers))
    assert [i for chunk in chunks for i in chunk] == list(range(count))
    assert {chunk.start for chunk in chunks} <= {span.start for span in spans}


def test_a_question_to_a_dead_worker_is_lost_when_its_answer_is_read():
    """Two questions are under way at a time: the second may be sent after the process has died."""
    worker = Worker()
    worker.ask(Job(MomentsTask(Cell(RLOO(), objectives.GaussianQuadratic()), SETTINGS)))
    assert worker.answer()["outcome"] == "measured"
    worker.process.kill()
    worker.process.join()
    worker.ask(range(1))
    with pytest.raises(Lost, match="was killed by signal 9"):
        worker.answer()
    worker.stop()


def test_an_interrupt_at_the_terminal_leaves_the_workers_to_the_parent():
    worker = Worker()
    os.kill(worker.process.pid, signal.SIGINT)
    worker.ask(Job(MomentsTask(Cell(RLOO(), objectives.GaussianQuadratic()), SETTINGS)))
    assert worker.answer()["outcome"] == "measured"
    worker.stop()


def test_chunks_have_about_as_many_replicates_each():
    """The small blocks that a run begins with go together."""
    sizes = [256] * 32 + [512] * 8 + [1024] * 120
    chunks = list(chunks_of([range(i, i + 8) for i in range(0, 160, 8)], sizes, 1))
    rows = [sum(sizes[chunk.start : chunk.stop]) for chunk in chunks]
    assert len(chunks) == 17
    assert max(rows) < sum(sizes) / 32 + 8 * 1024
