"""The fields of estimators and objectives as columns."""

import pandas as pd

from bench.report.fields import fields


def test_a_column_has_the_type_that_holds_its_values():
    params = [{"n": 2, "scale": 1, "noise": "iid"}, {"n": None, "scale": 0.5, "noise": 3}]
    found = fields(pd.DataFrame({"estimator_params": params, "objective_params": [{}, {}]}))
    assert found["estimator.n"].dtype == "Int64"
    assert found["estimator.scale"].tolist() == [1.0, 0.5]
    assert found["estimator.noise"].tolist() == ["iid", "3"]
