import json

from bench.planning import catalogue as names


def test_every_estimator_is_measured_or_skipped_with_a_reason(call, tmp_path):
    done = call("run", "--all", "-o", "poisson-quadratic", "--replicates", 64, "--no-timing", "--quiet", "--out", "all")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in (tmp_path / "all" / "records.jsonl").read_text().splitlines()]
    outcomes = {r["estimator_name"]: r for r in records if r["kind"] == "moments"}
    assert set(outcomes) == set(names.catalogue("estimator"))
    measured = {name for name, r in outcomes.items() if r["outcome"] == "measured"}
    assert {"score-function", "measure-valued", "go", "stochastic-ad", "exponential-arrival"} <= measured
    assert all(r["outcome"] == "skipped" and r["reason"] for name, r in outcomes.items() if name not in measured)
