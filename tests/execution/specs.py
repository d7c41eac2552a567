"""Specs of small studies."""

from bench.planning.spec import Spec
from bench.records.lines import dumps
from tests.measurement.objectives import SELECTOR

CLOCKS = ("wall_seconds", "adapt_seconds", "training_seconds", "environment", "written")
"""Keys of a record that no two runs have in common."""


def without_clocks(records):
    """Return the records as text in a fixed order, without what no two runs have in common."""
    return sorted(dumps(_plain(record)) for record in records)


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in CLOCKS}
    return [_plain(each) for each in value] if isinstance(value, list) else value


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
