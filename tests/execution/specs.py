"""Specs of small studies."""

from bench.planning.spec import Spec
from tests.measurement.objectives import SELECTOR


def spec_of(*estimators, objective="gaussian-quadratic:dim=2", **given):
    """Return the spec of a study of one objective, without timing."""
    return Spec.of({"timing": False, "estimators": list(estimators), "objectives": [objective], **given})


def with_pilots(*estimators, precision=0.1, **given):
    """Return the spec of a study with a target of precision."""
    return spec_of(*estimators, objective="gaussian-cosine", precision=precision, **given)


def with_reference(*estimators, objective=SELECTOR, replicates=600, **given):
    """Return the spec of a study of an objective without an exact gradient."""
    length = {} if replicates is None else {"replicates": replicates}
    return spec_of(*estimators, objective=objective, **length, **given)
