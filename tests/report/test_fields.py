"""The fields of estimators and objectives as columns."""

import pandas as pd

from bench.report.fields import fields


def test_a_column_has_the_type_that_holds_its_values():
    params = [{"n": 2, "scale": 1, "target": 10**400}, {"n": None, "scale": 0.5, "target": 1}]
    found = fields(pd.DataFrame({"estimator_params": params, "objective_params": [{}, {}]}))
    assert found["estimator.n"].dtype == "Int64"
    assert found["estimator.scale"].tolist() == [1.0, 0.5]
    assert found["estimator.target"].tolist() == [str(10**400), "1"], "a float holds no number of 400 digits"
