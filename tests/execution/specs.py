"""Specs of small studies."""

from bench.planning.spec import Spec
from tests.measurement.objectives import SELECTOR


def spec_of(*estimators, objective="gaussian-quadratic:dim=2", **given):
    """Return the spec of a study of one objective, without timing."""
    return Spec.of({"timing": False, "estimators": list(estimators), "objectives": [objective], **given})


def with_pilots(*estimators, precision=0.1, **given):
    """Return the spec of a study with a target of precision."""
    return spec_of(*estimators, objective="gaussian-cosine", precision=precision, **given)


def with_reference(*estimators, objective=SELECTOR, replicates=600):
    """Return the spec of a study of an objective without an exact gradient."""
    return spec_of(*estimators, objective=objective, replicates=replicates)
