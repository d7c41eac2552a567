from dataclasses import replace

from bench.records import plan, store
from bench.records.plan import line_of
from bench.records.standing import Standing, planned, standing, standings
from bench.records.verify import verify
from tests.records.test_plan import HOW, OTHER, A, B
from tests.records.test_store import line as record


def test_training_is_counted_apart_and_of_a_spec_its_last_line_alone(tmp_path):
    asked = [f"{number:016x}" for number in range(121)]
    with store.Store(tmp_path) as writer:
        for run in (*asked[:72], asked[120]):
            writer.append(record(run))
    line = line_of(A, asked[:120], training=HOW)
    assert [str(each) for each in standings([line], [of(run, "training") for run in asked[:73]])] == [
        "73 of 120 runs are here, 47 to go"
    ]
    plan.extend(tmp_path, [line_of(B, [OTHER]), line, line_of(B, asked[119:]), line_of(A)])
    assert [str(each) for each in verify(tmp_path).standings] == [
        "1 of 2 cells are here, 1 to go",
        "72 of 120 runs are here, 48 to go",
    ]


SHARED = {"cell": "c", "dtype": "float32", "device": "cpu", "seed": 0, "common_noise": True}


def of(run, kind="moments", outcome="measured", **more):
    return {**SHARED, "run": run, "kind": kind, "outcome": outcome, **more}


def test_what_a_plan_lacks_is_counted_by_its_records():
    timed = line_of({**A, "timing": True}, ["1", "2", "3", "4"])
    lines = [timed, line_of({**A, "timing": False}, ["4", "5", "6"])]
    assert planned(lines) == {"1": True, "2": True, "3": True, "4": True, "5": False, "6": False}
    held = [of("1"), of("1", "timing"), of("2"), of("3", outcome="skipped"), of("4", outcome="failed"), of("9")]
    found = standing(planned(lines), held)
    assert found == Standing(6, frozenset("123"), failed=1, untimed=1)
    assert str(found) == "3 of 6 cells are here, 1 failed, 2 to go, 1 to be timed"
    assert str(replace(found, stale=2)).endswith("2 to go (2 of them because their code has changed), 1 to be timed")
    whole = standing(planned(lines[1:]), [of("4"), of("5"), of("6")])
    assert (str(whole), whole.is_complete) == ("3 of 3 cells are here", True)
    assert not standing(planned(lines), []).is_complete
    runs = standing({"1": False, "2": False}, [of("1", "training"), of("2", "training", outcome="diverged")], "runs")
    assert str(runs) == "2 of 2 runs are here"


def test_a_pilot_alone_is_not_the_measurement_that_it_leads_to():
    runs = planned([line_of({**A, "timing": True}, ["1", "2", "3"])])
    pilots = [of("1", "pilot", precision=0.1), of("2", "pilot", outcome="failed", precision=0.1, cell="d")]
    assert standing(runs, pilots) == Standing(3, frozenset(), failed=1)
    assert standing(runs, [*pilots, of("7", precision=0.2)]).here == frozenset()
    assert standing(runs, [*pilots, of("7", precision=0.1)]) == Standing(3, frozenset("1"), failed=1, untimed=1)
    assert standing(runs, [*pilots, of("7", precision=0.1), of("7", "timing")]).untimed == 0


def test_a_pilot_that_names_its_measurement_needs_no_precision_in_its_record():
    runs = planned([line_of(A, ["1", "2"])])
    pilots = [of("1", "pilot", precision=0.1, leads_to="7"), of("2", "pilot", precision=0.05, leads_to="7")]
    assert len(standing(runs, [*pilots, of("7", precision=0.05)]).here) == 2
    assert len(standing(runs, [*pilots, of("8", precision=0.05)]).here) == 0
