"""Identity: canonical, and different where the content is."""

from bench.objectives import BernoulliQuadratic
from bench.records.identity import canonical, changed_fields, digest, identity, run_id


def test_identity_is_canonical():
    assert canonical({"b": 1, "a": [1.5, "x"]}) == '{"a":[1.5,"x"],"b":1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_a_run_is_cell_dtype_device_seed_and_replicates():
    base = {"dtype": "float32", "device": "cpu", "seed": 0, "replicates": 256}
    ids = {
        run_id("c", **base),
        run_id("d", **base),
        *(
            run_id("c", **base | {k: v})
            for k, v in [("dtype", "float64"), ("device", "cuda"), ("seed", 1), ("replicates", 512)]
        ),
        run_id("c", **base, common_noise=False),
        run_id("c", **base, adapt_steps=100),
    }
    assert len(ids) == 8
    assert run_id("c", **base) == run_id("c", **base)


def test_a_changed_default_changes_no_identity():
    """Records and noise of before the change are found by the fields that they were made with."""
    assert identity(BernoulliQuadratic()) == {"class": "BernoulliQuadratic", "dim": 10, "target": 0.45}
    assert identity(BernoulliQuadratic(dim=1, target=0.499)) == {"class": "BernoulliQuadratic"}
    assert identity(BernoulliQuadratic(target=0.499)) == {"class": "BernoulliQuadratic", "dim": 10}
    assert changed_fields(BernoulliQuadratic(target=0.499)) == {"target": 0.499}
