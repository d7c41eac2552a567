import pytest

from bench.conformance import checks, suite
from estimators import RLOO, GumbelSoftmax, ScoreFunction, StraightThrough, StraightThroughGumbelSoftmax, catalogue

ESTIMATORS = [
    *(cls() for cls in catalogue().values() if cls.__name__ != "Bound"),
    ScoreFunction(n=3, baseline=1.5),
    ScoreFunction(baseline="moving-average"),
    RLOO(n=4),
    StraightThrough(n=3),
    GumbelSoftmax(n=3, temperature=0.5),
    StraightThroughGumbelSoftmax(n=3, temperature=0.5),
]


@pytest.mark.parametrize("check", checks())
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_conforms(estimator, check):
    getattr(suite(estimator)(), check)()
